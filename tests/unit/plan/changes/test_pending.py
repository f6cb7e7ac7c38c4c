"""Pending records of a feed of changes, merged into its next file: newer values, and the origin of each record."""

from __future__ import annotations

import polars as pl

from etl.mapping.layout import Layout
from etl.mapping.model import Mapping
from etl.model import schemas
from etl.model.columns import ITEM, KEY, ORIGIN, ROW
from etl.model.runs import Run, RunState
from etl.model.tables import Records
from etl.plan.changes.pending import merge_pending
from etl.plan.requests import make_requests
from etl.report import rejections
from etl.state.files import parquet, run_folder
from etl.state.snapshots import accepted, sent_records
from tests.support.builders import PRICES, mapping, nothing, plan_file, records, table

FIRST = {"run": "r1", "file": "prices_1.csv", "row": 3}


def changes(text: str) -> Mapping:
    return mapping(text.replace("content: full", "content: changes"))


def owed(feed: Mapping, text: str, came: dict[str, object] | None) -> tuple[pl.DataFrame, Layout]:
    """The records of a file as they are kept, all from one line."""
    found, layout = records(feed, table(text))
    frame = found.frame.drop(ROW)
    return frame.with_columns(pl.Series(ORIGIN, [came] * frame.height, dtype=schemas.ORIGIN_TYPE)), layout


def origins(found: Records) -> dict[str, tuple[int | None, object]]:
    return {key.split("\x1f")[0]: (row, came) for key, row, came in found.frame.select(KEY, ROW, ORIGIN).iter_rows()}


def test_a_record_has_the_row_of_its_file_or_says_where_it_came_from() -> None:
    """What the newer file says again is its own; the rest keeps file and line, also over a second file."""
    feed = changes(PRICES)
    pending, layout = owed(feed, "part,price,cost\nA,1,\nB,1,\n", FIRST)
    newer, _ = records(feed, table("part,price,cost\nB,2,\nC,2,\n"))
    laid = merge_pending(newer, pending, layout)
    assert origins(laid) == {"B": (2, None), "C": (3, None), "A": (None, FIRST)}


def test_what_an_older_version_has_kept_comes_from_nowhere() -> None:
    """It did not know where its records came from."""
    feed = changes(PRICES)
    pending, layout = owed(feed, "part,price,cost\nA,1,\n", FIRST)
    newer, _ = records(feed, table("part,price,cost\nB,2,\n"))
    assert origins(merge_pending(newer, pending.drop(ORIGIN), layout)) == {"B": (2, None), "A": (None, None)}


def test_what_is_kept_beside_a_run_says_where_it_came_from(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Of what Norce has not taken: lines of the run's own file, and what had been merged into it."""
    feed = changes(PRICES)
    pending, _ = owed(feed, "part,price,cost\nA,1,\n", FIRST)
    made = plan_file(table("part,price,cost\nB,2,\n"), feed, nothing(), pending_records=pending)
    (request,) = make_requests(made)
    run = Run("r2", "prices", "Product/ImportSkuPriceLists", "prices_2.csv", "", RunState.COMPLETED)
    run_folder.sent_records_path(tmp_path, "r2").parent.mkdir(parents=True)
    parquet.write_parquet(
        run_folder.sent_records_path(tmp_path, "r2"),
        sent_records.build_sent_records(request.frame, request.bits, 1, made.layout),
    )
    kept = accepted.read_pending(tmp_path, "prices", None, (), run)
    assert {key.split("\x1f")[0]: came for key, came in kept.select(KEY, ORIGIN).iter_rows()} == {
        "A": FIRST,
        "B": {"run": "r2", "file": "prices_2.csv", "row": 2},
    }


LIST = """
feed: lists
operation: Product/ImportPriceLists
source: {files: "*.csv", content: changes}
record:
  Code: k
  Warehouses:
    - {Code: {value: A}, Name: a, Locations: [{Code: {value: A}, Name: x}]}
    - {Code: {value: B}, Name: b, Locations: [{Code: {value: B}, Name: x}]}
"""


def test_a_pending_record_that_no_header_can_carry_is_rejected_by_file_and_line() -> None:
    """In rejections.csv, and in the groups that `etl show` and the page show."""
    feed = mapping(LIST)
    came = {"run": "r1", "file": "lists_1.csv", "row": 9}
    pending, _ = owed(feed, "k,a,b,x\nL,,b,x\n", came)
    made = plan_file(table("k,a,b,x\nK,a,b,x\n"), feed, nothing(), pending_records=pending)
    (found,) = made.rejections.frame.to_dicts()
    assert (found["row"], found["value"], found["code"]) == (None, "L", "uneven-list")
    assert found["message"].endswith("without a value (lists_1.csv, row 9)")
    assert "(lists_1.csv, row 9)" in rejections.to_csv(made.rejections.frame).decode("utf-8-sig")
    assert [group["message"] for group in rejections.group_rejections(made.rejections.frame)] == [found["message"]]


def test_what_is_blocked_on_a_reference_is_not_sent_although_it_is_pending() -> None:
    """It is kept again, with the newest value."""
    feed = changes(PRICES)
    pending, _ = owed(feed, "part,price,cost\nA,1,\nB,1,\n", FIRST)
    known = {"PartNo": pl.Series(["C"])}
    made = plan_file(
        table("part,price,cost\nA,2,\nC,2,\n"), feed, nothing(), pending_records=pending, reference_values=known
    )
    assert [key.split("\x1f")[0] for request in make_requests(made) for key in request.frame[KEY]] == ["C"]
    assert made.blocked_records is not None
    assert made.blocked_records.select(pl.col(ITEM).str.head(1), "PriceSale").rows() == [("A", 2), ("B", 1)]
    assert origins(Records(made.blocked_records, pl.Series(dtype=pl.Int64))) == {"A": (2, None), "B": (None, FIRST)}
