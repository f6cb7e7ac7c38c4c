"""Runs checks with pandera and turns its failures into rejections.

The frame is eager and has every column twice, as text and typed. All checks are column-level: a failing frame-level
check turns each rejected row into a Python object, too much memory for a million of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from etl.model.columns import INTERNAL, ROW
from etl.model.schemas import REJECTION_SCHEMA

if TYPE_CHECKING:
    from pandera.api.polars.types import PolarsData

#: Suffix of the text column beside a typed column.
TEXT_SUFFIX = f"{INTERNAL}text"


@dataclass(frozen=True, slots=True)
class Check:
    """A check of a column, and the rejection of a cell that fails it."""

    column: str
    code: str
    message: str
    hint: str
    condition: pl.Expr  #: over the frame with both columns, typed and text
    sql: str | None = None  #: the expression of the mapping that the condition evaluates


def run_checks(typed_rows: pl.DataFrame, checks: Sequence[Check]) -> tuple[pl.DataFrame, pl.Series | None]:
    """Run checks; returns the rejections, and which rows are rejected (None: no row). Imports pandera."""
    import pandera.polars as pa
    from pandera.errors import SchemaErrors

    tags = [f"{place}:{check.code}" for place, check in enumerate(checks)]
    columns: dict[str, list[pa.Check]] = {}
    for tag, check in zip(tags, checks, strict=True):
        columns.setdefault(check.column + TEXT_SUFFIX, []).append(
            pa.Check(_frame_check(check.condition), name=tag, error=tag)
        )
    schema = {
        name: pa.Column(pl.String, checks=column_checks, nullable=True) for name, column_checks in columns.items()
    }
    try:
        pa.DataFrameSchema(schema).validate(typed_rows, lazy=True)
    except SchemaErrors as failures:
        cases = failures.failure_cases
        facts = pl.DataFrame(
            [(tag, c.column, c.code, c.message, c.hint) for tag, c in zip(tags, checks, strict=True)],
            schema=["check", "column", "code", "message", "hint"],
            orient="row",
        )
        rows = typed_rows.select(ROW).with_row_index("index").cast({"index": pl.Int64})
        failed = (
            cases.select(pl.col("check").cast(pl.String), pl.col("index").cast(pl.Int64), value="failure_case")
            .join(facts, on="check", how="inner")
            .join(rows, on="index", how="inner")
        )
        if failed.height != cases.height:
            raise RuntimeError(f"pandera failed in another way: {cases['check'].unique().to_list()}") from failures
        is_rejected = pl.Series(range(typed_rows.height)).is_in(failed["index"].implode()) if failed.height else None
        rejections = failed.select(
            pl.col(ROW).alias("row"), "column", "code", pl.col("value").cast(pl.String), "message", "hint"
        )
        return rejections.sort("row", maintain_order=True), is_rejected
    return pl.DataFrame(schema=REJECTION_SCHEMA), None


def _frame_check(condition: pl.Expr) -> Callable[[PolarsData], pl.LazyFrame]:
    """Return a pandera check of an expression over the whole frame."""
    return lambda data: data.lazyframe.select(condition)
