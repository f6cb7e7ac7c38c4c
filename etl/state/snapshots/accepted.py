"""What Norce confirmed, per feed: an immutable Parquet base and the records of runs laid over it.

The ledger says which base counts and which records of which run were accepted; the files hold the values.
Bringing the two together in a new base (`compact`) is only speed: a crash in it changes nothing.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from etl import filesystem
from etl.mapping import leaf_set
from etl.mapping.layout import Layout
from etl.model import columns, schemas
from etl.model.columns import DEACTIVATED, INTERNAL, ITEM, KEY, ORIGIN, PARTIAL, ROW
from etl.model.runs import AcceptedRange, Overlay, Run

#: Columns of what a run sent: the planned chunk, the place in its array, and which data columns went (as bits).
CHUNK, RECORD_INDEX = "_chunk", "_record"

#: Not in the payload: switched off by being left out of a FullFile request.
OMITTED = "_silent"

#: What *accepted* has of every feed.
_MINIMAL_SCHEMA = {KEY: pl.String(), ITEM: pl.String(), DEACTIVATED: pl.Boolean()}

_SYSTEM_COLUMNS = (KEY, ITEM, ROW, ORIGIN, DEACTIVATED, PARTIAL, CHUNK, RECORD_INDEX, OMITTED)


def data_columns(layout: Layout) -> list[str]:
    """The data columns of a layout, in order; bit n of a sent record stands for the n-th."""
    return list(dict.fromkeys(leaf.column for leaf in layout.leaves))


def build_sent_records(
    frame: pl.DataFrame, bits: int, chunk_number: int, layout: Layout, retired: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The rows of one request as they are kept beside the run until Connect has answered.

    `retired` are records that the request switches off by leaving them out (FullFile=true).
    """
    names = data_columns(layout)
    word_count = leaf_set.count_words(len(names))
    own = leaf_set.own_set_columns(frame)
    sets = frame.select(own).unique(maintain_order=True) if own else pl.DataFrame({"_": [0]})
    masks = [_column_masks(layout, names, leaf_set.join_words(row) if own else bits) for row in sets.iter_rows()]
    known = sets.with_columns(
        pl.Series(name, [leaf_set.split_words(mask[place], word_count)[word] for mask in masks], dtype=pl.UInt64)
        for place, kind in enumerate(("_m", "_g"))
        for word, name in enumerate(leaf_set.word_columns(kind, word_count))
    )
    order = frame.select(ITEM).unique(maintain_order=True).with_row_index(RECORD_INDEX).cast({RECORD_INDEX: pl.Int64})
    rows = frame.join(order, on=ITEM, how="left", maintain_order="left")
    rows = (
        rows.join(known, on=own, how="left", maintain_order="left") if own else rows.join(known.drop("_"), how="cross")
    )

    def going(place: int) -> pl.Expr:
        return leaf_set.has_leaf("_g", place)

    rows = rows.select(
        KEY,
        ITEM,
        ROW,
        *([ORIGIN] if ORIGIN in frame.columns else []),
        DEACTIVATED,
        pl.lit(chunk_number, dtype=pl.Int64).alias(CHUNK),
        RECORD_INDEX,
        pl.lit(False).alias(OMITTED),
        *leaf_set.word_columns("_m", word_count),
        *(pl.when(going(place)).then(pl.col(name)).alias(name) for place, name in enumerate(names)),
    )
    if retired is None or retired.is_empty():
        return rows
    off = retired.select(
        KEY,
        ITEM,
        pl.lit(True).alias(DEACTIVATED),
        pl.lit(chunk_number, dtype=pl.Int64).alias(CHUNK),
        pl.lit(0, dtype=pl.Int64).alias(RECORD_INDEX),
        pl.lit(True).alias(OMITTED),
        *(pl.lit(0, dtype=pl.UInt64).alias(name) for name in leaf_set.word_columns("_m", word_count)),
    )
    return pl.concat([rows, off], how="diagonal")


def _column_masks(layout: Layout, names: Sequence[str], bits: int) -> tuple[int, int]:
    """Of a set of leaves the columns of which it says something, and those whose value goes."""
    going = {leaf.column for leaf in layout.leaves_in(bits)}
    bundles = {leaf.bundle for leaf in layout.leaves_in(bits)}  # what is left out of a whole is gone from it
    overruling = {leaf.index for leaf in layout.leaves_in(bits)}
    said = {
        leaf.column
        for leaf in layout.leaves
        if leaf.bundle in bundles
        or (leaf.index in layout.overridden_by and layout.overridden_by[leaf.index].index in overruling)
    }
    places = {name: 1 << place for place, name in enumerate(names)}
    return sum(places[name] for name in said), sum(places[name] for name in going)


def build_blocked_records(frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Records that are not sent with the run: kept beside what is, as part of a request that never ends."""
    everything = sum(1 << leaf.index for leaf in layout.leaves)
    return build_sent_records(frame.with_columns(pl.lit(False).alias(DEACTIVATED)), everything, 0, layout)


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Whole or not at all, synced. Raises StateError."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1)
    filesystem.write_atomically(path, buffer.getvalue())


def base_path(state: Path, feed: str, generation: str) -> Path:
    return state / "accepted" / feed / generation


def sent_records_path(state: Path, run_id: str) -> Path:
    return state / "runs" / run_id / "sent.parquet"


def pending_path(state: Path, feed: str, generation: str) -> Path:
    """What the feed still owed Norce when this base was made; the file is missing when that was nothing."""
    return base_path(state, feed, generation.removesuffix(".parquet") + ".pending.parquet")


def read_pending(
    state: Path, feed: str, generation: str | None, overlays: Sequence[Overlay], last_run: Run | None
) -> pl.DataFrame:
    """What files of changes have said and Norce has not taken, see `owed`, with where it CAME from.

    `last` is the newest ended run that is not part of the base. Whatever was pending before it was planned with it,
    so what it did not get through is all there is.
    """
    nothing = pl.DataFrame(schema={KEY: pl.String, ITEM: pl.String})
    if last_run is None:
        path = pending_path(state, feed, generation) if generation is not None else None
        return pl.read_parquet(path) if path is not None and path.exists() else nothing
    path = sent_records_path(state, last_run.id)
    if not path.exists():
        return nothing
    left = select_unaccepted(
        pl.read_parquet(path), next((o for o in overlays if o.run == last_run.id), Overlay(last_run.id, ()))
    )
    if left.is_empty():
        return nothing
    known = scan(state, feed, generation, overlays)
    concerned = known.join(left.lazy().select(KEY), on=KEY, how="semi", maintain_order="left")
    return build_pending_records(concerned.collect(), left).join(
        _pending_origins(left, last_run), on=KEY, how="left", maintain_order="left"
    )


def build_pending_records(accepted_records: pl.DataFrame, unaccepted_rows: pl.DataFrame) -> pl.DataFrame:
    """Values that were sent and not taken (`left`), as whole records over what Norce has of them (`known`): KEY, ITEM,
    data columns, and for each of these whether it was said (`etl.plan.changes.pending.SAID`)."""
    united = _one_row_per_key(unaccepted_rows)
    names, _, went = _overlay_columns(united)
    said = united.select(KEY, *(went(name).alias(columns.STATED + name) for name in names))
    whole = overlay_records(accepted_records.lazy(), unaccepted_rows).collect().drop(DEACTIVATED, PARTIAL, strict=False)
    return whole.join(said, on=KEY, how="left", maintain_order="left")


def _pending_origins(unaccepted_rows: pl.DataFrame, run: Run) -> pl.DataFrame:
    """KEY and CAME of what a run did not get through: a line of its own file, or what it knew of an earlier one."""
    own = pl.struct(pl.lit(run.id).alias("run"), pl.lit(run.file).alias("file"), pl.col(ROW).alias("row"))
    before = pl.col(ORIGIN) if ORIGIN in unaccepted_rows.columns else pl.lit(None, dtype=schemas.ORIGIN_TYPE)
    came = pl.when(pl.col(ROW).is_not_null()).then(own).otherwise(before)
    return unaccepted_rows.select(KEY, came.alias(ORIGIN)).unique(KEY, keep="last", maintain_order=True)


def scan(state: Path, feed: str, generation: str | None, overlays: Sequence[Overlay]) -> pl.LazyFrame:
    """All records that Norce has from this feed: KEY, ITEM, GONE, perhaps UNSURE, data columns. What is asked for
    is read."""
    base = pl.scan_parquet(base_path(state, feed, generation)) if generation is not None else None
    for overlay in overlays:
        frame = pl.read_parquet(sent_records_path(state, overlay.run))
        base = overlay_records(base, select_accepted(frame, overlay))
        if any(part.partial_keys for part in overlay.ranges):
            base = overlay_records(base, select_partially_accepted(frame, overlay))
    return base if base is not None else pl.LazyFrame(schema=_MINIMAL_SCHEMA)


def read(state: Path, feed: str, generation: str | None, overlays: Sequence[Overlay]) -> pl.DataFrame:
    """The same in memory."""
    return scan(state, feed, generation, overlays).collect()


def select_accepted(sent_rows: pl.DataFrame, overlay: Overlay) -> pl.DataFrame:
    """Of what a run sent, the rows that Connect took."""
    parts = [_rows_of_range(sent_rows, part).filter(~_is_item_in(part.failed_keys)) for part in overlay.ranges]
    return pl.concat(parts) if parts else sent_rows.clear()


def select_partially_accepted(sent_rows: pl.DataFrame, overlay: Overlay) -> pl.DataFrame:
    """Of what a run sent, the rows that Connect took in part, with UNSURE: the records are there, their values may be
    the new ones. So they go again whatever the next file says, and are switched off when it says nothing of them.
    """
    rows = pl.concat(
        [_rows_of_range(sent_rows, part).filter(_is_item_in(part.partial_keys)) for part in overlay.ranges]
    )
    return rows.filter(~pl.col(DEACTIVATED).fill_null(False) & ~pl.col(OMITTED)).with_columns(
        pl.lit(True).alias(PARTIAL)
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


def select_unaccepted(sent_rows: pl.DataFrame, overlay: Overlay) -> pl.DataFrame:
    """Of what a run sent, the rows that Connect did not take; what was to be switched off is no value to keep."""
    places = [CHUNK, RECORD_INDEX, KEY]
    left = sent_rows.join(
        select_accepted(sent_rows, overlay).select(places), on=places, how="anti", maintain_order="left"
    )
    return left.filter(~pl.col(DEACTIVATED).fill_null(False) & ~pl.col(OMITTED))


def _overlay_as_base(overlay_rows: pl.DataFrame) -> pl.LazyFrame:
    """The sent values themselves, without a join."""
    if overlay_rows.is_empty():
        return pl.LazyFrame(schema=_MINIMAL_SCHEMA)
    names, _, went = _overlay_columns(overlay_rows)
    values = [pl.when(went(name)).then(pl.col(name)).alias(name) for name in names]
    return _one_row_per_key(overlay_rows).lazy().select(KEY, ITEM, DEACTIVATED, *values)


def _overlay_columns(overlay_rows: pl.DataFrame) -> tuple[list[str], list[str], Callable[[str], pl.Expr]]:
    """Of what was sent: the data columns, those of bits, and whether a row says something of a data column."""
    count = sum(name[:2] == "_m" and name[2:].isdigit() for name in overlay_rows.columns)
    masks = leaf_set.word_columns("_m", count)
    names = [name for name in overlay_rows.columns if name not in _SYSTEM_COLUMNS and name not in masks]
    places = {name: place for place, name in enumerate(names)}

    def went(name: str) -> pl.Expr:
        return leaf_set.has_leaf("_m", places[name])

    return names, masks, went


def _one_row_per_key(overlay_rows: pl.DataFrame) -> pl.DataFrame:
    """One row a record, also where it went in several passes."""
    if overlay_rows[KEY].n_unique() == overlay_rows.height:
        return overlay_rows
    names, masks, went = _overlay_columns(overlay_rows)
    return overlay_rows.group_by(KEY, maintain_order=True).agg(
        pl.col(ITEM).last(),
        pl.col(DEACTIVATED).last(),
        *(pl.col(mark).any() for mark in overlay_rows.columns if mark == PARTIAL),
        *(pl.col(name).filter(went(name)).last() for name in names),
        *(pl.col(mask).bitwise_or() for mask in masks),
    )


def overlay_records(base: pl.LazyFrame | None, overlay_rows: pl.DataFrame) -> pl.LazyFrame:
    """`base` with the sent values of `patch` in place of the old ones; new keys behind the old; None: no base."""
    if base is None:
        return _overlay_as_base(overlay_rows)
    if overlay_rows.is_empty():
        return base
    marks = [PARTIAL] if PARTIAL in overlay_rows.columns or PARTIAL in base.collect_schema() else []
    if marks and PARTIAL not in overlay_rows.columns:
        overlay_rows = overlay_rows.with_columns(pl.lit(False).alias(PARTIAL))
    if marks and PARTIAL not in base.collect_schema():
        base = base.with_columns(pl.lit(False).alias(PARTIAL))
    names, masks, went = _overlay_columns(overlay_rows)
    overlay_rows = _one_row_per_key(overlay_rows)
    old = base.collect_schema()
    base = base.with_columns(
        _cast_column(name, old[name], overlay_rows.schema[name])
        for name in names
        if name in old and old[name] != overlay_rows.schema[name]
    )
    values = []
    for name in dict.fromkeys([*(n for n in old if n not in (KEY, ITEM, DEACTIVATED, PARTIAL)), *names]):
        if name not in names:
            values.append(pl.col(name))
            continue
        before = pl.col(name) if name in old else pl.lit(None)
        values.append(pl.when(went(name).fill_null(False)).then(pl.col(INTERNAL + name)).otherwise(before).alias(name))
    overlay_rows = overlay_rows.select(
        KEY,
        pl.col(ITEM).alias(f"{INTERNAL}item"),
        pl.col(DEACTIVATED).alias(f"{INTERNAL}gone"),
        *(pl.col(mark).alias(INTERNAL + mark) for mark in marks),
        *masks,
        *(pl.col(name).alias(INTERNAL + name) for name in names),
    )
    both = base.join(overlay_rows.lazy(), on=KEY, how="left", maintain_order="left")
    known = base.select(KEY).filter(pl.col(KEY).is_in(overlay_rows[KEY].implode())).collect(engine="streaming")
    more = overlay_rows.join(known, on=KEY, how="anti", maintain_order="left").lazy()
    more = more.with_columns(
        pl.lit(None, dtype=kind).alias(name) for name, kind in base.collect_schema().items() if name != KEY
    )
    return pl.concat([both, more.select(both.collect_schema().names())]).select(
        KEY,
        pl.coalesce(f"{INTERNAL}item", ITEM).alias(ITEM),
        pl.coalesce(f"{INTERNAL}gone", DEACTIVATED).alias(DEACTIVATED),
        *(pl.coalesce(INTERNAL + mark, mark).fill_null(False).alias(mark) for mark in marks),
        *values,
    )


def _cast_column(name: str, old_dtype: pl.DataType, dtype: pl.DataType) -> pl.Expr:
    """The old values in the type the mapping has given the field since; what does not fit is unknown."""
    try:
        pl.Series([None], dtype=old_dtype).cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        return pl.lit(None, dtype=dtype).alias(name)
    return pl.col(name).cast(dtype, strict=False)


def link_base(state: Path, feed: str, name: str, generation: str) -> str:
    """The same base under the name of a new one; its file name. Raises OSError."""
    path = base_path(state, feed, f"{name}.parquet")
    filesystem.hard_link(base_path(state, feed, generation), path)
    return path.name


def write_base(state: Path, feed: str, name: str, records: pl.LazyFrame) -> str:
    """Write a new base; its file name. Nothing counts before the ledger says so. Raises StateError."""
    path = base_path(state, feed, f"{name}.parquet")
    filesystem.make_folder(path.parent)
    with filesystem.open_atomically(path) as half:
        try:
            records.sink_parquet(half, compression="zstd", compression_level=1)
        except pl.exceptions.ComputeError as error:  # how polars wraps what the system says of a write
            number = re.search(r"(?:os error |\[Errno )(\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    return path.name
