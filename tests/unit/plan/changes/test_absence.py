"""Which accepted records a file no longer contains."""

from __future__ import annotations

import polars as pl
import pytest

from etl.mapping.layout import Layout
from etl.model.columns import DEACTIVATED, KEY
from etl.model.tables import Records
from etl.plan.changes import absence
from tests.support.builders import PRICES, mapping, records, table

FEED = mapping(PRICES)
CUSTOMERS = mapping(
    """
    feed: customers
    operation: Customer/ImportCustomers
    source: {files: "*.csv", content: full}
    record: {Code: code, EmailAddress: mail}
    """
)


def accepted(*parts: str | None, off: str = "") -> pl.DataFrame:
    """Accepted prices of these parts, of which some are deactivated."""
    rows = [(str(part), part, str(part) in off) for part in parts]
    return pl.DataFrame(rows, schema={KEY: pl.String, "PartNo": pl.String, DEACTIVATED: pl.Boolean}, orient="row")


def in_file(*parts: str) -> tuple[Records, Layout]:
    """A file with these keys, and the layout of its records."""
    _, layout = records(FEED, table("part,price,cost\nX,1,1"))
    return Records(pl.DataFrame({KEY: parts}, schema={KEY: pl.String}), pl.Series(dtype=pl.Int64)), layout


def missing(found: pl.DataFrame) -> str:
    return "".join(found[KEY])


def test_active_records_that_the_file_lacks_are_missing() -> None:
    """In their order; what is deactivated already is not missing again."""
    file, _ = in_file("B")
    assert missing(absence.find_missing(file, accepted("D", "A", "B", "C", off="A"))) == "DC"


def test_without_the_column_no_record_is_deactivated() -> None:
    """Accepted records of before the column count as active, with it and without it alike."""
    file, _ = in_file("B")
    plain = accepted("A", "B").drop(DEACTIVATED)
    assert absence.with_deactivated_column(plain)[DEACTIVATED].to_list() == [False, False]
    assert missing(absence.select_active(plain)) == "AB"
    assert missing(absence.find_missing(file, plain)) == "A"


def test_records_of_rejected_rows_are_not_missing() -> None:
    """They are in the file; a record without the value is no rejected row's."""
    file, layout = in_file("B")
    rejected = pl.Series(["A", "Z"])
    assert missing(absence.find_missing(file, accepted("A", "B", "C"), layout, rejected)) == "C"
    assert missing(absence.find_missing(file, accepted("A", None), layout, rejected)) == "None"


@pytest.mark.parametrize("keys", [None, pl.Series(["A"])])
def test_without_a_column_of_the_leading_key_every_absent_record_is_missing(keys: pl.Series | None) -> None:
    """Nothing tells which records the rejected rows are about."""
    file, layout = in_file("B")
    assert missing(absence.find_missing(file, accepted("A", "B"), None, keys)) == "A"
    assert missing(absence.find_missing(file, accepted("A", "B").drop("PartNo"), layout, keys)) == "A"
    assert missing(absence.find_missing(file, accepted("A", "B"), layout, None)) == "A"
