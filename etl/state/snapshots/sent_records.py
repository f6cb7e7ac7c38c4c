"""Records that a run sends, as rows beside the run until Connect has answered.

A row holds KEY, ITEM, ROW, perhaps ORIGIN, DEACTIVATED, its place in the payload (CHUNK, RECORD_INDEX, OMITTED), words
of bits (`_m0`, `_m1`, ...) and the data columns. Bit n says that the row states the n-th data column; where the bit is
set and the column is null, the record has the value no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from etl.mapping import leaf_set
from etl.mapping.layout import Layout
from etl.model.columns import DEACTIVATED, ITEM, KEY, ORIGIN, PARTIAL, ROW
from etl.model.runs import AcceptedRange, Overlay

#: Number of the planned chunk, and index in its array.
CHUNK, RECORD_INDEX = "_chunk", "_record"

#: The record is not in the payload: it is deactivated by being left out of a FullFile request.
OMITTED = "_omitted"

_STATED_WORD, _VALUE_WORD, _DUMMY = "_m", "_g", "_"
_SYSTEM_COLUMNS = (KEY, ITEM, ROW, ORIGIN, DEACTIVATED, PARTIAL, CHUNK, RECORD_INDEX, OMITTED)


@dataclass(frozen=True, slots=True)
class SentColumns:
    """The data columns of sent records, and the words of bits that say which of them a row states."""

    names: tuple[str, ...]
    words: tuple[str, ...]

    @classmethod
    def of(cls, rows: pl.DataFrame) -> SentColumns:
        """Return those of a frame."""
        count = sum(name.startswith(_STATED_WORD) and name[2:].isdigit() for name in rows.columns)
        words = tuple(leaf_set.word_columns(_STATED_WORD, count))
        names = (name for name in rows.columns if name not in _SYSTEM_COLUMNS and name not in words)
        return cls(tuple(names), words)

    def states(self, name: str) -> pl.Expr:
        """Return whether a row states a data column."""
        return leaf_set.has_leaf(_STATED_WORD, self.names.index(name))


def data_columns(layout: Layout) -> list[str]:
    """Return the data columns of a layout, in order; bit n of a sent record stands for the n-th."""
    return list(dict.fromkeys(leaf.column for leaf in layout.leaves))


def build_sent_records(
    frame: pl.DataFrame, bits: int, chunk_number: int, layout: Layout, retired: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Build the rows of one request.

    `retired` are records that the request deactivates by leaving them out (FullFile=true).
    """
    names = data_columns(layout)
    words = leaf_set.word_columns(_STATED_WORD, leaf_set.count_words(len(names)))
    rows = _add_masks(_number_records(frame), bits, layout).select(
        KEY,
        ITEM,
        ROW,
        *([ORIGIN] if ORIGIN in frame.columns else []),
        DEACTIVATED,
        pl.lit(chunk_number, dtype=pl.Int64).alias(CHUNK),
        RECORD_INDEX,
        pl.lit(False).alias(OMITTED),
        *words,
        *(
            pl.when(leaf_set.has_leaf(_VALUE_WORD, place)).then(pl.col(name)).alias(name)
            for place, name in enumerate(names)
        ),
    )
    if retired is None or retired.is_empty():
        return rows
    return pl.concat([rows, _omitted_rows(retired, chunk_number, words)], how="diagonal")


def build_blocked_records(frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Build rows of records that the run does not send: as part of chunk 0, which is never accepted."""
    every_leaf = sum(1 << leaf.index for leaf in layout.leaves)
    return build_sent_records(frame.with_columns(pl.lit(False).alias(DEACTIVATED)), every_leaf, 0, layout)


def select_accepted(sent_rows: pl.DataFrame, overlay: Overlay) -> pl.DataFrame:
    """Select the rows that Connect accepted."""
    parts = [_rows_of_range(sent_rows, part).filter(~_is_item_in(part.failed_keys)) for part in overlay.ranges]
    return pl.concat(parts) if parts else sent_rows.clear()


def select_partially_accepted(sent_rows: pl.DataFrame, overlay: Overlay) -> pl.DataFrame:
    """Select the rows that Connect accepted in part, with PARTIAL.

    The records exist, and their values may be the new ones. So they are sent again whatever the next file states, and
    are deactivated when it lacks them.
    """
    rows = pl.concat(
        [_rows_of_range(sent_rows, part).filter(_is_item_in(part.partial_keys)) for part in overlay.ranges]
    )
    return rows.filter(~pl.col(DEACTIVATED).fill_null(False) & ~pl.col(OMITTED)).with_columns(
        pl.lit(True).alias(PARTIAL)
    )


def select_unaccepted(sent_rows: pl.DataFrame, overlay: Overlay) -> pl.DataFrame:
    """Select the rows that Connect did not accept, without deactivations: these are no values to keep."""
    place = [CHUNK, RECORD_INDEX, KEY]
    accepted_rows = select_accepted(sent_rows, overlay).select(place)
    unaccepted = sent_rows.join(accepted_rows, on=place, how="anti", maintain_order="left")
    return unaccepted.filter(~pl.col(DEACTIVATED).fill_null(False) & ~pl.col(OMITTED))


def _number_records(frame: pl.DataFrame) -> pl.DataFrame:
    """Add RECORD_INDEX: rows of one ITEM are one record."""
    items = frame.select(ITEM).unique(maintain_order=True).with_row_index(RECORD_INDEX).cast({RECORD_INDEX: pl.Int64})
    return frame.join(items, on=ITEM, how="left", maintain_order="left")


def _add_masks(rows: pl.DataFrame, bits: int, layout: Layout) -> pl.DataFrame:
    """Add the words of bits, from each row's own set of leaves or from `bits`."""
    names = data_columns(layout)
    word_count = leaf_set.count_words(len(names))
    own = leaf_set.own_set_columns(rows)
    sets = rows.select(own).unique(maintain_order=True) if own else pl.DataFrame({_DUMMY: [0]})
    masks = [_column_masks(layout, names, leaf_set.join_words(row) if own else bits) for row in sets.iter_rows()]
    sets = sets.with_columns(
        pl.Series(column, [leaf_set.split_words(mask[kind], word_count)[word] for mask in masks], dtype=pl.UInt64)
        for kind, prefix in enumerate((_STATED_WORD, _VALUE_WORD))
        for word, column in enumerate(leaf_set.word_columns(prefix, word_count))
    )
    if own:
        return rows.join(sets, on=own, how="left", maintain_order="left")
    return rows.join(sets.drop(_DUMMY), how="cross")


def _column_masks(layout: Layout, names: Sequence[str], bits: int) -> tuple[int, int]:
    """Return which columns a set of leaves states, and of which columns it has a value."""
    leaves = list(layout.leaves_in(bits))
    sent_columns = {leaf.column for leaf in leaves}
    bundles = {leaf.bundle for leaf in leaves}  # Connect deletes what an object or list that it replaces lacks
    overriding = {leaf.index for leaf in leaves}
    stated_columns = {
        leaf.column
        for leaf in layout.leaves
        if leaf.bundle in bundles
        or (leaf.index in layout.overridden_by and layout.overridden_by[leaf.index].index in overriding)
    }
    places = {name: 1 << place for place, name in enumerate(names)}
    return sum(places[name] for name in stated_columns), sum(places[name] for name in sent_columns)


def _omitted_rows(retired: pl.DataFrame, chunk_number: int, words: Sequence[str]) -> pl.DataFrame:
    return retired.select(
        KEY,
        ITEM,
        pl.lit(True).alias(DEACTIVATED),
        pl.lit(chunk_number, dtype=pl.Int64).alias(CHUNK),
        pl.lit(0, dtype=pl.Int64).alias(RECORD_INDEX),
        pl.lit(True).alias(OMITTED),
        *(pl.lit(0, dtype=pl.UInt64).alias(word) for word in words),
    )


def _rows_of_range(sent_rows: pl.DataFrame, accepted_range: AcceptedRange) -> pl.DataFrame:
    rows = sent_rows.filter(pl.col(CHUNK) == accepted_range.origin_chunk)
    if accepted_range.indexes == tuple(range(int(rows[RECORD_INDEX].max() or 0) + 1)):  # type: ignore[arg-type]
        return rows
    return rows.filter(pl.col(RECORD_INDEX).is_in(pl.Series(accepted_range.indexes, dtype=pl.Int64).implode()))


def _is_item_in(items: frozenset[str]) -> pl.Expr:
    if not items:
        return pl.lit(False)
    return pl.col(ITEM).is_in(pl.Series(sorted(items), dtype=pl.String).implode())
