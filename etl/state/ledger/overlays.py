"""What lies over a feed's base, read from the ledger: derived from closed chunks, never stored twice."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from etl.model.runs import AcceptedRange, Overlay
from etl.state.ledger import rows
from etl.state.ledger.database import Connection

#: With this severity a record was imported in part; with a higher one it was not.
PARTIAL_SEVERITY = 2


def read_overlays(db: Connection, feed: str, state: Path) -> tuple[Overlay, ...]:
    """The runs of a feed not yet merged into its base, in the order they were opened."""
    return _select_overlays(db, "runs.feed = ? AND runs.compacted = 0", feed, state)


def read_overlay_of_run(db: Connection, run_id: str, state: Path) -> Overlay:
    """What one run has had accepted, merged or not."""
    return next(iter(_select_overlays(db, "runs.id = ?", run_id, state)), Overlay(run_id, ()))


def _select_overlays(db: Connection, condition: str, value: str, state: Path) -> tuple[Overlay, ...]:
    run_ids = [run_id for (run_id,) in db.execute(f"SELECT id FROM runs WHERE {condition} ORDER BY seq", (value,))]
    accepted = db.execute(
        f"""SELECT chunks.* FROM chunks JOIN runs ON runs.id = chunks.run
            WHERE {condition} AND chunks.state = 'accepted' ORDER BY origin_chunk, first, number""",
        (value,),
    ).fetchall()
    refused = db.execute(
        f"""SELECT run, origin_chunk, key, severity FROM record_errors JOIN runs ON runs.id = record_errors.run
            WHERE {condition} AND severity >= ?""",
        (value, PARTIAL_SEVERITY),
    ).fetchall()
    keys: dict[tuple[str, int], set[str]] = defaultdict(set)
    partly: dict[tuple[str, int], set[str]] = defaultdict(set)
    for run, origin, key, severity in refused:
        keys[run, origin].add(key)
        if severity == PARTIAL_SEVERITY:
            partly[run, origin].add(key)
    ranges: dict[str, list[AcceptedRange]] = defaultdict(list)
    for row in accepted:
        chunk = rows.chunk_from_row(row, state)
        place = chunk.run, chunk.origin_chunk
        found = AcceptedRange(chunk.origin_chunk, chunk.indexes, frozenset(keys[place]), frozenset(partly[place]))
        ranges[chunk.run].append(found)
    return tuple(Overlay(run_id, tuple(ranges[run_id])) for run_id in run_ids if run_id in ranges)
