"""What was sent becomes what Norce has, on frames made by hand."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from etl.model.columns import DEACTIVATED, ITEM, KEY, PARTIAL, ROW
from etl.model.runs import AcceptedRange, Overlay
from etl.state.snapshots import record_overlay, sent_records

NOTHING = pl.LazyFrame(schema={KEY: pl.String, ITEM: pl.String, DEACTIVATED: pl.Boolean})


def sent(*rows: tuple[str, int, int, bool | None, int, int | None, str | None]) -> pl.DataFrame:
    """Rows of key, chunk, place in its array, whether it is gone, bits, and the values of two columns."""
    return pl.DataFrame(
        [(key, key.lower(), 2, gone, chunk, place, False, bits, a, b) for key, chunk, place, gone, bits, a, b in rows],
        schema={
            KEY: pl.String, ITEM: pl.String, ROW: pl.Int64, DEACTIVATED: pl.Boolean, sent_records.CHUNK: pl.Int64,
            sent_records.RECORD_INDEX: pl.Int64, sent_records.OMITTED: pl.Boolean, "_m0": pl.UInt64,
            "a": pl.Decimal(18, 2), "b": pl.String,
        },
        orient="row",
    )  # fmt: skip


ROWS = sent(
    ("A", 1, 0, False, 0b11, 1, "x"),
    ("B", 1, 1, None, 0b01, 2, "said nothing of this"),
    ("C", 1, 2, True, 0b10, None, None),
    ("D", 2, 0, False, 0b11, 4, "y"),
    ("E", 2, 1, False, 0b11, 5, "z"),
)
PASSES = sent(("A", 1, 0, False, 0b01, 1, None), ("B", 1, 1, False, 0b01, 2, None), ("A", 2, 0, True, 0b10, None, "x"))


@pytest.mark.parametrize("patch", [ROWS, PASSES, ROWS.clear()])
def test_a_first_load_is_what_was_sent(patch: pl.DataFrame) -> None:
    """The short way for it and the general one agree, in values, types and order."""
    assert_frame_equal(
        record_overlay.overlay_records(None, patch).collect(), record_overlay.overlay_records(NOTHING, patch).collect()
    )


@pytest.mark.parametrize(
    ("ranges", "keys"),
    [
        ([(1, (0, 1, 2), ())], "ABC"),
        ([(1, (0, 2), ())], "AC"),
        ([(1, (0, 1, 2), ("b",)), (2, (1,), ())], "ACE"),
        ([(2, (0, 1), ("d", "e")), (1, (1,), ())], "B"),
        ([(2, (0,), ()), (2, (1,), ())], "DE"),
        ([(3, (0,), ())], ""),
        ([], ""),
    ],
)
def test_of_what_was_sent_the_accepted_ranges_count(
    ranges: list[tuple[int, tuple[int, ...], tuple[str, ...]]], keys: str
) -> None:
    """Range by range, without the refused keys."""
    overlay = Overlay("r", tuple(AcceptedRange(origin, places, frozenset(no)) for origin, places, no in ranges))
    assert "".join(sent_records.select_accepted(ROWS, overlay)[KEY]) == keys


@pytest.mark.parametrize(("ranges", "keys"), [([], "ABDE"), ([(1, (0,), ())], "BDE"), ([(2, (0, 1), ("d",))], "ABD")])
def test_what_was_not_accepted_stays_pending_without_deactivations(
    ranges: list[tuple[int, tuple[int, ...], tuple[str, ...]]], keys: str
) -> None:
    """A record that was to be deactivated has no values to keep: C is never pending."""
    overlay = Overlay("r", tuple(AcceptedRange(origin, places, frozenset(no)) for origin, places, no in ranges))
    assert "".join(sent_records.select_unaccepted(ROWS, overlay)[KEY]) == keys


def test_a_record_that_was_left_out_of_a_full_file_is_not_pending() -> None:
    """It has no place in a payload from which it could be sent again."""
    rows = ROWS.with_columns((pl.col(KEY) == "D").alias(sent_records.OMITTED), pl.lit(False).alias(DEACTIVATED))
    assert "".join(sent_records.select_unaccepted(rows, Overlay("r", ()))[KEY]) == "ABCE"


def test_a_record_that_was_accepted_in_part_is_whole_after_the_next_acceptance() -> None:
    """PARTIAL goes with the next values that are accepted; records that were not sent again keep it."""
    partial = ROWS.filter(pl.col(KEY).is_in(["A", "D"])).with_columns(pl.lit(True).alias(PARTIAL))
    before = record_overlay.overlay_records(NOTHING, partial)
    assert dict(before.select(KEY, PARTIAL).collect().iter_rows()) == {"A": True, "D": True}
    after = record_overlay.overlay_records(before, ROWS.filter(pl.col(KEY).is_in(["A", "E"])))
    assert dict(after.select(KEY, PARTIAL).collect().iter_rows()) == {"A": False, "D": True, "E": False}


def test_a_deactivation_is_never_accepted_in_part() -> None:
    """Only records with values are sent again whatever the next file states."""
    part = AcceptedRange(1, (0, 1, 2), frozenset({"a", "c"}), frozenset({"a", "c"}))
    rows = sent_records.select_partially_accepted(ROWS, Overlay("r", (part,)))
    assert rows.select(KEY, PARTIAL).rows() == [("A", True)]
