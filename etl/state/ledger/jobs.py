"""Which of Norce's jobs are ours, which chunk each belongs to, and jobs that were restarted by hand."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

from etl.model.runs import Chunk
from etl.state.ledger import schema
from etl.state.ledger.database import IN_JSON, json_list
from etl.state.ledger.meta import MetaStore
from etl.state.ledger.rows import chunk_from_row

_RESTART_PREFIX = "restart:"


@dataclass(frozen=True, slots=True)
class JobRestart:
    """A job that was asked to run again."""

    job: int  #: the one that had ended
    operation: str
    records: int
    since: float  #: epoch seconds of the request
    new_job: int | None = None  #: the id under which it runs; None while the answer is not known
    ended: bool = False


class JobStore(MetaStore):
    """What the ledger knows of jobs."""

    def find_own_jobs(self, job_ids: Collection[int]) -> dict[int, float | None]:
        """Which of these jobs are ours, with the time they were sent (epoch seconds)."""
        with self.database.read() as db:
            sent = db.execute(
                f"SELECT job_id, sent_at FROM chunks WHERE job_id {IN_JSON}", (json_list(job_ids),)
            ).fetchall()
        again = {made.new_job: made.since for made in self.list_restarts() if made.new_job in set(job_ids)}
        return {**again, **{row["job_id"]: row["sent_at"] for row in sent}}

    def has_ambiguous_sibling(self, chunk: Chunk) -> bool:
        """Whether an unknown job of this size may be another chunk's: answer out, or lost within the hour."""
        sql = """
            SELECT 1 FROM chunks WHERE records = ? AND NOT (run = ? AND number = ?)
            AND (state = 'sending' OR resolution IS NOT NULL) AND sent_at >= ? LIMIT 1
        """
        with self.database.read() as db:
            since = (chunk.sent_at or 0.0) - 3600.0
            return db.scalar(sql, chunk.records, chunk.run, chunk.number, since) is not None

    def find_chunk_by_job(self, job_id: int) -> Chunk | None:
        """The chunk that a job was for."""
        with self.database.read() as db:
            row = db.execute("SELECT * FROM chunks WHERE job_id = ?", (job_id,)).fetchone()
            return chunk_from_row(row, self.state_folder) if row else None

    def find_newer_chunk(self, chunk: Chunk, operations: Collection[str]) -> Chunk | None:
        """A chunk that was sent, or is about to be, after this one and may hold keys of it."""
        sql = f"""
            SELECT * FROM chunks WHERE operation {IN_JSON} AND CASE WHEN run = ?
                THEN wave > ? OR origin_chunk = ? AND number > ?
                ELSE sent_at >= ? OR state IN ('ready', 'sending')
            END ORDER BY sent_at DESC LIMIT 1
        """
        given = (json_list(operations), chunk.run, chunk.wave, chunk.origin_chunk, chunk.number, chunk.sent_at or 0.0)
        with self.database.read() as db:
            row = db.execute(sql, given).fetchone()
            return chunk_from_row(row, self.state_folder) if row else None

    def save_restart(self, restart: JobRestart) -> None:
        """Note a restart, or what has come of it."""
        with self.database.write() as db:
            schema.set_meta(db, f"{_RESTART_PREFIX}{restart.job}", json.dumps(asdict(restart)))

    def list_restarts(self) -> list[JobRestart]:
        """All that were noted."""
        with self.database.read() as db:
            rows = db.execute(
                "SELECT value FROM meta WHERE substr(key, 1, ?) = ?", (len(_RESTART_PREFIX), _RESTART_PREFIX)
            )
            return [JobRestart(**json.loads(text)) for (text,) in rows]
