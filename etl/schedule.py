"""Given the progress of all runs that are under way, the limits and the time: what to do next. Pure.

A move is one request. Five rules make the order. Waves are barriers: chunks of a later wave share keys with earlier
ones, and Connect promises no order between jobs. A chunk in doubt is settled before anything else is sent of its run.
The log of an ended job is read at once: that is what moves *accepted* and makes room. Sending goes before asking for
jobs while there is room for another unfinished one; a question that is due waits for `in_flight` sends at most. Stock
and prices go first, and after `IN_A_ROW` of their requests one of the others, so that neither stops the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from etl.model import Chunk, ChunkState

#: Seconds from the submission to the first question for a job, and from each question to the next.
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)

#: From this many questions on a job counts as slow, and as stuck: seconds between questions then.
SLOW, SLOW_PAUSE = 20, 60.0
STUCK, STUCK_PAUSE = 80, 300.0

#: A job asked for so often (some two minutes) takes no room from other runs any more.
LONG = 8

#: Longest wait in seconds without another look.
LONGEST_WAIT = 60.0

#: So many urgent requests may leave in a row while another run has something to send.
IN_A_ROW = 3

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
class Turn:
    """What went last."""

    sends: int = 0  #: since the last question
    urgent: int = 0  #: urgent sends since the last other one


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
    in_flight: int,
    now: float,
    busy: Collection[Place] = (),
    turn: Turn = Turn(),
    *,
    scale: float = 1.0,
    together: bool = True,
    noticed: Collection[int] = (),
) -> Action:
    """The next move. `busy`: chunks whose request is on its way in this process; `scale` stretches the pauses between
    questions; `together`: jobs may be asked for with one request; `noticed`: jobs that are said to have ended."""
    known = list(courses)
    later = [LONGEST_WAIT]

    def waits(chunk: Chunk) -> bool:
        if chunk.not_before is None or chunk.not_before <= now:
            return False
        later.append(chunk.not_before - now)
        return True

    idle = [(course, chunk) for course in known for chunk in course.chunks if place(chunk) not in busy]
    doubtful = [chunk for _, chunk in idle if chunk.state is ChunkState.SENDING]
    unread = [chunk for course, chunk in idle if chunk.number in course.ended]
    for chunk in doubtful:
        if not waits(chunk):
            return Settle(chunk)
    for chunk in unread:
        if not waits(chunk):
            return Read(chunk)

    started = [chunk for course in known for chunk in course.chunks if _started(chunk, busy)]
    room = sum(chunk.polls < LONG for chunk in started) < in_flight
    stopped = {chunk.run for chunk in doubtful}
    sendable: list[tuple[Course, Chunk]] = []
    for course in known if room else ():
        if not course.chunks or course.chunks[0].run in stopped:
            continue
        wave = min(chunk.wave for chunk in course.chunks)
        planned = (c for c in course.chunks if c.wave == wave and not _started(c, busy))
        ready = next((chunk for chunk in planned if not waits(chunk)), None)
        if ready is not None and sum(_started(chunk, busy) for chunk in course.chunks) < in_flight:
            sendable.append((course, ready))
    asked = _questions(known, now, busy, later, scale, together, noticed)
    if sendable and (turn.sends < in_flight or not asked):
        course, chunk = _first(sendable, turn)
        return Submit(chunk, course.urgent)
    return Ask(asked) if asked else Wait(max(min(later), 0.0))


def after(turn: Turn, move: Move) -> Turn:
    """What went last, once this has gone."""
    match move:
        case Submit(_, urgent):
            return Turn(turn.sends + 1, turn.urgent + 1 if urgent else 0)
        case Ask():
            return Turn(0, turn.urgent)
    return turn


def place(chunk: Chunk) -> Place:
    """Which chunk it is."""
    return chunk.run, chunk.number


def is_slow(chunk: Chunk) -> bool:
    """Whether its job has been running so long that nothing should count on its end any more."""
    return chunk.state is ChunkState.SUBMITTED and chunk.polls >= SLOW


def poll_due(chunk: Chunk, scale: float = 1.0) -> float:
    """When a submitted chunk's job is to be asked for next, in epoch seconds."""
    last = chunk.polled_at if chunk.polled_at is not None else chunk.sent_at
    return max((last or 0.0) + poll_pause(chunk.polls) * scale, chunk.not_before or 0.0)


def poll_pause(polls: int) -> float:
    """Seconds to the next question after so many."""
    if polls >= STUCK:
        return STUCK_PAUSE
    if polls >= SLOW:
        return SLOW_PAUSE
    return PAUSES[min(polls, len(PAUSES) - 1)]


def _questions(
    courses: Sequence[Course],
    now: float,
    busy: Collection[Place],
    later: list[float],
    scale: float,
    together: bool,
    noticed: Collection[int],
) -> tuple[Chunk, ...]:
    """The jobs to ask for now: those that are due; with a common question also those that soon will be."""
    running = [
        ((chunk.not_before or 0.0) if chunk.job_id in noticed else poll_due(chunk, scale), chunk)
        for course in courses
        for chunk in course.chunks
        if chunk.state is ChunkState.SUBMITTED and chunk.number not in course.ended and place(chunk) not in busy
    ]
    running.sort(key=lambda item: (item[0], place(item[1])))
    later.extend(due - now for due, _ in running[:1] if due > now)
    if not running or running[0][0] > now:
        return ()
    if not together:
        return (running[0][1],)
    soon = now + PAUSES[0] * scale
    return tuple(chunk for due, chunk in running if due <= soon and (chunk.not_before or 0.0) <= now)


def _first(sendable: Sequence[tuple[Course, Chunk]], turn: Turn) -> tuple[Course, Chunk]:
    """Urgent ones before others, unless it is the others' turn; within each the one that has waited longest."""
    urgent = [item for item in sendable if item[0].urgent]
    others = [item for item in sendable if not item[0].urgent]
    return min((others if others and turn.urgent >= IN_A_ROW else urgent) or others, key=lambda item: item[0].sent)


def _started(chunk: Chunk, busy: Collection[Place]) -> bool:
    return chunk.state is not ChunkState.PLANNED or place(chunk) in busy
