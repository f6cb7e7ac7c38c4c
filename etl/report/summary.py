"""What a run does to a shop, in words: the summary of `etl.plan.changes.impact` as lines and rows. Quick: no polars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from etl import terminal

#: Signs of a cell that are shown at most; terminals cut further.
MAX_CELL_LENGTH = 200


def lines(summary: dict[str, Any]) -> Iterator[str]:
    """Return a line for each kind of change: `prices  PriceSale: 12 up (half of them by 4.2 % or more), 3 down (…)`."""
    for field in summary.get("fields", ()):
        if field["role"] in ("price", "cost"):
            word = "prices" if field["role"] == "price" else "costs"
            yield f"{word:8}{field_label(field['field'])}: {_price_changes(field)}"
    stock = [(summary.get("stock_zero", 0), "to zero"), (summary.get("stock_back", 0), "back in stock")]
    fields = [field for field in summary.get("fields", ()) if field["role"] == "stock"]
    stock += [(sum(field["up"] for field in fields), "up"), (sum(field["down"] for field in fields), "down")]
    if any(count for count, _ in stock):
        yield "stock   " + ", ".join(f"{count} {word}" for count, word in stock if count)
    records = [
        (summary.get("new", 0), "new"),
        (summary.get("reappeared", 0), "back in the file"),
        (summary.get("gone", 0), "no longer in the file"),
        (summary.get("deactivated", 0), "deactivated"),
        (summary.get("activated", 0), "activated"),
    ]
    if any(count for count, _ in records):
        yield "records " + ", ".join(f"{count} {word}" for count, word in records if count)
    if summary.get("texts"):
        yield f"texts   {summary['texts']} changed"
    for field in summary.get("fields", ()):
        if field["role"] is None:
            cleared = f" ({field['cleared']} cleared)" if field["cleared"] else ""
            yield f"fields  {field_label(field['field'])}: {field['changed']} changed{cleared}"


def _price_changes(field: dict[str, Any]) -> str:
    parts = []
    for way in ("up", "down"):
        if field[way]:
            median = field[f"median_{way}"]
            parts.append(f"{field[way]} {way} ({format_percent(median)} in the middle)")
    others = field["changed"] - field["up"] - field["down"]
    if others:
        parts.append(f"{others} for the first time" if field["filled"] >= others else f"{others} from or to nothing")
    return ", ".join(parts)


def format_number(value: int) -> str:
    """Format a number as `11 332`."""
    return f"{value:,}".replace(",", " ")


def format_percent(value: float | None) -> str:
    """Format a share as `+4.2 %`; return an empty text for None."""
    if value is None:
        return ""
    return f"{value:+.1f} %".replace(".0 %", " %").replace("-", "−")


def field_label(field: str) -> str:
    """Return the name of a field for people: the end of its path, with the code of the element that it is in."""
    parts = field.replace("[]", "").split(".")
    return ".".join(parts[-2:]) if len(parts) > 1 and "[" in parts[-2] else parts[-1]


def example_rows(examples: Iterable[dict[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """Return key, field, before, after and change of each example, for a terminal."""
    return [
        (
            format_cell(one["key"]),
            format_cell(field_label(one["field"])),
            format_cell(one["before"]),
            format_cell(one["after"]),
            format_percent(one["percent"]),
        )
        for one in examples
    ]


def format_cell(cell: str | None) -> str:
    """Return a cell on one line, without characters that control a terminal; a dash for no value."""
    if cell is None:
        return "–"
    return terminal.printable(cell[:MAX_CELL_LENGTH].replace("\n", "⏎").replace("\t", " "))
