"""What Norce confirmed, per feed: an immutable Parquet base and the records of runs laid over it.

The ledger names the base that counts and the records of each run that were accepted; the files hold the values.
Compaction into a new base only makes reading quicker: a crash in it changes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from etl import filesystem
from etl.model import schemas
from etl.model.columns import DEACTIVATED, ITEM, KEY, ORIGIN, PARTIAL, ROW, STATED
from etl.model.runs import Overlay, Run
from etl.state.files.run_folder import sent_records_path
from etl.state.snapshots.record_overlay import MINIMAL_SCHEMA, one_row_per_key, overlay_records
from etl.state.snapshots.sent_records import (
    SentColumns,
    select_accepted,
    select_partially_accepted,
    select_unaccepted,
)


def base_path(state: Path, feed: str, generation: str) -> Path:
    """Return the file of a base."""
    return state / "accepted" / feed / generation


def pending_path(state: Path, feed: str, generation: str) -> Path:
    """Return the file of the records that were pending when the base was written; it is missing when none were."""
    return base_path(state, feed, generation.removesuffix(".parquet") + ".pending.parquet")


def scan(state: Path, feed: str, generation: str | None, overlays: Sequence[Overlay]) -> pl.LazyFrame:
    """Return all records that Norce has from this feed: KEY, ITEM, DEACTIVATED, perhaps PARTIAL, data columns.

    Only what the query needs is read.
    """
    base = pl.scan_parquet(base_path(state, feed, generation)) if generation is not None else None
    for overlay in overlays:
        frame = pl.read_parquet(sent_records_path(state, overlay.run))
        base = overlay_records(base, select_accepted(frame, overlay))
        if any(part.partial_keys for part in overlay.ranges):
            base = overlay_records(base, select_partially_accepted(frame, overlay))
    return base if base is not None else pl.LazyFrame(schema=MINIMAL_SCHEMA)


def read(state: Path, feed: str, generation: str | None, overlays: Sequence[Overlay]) -> pl.DataFrame:
    """Read all of them into memory."""
    return scan(state, feed, generation, overlays).collect()


def read_pending(
    state: Path, feed: str, generation: str | None, overlays: Sequence[Overlay], last_run: Run | None
) -> pl.DataFrame:
    """Read the pending records of a feed of changes, as `build_pending_records` builds them, with their ORIGIN.

    `last_run` is the newest ended run that is not part of the base. It was planned with all that was pending before
    it, so what Norce did not accept of it is all that is pending.
    """
    nothing = pl.DataFrame(schema={KEY: pl.String, ITEM: pl.String})
    if last_run is None:
        path = pending_path(state, feed, generation) if generation is not None else None
        return pl.read_parquet(path) if path is not None and path.exists() else nothing
    path = sent_records_path(state, last_run.id)
    if not path.exists():
        return nothing
    overlay = next((overlay for overlay in overlays if overlay.run == last_run.id), Overlay(last_run.id, ()))
    unaccepted_rows = select_unaccepted(pl.read_parquet(path), overlay)
    if unaccepted_rows.is_empty():
        return nothing
    accepted_records = scan(state, feed, generation, overlays)
    accepted_records = accepted_records.join(
        unaccepted_rows.lazy().select(KEY), on=KEY, how="semi", maintain_order="left"
    )
    return build_pending_records(accepted_records.collect(), unaccepted_rows).join(
        _pending_origins(unaccepted_rows, last_run), on=KEY, how="left", maintain_order="left"
    )


def build_pending_records(accepted_records: pl.DataFrame, unaccepted_rows: pl.DataFrame) -> pl.DataFrame:
    """Build whole records from values that Norce did not accept and the values that it has.

    They hold KEY, ITEM, the data columns, and for each of these with STATED whether a file has stated the value.
    """
    united = one_row_per_key(unaccepted_rows)
    sent_columns = SentColumns.of(united)
    stated = united.select(KEY, *(sent_columns.states(name).alias(STATED + name) for name in sent_columns.names))
    records = overlay_records(accepted_records.lazy(), unaccepted_rows).collect()
    return records.drop(DEACTIVATED, PARTIAL, strict=False).join(stated, on=KEY, how="left", maintain_order="left")


def link_base(state: Path, feed: str, name: str, generation: str) -> str:
    """Link the base under the name of a new one; return its file name. Raises OSError."""
    path = base_path(state, feed, f"{name}.parquet")
    filesystem.hard_link(base_path(state, feed, generation), path)
    return path.name


def write_base(state: Path, feed: str, name: str, records: pl.LazyFrame) -> str:
    """Write a new base; return its file name. It counts once the ledger names it. Raises StateError."""
    path = base_path(state, feed, f"{name}.parquet")
    filesystem.make_folder(path.parent)
    with filesystem.open_atomically(path) as file:
        try:
            records.sink_parquet(file, compression="zstd", compression_level=1)
        except pl.exceptions.ComputeError as error:  # polars wraps the system's error of a write in it
            number = re.search(r"(?:os error |\[Errno )(\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
    return path.name


def _pending_origins(unaccepted_rows: pl.DataFrame, run: Run) -> pl.DataFrame:
    """Return KEY and ORIGIN: a row of the run's own file, or the origin that the row has from an earlier file."""
    own = pl.struct(pl.lit(run.id).alias("run"), pl.lit(run.file).alias("file"), pl.col(ROW).alias("row"))
    earlier = pl.col(ORIGIN) if ORIGIN in unaccepted_rows.columns else pl.lit(None, dtype=schemas.ORIGIN_TYPE)
    origin = pl.when(pl.col(ROW).is_not_null()).then(own).otherwise(earlier)
    return unaccepted_rows.select(KEY, origin.alias(ORIGIN)).unique(KEY, keep="last", maintain_order=True)
