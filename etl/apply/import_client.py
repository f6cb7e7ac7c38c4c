"""What sending and following jobs needs of a client of Connect. `connect.client` implements it; tests have doubles."""

from __future__ import annotations

from typing import Protocol

from etl.connect.rate_limiter import Permit
from etl.model.runs import Chunk, Job, JobList, LogRow, Submission


class ImportClient(Protocol):
    """Imports and jobs. A call without a permit waits for one."""

    def prepare(self, chunk: Chunk | None = None) -> None: ...

    def submit(self, chunk: Chunk, permit: Permit | None = None) -> Submission: ...

    def get_job(self, job_id: int, permit: Permit | None = None) -> Job: ...

    def get_job_log(self, job_id: int, permit: Permit | None = None) -> tuple[LogRow, ...]: ...

    def list_jobs(self, permit: Permit | None = None) -> JobList: ...

    def restart_job(self, job_id: int) -> int: ...

    def abort(self) -> None: ...
