"""What lies over a feed's base, read from the ledger: derived from closed chunks, never stored twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, select

from etl import ledger_rows, schema
from etl.model import AcceptedRange, ChunkState, Overlay

#: From this severity on a record was not, or not wholly, imported.
NOT_TAKEN = 2


def read(db: Connection, feed: str, state: Path) -> tuple[Overlay, ...]:
    """The runs of a feed not yet merged into its base, in the order they were opened."""
    return _read(db, [schema.runs.c.feed == feed, schema.runs.c.merged == 0], state)


def of_run(db: Connection, run: str, state: Path) -> Overlay:
    """What one run has had accepted, merged or not."""
    return next(iter(_read(db, [schema.runs.c.id == run], state)), Overlay(run, ()))


def _read(db: Connection, which: Sequence[ColumnElement[bool]], state: Path) -> tuple[Overlay, ...]:
    r, c, f = schema.runs.c, schema.chunks.c, schema.refusals.c
    run_ids = db.execute(select(r.id).where(*which).order_by(r.seq)).scalars().all()
    accepted = db.execute(
        select(schema.chunks)
        .join(schema.runs, r.id == c.run)
        .where(*which, c.state == ChunkState.ACCEPTED.value)
        .order_by(c.origin, c.first, c.number)
    ).all()
    refused = db.execute(
        select(f.run, f.origin, f.key).join(schema.runs, r.id == f.run).where(*which, f.severity >= NOT_TAKEN)
    ).all()
    keys: dict[tuple[str, int], set[str]] = defaultdict(set)
    for row in refused:
        keys[row.run, row.origin].add(row.key)
    ranges: dict[str, list[AcceptedRange]] = defaultdict(list)
    for row in accepted:
        chunk = ledger_rows.chunk(row._mapping, state)
        refused_keys = frozenset(keys[chunk.run, chunk.origin])
        ranges[chunk.run].append(AcceptedRange(chunk.origin, chunk.indexes, refused_keys))
    return tuple(Overlay(run_id, tuple(ranges[run_id])) for run_id in run_ids if run_id in ranges)
