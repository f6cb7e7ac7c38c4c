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
FIRST = 0.25

#: Where it is known how long jobs take: parts of that time to the first question, and to the second from there.
EARLY, STEP = 0.8, 0.25

#: Least and most seconds between two questions for a job.
LEAST, MOST = 0.1, 30.0

#: From this many questions on a job counts as slow, and as stuck: seconds between questions then.
SLOW, SLOW_PAUSE = 30, 60.0
STUCK, STUCK_PAUSE = 90, 300.0

#: A job asked for so often (some two minutes) takes no room from other runs any more.
LONG = 12

#: Longest wait in seconds without another look, and for which a chunk may be put off. A stamp that says more was
#: written by a wall clock that has been set back since, and does not count.
LONGEST_WAIT = 60.0

#: So many urgent requests may leave in a row while another run has something to send.
IN_A_ROW = 3

#: So many logs and imports may go before a question that is due: one for all jobs, and one for a single job.
UNASKED, UNASKED_ALONE = 16, 2

#: Which chunk: its run and its number there.
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Course:
    """A run that is under way. No two of them share keys."""

    chunks: Sequence[Chunk]  #: those that have not ended
    urgent: bool = False  #: goes before those that are not
    sent: float = 0.0  #: when it last sent something
    ended: Mapping[int, object] = field(default_factory=dict)  #: numbers whose job has ended and whose log is unread


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be on its way."""

    in_flight: int  #: imports without an answer; as many questions beside them
    unfinished: int  #: imports that have left and whose jobs have not ended; for urgent runs only those of such runs
    limit: int = 60  #: requests that the gate lets through at once
    spacing: float = 1.0  #: seconds between requests at the rate of the limit


@dataclass(frozen=True, slots=True)
class Turn:
    """What went last."""

    unasked: int = 0  #: imports and logs since the last question
    urgent: int = 0  #: urgent imports since the last other one
    read: bool = False  #: the last of imports and logs was a log


@dataclass(frozen=True, slots=True)
class Settle:
    """Find out what became of this chunk's request."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Submit:
    """Send this chunk."""

    chunk: Chunk
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask for the jobs of these chunks: all of them at once, or for the only one."""

    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """Read the log of this chunk's ended job, and judge."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do for so many seconds."""

    seconds: float


Move = Settle | Submit | Ask | Read
Action = Move | Wait


def next_action(
    courses: Iterable[Course],
    room: Room,
    now: float,
    busy: Collection[Place] = (),
    turn: Turn = Turn(),
    *,
    scale: float = 1.0,
    together: bool = True,
    alone: Collection[int] = (),
    noticed: Collection[int] = (),
    usual: Mapping[str, float] = MappingProxyType({}),
) -> Action:
    """The next move. `busy`: chunks whose request is on its way in this process; `scale` stretches the pauses between
    questions; `together`: jobs may be asked for with one request, except those in `alone`; `noticed`: jobs that are
    said to have ended; `usual`: seconds that jobs of an import have taken lately."""
    known = list(courses)
    later = [LONGEST_WAIT]

    def waits(chunk: Chunk) -> bool:
        until = put_off(chunk, now)
        if until > now:
            later.append(until - now)
        return until > now

    doubtful: list[Chunk] = []
    unread: list[tuple[Course, Chunk]] = []
    sends = reads = asks = 0
    for course in known:
        for chunk in course.chunks:
            away, over = place(chunk) in busy, chunk.number in course.ended
            if away:
                sends += chunk.state is not ChunkState.SUBMITTED
                reads += over
                asks += chunk.state is ChunkState.SUBMITTED and not over
            elif over:
                unread.append((course, chunk))
            elif chunk.state is ChunkState.SENDING:
                doubtful.append(chunk)
    curious = reads + (min(asks, 1) if together else asks) < room.in_flight
    for chunk in doubtful if curious else ():
        if not waits(chunk):
            return Settle(chunk)

    sendable: list[tuple[Course, Chunk]] = []
    if sends < room.in_flight:
        sendable = _sendable(known, room.unfinished, busy, {chunk.run for chunk in doubtful}, waits)
        sendable = _spread(sendable, known, room, now, later)
    unread = [item for item in unread if not waits(item[1])] if curious else []
    asked = _questions(known, now, busy, later, scale, together, alone, noticed, usual)
    if asked and curious:
        common = together and asked[0].job_id not in alone
        if turn.unasked >= (UNASKED if common else UNASKED_ALONE) or not (unread or sendable):
            return Ask(asked)
    if unread and not (sendable and turn.read):
        return Read(min(unread, key=lambda item: not item[0].urgent)[1])
    if sendable:
        course, chunk = _first(sendable, turn)
        return Submit(chunk, course.urgent)
    return Wait(max(min(later), 0.0))


def after(turn: Turn, move: Move) -> Turn:
    """What went last, once this has gone."""
    match move:
        case Submit(_, urgent):
            return Turn(turn.unasked + 1, turn.urgent + 1 if urgent else 0, read=False)
        case Read():
            return Turn(turn.unasked + 1, turn.urgent, read=True)
        case Ask():
            return Turn(0, turn.urgent, turn.read)
    return turn


def place(chunk: Chunk) -> Place:
    """Which chunk it is."""
    return chunk.run, chunk.number


def is_slow(chunk: Chunk) -> bool:
    """Whether its job has been running so long that nothing should count on its end any more."""
    return chunk.state is ChunkState.SUBMITTED and chunk.polls >= SLOW


def put_off(chunk: Chunk, now: float) -> float:
    """Until when nothing of a chunk is tried, in epoch seconds."""
    until = chunk.not_before or 0.0
    return until if until <= now + LONGEST_WAIT else 0.0


def poll_due(chunk: Chunk, now: float, scale: float = 1.0, usual: float | None = None) -> float:
    """When a submitted chunk's job is to be asked for next, in epoch seconds."""
    last = chunk.polled_at if chunk.polled_at is not None else chunk.sent_at
    due = 0.0 if last is None or last > now else last + poll_pause(chunk.polls, usual) * scale
    return max(due, put_off(chunk, now))


def poll_pause(polls: int, usual: float | None = None) -> float:
    """Seconds to the next question after so many; `usual`: seconds that such jobs take."""
    if polls >= STUCK:
        return STUCK_PAUSE
    if polls >= SLOW:
        return SLOW_PAUSE
    first, step = (FIRST, FIRST) if usual is None else (EARLY * usual, STEP * usual)
    return min(max(step * 2 ** (polls - 1) if polls else first, LEAST), MOST)


def _sendable(
    courses: Sequence[Course],
    most: int,
    busy: Collection[Place],
    stopped: Collection[str],
    waits: Callable[[Chunk], bool],
) -> list[tuple[Course, Chunk]]:
    """Of each run the first chunk that may leave. Urgent runs find room whatever the others have under way."""
    own = [sum(_started(chunk, busy) for chunk in course.chunks) for course in courses]
    taken = [sum(chunk.polls < LONG and _started(chunk, busy) for chunk in course.chunks) for course in courses]
    urgent = sum(count for course, count in zip(courses, taken, strict=True) if course.urgent)
    found = []
    for course, started in zip(courses, own, strict=True):
        if not course.chunks or course.chunks[0].run in stopped:
            continue
        if started >= most or (urgent if course.urgent else sum(taken)) >= most:
            continue
        wave = min(chunk.wave for chunk in course.chunks)
        planned = (c for c in course.chunks if c.wave == wave and not _started(c, busy))
        ready = next((chunk for chunk in planned if not waits(chunk)), None)
        if ready is not None:
            found.append((course, ready))
    return found


def _spread(
    sendable: Sequence[tuple[Course, Chunk]], courses: Iterable[Course], room: Room, now: float, later: list[float]
) -> list[tuple[Course, Chunk]]:
    """Imports of a backlog that takes minutes anyway leave evenly: used up at once, the limit would keep what is urgent
    and the logs of what has ended waiting for most of each minute."""
    others = [course for course in courses if not course.urgent]
    backlog = sum(chunk.state is ChunkState.PLANNED for course in others for chunk in course.chunks)
    wait = max((course.sent for course in others), default=0.0) + room.spacing - now
    if backlog <= room.limit or not 0 < wait <= room.spacing:
        return list(sendable)
    later.append(wait)
    return [item for item in sendable if item[0].urgent]


def _questions(
    courses: Sequence[Course],
    now: float,
    busy: Collection[Place],
    later: list[float],
    scale: float,
    together: bool,
    alone: Collection[int],
    noticed: Collection[int],
    usual: Mapping[str, float],
) -> tuple[Chunk, ...]:
    """The jobs to ask for now: those that are due; with a common question also those a third of whose pause is over."""
    running = []
    for course in courses:
        for chunk in course.chunks:
            if chunk.state is ChunkState.SUBMITTED and chunk.number not in course.ended and place(chunk) not in busy:
                due = poll_due(chunk, now, scale, usual.get(chunk.operation))
                running.append((put_off(chunk, now) if chunk.job_id in noticed else due, chunk))
    running.sort(key=lambda item: (item[0], place(item[1])))
    later.extend(due - now for due, _ in running[:1] if due > now)
    if not running or running[0][0] > now:
        return ()
    if not together or running[0][1].job_id in alone:
        return (running[0][1],)

    def soon(chunk: Chunk) -> float:
        return now + poll_pause(chunk.polls, usual.get(chunk.operation)) * scale * 2 / 3

    return tuple(
        chunk
        for due, chunk in running
        if chunk.job_id not in alone and due <= soon(chunk) and put_off(chunk, now) <= now
    )


def _first(sendable: Sequence[tuple[Course, Chunk]], turn: Turn) -> tuple[Course, Chunk]:
    """Urgent ones before others, unless it is the others' turn; within each the one that has waited longest."""
    urgent = [item for item in sendable if item[0].urgent]
    others = [item for item in sendable if not item[0].urgent]
    return min((others if others and turn.urgent >= IN_A_ROW else urgent) or others, key=lambda item: item[0].sent)


def _started(chunk: Chunk, busy: Collection[Place]) -> bool:
    return chunk.state is not ChunkState.PLANNED or place(chunk) in busy
