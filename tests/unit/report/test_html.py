"""The page of a run: whole in itself, everything from outside escaped, and readable in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.model.plan_facts import parse_facts
from etl.model.runs import Counts, RecordError, Run, RunState
from etl.plan.changes import impact
from etl.report import html, run_report
from tests.support.builders import PRICES, days, mapping

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
EVIL = "\"'><img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>\x1b[2J\u202e"


def made(evil: str = "A") -> dict[str, Any]:
    """The report of a held run with something of everything; what comes from outside is `evil`."""
    first = "part,price,cost\n" + "\n".join(f"{evil}{number},100,50" for number in range(40)).replace('"', "'")
    second = "part,price,cost\n" + "\n".join(f"{evil}{number},{60 + number * 3},50" for number in range(1, 40)).replace(
        '"', "'"
    )
    plan = days(mapping(PRICES), first, second)[1].plan
    run = Run(
        "r1", "prices", plan.mapping.operation.id, f"{evil}.csv", "0", RunState.HELD, counts=Counts(rows=40, rejected=1)
    )
    example = impact.Example(evil, f"Cultures[{evil}].Name", evil, evil, -12.5)
    facts = {
        "hold_reasons": [*plan.hold_reasons, evil],
        "guards": [verdict.to_json() for verdict in plan.guard_results],
        "summary": {**impact.impact_to_json(plan.impact), "gone_examples": [example.to_json()]},
        "irreversible": [{"field": evil, "reason": evil, "records": 3, "keys": [evil, "b"]}],
        "rejections": [{"column": evil, "message": evil, "hint": evil, "count": 1, "rows": [3], "values": [evil]}],
    }
    return run_report.report_json(run, (), (RecordError(evil, 3, evil, 7),), parse_facts(facts))


class Elements(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def held(text: str) -> None:
    """Nothing runs, nothing is fetched, no sign acts."""
    for tag, attributes in Elements(text).found:
        assert tag not in ("script", "img", "iframe", "link", "object", "embed", "base", "form", "a")
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href", "srcset", "action")]
    style = "".join(re.findall(r"(?s)<style>(.*?)</style>", text))
    assert "url(" not in style
    assert "@import" not in style
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_it_is_whole_in_itself_and_everything_is_escaped() -> None:
    """No script, no image, no link, no address; cells with markup stay cells."""
    text = html.render(made(EVIL))
    held(text)
    assert "&lt;script&gt;" in text
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert len(text) < 100_000


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.text(min_size=1, max_size=30))
def test_no_text_breaks_out(text: str) -> None:
    """Whatever stands in cells, file names and sentences: the page has the elements that it has without them."""
    base = [tag for tag, _ in Elements(html.render(facts_only("A"))).found]
    assert [tag for tag, _ in Elements(html.render(facts_only(text))).found] == base
    held(html.render(facts_only(text)))


def facts_only(text: str) -> dict[str, Any]:
    """A small report with a text in every place for one."""
    run = Run("r1", "prices", "Product/ImportSkuPriceLists", text, "0", RunState.INVALID, error=text)
    example = impact.Example(text, text, text, None).to_json()
    facts = {
        "hold_reasons": [text],
        "guards": [{"reason": text, "examples": [example]}],
        "summary": {"largest": [example], "gone_examples": [example], "fields": []},
        "irreversible": [{"field": text, "reason": text, "records": 1, "keys": [text]}],
        "rejections": [{"column": text, "message": text, "hint": text, "count": 1, "rows": [1], "values": [text]}],
    }
    return run_report.report_json(run, (), (RecordError(text, 3, text, 1),), parse_facts(facts))


@pytest.mark.parametrize("state", list(RunState))
def test_every_run_has_its_page(state: RunState) -> None:
    """A run of which nothing is known but its state has a page with a headline."""
    run = Run("r1", "prices", "Product/ImportSkuPriceLists", "a.csv", "0", state)
    text = html.render(run_report.report_json(run, (), (), None))
    assert re.search(r"<h1>[^<]{10,}</h1>", text)


def test_plots_show_how_far_prices_move() -> None:
    """One plot for each price field that moves, red for what falls and green for what rises."""
    text = html.render(made())
    assert text.count("<svg") == 1
    assert "How far prices move: PriceSale" in text
    assert set(re.findall(r'<rect[^>]*fill="(#b42318|#15803d)"', text)) == {"#b42318", "#15803d"}


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
def test_a_browser_shows_it_and_runs_nothing() -> None:
    """Headless Chromium lays the page out; no script of a cell runs: the title would be another one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        path.write_text(html.render(made(EVIL)), encoding="utf-8")
        dom = browse(folder, "--dump-dom", path.as_uri())
        picture = Path(folder) / "page.png"
        browse(folder, f"--screenshot={picture}", "--window-size=1100,1600", path.as_uri())
        assert picture.stat().st_size > 20_000
    assert "<title>prices: Nothing has been sent: this run is held for approval</title>" in dom
    assert "<script" not in dom


def browse(folder: str, *words: str) -> str:
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder}/p",
    ]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout
