"""Reads the records of a chunk with the texts by which a job log may name them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from etl.model.keys import remove_identifier, split_key
from etl.model.runs import Chunk

if TYPE_CHECKING:
    from etl.apply.job_log import RecordIdentity


def read_chunk_records(state: Path, chunk: Chunk) -> list[RecordIdentity]:
    """Return the records of a chunk as a job's log may name them, in the order of its payload.

    Records are told apart by ITEM: a product with several variants is one record with several part numbers.
    """
    import polars as pl

    from etl.apply.job_log import RecordIdentity
    from etl.model import schemas
    from etl.model.columns import ITEM, KEY, ORIGIN, ROW
    from etl.state.files import run_folder
    from etl.state.snapshots import sent_records

    names = [KEY, ITEM, ROW, sent_records.CHUNK, sent_records.RECORD_INDEX, sent_records.OMITTED]
    frame = pl.scan_parquet(run_folder.sent_records_path(state, chunk.run))
    if ORIGIN not in frame.collect_schema():
        frame = frame.with_columns(schemas.no_origin())
    rows = frame.select(*names, ORIGIN).filter(
        (pl.col(sent_records.CHUNK) == chunk.origin_chunk)
        & pl.col(sent_records.RECORD_INDEX).is_in(list(chunk.indexes))
        & ~pl.col(sent_records.OMITTED)
    )
    items = rows.group_by(sent_records.RECORD_INDEX).agg(
        pl.col(ITEM).first(), KEY, pl.col(ROW).min(), pl.col(ORIGIN).drop_nulls().first()
    )
    records = []
    for item, keys, row, origin in (
        items.sort(sent_records.RECORD_INDEX).select(ITEM, KEY, ROW, ORIGIN).collect().iter_rows()
    ):
        parts = [part for key in keys for part in split_key(str(key))]
        if str(item).startswith("Code=") and parts != [item]:
            parts.append(str(item))
        values = [remove_identifier(part) for part in parts]
        if row is None and origin is not None:
            records.append(RecordIdentity(item, tuple(values), origin["row"], origin["file"], origin["run"]))
        else:
            records.append(RecordIdentity(item, tuple(values), row))
    return records
