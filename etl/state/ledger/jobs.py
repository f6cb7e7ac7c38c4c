"""Which of Norce's jobs are ours, which chunk each belongs to, and jobs that were restarted by hand."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

from etl.model.runs import Chunk
from etl.state.ledger import rows as ledger_rows
from etl.state.ledger import schema
from etl.state.ledger.database import AMONG, many
from etl.state.ledger.meta import Keep

_RESTART = "restart:"


@dataclass(frozen=True, slots=True)
class Restart:
    """A job that was asked to run again."""

    job: int  #: the one that had ended
    operation: str
    records: int
    since: float  #: epoch seconds of the request
    again: int | None = None  #: the id under which it runs; None while the answer is not known
    over: bool = False


class Jobs(Keep):
    """What the ledger knows of jobs."""

    def jobs_known(self, job_ids: Collection[int]) -> dict[int, float | None]:
        """Which of these jobs are ours, with the time they were sent (epoch seconds)."""
        with self.database.read() as db:
            sent = db.execute(f"SELECT job_id, sent_at FROM chunks WHERE job_id {AMONG}", (many(job_ids),)).fetchall()
        again = {made.again: made.since for made in self.restarts() if made.again in set(job_ids)}
        return {**again, **{row["job_id"]: row["sent_at"] for row in sent}}

    def has_rivals(self, chunk: Chunk) -> bool:
        """Whether an unknown job of this size may be another chunk's: answer out, or lost within the hour."""
        sql = """
            SELECT 1 FROM chunks WHERE records = ? AND NOT (run = ? AND number = ?)
            AND (state = 'sending' OR settled IS NOT NULL) AND sent_at >= ? LIMIT 1
        """
        with self.database.read() as db:
            since = (chunk.sent_at or 0.0) - 3600.0
            return db.value(sql, chunk.records, chunk.run, chunk.number, since) is not None

    def chunk_of(self, job_id: int) -> Chunk | None:
        """The chunk that a job was for."""
        with self.database.read() as db:
            row = db.execute("SELECT * FROM chunks WHERE job_id = ?", (job_id,)).fetchone()
            return ledger_rows.chunk(row, self.state) if row else None

    def newer_than(self, chunk: Chunk, operations: Collection[str]) -> Chunk | None:
        """A chunk that was sent, or is about to be, after this one and may hold keys of it."""
        sql = f"""
            SELECT * FROM chunks WHERE operation {AMONG} AND CASE WHEN run = ?
                THEN wave > ? OR origin = ? AND number > ?
                ELSE sent_at >= ? OR state IN ('planned', 'sending')
            END ORDER BY sent_at DESC LIMIT 1
        """
        given = (many(operations), chunk.run, chunk.wave, chunk.origin, chunk.number, chunk.sent_at or 0.0)
        with self.database.read() as db:
            row = db.execute(sql, given).fetchone()
            return ledger_rows.chunk(row, self.state) if row else None

    def restarted(self, made: Restart) -> None:
        """Note a restart, or what has come of it."""
        with self.database.write() as db:
            schema.note(db, f"{_RESTART}{made.job}", json.dumps(asdict(made)))

    def restarts(self) -> list[Restart]:
        """All that were noted."""
        with self.database.read() as db:
            rows = db.execute("SELECT value FROM meta WHERE substr(key, 1, ?) = ?", (len(_RESTART), _RESTART))
            return [Restart(**json.loads(text)) for (text,) in rows]
