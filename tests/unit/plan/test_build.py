"""What the plan of a whole feed deactivates and keeps, on files of a few rows."""

from __future__ import annotations

import polars as pl
import pytest

from etl.contract import spec
from etl.errors import InvalidFileError
from etl.mapping.model import Mapping
from etl.model.columns import KEY
from etl.plan.inputs import SendMode
from etl.plan.model import Plan
from tests.support.builders import PRICES, days, mapping, plan_file, table

HEAD = "part,price,cost\n"
STOCK = """
feed: stock
operation: Product/ImportOnhands
source: {files: "*.csv", content: full}
columns: {qty: {type: decimal}}
record:
  PartNo: part
  WarehouseCode: {value: W}
  LocationCode: {value: L}
  OnhandValue: qty
  IsActive: {value: true}
"""


def parts(frame: pl.DataFrame | None) -> list[str]:
    assert frame is not None
    return sorted(key.split("\x1f")[0] for key in frame[KEY])


def full(feed: Mapping, text: str) -> Plan:
    """The plan that sends all records of a file after A, B and C were accepted."""
    (first,) = days(feed, "part,qty\nA,1\nB,2\nC,3")
    return plan_file(table(text), feed, first.accepted, mode=SendMode.ALL)


def test_a_full_feed_with_a_rejected_row_is_refused() -> None:
    """FullFile=true would deactivate the record of the row, which is in the file."""
    with pytest.raises(InvalidFileError, match="1 records whose rows were rejected") as caught:
        full(mapping(STOCK), "part,qty\nA,1\nB,many\nC,3")
    assert caught.value.code == "full-with-rejections"


def test_a_full_feed_with_a_rejected_row_of_a_new_record_is_sent() -> None:
    """Norce does not have the record, so nothing is deactivated by mistake."""
    plan = full(mapping(STOCK), "part,qty\nA,1\nB,2\nC,3\nD,many")
    assert plan.full_file
    assert parts(plan.missing_records) == []


def test_a_full_feed_keeps_what_it_deactivates_for_an_undo_run() -> None:
    """The records that it sends, and those that it deactivates by leaving them out."""
    plan = full(mapping(STOCK), "part,qty\nA,1\nB,2")
    assert plan.full_file
    assert parts(plan.missing_records) == ["C"]
    assert parts(plan.previous_records) == ["A", "B", "C"]


def test_an_ordinary_plan_keeps_only_what_it_changes() -> None:
    """A missing record that nothing happens to needs no undo."""
    (first,) = days(mapping(PRICES), HEAD + "A,1,\nB,2,\nC,3,")
    plan = plan_file(table(HEAD + "A,9,\nB,2,"), mapping(PRICES), first.accepted)
    assert parts(plan.missing_records) == ["C"]
    assert parts(plan.previous_records) == ["A"]


@pytest.mark.parametrize(("content", "kept"), [("changes", ["B"]), ("full", None)])
def test_only_change_files_keep_their_blocked_records(content: str, kept: list[str] | None) -> None:
    """The next full file holds the record again; the next change file may not."""
    feed = mapping(PRICES.replace("content: full", f"content: {content}"))
    plan = plan_file(table(HEAD + "A,1,\nB,2,"), feed, reference_values={"PartNo": pl.Series(["A"])})
    assert plan.counts.blocked == 1
    assert (None if plan.blocked_records is None else parts(plan.blocked_records)) == kept


def test_a_blocked_record_is_not_missing() -> None:
    """It is in the file, although it cannot be sent yet."""
    feed = mapping(PRICES + "gone: deactivate\nguards: {gone: off}\n")
    (first,) = days(feed, HEAD + "A,1,\nB,2,")
    plan = plan_file(table(HEAD + "A,1,\nB,3,"), feed, first.accepted, reference_values={"PartNo": pl.Series(["A"])})
    assert parts(plan.missing_records) == []


def test_values_that_connect_would_not_take_as_said_are_counted() -> None:
    """A price activates its row, so it is not sent beside IsActive=false."""
    feed = mapping(
        PRICES.replace("cost: {type: decimal}", "cost: {type: decimal}\n  on: {type: boolean}") + "  IsActive: on\n"
    )
    plan = plan_file(table("part,price,cost,on\nA,1,,false\nB,2,,true"), feed)
    assert plan.suppressed == 1


def test_a_field_that_activates_its_record_ignores_zero() -> None:
    """`suppressed_count` looks at fields that Connect ignores when empty; those that activate are among them."""
    contract = spec.load_contract()
    activating = [
        contract.field(operation, path)
        for operation in contract.operations.values()
        for flag in operation.flags
        if flag.activates is not None
        for path in flag.paths
    ]
    assert {field.name for field in activating} == {"PriceSale"}
    assert {field.null_effect for field in activating} == {"ignored"}
