"""Every row of a file ends once: left out, rejected with a reason, waiting, new, changed, or as Norce has it.

Mappings and files are drawn: any of the imports, with lists, demands on cells, rules, `keep`, full files and files of
changes, and cells that are no good. Where each row ends is worked out from the plan and from nothing that it counts.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.mapping import layout_builder
from etl.mapping.layout import Layout
from etl.mapping.model import Mapping
from etl.model.columns import KEY, ROW
from tests.support.builders import Outcome, mapping, nothing, outcome_of, plain, plan_file, run, table
from tests.support.random_mappings import OPERATIONS, Feed, feeds, modest

Cells = dict[str, str | None]

#: Cells that no column of a type takes.
BAD = {
    "decimal": ["many", "1.23456", "1,5", "=1+1"],
    "integer": ["1.5", "x"],
    "boolean": ["perhaps"],
    "date": ["2026-13-01", "yesterday"],
    "text": ["x" * 500, "a\x01b"],
}


@dataclass(frozen=True)
class Demanding:
    """A feed that wants more of its rows, and what it leaves out of them."""

    feed: Mapping
    drawn: Feed
    types: dict[str, str]
    keeps: bool

    def __repr__(self) -> str:
        return self.drawn.text


@st.composite
def demanding(draw: st.DrawFn, operation: str) -> Demanding:
    """A drawn feed whose columns may be required, unique or bounded, with rules between them."""
    drawn = draw(feeds(operation))
    raw = json.loads(drawn.text)
    chance = st.integers(0, 99)
    for name, column in raw["columns"].items():
        column["required"] = name not in drawn.keys and draw(chance) < 15
        column["unique"] = name not in drawn.keys and draw(chance) < 5
        if column["type"] in ("decimal", "integer") and name not in drawn.keys and draw(chance) < 30:
            column["min"] = 0
    raw["columns"] |= {"left_out": {"type": "text"}, "low": {"type": "integer"}, "high": {"type": "decimal"}}
    keeps = draw(chance) < 50
    if keeps:
        raw["source"]["keep"] = "left_out <> 'yes'"
    if draw(chance) < 50:
        raw["rules"] = [{"name": "in order", "sql": "low <= high"}, {"name": "pairs", "unique": ["low", "high"]}]
    raw["source"]["content"] = draw(st.sampled_from(["full", "changes"]))
    types = {name: column["type"] for name, column in raw["columns"].items()}
    return Demanding(mapping(json.dumps(raw)), drawn, types, keeps)


@st.composite
def rows(draw: st.DrawFn, feed: Demanding, good: bool = False) -> list[Cells]:
    """Up to a dozen rows; unless they are to be `good`, one cell in fifteen is bad."""
    made: list[Cells] = []
    for _ in range(draw(st.integers(1, 12))):
        row: Cells = {}
        for name, kind in feed.types.items():
            cells: list[str | None] = list(feed.drawn.cells.get(name, ()))
            if name not in feed.drawn.cells:
                cells = ["yes", "no", "no", None] if kind == "text" else [f"{draw(st.integers(-50, 99))}", None]
            elif name not in feed.drawn.keys:
                cells.append(None)
            elif kind == "text":
                cells = [f"K{number}" for number in range(8)]
            bad = not good and draw(st.integers(0, 14)) == 0
            row[name] = draw(st.sampled_from([*BAD[kind], None] if bad else cells))
        made.append(row)
    return made


@pytest.mark.parametrize("operation", OPERATIONS)
@modest(6)
@given(data=st.data())
def test_every_row_ends_once(operation: str, data: st.DataObject) -> None:
    """Whatever the mapping asks for and whatever the file holds, the ends add up, and each is the row's own."""
    feed = data.draw(demanding(operation))
    before = run(feed.feed, table(data.draw(rows(feed)))).accepted
    assert_all_end(feed, data.draw(rows(feed)), before, data.draw(st.booleans()))


def assert_all_end(feed: Demanding, cells: list[Cells], before: pl.DataFrame, references: bool) -> None:
    file = table(cells)
    numbered = dict(zip(file.frame[ROW], cells, strict=True))
    layout = layout_builder.build_layout(feed.feed, file.columns)
    lead = layout.leading_key
    assert lead is not None
    known = {lead.column: pl.Series(["K1", "K3", "1", "2"])} if references and lead.inner is None else {}
    made = plan_file(file, feed.feed, before, reference_values=known)
    outcome = outcome_of(made, before)
    counts = made.counts
    assert counts.rows == len(cells)

    left_out = {row for row, its in numbered.items() if feed.keeps and its["left_out"] in ("yes", None)}
    assert counts.skipped == len(left_out)
    reasons = made.rejections.frame
    rejected = set(reasons["row"])
    assert counts.rejected == len(rejected)
    assert rejected <= set(numbered) - left_out
    for reason in reasons.iter_rows(named=True):
        assert reason["code"]
        assert reason["message"]
        assert reason["hint"]

    groups: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for row in set(numbered) - left_out - rejected:
        groups[naive_key(layout, numbered[row])].add(row)
    about = {key: numbered[min(its)][lead.value.text] for key, its in groups.items()}
    waiting = {key for key, cell in about.items() if known and cell and cell not in set(known[lead.column])}
    assert counts.blocked == len(waiting)
    sent = {row[KEY]: naive_key(layout, numbered[row[ROW]]) for row in sent_rows(outcome)}
    assert len(set(sent.values())) == len(sent)
    assert set(sent.values()) <= set(groups) - waiting
    assert (counts.new, counts.changed) == (len(sent.keys() - set(before[KEY])), len(sent.keys() & set(before[KEY])))
    same = set(groups) - waiting - set(sent.values())
    assert counts.unchanged == len(same)
    assert_norce_has(feed, [numbered[row] for key in same for row in sorted(groups[key])], before, outcome)


def sent_rows(outcome: Outcome) -> list[dict[str, Any]]:
    return [row for sent in outcome.sent for row in sent.request.frame.select(KEY, ROW).iter_rows(named=True)]


def naive_key(layout: Layout, row: Cells) -> tuple[str, ...]:
    """What tells a row's record apart, out of its cells: all key fields, or the first that has a value and its name."""
    key = layout.operation.key
    parts: list[str] = []
    for path in key.paths:
        leaf = layout.by_path.get(path)
        cell = None if leaf is None else f"{leaf.value.constant}" if leaf.constant else row[leaf.value.text]
        if cell is not None and key.match == "first_of":
            return path, cell
        parts.append(cell or str((key.defaults or {}).get(path, "")))
    return tuple(parts)


def assert_norce_has(feed: Demanding, cells: list[Cells], before: pl.DataFrame, outcome: Outcome) -> None:
    """Rows of which nothing was sent: all that they say, and Norce takes, is accepted already."""
    if not cells:
        return
    fresh = run(feed.feed, table(cells), nothing())
    unowned = {leaf.column for leaf in outcome.plan.layout.leaves if not leaf.value.own}
    have = plain(before)
    for key, values in plain(fresh.accepted).items():
        assert {
            name: value for name, value in values.items() if name not in unowned and have[key].get(name) != value
        } == {}


def test_a_record_that_no_header_can_carry_is_rejected_with_all_of_its_rows() -> None:
    """One flag asks both warehouses for a name, and the first has none: three rows are two records, one is rejected."""
    feed = mapping(
        """
        feed: lists
        operation: Product/ImportPriceLists
        source: {files: "*.csv", content: full}
        record:
          Code: k
          PriceRules: {rows: {Type: t, ManufacturerCode: m}}
          Warehouses:
            - {Code: {value: A}, Name: a, Locations: [{Code: {value: A}, Name: x}]}
            - {Code: {value: B}, Name: b, Locations: [{Code: {value: B}, Name: x}]}
        """
    )
    head = "k,t,m,a,b,x\n"
    bad = "L,CostPlus_PurchaseCost,M,,b,x\nK,CostPlus_PurchaseCost,M,a,b,x\nL,CostPlus_PurchaseCost,N,,b,x\n"
    outcome = run(feed, table(head + bad))
    assert outcome.codes == [(2, "uneven-list"), (4, "uneven-list")]
    counts = outcome.plan.counts
    assert (counts.rows, counts.rejected, counts.new, counts.changed, counts.unchanged) == (3, 2, 1, 0, 0)
    before = run(feed, table(head + bad.replace("M,,b", "M,a,b").replace("N,,b", "N,a,b"))).accepted
    known = before.drop("Warehouses[0].Name", "Warehouses[1].Name")
    counts = run(feed, table(head + bad), known).plan.counts
    assert (counts.rejected, counts.new, counts.changed, counts.unchanged) == (2, 0, 1, 0)
