"""The Norce jobs that the ledger knows: which of them are ours, and those that were restarted by hand."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

from etl.state.ledger.database import IN_JSON, Connection, Database, json_list
from etl.state.ledger.meta import set_meta

_RESTART_PREFIX = "restart:"


@dataclass(frozen=True, slots=True)
class JobRestart:
    """A job that was asked to run again."""

    job: int  #: the job that had ended
    operation: str
    records: int
    since: float  #: epoch seconds of the request
    new_job: int | None = None  #: the id under which it runs; None while the answer is not known
    ended: bool = False


class JobStore:
    """Jobs of chunks, and restarts in table `meta`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find_own(self, job_ids: Collection[int]) -> dict[int, float | None]:
        """Return those of the jobs that are ours, each with the time of its request (epoch seconds)."""
        sql = f"SELECT job_id, sent_at FROM chunks WHERE job_id {IN_JSON}"
        with self._database.read() as db:
            jobs = {row["job_id"]: row["sent_at"] for row in db.execute(sql, (json_list(job_ids),))}
            restarts = _read_restarts(db)
        restarted_jobs = {
            restart.new_job: restart.since
            for restart in restarts
            if restart.new_job is not None and restart.new_job in job_ids
        }
        return {**restarted_jobs, **jobs}

    def save_restart(self, restart: JobRestart) -> None:
        """Store a restart, or its progress."""
        with self._database.write() as db:
            set_meta(db, f"{_RESTART_PREFIX}{restart.job}", json.dumps(asdict(restart)))

    def list_restarts(self) -> list[JobRestart]:
        """Return all restarts, ended ones too."""
        with self._database.read() as db:
            return _read_restarts(db)


def _read_restarts(db: Connection) -> list[JobRestart]:
    rows = db.execute("SELECT value FROM meta WHERE substr(key, 1, ?) = ?", (len(_RESTART_PREFIX), _RESTART_PREFIX))
    return [JobRestart(**json.loads(text)) for (text,) in rows]
