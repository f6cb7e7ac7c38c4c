"""Polars types of the frames that several stages share."""

from __future__ import annotations

from collections.abc import Mapping as Map

import polars as pl

from etl.model.columns import ORIGIN

#: Schema of a rejections frame.
REJECTION_SCHEMA: Map[str, pl.DataType] = {
    "row": pl.Int64(),
    "column": pl.String(),
    "code": pl.String(),
    "value": pl.String(),
    "message": pl.String(),
    "hint": pl.String(),
}


#: What CAME holds.
ORIGIN_TYPE = pl.Struct({"run": pl.String, "file": pl.String, "row": pl.Int64})


def no_origin() -> pl.Expr:
    """Return the origin of records that no earlier file has brought."""
    return pl.lit(None, dtype=ORIGIN_TYPE).alias(ORIGIN)
