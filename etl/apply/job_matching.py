"""Finds the listed job that belongs to a request whose response was lost. Pure.

Adopting a stranger's job would count records as accepted that Norce never saw, while sending again only costs a
request. So a job is adopted only when exactly one fits in every respect that can be checked. Job/List gives no
operation and times without a zone (https://docs.norce.io/solution-portal/functional-change-job-logs); the zone is
learnt from jobs of ours in the same list, else UTC is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median

from etl.model.runs import Chunk, Job

#: Seconds a job may start before its request was marked (clocks differ), and after it.
EARLY_TOLERANCE, LATE_TOLERANCE = 5.0, 300.0

#: Offsets of time zones are multiples of this many seconds.
_ZONE_OFFSET_STEP = 900


def match_job(chunk: Chunk, jobs: Sequence[Job], own_jobs: Mapping[int, float | None]) -> Job | None:
    """Return the only unknown job that fits the chunk's last attempt, or None.

    `own_jobs`: ids of our jobs, each with the time of its request (epoch seconds).
    """
    candidates = candidate_jobs(chunk, jobs, own_jobs)
    return candidates[0] if len(candidates) == 1 else None


def candidate_jobs(chunk: Chunk, jobs: Sequence[Job], own_jobs: Mapping[int, float | None]) -> tuple[Job, ...]:
    """Return all unknown jobs that may belong to the chunk."""
    offset = zone_offset(jobs, own_jobs)
    return tuple(job for job in jobs if job.id not in own_jobs and _is_candidate(chunk, job, offset, EARLY_TOLERANCE))


def may_be_running(chunk: Chunk, jobs: Sequence[Job], own_jobs: Mapping[int, float | None]) -> bool:
    """Whether a job runs that may be the chunk's, if our clock has been set since: each job of ours tells an offset."""
    offsets = [zone_offset(jobs, own_jobs), *_clock_offsets(jobs, own_jobs)]
    unknown = [job for job in jobs if not job.finished and job.id not in own_jobs]
    return any(_is_candidate(chunk, job, offset, LATE_TOLERANCE) for job in unknown for offset in offsets)


def zone_offset(jobs: Sequence[Job], own_jobs: Mapping[int, float | None]) -> float:
    """Seconds that the server's zoneless times are ahead of UTC, as our own jobs in the list tell; 0 when none does."""
    ahead = _clock_offsets(jobs, own_jobs)
    return round(median(ahead) / _ZONE_OFFSET_STEP) * _ZONE_OFFSET_STEP if ahead else 0.0


def _clock_offsets(jobs: Sequence[Job], own_jobs: Mapping[int, float | None]) -> list[float]:
    pairs = [(own_jobs.get(job.id), parse_epoch(job.started)) for job in jobs]
    return [started - sent for sent, started in pairs if sent is not None and started is not None]


def parse_epoch(text: str | None) -> float | None:
    """ISO 8601 as epoch seconds, UTC where it names no zone; None when it is not one."""
    try:
        moment = datetime.fromisoformat((text or "")[:32])
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _is_candidate(chunk: Chunk, job: Job, offset: float, early_tolerance: float) -> bool:
    """Whether it has as many records, and started up to `early` seconds before the chunk was sent, or LATE after it."""
    started = parse_epoch(job.started)
    if started is None or chunk.sent_at is None or job.total != chunk.records:
        return False
    if job.storage_name and job.storage_name != chunk.header.get("StorageName", job.storage_name):
        return False
    return -early_tolerance <= started - offset - chunk.sent_at <= LATE_TOLERANCE
