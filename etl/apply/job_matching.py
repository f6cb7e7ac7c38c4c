"""Finds the listed job that belongs to a request whose response was lost. Pure.

Adopting the job of another program would count records as accepted that Norce never received, while sending again costs
only a request. So a job is adopted only when exactly one job fits in every property that can be checked. Job/List gives
no operation and times without a zone (https://docs.norce.io/solution-portal/functional-change-job-logs); the zone is
derived from our jobs in the same list, else UTC is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median

from etl.model.runs import Chunk, Job, JobList

#: Seconds a job may start before its request was marked (clocks differ), and after it.
EARLY_TOLERANCE, LATE_TOLERANCE = 5.0, 300.0

#: Offsets of time zones are multiples of this many seconds.
_ZONE_OFFSET_STEP = 900

#: Seconds that the time of a server may be behind UTC.
MAX_ZONE_OFFSET = 12 * 3600.0


def match_job(chunk: Chunk, jobs: Sequence[Job], own_jobs: Mapping[int, float | None]) -> Job | None:
    """Return the job that fits the chunk's last attempt and belongs to no other request; None unless exactly one does.

    `own_jobs`: ids of our jobs with the time of their request (epoch seconds).
    """
    candidates = candidate_jobs(chunk, jobs, own_jobs)
    return candidates[0] if len(candidates) == 1 else None


def candidate_jobs(chunk: Chunk, jobs: Sequence[Job], own_jobs: Mapping[int, float | None]) -> tuple[Job, ...]:
    """Return all jobs that fit the chunk's last attempt and belong to no other request."""
    offset = zone_offset(jobs, own_jobs)
    return tuple(job for job in jobs if job.id not in own_jobs and _fits(chunk, job, offset))


def may_be_running(chunk: Chunk, listed: JobList, own_jobs: Mapping[int, float | None]) -> bool:
    """Return whether a job that may be the chunk's has not ended, as far as the list tells.

    A missing property fits: a queued job has no start and no totals. An entry that cannot be read may be any job.
    """
    if any(job_id is None or job_id not in own_jobs for job_id in listed.odd_ids):
        return True
    earliest = _earliest_start(chunk, listed.jobs, own_jobs)
    unfinished = (job for job in listed.jobs if not job.finished and job.id not in own_jobs)
    return any(_is_possible(chunk, job, earliest) for job in unfinished)


def zone_offset(jobs: Sequence[Job], own_jobs: Mapping[int, float | None]) -> float:
    """Return the seconds that the server's times without a zone are ahead of UTC, by our jobs in the list; else 0."""
    offsets = _clock_offsets(jobs, own_jobs)
    return round(median(offsets) / _ZONE_OFFSET_STEP) * _ZONE_OFFSET_STEP if offsets else 0.0


def _clock_offsets(jobs: Sequence[Job], own_jobs: Mapping[int, float | None]) -> list[float]:
    pairs = [(own_jobs.get(job.id), parse_epoch(job.started)) for job in jobs]
    return [started - sent for sent, started in pairs if sent is not None and started is not None]


def parse_epoch(text: str | None) -> float | None:
    """Parse an ISO 8601 time into epoch seconds, UTC where it has no zone; None when it is no such time."""
    try:
        moment = datetime.fromisoformat((text or "")[:32])
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _fits(chunk: Chunk, job: Job, offset: float) -> bool:
    """Return whether a job has as many items, and started when the chunk was sent. `offset`: of the server's times."""
    started = parse_epoch(job.started)
    if started is None or chunk.sent_at is None or job.total != chunk.records or not _has_same_name(chunk, job):
        return False
    return -EARLY_TOLERANCE <= started - offset - chunk.sent_at <= LATE_TOLERANCE


def _is_possible(chunk: Chunk, job: Job, earliest: float) -> bool:
    """Return whether an unfinished job may be the chunk's by total, name and start."""
    if job.total is not None and job.total > chunk.records:
        return False
    started = parse_epoch(job.started)
    return _has_same_name(chunk, job) and (started is None or started >= earliest)


def _has_same_name(chunk: Chunk, job: Job) -> bool:
    return not job.storage_name or job.storage_name == chunk.header.get("StorageName", job.storage_name)


def _earliest_start(chunk: Chunk, jobs: Sequence[Job], own_jobs: Mapping[int, float | None]) -> float:
    """Return the earliest start of the chunk's job, in the server's time as epoch seconds.

    Our jobs in the list start some time after their requests, at most as long as they were queued; so the zone is
    that of the smallest offset, rounded down. Without a job of ours the zone is not known.
    """
    if chunk.sent_at is None:
        return -math.inf
    offsets = _clock_offsets(jobs, own_jobs)
    offset = math.floor(min(offsets) / _ZONE_OFFSET_STEP) * _ZONE_OFFSET_STEP if offsets else -MAX_ZONE_OFFSET
    return chunk.sent_at + offset - LATE_TOLERANCE
