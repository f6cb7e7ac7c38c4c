"""Who writes what: fields that people edit, and fields that two feeds would both write."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from etl.mapping import conflicts, load
from etl.mapping.model import Mapping
from etl.model.columns import KEY
from etl.plan import build, model, undo
from etl.plan.inputs import OriginalRun
from etl.plan.requests import make_requests
from etl.state.snapshots import sent_records
from tests.support.builders import PRICES, days, mapping, nothing, outcome_of, plan_file, plan_inputs, run, table

NAMES = """
feed: names
operation: Product/ImportOnhands
source: {files: "*.csv", content: full}
columns: {qty: decimal, days: integer, on: boolean}
record:
  PartNo: part
  WarehouseCode: {value: W}
  LocationCode: {value: L}
  OnhandValue: qty
  LeadTimeDayCount: {column: days, own: false}
"""
HEAD = "part,qty,days\n"


def sent_days(plan: model.Plan) -> list[object]:
    """Values of the field that is not ours in everything that a plan sends."""
    outcome = outcome_of(plan, nothing())
    return [record["LeadTimeDayCount"] for record in outcome.records if "LeadTimeDayCount" in record]


@pytest.fixture
def feed() -> Mapping:
    return mapping(NAMES.replace(", on: boolean", "") + "gone: deactivate\n")


def test_a_field_that_is_not_ours_is_written_once(feed: Mapping) -> None:
    """`own: false` goes with the record's creation and never again: not when it changes, not along with others."""
    first = run(feed, table(HEAD + "A,1,3\nB,1,3"))
    assert sent_days(first.plan) == [3, 3]
    for rows in ("A,1,9\nB,1,9", "A,2,9\nB,1,9", "A,2,9\nB,3,9\nC,1,"):
        assert sent_days(run(feed, table(HEAD + rows), first.accepted).plan) == []


def test_a_full_feed_leaves_it_alone(feed: Mapping) -> None:
    """Sending everything again, with FullFile or without, does not write what is not ours."""
    first = run(feed, table(HEAD + "A,1,3\nB,1,3"))
    assert sent_days(run(feed, table(HEAD + "A,1,9\nB,1,9"), first.accepted, full=True).plan) == []
    again = build.build_resend_plan(feed, ("part", "qty", "days"), plan_inputs(first.accepted))
    assert sent_days(again) == []


def test_a_record_that_comes_back_is_not_new(feed: Mapping) -> None:
    """What was switched off and comes back is switched on; what people have edited meanwhile stays."""
    made = days(feed, HEAD + "A,1,3\nB,1,3", HEAD + "A,1,3", HEAD + "A,1,3\nB,1,9")
    assert made[2].plan.counts.new == 1
    assert sent_days(made[2].plan) == []
    assert any(record.get("IsActive") for record in made[2].records)


def test_an_undo_leaves_it_alone(feed: Mapping) -> None:
    """Taking a run back does not write what is not ours."""
    first, second = days(feed, HEAD + "A,1,3\nB,1,3", HEAD + "A,2,9\nC,1,4")
    parts = [
        sent_records.build_sent_records(sent.request.frame, sent.request.bits, sent.request.number, second.plan.layout)
        for sent in second.sent
    ]
    assert second.plan.previous_records is not None
    back = undo.build_reverse_plan(
        feed,
        OriginalRun("r", second.plan.columns, pl.concat(parts), second.plan.previous_records),
        plan_inputs(second.accepted),
    )
    assert (back.counts.changed, back.counts.new, back.counts.gone) == (1, 1, 1)
    assert sent_days(back) == []
    assert first.accepted.height == 2


def test_an_undo_leaves_what_another_feed_has_taken_over(feed: Mapping) -> None:
    """What a feed that this one yields to has had accepted since stays, and is named."""
    _, second = days(feed, HEAD + "A,1,3\nB,1,3", HEAD + "A,2,3\nB,2,3")
    assert second.plan.previous_records is not None
    went = pl.concat(
        sent_records.build_sent_records(sent.request.frame, sent.request.bits, sent.request.number, second.plan.layout)
        for sent in second.sent
    )
    owned = {"other": run(feed, table(HEAD + "A,7,3")).accepted}
    columns, before = second.plan.columns, second.plan.previous_records
    back = undo.build_reverse_plan(
        feed, OriginalRun("r", columns, went, before), plan_inputs(second.accepted, owner_records=owned)
    )
    assert [record["PartNo"] for record in outcome_of(back, nothing()).records] == ["B"]
    assert [(one["field"], one["keys"]) for one in back.irreversible] == [("OnhandValue", ["A / W / L"])]


# -- two feeds --------------------------------------------------------------------------------------------------------

OTHER = PRICES.replace("feed: prices", "feed: campaign").replace("  CostPurchase: cost\n", "")
OTHER = OTHER.replace("  cost: {type: decimal}\n", "")


def pair(tmp_path: Path, one: str, other: str) -> list[str]:
    """What is wrong with two mappings together."""
    for name, text in (("a.yaml", one), ("b.yaml", other)):
        (tmp_path / name).write_text(text.lstrip(), encoding="utf-8")
    good, bad = load.load_mappings(tmp_path)
    assert bad == []
    return [str(error) for error in conflicts.find_conflicts(good).values()]


def test_two_feeds_that_write_the_same_field_are_refused(tmp_path: Path) -> None:
    """Both are named with the line of the field and a way out; keys and constants may be shared."""
    first, second = pair(tmp_path, PRICES, OTHER)
    assert "campaign writes PriceSale too" in first
    assert "a.yaml:11:3, record.PriceSale" in first
    assert "`yields: [campaign]`" in first
    assert "prices writes PriceSale too" in second
    assert "CostPurchase" not in first + second
    assert "CurrencyCode" not in first + second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PRICES, OTHER + "yields: [prices]\n"),
        (PRICES + "yields: [campaign]\n", OTHER),
        (PRICES, OTHER.replace("value: B2C", "value: SALE")),
        (PRICES, OTHER.replace("PriceSale: price", "PriceSale: {column: price, own: false}")),
        (PRICES, OTHER.replace("PriceSale: price", "PriceCatalog: price")),
        (
            PRICES,
            OTHER.replace("{value: B2C}", "list").replace("columns:", "columns:\n  list: {type: text, in: [X, Y]}"),
        ),
        (PRICES, OTHER.replace("{value: B2C}", "{column: list, map: {b: X}, default: Y}")),
    ],
    ids=["yields", "yielded", "list", "own", "field", "in", "map"],
)
def test_two_feeds_that_do_not_meet_are_fine(one: str, other: str, tmp_path: Path) -> None:
    """One yields, or their records or fields are different ones, as far as the mappings say."""
    assert pair(tmp_path, one, other) == []


def test_both_switch_off(tmp_path: Path) -> None:
    """Two feeds with `gone: deactivate` over the same records would switch each other's off."""
    other = OTHER.replace("PriceSale: price", "PriceCatalog: price") + "gone: deactivate\n"
    assert any("IsActive" in problem for problem in pair(tmp_path, PRICES + "gone: deactivate\n", other))


def test_yields_names_a_feed_that_exists(tmp_path: Path) -> None:
    """A slip of the pen in `yields` is named, with the feed that was probably meant."""
    (problem, *_) = pair(tmp_path, PRICES, OTHER + "yields: [price]\n")[-1:]
    assert 'did you mean "prices"?' in problem


def test_the_one_that_yields_leaves_what_the_other_has() -> None:
    """Where the other feed has had a value accepted it is not overwritten, elsewhere it is sent; nor is it gone."""
    theirs = run(mapping(PRICES), table("part,price,cost\nA,10,\nC,30,")).accepted
    campaign = mapping(OTHER + "yields: [prices]\ngone: deactivate\n")
    plan = plan_file(table("part,price\nA,8\nB,9"), campaign, nothing(), owner_records={"prices": theirs})
    outcome = outcome_of(plan, nothing())
    assert [record["PartNo"] for record in outcome.records if "PriceSale" in record] == ["B"]
    later = plan_file(table("part,price\nA,7\nB,9"), campaign, outcome.accepted, owner_records={"prices": theirs})
    assert list(make_requests(later)) == []
    both = run(mapping(OTHER), table("part,price\nC,3\nB,9")).accepted
    gone = plan_file(table("part,price\nB,9"), campaign, both, owner_records={"prices": theirs})
    assert gone.counts.gone == 0
    assert both.filter(pl.col(KEY).str.starts_with("C")).height == 1
