"""Given the progress of all runs that are under way, the limits and the time: what to do next. Pure.

A move is one request. Five rules make the order. Waves are barriers: chunks of a later wave share keys with earlier
ones, and Connect promises no order between jobs. A chunk in doubt is settled before anything else is sent of its run.
Logs of ended jobs are what moves *accepted* and makes room: reading them and sending take turns. Both go before asking
for jobs; a question that is due waits for `UNASKED` of them at most. Stock and prices go first, and after `IN_A_ROW`
of their requests one of the others, so that neither stops the rest.

What has been sent is bounded twice: by the answers that are waited for, because each takes a connection, and by the
jobs that have not ended, because what Connect has queued nobody can overtake any more. The second bound is wide: where
jobs take minutes, a narrow one would leave most of the limit unused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from etl.model.runs import Chunk, ChunkState

#: Seconds to the first question for a job whose import nobody knows yet; doubled from question to question.
FIRST_POLL_DELAY = 0.25

#: Where it is known how long jobs take: parts of that time to the first question, and to the second from there.
FIRST_POLL_FRACTION, NEXT_POLL_FRACTION = 0.8, 0.25

#: Least and most seconds between two questions for a job.
MIN_POLL_DELAY, MAX_POLL_DELAY = 0.1, 30.0

#: From this many questions on a job counts as slow, and as stuck: seconds between questions then.
SLOW_POLLS, SLOW_POLL_DELAY = 30, 60.0
STUCK_POLLS, STUCK_POLL_DELAY = 90, 300.0

#: A job asked for so often (some two minutes) takes no room from other runs any more.
LONG_RUNNING_POLLS = 12

#: Longest wait in seconds without another look, and for which a chunk may be put off. A stamp that says more was
#: written by a wall clock that has been set back since, and does not count.
MAX_WAIT = 60.0

#: So many urgent requests may leave in a row while another run has something to send.
MAX_URGENT_IN_A_ROW = 3

#: So many logs and imports may go before a question that is due: one for all jobs, and one for a single job.
ACTIONS_BEFORE_LIST_POLL, ACTIONS_BEFORE_SINGLE_POLL = 16, 2

#: Which chunk: its run and its number there.
ChunkId = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A run that is under way. No two of them share keys."""

    chunks: Sequence[Chunk]  #: those that have not ended
    urgent: bool = False  #: goes before those that are not
    last_sent_at: float = 0.0  #: when it last sent something
    finished_jobs: Mapping[int, object] = field(
        default_factory=dict
    )  #: numbers whose job has ended and whose log is unread


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much may be on its way."""

    in_flight: int  #: imports without an answer; as many questions beside them
    unfinished: int  #: imports that have left and whose jobs have not ended; for urgent runs only those of such runs
    request_limit: int = 60  #: requests that the gate lets through at once
    request_spacing: float = 1.0  #: seconds between requests at the rate of the limit


@dataclass(frozen=True, slots=True)
class ActionHistory:
    """What went last."""

    since_poll: int = 0  #: imports and logs since the last question
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
    """Ask for the jobs of these chunks: all of them at once, or for the only one."""

    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the log of this chunk's ended job, and judge."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do for so many seconds."""

    seconds: float


RequestAction = ResolveUnknown | Submit | Poll | ReadLog
Action = RequestAction | Wait


def next_action(
    runs: Iterable[RunProgress],
    capacity: Capacity,
    now: float,
    busy: Collection[ChunkId] = (),
    history: ActionHistory = ActionHistory(),
    *,
    poll_scale: float = 1.0,
    poll_together: bool = True,
    unlisted_jobs: Collection[int] = (),
    jobs_with_event: Collection[int] = (),
    usual_durations: Mapping[str, float] = MappingProxyType({}),
) -> Action:
    """The next move. `busy`: chunks whose request is on its way in this process; `scale` stretches the pauses between
    questions; `together`: jobs may be asked for with one request, except those in `alone`; `noticed`: jobs that are
    said to have ended; `usual`: seconds that jobs of an import have taken lately."""
    known = list(runs)
    later = [MAX_WAIT]

    def waits(chunk: Chunk) -> bool:
        until = postponed_until(chunk, now)
        if until > now:
            later.append(until - now)
        return until > now

    doubtful: list[Chunk] = []
    unread: list[tuple[RunProgress, Chunk]] = []
    sends = reads = asks = 0
    for course in known:
        for chunk in course.chunks:
            away, over = chunk_id(chunk) in busy, chunk.number in course.finished_jobs
            if away:
                sends += chunk.state is not ChunkState.SUBMITTED
                reads += over
                asks += chunk.state is ChunkState.SUBMITTED and not over
            elif over:
                unread.append((course, chunk))
            elif chunk.state is ChunkState.SENDING:
                doubtful.append(chunk)
    curious = reads + (min(asks, 1) if poll_together else asks) < capacity.in_flight
    for chunk in doubtful if curious else ():
        if not waits(chunk):
            return ResolveUnknown(chunk)

    sendable: list[tuple[RunProgress, Chunk]] = []
    if sends < capacity.in_flight:
        sendable = _sendable_chunks(known, capacity.unfinished, busy, {chunk.run for chunk in doubtful}, waits)
        sendable = _space_out(sendable, known, capacity, now, later)
    unread = [item for item in unread if not waits(item[1])] if curious else []
    asked = _due_polls(
        known, now, busy, later, poll_scale, poll_together, unlisted_jobs, jobs_with_event, usual_durations
    )
    if asked and curious:
        common = poll_together and asked[0].job_id not in unlisted_jobs
        if history.since_poll >= (ACTIONS_BEFORE_LIST_POLL if common else ACTIONS_BEFORE_SINGLE_POLL) or not (
            unread or sendable
        ):
            return Poll(asked)
    if unread and not (sendable and history.last_was_log_read):
        return ReadLog(min(unread, key=lambda item: not item[0].urgent)[1])
    if sendable:
        course, chunk = _choose_sendable(sendable, history)
        return Submit(chunk, course.urgent)
    return Wait(max(min(later), 0.0))


def update_history(history: ActionHistory, action: RequestAction) -> ActionHistory:
    """What went last, once this has gone."""
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
    """Whether its job has been running so long that nothing should count on its end any more."""
    return chunk.state is ChunkState.SUBMITTED and chunk.polls >= SLOW_POLLS


def postponed_until(chunk: Chunk, now: float) -> float:
    """Until when nothing of a chunk is tried, in epoch seconds."""
    until = chunk.retry_after or 0.0
    return until if until <= now + MAX_WAIT else 0.0


def next_poll_time(chunk: Chunk, now: float, poll_scale: float = 1.0, usual_duration: float | None = None) -> float:
    """When a submitted chunk's job is to be asked for next, in epoch seconds."""
    last = chunk.polled_at if chunk.polled_at is not None else chunk.sent_at
    due = 0.0 if last is None or last > now else last + poll_delay(chunk.polls, usual_duration) * poll_scale
    return max(due, postponed_until(chunk, now))


def poll_delay(polls: int, usual_duration: float | None = None) -> float:
    """Seconds to the next question after so many; `usual`: seconds that such jobs take."""
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


def _sendable_chunks(
    runs: Sequence[RunProgress],
    limit: int,
    busy: Collection[ChunkId],
    unresolved_runs: Collection[str],
    is_postponed: Callable[[Chunk], bool],
) -> list[tuple[RunProgress, Chunk]]:
    """Of each run the first chunk that may leave. Urgent runs find room whatever the others have under way."""
    own = [sum(_is_started(chunk, busy) for chunk in course.chunks) for course in runs]
    taken = [
        sum(chunk.polls < LONG_RUNNING_POLLS and _is_started(chunk, busy) for chunk in course.chunks) for course in runs
    ]
    urgent = sum(count for course, count in zip(runs, taken, strict=True) if course.urgent)
    found = []
    for course, started in zip(runs, own, strict=True):
        if not course.chunks or course.chunks[0].run in unresolved_runs:
            continue
        if started >= limit or (urgent if course.urgent else sum(taken)) >= limit:
            continue
        wave = min(chunk.wave for chunk in course.chunks)
        planned = (c for c in course.chunks if c.wave == wave and not _is_started(c, busy))
        ready = next((chunk for chunk in planned if not is_postponed(chunk)), None)
        if ready is not None:
            found.append((course, ready))
    return found


def _space_out(
    sendable: Sequence[tuple[RunProgress, Chunk]],
    runs: Iterable[RunProgress],
    capacity: Capacity,
    now: float,
    waits: list[float],
) -> list[tuple[RunProgress, Chunk]]:
    """Imports of a backlog that takes minutes anyway leave evenly: used up at once, the limit would keep what is urgent
    and the logs of what has ended waiting for most of each minute."""
    others = [course for course in runs if not course.urgent]
    backlog = sum(chunk.state is ChunkState.READY for course in others for chunk in course.chunks)
    wait = max((course.last_sent_at for course in others), default=0.0) + capacity.request_spacing - now
    if backlog <= capacity.request_limit or not 0 < wait <= capacity.request_spacing:
        return list(sendable)
    waits.append(wait)
    return [item for item in sendable if item[0].urgent]


def _due_polls(
    runs: Sequence[RunProgress],
    now: float,
    busy: Collection[ChunkId],
    waits: list[float],
    poll_scale: float,
    poll_together: bool,
    unlisted_jobs: Collection[int],
    jobs_with_event: Collection[int],
    usual_durations: Mapping[str, float],
) -> tuple[Chunk, ...]:
    """The jobs to ask for now: those that are due; with a common question also those a third of whose pause is over."""
    running = []
    for course in runs:
        for chunk in course.chunks:
            if (
                chunk.state is ChunkState.SUBMITTED
                and chunk.number not in course.finished_jobs
                and chunk_id(chunk) not in busy
            ):
                due = next_poll_time(chunk, now, poll_scale, usual_durations.get(chunk.operation))
                running.append((postponed_until(chunk, now) if chunk.job_id in jobs_with_event else due, chunk))
    running.sort(key=lambda item: (item[0], chunk_id(item[1])))
    waits.extend(due - now for due, _ in running[:1] if due > now)
    if not running or running[0][0] > now:
        return ()
    if not poll_together or running[0][1].job_id in unlisted_jobs:
        return (running[0][1],)

    def soon(chunk: Chunk) -> float:
        return now + poll_delay(chunk.polls, usual_durations.get(chunk.operation)) * poll_scale * 2 / 3

    return tuple(
        chunk
        for due, chunk in running
        if chunk.job_id not in unlisted_jobs and due <= soon(chunk) and postponed_until(chunk, now) <= now
    )


def _choose_sendable(
    sendable: Sequence[tuple[RunProgress, Chunk]], history: ActionHistory
) -> tuple[RunProgress, Chunk]:
    """Urgent ones before others, unless it is the others' turn; within each the one that has waited longest."""
    urgent = [item for item in sendable if item[0].urgent]
    others = [item for item in sendable if not item[0].urgent]
    return min(
        (others if others and history.urgent_in_a_row >= MAX_URGENT_IN_A_ROW else urgent) or others,
        key=lambda item: item[0].last_sent_at,
    )


def _is_started(chunk: Chunk, busy: Collection[ChunkId]) -> bool:
    return chunk.state is not ChunkState.READY or chunk_id(chunk) in busy
