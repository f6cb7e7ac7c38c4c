"""Chooses the next action from the progress of all runs under way, the limits and the time. Pure.

An action is one request. Five rules give the order. Waves are barriers: chunks of a later wave share keys with earlier
ones, and Connect promises no order between jobs. An unknown outcome is resolved before anything else of its run is
sent. Reading the log of an ended job is what changes the accepted records and makes room: logs and imports take turns.
Both go before polls; a due poll waits for `ACTIONS_BEFORE_LIST_POLL` of them at most. Stock and prices go first, and
after `MAX_URGENT_IN_A_ROW` of their requests one of the others, so that neither stops the rest.

Imports are limited twice: by the responses that are awaited, because each takes a connection, and by the jobs that
have not ended, because nothing can overtake what Connect has queued. The second limit is wide: where jobs take
minutes, a narrow one would leave most of the rate limit unused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from etl.model.runs import Chunk, ChunkState

#: Seconds to the first poll of a job while no job of its operation has ended; doubled from poll to poll.
FIRST_POLL_DELAY = 0.25

#: Parts of the usual duration of a job, where it is known, to the first poll and from there to the second.
FIRST_POLL_FRACTION, NEXT_POLL_FRACTION = 0.8, 0.25

#: Least and most seconds between two polls of a job.
MIN_POLL_DELAY, MAX_POLL_DELAY = 0.1, 30.0

#: Polls after which a job is slow, and stuck, with the seconds between polls from then on.
SLOW_POLLS, SLOW_POLL_DELAY = 30, 60.0
STUCK_POLLS, STUCK_POLL_DELAY = 90, 300.0

#: Polls (some two minutes) after which a job takes no room from other runs any more.
LONG_RUNNING_POLLS = 12

#: Longest wait in seconds, and longest time for which a chunk may be postponed. A later `retry_after` was written
#: before the wall clock was set back, and does not count.
MAX_WAIT = 60.0

#: Urgent requests that may leave in a row while another run has something to send.
MAX_URGENT_IN_A_ROW = 3

#: Logs and imports that may go before a due poll of several jobs, and of a single job.
ACTIONS_BEFORE_LIST_POLL, ACTIONS_BEFORE_SINGLE_POLL = 16, 2

#: Run and number of a chunk.
ChunkId = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A run under way. No two of them share keys."""

    chunks: Sequence[Chunk]  #: those that have not ended
    urgent: bool = False  #: goes before those that are not
    last_sent_at: float = 0.0  #: when it last sent something
    #: numbers of chunks whose job has ended and whose log is unread
    finished_jobs: Mapping[int, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much may be under way."""

    in_flight: int  #: imports without a response; as many other requests beside them
    unfinished: int  #: imports that were sent and whose jobs have not ended; for urgent runs only those of such runs
    request_limit: int = 60  #: requests that the rate limiter permits at once
    request_spacing: float = 1.0  #: seconds between requests at the rate of the limit


@dataclass(frozen=True, slots=True)
class ActionHistory:
    """The last actions, as far as turns depend on them."""

    since_poll: int = 0  #: imports and logs since the last poll
    urgent_in_a_row: int = 0  #: urgent imports since the last other one
    last_was_log_read: bool = False  #: the last of imports and logs was a log


@dataclass(frozen=True, slots=True)
class ResolveUnknown:
    """Find out what became of this chunk's request."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Submit:
    """Send this chunk."""

    chunk: Chunk
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Poll:
    """Poll the jobs of these chunks: several with one list, or the only one."""

    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the log of this chunk's ended job and close the chunk."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may be sent for these seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """When jobs are polled."""

    scale: float = 1.0  #: stretches the pauses between polls
    max_delay: float = math.inf  #: longest pause in seconds: somebody waits for news
    together: bool = True  #: one list of jobs may poll several of them
    unlisted_jobs: Collection[int] = ()  #: jobs that lists do not contain: each is polled on its own
    jobs_with_event: Collection[int] = ()  #: jobs that have ended according to a job event
    #: seconds that recent jobs of an operation have taken
    usual_durations: Mapping[str, float] = field(default_factory=dict)

    def delay(self, chunk: Chunk) -> float:
        """Return the seconds from the last poll of a chunk's job to the next."""
        delay = poll_delay(chunk.polls, self.usual_durations.get(chunk.operation)) * self.scale
        return min(delay, self.max_delay)

    def due_at(self, chunk: Chunk, now: float) -> float:
        """Return when a chunk's job is to be polled next, in epoch seconds: at once after a job event."""
        if chunk.job_id in self.jobs_with_event:
            return postponed_until(chunk, now)
        return next_poll_time(chunk, now, self.delay(chunk))


@dataclass(frozen=True, slots=True)
class InFlight:
    """How many requests of this process await a response, by kind."""

    submits: int  #: imports, and requests that resolve an unknown outcome
    log_reads: int
    polls: int  #: jobs that are being polled

    @classmethod
    def count(cls, runs: Iterable[RunProgress], busy: Collection[ChunkId]) -> InFlight:
        """Return the counts for the chunks in `busy`."""
        submits = log_reads = polls = 0
        for run in runs:
            for chunk in run.chunks:
                if chunk_id(chunk) in busy:
                    is_read = chunk.number in run.finished_jobs
                    submits += chunk.state is not ChunkState.SUBMITTED
                    log_reads += is_read
                    polls += chunk.state is ChunkState.SUBMITTED and not is_read
        return cls(submits, log_reads, polls)


Item = TypeVar("Item")
RunChunk = tuple[RunProgress, Chunk]


@dataclass(frozen=True, slots=True)
class _Kind(Generic[Item]):
    """The candidates for one kind of action."""

    ready: Sequence[Item] = ()
    ready_at: Sequence[float] = ()  #: when others become ready, in epoch seconds


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What may go next."""

    resolvable: _Kind[Chunk] = _Kind()
    sendable: _Kind[RunChunk] = _Kind()
    readable: _Kind[RunChunk] = _Kind()
    pollable: _Kind[Chunk] = _Kind()

    def ready_at(self) -> float:
        """Return when the next candidate becomes ready."""
        kinds: tuple[_Kind[Any], ...] = (self.resolvable, self.sendable, self.readable, self.pollable)
        return min((moment for kind in kinds for moment in kind.ready_at), default=math.inf)


RequestAction = ResolveUnknown | Submit | Poll | ReadLog
Action = RequestAction | Wait


def next_action(
    runs: Iterable[RunProgress],
    capacity: Capacity,
    now: float,
    busy: Collection[ChunkId] = (),
    history: ActionHistory = ActionHistory(),
    policy: PollPolicy = PollPolicy(),
) -> Action:
    """Return the next action. `busy`: chunks with a request in flight in this process."""
    runs = list(runs)
    in_flight = InFlight.count(runs, busy)
    candidates = _Candidates(pollable=_pollable(runs, busy, policy, now))
    if in_flight.submits < capacity.in_flight:
        candidates = replace(candidates, sendable=_sendable(runs, busy, capacity, now))
    if in_flight.log_reads + (min(in_flight.polls, 1) if policy.together else in_flight.polls) < capacity.in_flight:
        candidates = replace(candidates, resolvable=_resolvable(runs, busy, now), readable=_readable(runs, busy, now))
    else:
        candidates = replace(candidates, pollable=replace(candidates.pollable, ready=()))
    action = _choose(candidates, history, policy)
    return action if action is not None else Wait(max(0.0, min(MAX_WAIT, candidates.ready_at() - now)))


def _choose(candidates: _Candidates, history: ActionHistory, policy: PollPolicy) -> RequestAction | None:
    """Return the first of the candidates by the rules of this module; None when nothing may go."""
    if candidates.resolvable.ready:
        return ResolveUnknown(candidates.resolvable.ready[0])
    sendable, readable, pollable = candidates.sendable.ready, candidates.readable.ready, candidates.pollable.ready
    if pollable:
        is_list = policy.together and pollable[0].job_id not in policy.unlisted_jobs
        patience = ACTIONS_BEFORE_LIST_POLL if is_list else ACTIONS_BEFORE_SINGLE_POLL
        if history.since_poll >= patience or not (readable or sendable):
            return Poll(tuple(pollable))
    if readable and not (sendable and history.last_was_log_read):
        return ReadLog(min(readable, key=lambda item: not item[0].urgent)[1])
    if sendable:
        run, chunk = _choose_sendable(sendable, history)
        return Submit(chunk, run.urgent)
    return None


def update_history(history: ActionHistory, action: RequestAction) -> ActionHistory:
    """Return the history after an action."""
    match action:
        case Submit(_, urgent):
            return ActionHistory(
                history.since_poll + 1, history.urgent_in_a_row + 1 if urgent else 0, last_was_log_read=False
            )
        case ReadLog():
            return ActionHistory(history.since_poll + 1, history.urgent_in_a_row, last_was_log_read=True)
        case Poll():
            return ActionHistory(0, history.urgent_in_a_row, history.last_was_log_read)
    return history


def chunks_of(action: RequestAction) -> tuple[Chunk, ...]:
    """Return the chunks that an action is for."""
    return action.chunks if isinstance(action, Poll) else (action.chunk,)


def chunk_id(chunk: Chunk) -> ChunkId:
    """Return what identifies a chunk among all runs."""
    return chunk.run, chunk.number


def is_slow(chunk: Chunk) -> bool:
    """Return whether a chunk's job has been running for so long that no other run should wait for it."""
    return chunk.state is ChunkState.SUBMITTED and chunk.polls >= SLOW_POLLS


def postponed_until(chunk: Chunk, now: float) -> float:
    """Return until when a chunk is postponed, in epoch seconds."""
    until = chunk.retry_after or 0.0
    return until if until <= now + MAX_WAIT else 0.0


def next_poll_time(chunk: Chunk, now: float, delay: float) -> float:
    """Return when a submitted chunk's job is to be polled next, in epoch seconds. `delay`: since the last poll."""
    last = chunk.polled_at if chunk.polled_at is not None else chunk.sent_at
    due = 0.0 if last is None or last > now else last + delay
    return max(due, postponed_until(chunk, now))


def poll_delay(polls: int, usual_duration: float | None = None) -> float:
    """Return the seconds to the next poll after `polls` polls. `usual_duration`: seconds that such jobs take."""
    if polls >= STUCK_POLLS:
        return STUCK_POLL_DELAY
    if polls >= SLOW_POLLS:
        return SLOW_POLL_DELAY
    first, step = (
        (FIRST_POLL_DELAY, FIRST_POLL_DELAY)
        if usual_duration is None
        else (FIRST_POLL_FRACTION * usual_duration, NEXT_POLL_FRACTION * usual_duration)
    )
    return min(max(step * 2 ** (polls - 1) if polls else first, MIN_POLL_DELAY), MAX_POLL_DELAY)


def _resolvable(runs: Iterable[RunProgress], busy: Collection[ChunkId], now: float) -> _Kind[Chunk]:
    """Return the chunks whose request has an unknown outcome."""
    chunks = [chunk for run in runs for chunk in run.chunks if _is_unresolved(run, chunk, busy)]
    return _Kind(*_split_postponed(chunks, now))


def _readable(runs: Iterable[RunProgress], busy: Collection[ChunkId], now: float) -> _Kind[RunChunk]:
    """Return the chunks whose job has ended and whose log is unread."""
    unread = [
        (run, chunk)
        for run in runs
        for chunk in run.chunks
        if chunk.number in run.finished_jobs and chunk_id(chunk) not in busy
    ]
    _, ready_at = _split_postponed([chunk for _, chunk in unread], now)
    return _Kind([item for item in unread if postponed_until(item[1], now) <= now], ready_at)


def _pollable(runs: Iterable[RunProgress], busy: Collection[ChunkId], policy: PollPolicy, now: float) -> _Kind[Chunk]:
    """Return the chunks whose jobs are polled by the next poll.

    When one list polls several jobs, it also polls those that have waited for a third of their pause.
    """
    running = sorted(
        (
            (policy.due_at(chunk, now), chunk_id(chunk), chunk)
            for run in runs
            for chunk in run.chunks
            if chunk.state is ChunkState.SUBMITTED
            and chunk.number not in run.finished_jobs
            and chunk_id(chunk) not in busy
        ),
        key=lambda item: item[:2],
    )
    if not running:
        return _Kind()
    first_due, _, first = running[0]
    if first_due > now:
        return _Kind((), (first_due,))
    if not policy.together or first.job_id in policy.unlisted_jobs:
        return _Kind((first,))
    return _Kind(
        [
            chunk
            for due, _, chunk in running
            if chunk.job_id not in policy.unlisted_jobs
            and due <= now + policy.delay(chunk) * 2 / 3
            and postponed_until(chunk, now) <= now
        ]
    )


@dataclass(frozen=True, slots=True)
class _RunLoad:
    """How much of a run is under way."""

    run: RunProgress
    started: int  #: chunks that were sent, or are being sent
    occupying: int  #: of these, chunks that take room from other runs

    @classmethod
    def count(cls, run: RunProgress, busy: Collection[ChunkId]) -> _RunLoad:
        started = [chunk for chunk in run.chunks if _is_started(chunk, busy)]
        return cls(run, len(started), sum(chunk.polls < LONG_RUNNING_POLLS for chunk in started))


def _sendable(
    runs: Sequence[RunProgress], busy: Collection[ChunkId], capacity: Capacity, now: float
) -> _Kind[RunChunk]:
    """Return of each run the first chunk that may be sent. Urgent runs have room whatever the others have sent."""
    loads = [_RunLoad.count(run, busy) for run in runs]
    occupied = sum(load.occupying for load in loads)
    occupied_by_urgent = sum(load.occupying for load in loads if load.run.urgent)
    ready: list[RunChunk] = []
    ready_at: list[float] = []
    for load in loads:
        room_used = max(load.started, occupied_by_urgent if load.run.urgent else occupied)
        if room_used >= capacity.unfinished:
            continue
        for chunk in _next_chunks(load.run, busy):
            until = postponed_until(chunk, now)
            if until <= now:
                ready.append((load.run, chunk))
                break
            ready_at.append(until)
    spaced_until = _spaced_until(runs, capacity, now)
    if spaced_until is None:
        return _Kind(ready, ready_at)
    return _Kind([item for item in ready if item[0].urgent], [*ready_at, spaced_until])


def _next_chunks(run: RunProgress, busy: Collection[ChunkId]) -> Iterator[Chunk]:
    """Yield the unsent chunks of the run's first wave that has not ended."""
    wave = min((chunk.wave for chunk in run.chunks), default=0)
    return (chunk for chunk in run.chunks if chunk.wave == wave and not _is_started(chunk, busy))


def _spaced_until(runs: Iterable[RunProgress], capacity: Capacity, now: float) -> float | None:
    """Return until when imports that are not urgent wait; None when they may go.

    The imports of a backlog that takes minutes leave evenly: used up at once, the rate limit would make urgent
    imports and the logs of ended jobs wait for most of each minute.
    """
    others = [run for run in runs if not run.urgent]
    backlog = sum(chunk.state is ChunkState.READY for run in others for chunk in run.chunks)
    if backlog <= capacity.request_limit:
        return None
    until = max((run.last_sent_at for run in others), default=0.0) + capacity.request_spacing
    return until if 0 < until - now <= capacity.request_spacing else None


def _split_postponed(chunks: Iterable[Chunk], now: float) -> tuple[list[Chunk], list[float]]:
    """Return the chunks that are not postponed, and until when the others are."""
    ready: list[Chunk] = []
    ready_at: list[float] = []
    for chunk in chunks:
        until = postponed_until(chunk, now)
        if until <= now:
            ready.append(chunk)
        else:
            ready_at.append(until)
    return ready, ready_at


def _choose_sendable(sendable: Sequence[RunChunk], history: ActionHistory) -> RunChunk:
    """Return an urgent chunk, or another when it is the others' turn; of either kind the one that waited longest."""
    urgent = [item for item in sendable if item[0].urgent]
    others = [item for item in sendable if not item[0].urgent]
    return min(
        (others if others and history.urgent_in_a_row >= MAX_URGENT_IN_A_ROW else urgent) or others,
        key=lambda item: item[0].last_sent_at,
    )


def _is_unresolved(run: RunProgress, chunk: Chunk, busy: Collection[ChunkId]) -> bool:
    return chunk.state is ChunkState.SENDING and chunk.number not in run.finished_jobs and chunk_id(chunk) not in busy


def _is_started(chunk: Chunk, busy: Collection[ChunkId]) -> bool:
    return chunk.state is not ChunkState.READY or chunk_id(chunk) in busy
