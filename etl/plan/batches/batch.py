"""A batch: records that share a header and a request."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from etl.model.columns import ITEM
from etl.plan.batches.packing import Packing

#: Columns of a batch's frame: how many values the record is sent with, and how many of them have changed.
VALUE_COUNT, CHANGED_COUNT = "_values", "_changed"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one request may hold and one minute may carry."""

    max_records: int = 1000
    requests_per_minute: int = 60
    packing: Packing = "budget"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that travel under one header; `frame` may still be cut for size."""

    wave: int
    bits: int
    frame: pl.DataFrame
    records: int  #: array elements
    change_set_count: int  #: distinct change sets that were put together to save requests
    full_file: bool = False  #: must not be cut: a FullFile scope


def halve_batch(batch: Batch) -> tuple[Batch, Batch]:
    """A batch cut in two between array elements."""
    numbered = batch.frame.with_columns(_number_items(batch.frame))
    middle = batch.records // 2
    first = numbered.filter(pl.col("_i") < middle).drop("_i")
    rest = numbered.filter(pl.col("_i") >= middle).drop("_i")
    return replace(batch, frame=first, records=middle), replace(batch, frame=rest, records=batch.records - middle)


def delay_batch(batch: Batch, waves: int) -> Batch:
    """The same, so many waves later."""
    return replace(batch, wave=batch.wave + waves)


def _number_items(frame: pl.DataFrame) -> pl.Series:
    """Number of each row's item, in the order in which items appear."""
    order = frame.select(ITEM).unique(maintain_order=True).with_row_index("_i").cast({"_i": pl.Int64})
    return frame.select(ITEM).join(order, on=ITEM, how="left", maintain_order="left")["_i"]
