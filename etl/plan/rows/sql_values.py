"""Evaluates the SQL expressions of a mapping, and finds the rows whose cells make one of them fail.

An expression is evaluated over all rows at once. Only when polars raises, the rows are divided in halves until those
that fail are alone, so that a file without such cells costs nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from polars.exceptions import ColumnNotFoundError, PolarsError

CODE = "sql-error"
HINT = "`NULLIF(x, 0)` for a division by zero, `TRY_CAST(x AS type)` for a cast; or correct the cell"


@dataclass(frozen=True, slots=True)
class SqlValues:
    """The value of an expression for every row of a frame."""

    values: pl.Series  #: null where the expression fails
    failed: pl.Series  #: whether it fails


def separate_failures(frame: pl.DataFrame, expression: pl.Expr) -> SqlValues:
    """Evaluate an expression that raises for some of the typed rows.

    Raises ColumnNotFoundError when the frame lacks a column of the expression.
    """
    blocks: list[pl.Series | int] = []
    _bisect(frame, expression, blocks)
    return _join(blocks)


def separate_overflows(frame: pl.DataFrame, expression: pl.Expr, values: pl.Series) -> SqlValues:
    """Separate the integer results of an expression that are wrong without an error.

    polars keeps the lowest bits of a result that is too large, and gives null for a remainder or quotient by zero. The
    same expression over floating-point numbers tells, up to its precision, what the result would have been.
    """
    integers = [name for name in expression.meta.root_names() if frame.schema[name].is_integer()]
    try:
        approximate = frame.with_columns(pl.col(integers).cast(pl.Float64)).select(
            expression.cast(pl.Float64, strict=False).alias("v")
        )["v"]
    except PolarsError:  # it needs integers, as a shift of bits does
        return SqlValues(values, pl.repeat(False, values.len(), dtype=pl.Boolean, eager=True))
    deviation = (values.cast(pl.Float64) - approximate).abs()
    failed = (deviation > approximate.abs() * 1e-9 + 1).fill_null(False)
    failed |= values.is_null() & approximate.is_not_null() & ~approximate.is_finite().fill_null(True)
    both = pl.DataFrame({"v": values, "failed": failed}).with_columns(pl.when(~pl.col("failed")).then(pl.col("v")))
    return SqlValues(both["v"], both["failed"])


def message(sql: str) -> str:
    """Return the message of a rejection."""
    return f"the expression `{sql}` fails for this row"


def cells(expression: pl.Expr) -> pl.Expr:
    """Return the cells that an expression reads, as the value of a rejection."""
    names = dict.fromkeys(expression.meta.root_names())
    return pl.concat_str(
        [pl.concat_str(pl.lit(f"{name}="), pl.col(name).cast(pl.String).fill_null("")) for name in names],
        separator=", ",
    )


def _bisect(frame: pl.DataFrame, expression: pl.Expr, blocks: list[pl.Series | int]) -> None:
    """Append the values of the rows in order; rows that fail as their number."""
    try:
        blocks.append(frame.select(expression.alias("v"), pl.int_range(pl.len()).alias("i"))["v"])
    except ColumnNotFoundError:
        raise
    except PolarsError:
        if frame.height <= 1:
            blocks.append(frame.height)
            return
        middle = frame.height // 2
        _bisect(frame[:middle], expression, blocks)
        _bisect(frame[middle:], expression, blocks)


def _join(blocks: list[pl.Series | int]) -> SqlValues:
    dtype = next((block.dtype for block in blocks if isinstance(block, pl.Series)), pl.Null())
    values, failed = [pl.Series("v", dtype=dtype)], [pl.Series("failed", dtype=pl.Boolean)]
    for block in blocks:
        height = block if isinstance(block, int) else block.len()
        values.append(pl.repeat(None, height, dtype=dtype, eager=True) if isinstance(block, int) else block)
        failed.append(pl.repeat(isinstance(block, int), height, dtype=pl.Boolean, eager=True))
    return SqlValues(pl.concat(values, how="vertical").rename("v"), pl.concat(failed).rename("failed"))
