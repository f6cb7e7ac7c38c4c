"""The accepted records of each feed as the ledger describes them: generation, overlays, revision.

Accepted records are derived: the base snapshot of a generation and, over it, the accepted chunks of the runs that are
not compacted yet. Nothing is stored twice, so the two cannot disagree.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from etl.model.runs import AcceptedRange, Overlay
from etl.state.ledger.database import Connection, Database
from etl.state.ledger.meta import get_meta, set_meta
from etl.state.ledger.rows import chunk_from_row

#: A record error of this severity means: imported in part; a higher one: not imported.
_PARTIAL_SEVERITY = 2


class FeedStore:
    """Table `feeds`, and what the chunks of a feed's runs say of its accepted records."""

    def __init__(self, database: Database, state_folder: Path) -> None:
        self._database = database
        self._state_folder = state_folder

    def list_names(self) -> list[str]:
        """Return the name of every feed that has a run or a base snapshot, sorted."""
        with self._database.read() as db:
            return [feed for (feed,) in db.execute("SELECT feed FROM runs UNION SELECT feed FROM feeds ORDER BY feed")]

    def generation(self, feed: str) -> str | None:
        """Return the file name of the feed's base snapshot, or None."""
        with self._database.read() as db:
            name: str | None = db.scalar("SELECT generation FROM feeds WHERE feed = ?", feed)
        return name

    def overlays(self, feed: str) -> tuple[Overlay, ...]:
        """Return the overlays of the feed's uncompacted runs that have accepted chunks, oldest run first."""
        return self._read_overlays("runs.feed = ? AND runs.compacted = 0", feed)

    def overlay_of_run(self, run_id: str) -> Overlay:
        """Return the accepted records of one run, compacted or not."""
        return next(iter(self._read_overlays("runs.id = ?", run_id)), Overlay(run_id, ()))

    def revision(self, feed: str) -> int:
        """Return how often the feed's accepted records have changed; a plan of another revision is outdated."""
        with self._database.read() as db:
            return _read_revision(db, feed)

    # -- parts of a transaction ---------------------------------------------------------------------------------

    def set_generation(self, db: Connection, feed: str, generation: str | None) -> None:
        """Name the base snapshot that counts."""
        db.insert("feeds", {"feed": feed, "generation": generation}, replace=True)

    def bump_revision(self, db: Connection, run_id: str) -> None:
        """Count a change of the accepted records of the run's feed."""
        increment_revision(db, db.scalar("SELECT feed FROM runs WHERE id = ?", run_id))

    def _read_overlays(self, condition: str, value: str) -> tuple[Overlay, ...]:
        """`condition` is SQL of this module, never text from outside."""
        with self._database.read() as db:
            runs = db.execute(f"SELECT id FROM runs WHERE {condition} ORDER BY seq", (value,))
            run_ids = [run_id for (run_id,) in runs]
            ranges = _read_ranges(db, condition, value, self._state_folder)
        return tuple(Overlay(run_id, tuple(ranges[run_id])) for run_id in run_ids if run_id in ranges)


def increment_revision(db: Connection, feed: str) -> None:
    """Count a change of the feed's accepted records, in a transaction that the caller has opened."""
    set_meta(db, f"revision:{feed}", str(_read_revision(db, feed) + 1))


def _read_revision(db: Connection, feed: str) -> int:
    return int(get_meta(db, f"revision:{feed}") or 0)


def _read_ranges(db: Connection, condition: str, value: str, state_folder: Path) -> dict[str, list[AcceptedRange]]:
    """Return by run the accepted chunks, with the keys that failed in each."""
    failed, partial = _read_failed_keys(db, condition, value)
    accepted = db.execute(
        f"""SELECT chunks.* FROM chunks JOIN runs ON runs.id = chunks.run
            WHERE {condition} AND chunks.state = 'accepted' ORDER BY origin_chunk, first, number""",
        (value,),
    )
    ranges: dict[str, list[AcceptedRange]] = defaultdict(list)
    for row in accepted.fetchall():
        chunk = chunk_from_row(row, state_folder)
        origin = chunk.run, chunk.origin_chunk
        failed_keys, partial_keys = frozenset(failed[origin]), frozenset(partial[origin])
        ranges[chunk.run].append(AcceptedRange(chunk.origin_chunk, chunk.indexes, failed_keys, partial_keys))
    return ranges


#: Keys by run and number of the planned chunk.
_KeysByOrigin = dict[tuple[str, int], set[str]]


def _read_failed_keys(db: Connection, condition: str, value: str) -> tuple[_KeysByOrigin, _KeysByOrigin]:
    """Return the keys of failed records, and those among them that were imported in part."""
    failed: _KeysByOrigin = defaultdict(set)
    partial: _KeysByOrigin = defaultdict(set)
    record_errors = db.execute(
        f"""SELECT run, origin_chunk, key, severity FROM record_errors JOIN runs ON runs.id = record_errors.run
            WHERE {condition} AND severity >= ?""",
        (value, _PARTIAL_SEVERITY),
    )
    for run, origin_chunk, key, severity in record_errors.fetchall():
        failed[run, origin_chunk].add(key)
        if severity == _PARTIAL_SEVERITY:
            partial[run, origin_chunk].add(key)
    return failed, partial
