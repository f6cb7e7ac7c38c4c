"""A batch: records that share a header and a request."""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from etl.model.columns import ITEM

#: Columns of a batch's frame: the number of values that the record is sent with, how many of them have changed, and the
#: number of the record's set of changed leaves.
VALUE_COUNT, CHANGED_COUNT, LEAF_SET = "_values", "_changed", "_leaf_set"

#: Column of a numbered frame: the number of the row's item.
ITEM_NUMBER = "_item_number"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records that share a header; the encoder may still split the frame to keep a request within its size limit."""

    wave: int
    bits: int
    frame: pl.DataFrame
    records: int  #: array elements
    change_set_count: int  #: distinct sets of changed leaves that were merged to save requests
    full_file: bool = False  #: a FullFile scope, which must not be split


def halve_batch(batch: Batch) -> tuple[Batch, Batch]:
    """Split a batch in two between array elements."""
    numbered = number_items(batch.frame)
    middle = batch.records // 2
    first = numbered.filter(pl.col(ITEM_NUMBER) < middle).drop(ITEM_NUMBER)
    rest = numbered.filter(pl.col(ITEM_NUMBER) >= middle).drop(ITEM_NUMBER)
    return replace(batch, frame=first, records=middle), replace(batch, frame=rest, records=batch.records - middle)


def delay_batch(batch: Batch, waves: int) -> Batch:
    """Return the batch, so many waves later."""
    return replace(batch, wave=batch.wave + waves)


def number_items(frame: pl.DataFrame) -> pl.DataFrame:
    """Add ITEM_NUMBER: items are numbered from 0 in the order in which they appear."""
    order = frame.select(ITEM).unique(maintain_order=True).with_row_index(ITEM_NUMBER).cast({ITEM_NUMBER: pl.Int64})
    return frame.join(order, on=ITEM, how="left", maintain_order="left")
