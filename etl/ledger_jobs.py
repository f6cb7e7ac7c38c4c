"""Which of Norce's jobs are ours, which chunk each belongs to, and jobs that were restarted by hand."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

from sqlalchemy import and_, delete, insert, or_, select

from etl import ledger_rows, schema
from etl.ledger_keep import Keep
from etl.model import Chunk, ChunkState

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
        c = schema.chunks.c
        with self.database.read() as db:
            sent = db.execute(select(c.job_id, c.sent_at).where(c.job_id.in_(list(job_ids)))).all()
        again = {made.again: made.since for made in self.restarts() if made.again in set(job_ids)}
        return {**again, **{row.job_id: row.sent_at for row in sent}}

    def has_rivals(self, chunk: Chunk) -> bool:
        """Whether an unknown job of this size may be another chunk's: answer out, or lost within the hour."""
        c = schema.chunks.c
        query = (
            select(c.number)
            .where(
                c.records == chunk.records,
                or_(c.run != chunk.run, c.number != chunk.number),
                or_(c.state == ChunkState.SENDING.value, c.settled.is_not(None)),
                c.sent_at >= (chunk.sent_at or 0.0) - 3600.0,
            )
            .limit(1)
        )
        with self.database.read() as db:
            return db.execute(query).first() is not None

    def chunk_of(self, job_id: int) -> Chunk | None:
        """The chunk that a job was for."""
        with self.database.read() as db:
            row = db.execute(select(schema.chunks).where(schema.chunks.c.job_id == job_id)).first()
        return ledger_rows.chunk(row._mapping, self.state) if row else None

    def newer_than(self, chunk: Chunk, operations: Collection[str]) -> Chunk | None:
        """A chunk that was sent, or is about to be, after this one and may hold keys of it."""
        c = schema.chunks.c
        newer = or_(
            and_(c.run != chunk.run, c.sent_at >= (chunk.sent_at or 0.0)),
            and_(c.run != chunk.run, c.state.in_([ChunkState.PLANNED.value, ChunkState.SENDING.value])),
            and_(c.run == chunk.run, c.wave > chunk.wave),
            and_(c.run == chunk.run, c.origin == chunk.origin, c.number > chunk.number),
        )
        query = select(schema.chunks).where(c.operation.in_(list(operations)), newer).order_by(c.sent_at.desc())
        with self.database.read() as db:
            row = db.execute(query.limit(1)).first()
        return ledger_rows.chunk(row._mapping, self.state) if row else None

    def restarted(self, made: Restart) -> None:
        """Note a restart, or what has come of it."""
        key = f"{_RESTART}{made.job}"
        with self.database.write() as db:
            db.execute(delete(schema.meta).where(schema.meta.c.key == key))
            db.execute(insert(schema.meta).values(key=key, value=json.dumps(asdict(made))))

    def restarts(self) -> list[Restart]:
        """All that were noted."""
        query = select(schema.meta.c.value).where(schema.meta.c.key.startswith(_RESTART))
        with self.database.read() as db:
            return [Restart(**json.loads(text)) for text in db.execute(query).scalars()]
