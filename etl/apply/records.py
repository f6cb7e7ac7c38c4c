"""The records of a request, as its job log may name them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from etl.model.runs import Chunk

if TYPE_CHECKING:
    from etl.apply.job_log import TracedRecord


#: How the key of a record begins where the first identifier given decides.
_NAMED = ("Id=", "Code=", "EmailAddress=", "OrganizationNo=")


def records_of(state: Path, chunk: Chunk) -> list[TracedRecord]:
    """The records of a chunk as a job's log may name them, in the order of its payload.

    Records are told apart by ITEM: a product with several variants is one record with several part numbers.
    """
    import polars as pl

    from etl.apply.job_log import TracedRecord
    from etl.model import schemas
    from etl.model.columns import CAME, ITEM, KEY, ROW
    from etl.state.snapshots import accepted

    names = [KEY, ITEM, ROW, accepted.CHUNK, accepted.RECORD, accepted.SILENT]
    frame = pl.scan_parquet(accepted.sent_path(state, chunk.run))
    if CAME not in frame.collect_schema():
        frame = frame.with_columns(schemas.nowhere())
    rows = frame.select(*names, CAME).filter(
        (pl.col(accepted.CHUNK) == chunk.origin)
        & pl.col(accepted.RECORD).is_in(list(chunk.indexes))
        & ~pl.col(accepted.SILENT)
    )
    items = rows.group_by(accepted.RECORD).agg(
        pl.col(ITEM).first(), KEY, pl.col(ROW).min(), pl.col(CAME).drop_nulls().first()
    )
    made = []
    for item, keys, row, came in items.sort(accepted.RECORD).select(ITEM, KEY, ROW, CAME).collect().iter_rows():
        parts = [part for key in keys for part in str(key).split("\x1f")]
        if str(item).startswith("Code=") and parts != [item]:
            parts.append(str(item))
        values = [part.partition("=")[2] if part.startswith(_NAMED) else part for part in parts]
        if row is None and came is not None:
            made.append(TracedRecord(item, tuple(values), came["row"], came["file"], came["run"]))
        else:
            made.append(TracedRecord(item, tuple(values), row))
    return made
