"""The chunks of a ledger: one row per request, by run and by job."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from etl.errors import InternalError
from etl.model.runs import Chunk, ChunkState
from etl.state.ledger.database import IN_JSON, Connection, Database, json_list
from etl.state.ledger.rows import chunk_from_row, chunk_to_row

#: States in which a chunk has ended, for `IN_JSON`.
_FINAL_CHUNK_STATES = json_list(state for state in ChunkState if state.is_final)

OPEN_CHUNK_STATES = tuple(state for state in ChunkState if not state.is_final)

#: Seconds for which a job of unknown origin may belong to a chunk whose answer was lost.
_AMBIGUITY_SECONDS = 3600.0


class ChunkStore:
    """Table `chunks`. Methods with a `db` parameter are parts of a transaction that the caller has opened."""

    def __init__(self, database: Database, state_folder: Path) -> None:
        self._database = database
        self._state_folder = state_folder

    def list_by_run(self, run_id: str, *, unfinished: bool = False) -> tuple[Chunk, ...]:
        """Return the run's chunks by number; with `unfinished` those that have not ended."""
        sql = f"SELECT * FROM chunks WHERE run = ? AND state NOT {IN_JSON} ORDER BY number"
        with self._database.read() as db:
            rows = db.execute(sql, (run_id, _FINAL_CHUNK_STATES if unfinished else json_list(())))
            return tuple(chunk_from_row(row, self._state_folder) for row in rows)

    def find_by_job(self, job_id: int) -> Chunk | None:
        """Return the chunk that a job imported, or None."""
        return self._select_first("job_id = ?", job_id)

    def find_newer(self, chunk: Chunk, operations: Collection[str]) -> Chunk | None:
        """Return a chunk of these operations that was or will be sent after this one and may share keys, or None."""
        condition = f"""
            operation {IN_JSON} AND CASE WHEN run = ?
                THEN wave > ? OR origin_chunk = ? AND number > ?
                ELSE sent_at >= ? OR state IN ('ready', 'sending')
            END ORDER BY sent_at DESC LIMIT 1
        """
        own = (chunk.run, chunk.wave, chunk.origin_chunk, chunk.number, chunk.sent_at or 0.0)
        return self._select_first(condition, json_list(operations), *own)

    def has_ambiguous_sibling(self, chunk: Chunk) -> bool:
        """Return whether a job of this chunk's size may belong to another chunk, whose answer is out or was lost."""
        sql = """
            SELECT 1 FROM chunks WHERE records = ? AND NOT (run = ? AND number = ?)
            AND (state = 'sending' OR resolution IS NOT NULL) AND sent_at >= ? LIMIT 1
        """
        since = (chunk.sent_at or 0.0) - _AMBIGUITY_SECONDS
        with self._database.read() as db:
            return db.scalar(sql, chunk.records, chunk.run, chunk.number, since) is not None

    def has_sent_requests(self, run_id: str) -> bool:
        """Return whether a request of the run has left, or may have."""
        sql = "SELECT 1 FROM chunks WHERE run = ? AND (attempts > 0 OR state != 'ready') LIMIT 1"
        with self._database.read() as db:
            return db.scalar(sql, run_id) is not None

    # -- parts of a transaction ---------------------------------------------------------------------------------

    def has_unfinished(self, db: Connection, run_id: str) -> bool:
        """Return whether a chunk of the run has not ended."""
        sql = f"SELECT 1 FROM chunks WHERE run = ? AND state NOT {IN_JSON} LIMIT 1"
        return db.scalar(sql, run_id, _FINAL_CHUNK_STATES) is not None

    def replace_all(self, db: Connection, run_id: str, chunks: Iterable[Chunk]) -> None:
        """Put these chunks in the place of those that the run has."""
        db.execute("DELETE FROM chunks WHERE run = ?", (run_id,))
        self._insert(db, chunks)

    def append(self, db: Connection, run_id: str, parts: Sequence[Chunk]) -> tuple[Chunk, ...]:
        """Add chunks to a run under its next numbers, and return them with their numbers."""
        last = db.scalar("SELECT max(number) FROM chunks WHERE run = ?", run_id)
        numbered = tuple(replace(part, number=last + n) for n, part in enumerate(parts, 1))
        self._insert(db, numbered)
        return numbered

    def update(self, db: Connection, chunk: Chunk, allowed: tuple[ChunkState, ...], **values: Any) -> Chunk:
        """Set fields of a chunk and return it. InternalError when its stored state is not `allowed`."""
        updated = replace(chunk, **values)
        row = chunk_to_row(updated, self._state_folder)
        columns = {name: row[name] for name in values}
        condition = f"run = ? AND number = ? AND state {IN_JSON}"
        if db.update("chunks", columns, condition, chunk.run, chunk.number, json_list(allowed)) != 1:
            raise InternalError(f"chunk {chunk.number} of run {chunk.run} cannot become {updated.state.value}")
        return updated

    def _insert(self, db: Connection, chunks: Iterable[Chunk]) -> None:
        db.insert("chunks", *(chunk_to_row(chunk, self._state_folder) for chunk in chunks))

    def _select_first(self, condition: str, *values: Any) -> Chunk | None:
        with self._database.read() as db:
            row = db.execute(f"SELECT * FROM chunks WHERE {condition}", values).fetchone()
            return chunk_from_row(row, self._state_folder) if row else None
