"""A run as one page for people who never open a terminal: its report as HTML that needs nothing but itself. Pure.

The plots are SVG that leather draws, the page is a template that escapes every cell; the page's own policy forbids
scripts and anything from outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from etl.model import plan_facts
from etl.model.plan_facts import PlanFacts
from etl.report import summary

#: Records that are shown of what Norce did not take.
MAX_RECORD_ERRORS = 50

#: The classes of `etl.plan.changes.impact.CLASSES`, as they stand below the columns.
_CLASS_LABELS = (
    "< −50", "−50…−30", "−30…−20", "−20…−10", "−10…−5", "−5…0",
    "0…5", "5…10", "10…20", "20…30", "30…50", "> 50",
)  # fmt: skip
_WIDTH, _HEIGHT, _MARGIN = 940, 260, 32
_DOWN_COLOUR, _UP_COLOUR = "#b42318", "#15803d"


def render(report: dict[str, Any]) -> str:
    """Render the page of a report (`etl.report.run_report.report_json`)."""
    facts = plan_facts.facts_of_report(report) or PlanFacts()
    examples = {result["reason"]: result["examples"] for result in facts.guards}
    started = report.get("started")
    return str(
        _template().render(
            run=report,
            headline=headline(report, facts),
            when=datetime.fromisoformat(started).strftime("%Y-%m-%d %H:%M") if started else "",
            cards=list(_cards(report, facts.summary)),
            hold_reasons=[{"reason": one, "examples": examples.get(one, [])} for one in facts.hold_reasons],
            plots=list(_plots(facts.summary)),
            summary=facts.summary,
            irreversible=facts.irreversible,
            rejections=facts.rejections,
            record_errors=report.get("record_errors", [])[:MAX_RECORD_ERRORS],
        )
    )


def headline(report: dict[str, Any], facts: PlanFacts) -> str:
    """Return how the run went, in one sentence."""
    state, failed, rejected = report["state"], report["failed"], report["rejected"]
    if state == "held":
        return "Nothing has been sent: this run is held for approval"
    if state == "discarded":
        return "This run was discarded, nothing was sent"
    if state == "superseded":
        return "A newer file has taken the place of this one"
    if state == "merged":
        newer_file = facts.merge_target["file"] if facts.merge_target else "a newer file"
        return f"This file was merged: its records go with {newer_file}"
    if state == "invalid":
        return "This file is invalid: nothing was sent"
    trouble = [f"{failed} records failed in Norce"] if failed else []
    trouble += [f"{rejected} rows were rejected"] if rejected else []
    if report.get("failed_requests"):
        trouble.insert(0, "some requests failed")
    if trouble:
        return f"Sent, but {' and '.join(trouble)}"
    return "Everything went through" if report["requests"] else "Nothing had changed"


def _cards(report: dict[str, Any], impact_summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    fields = impact_summary.get("fields", [])
    prices = [field for field in fields if field["role"] == "price"]
    stock = [field for field in fields if field["role"] == "stock"]
    counts = [
        (sum(field["up"] for field in prices), "prices up", "up"),
        (sum(field["down"] for field in prices), "prices down", "down"),
        (impact_summary.get("stock_zero", 0), "sold out", "down"),
        (impact_summary.get("stock_back", 0), "back in stock", "up"),
        (sum(field["changed"] for field in stock), "stock levels changed", ""),
        (impact_summary.get("new", 0), "new records", ""),
        (impact_summary.get("reappeared", 0), "records back in the file", ""),
        (impact_summary.get("gone", 0), "no longer in the file", ""),
        (impact_summary.get("deactivated", 0), "deactivated", "down"),
        (impact_summary.get("activated", 0), "activated", "up"),
        (impact_summary.get("texts", 0), "texts changed", ""),
        (report["rejected"], "rows rejected", "down"),
        (report["failed"], "failed in Norce", "down"),
    ]
    for count, text, tone in counts:
        if count:
            yield {"count": summary.format_number(count), "text": text, "tone": tone}


def _plots(impact_summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield for each price field that changes a plot of how many prices change by how much."""
    from markupsafe import Markup

    for field in impact_summary.get("fields", ()):
        if any(field["classes"]):
            yield {
                "title": f"How far prices move: {summary.field_label(field['field'])}",
                "svg": Markup(_column_chart(list(zip(_CLASS_LABELS, field["classes"], strict=True)))),
                "text": f"Records by the change of their price in percent. {_median_text(field)}",
            }


def _median_text(field: dict[str, Any]) -> str:
    ways = [(field["median_up"], "up"), (field["median_down"], "down")]
    sentences = [f"half of those that go {way} do so by {abs(median):g} % or more" for median, way in ways if median]
    text = ", ".join(sentences)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _column_chart(data: list[tuple[str, int]]) -> str:
    """Draw a column chart as SVG: red for what falls, green for what rises."""
    import leather

    first_up = _CLASS_LABELS.index("0…5")
    chart = leather.Chart()
    chart.add_y_axis(name="records")
    chart.add_columns(
        data, fill_color=lambda datum: _UP_COLOUR if _CLASS_LABELS.index(datum.x) >= first_up else _DOWN_COLOUR
    )
    svg = str(chart.to_svg(width=_WIDTH, height=_HEIGHT))
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    box = f"{_MARGIN} {_MARGIN} {_WIDTH - 2 * _MARGIN} {_HEIGHT - 2 * _MARGIN}"
    return svg.replace(size, f'viewBox="{box}" role="img" aria-label="records by the move of their price"', 1)


@cache
def _template() -> Any:
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "clean": summary.format_cell,
        "label": summary.field_label,
        "number": summary.format_number,
        "percent": summary.format_percent,
    }
    return environment.from_string(resources.files("etl.report").joinpath("page.html").read_text(encoding="utf-8"))
