"""Given the progress of a run's chunks, the limits and the time: what to do next. Pure.

Three rules make the order. Waves are barriers: chunks of a later wave share keys with earlier ones, and Connect
promises no order between jobs. A chunk in doubt is settled before anything else of its run is sent. Sending goes
before polling while there is room for another unfinished job; when there is none, only polls can make room.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from etl.model import Chunk, ChunkState

#: Seconds from the submission to the first poll, and from each poll to the next.
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)

#: From this many polls on a job counts as slow, and as stuck: seconds between polls then.
SLOW, SLOW_PAUSE = 20, 60.0
STUCK, STUCK_PAUSE = 80, 300.0

#: Longest wait in seconds without another look.
LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Settle:
    """Find out what became of this chunk's request."""

    number: int


@dataclass(frozen=True, slots=True)
class Submit:
    """Send this chunk."""

    number: int


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask for this chunk's job."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """Every chunk has ended."""


Action = Settle | Submit | Poll | Wait | Done


def next_action(
    chunks: Iterable[Chunk], in_flight: int, now: float, busy: Collection[int] = (), *, scale: float = 1.0
) -> Action:
    """The next move. `busy`: numbers whose request is on its way in this process; `scale` stretches the poll pauses."""
    unfinished = [chunk for chunk in chunks if not chunk.state.is_final]
    if not unfinished:
        return Done()
    idle = [chunk for chunk in unfinished if chunk.number not in busy]
    later: list[float] = []

    doubtful = [chunk for chunk in idle if chunk.state is ChunkState.SENDING]
    for chunk in doubtful:
        if _ready(chunk, now):
            return Settle(chunk.number)
        later.append((chunk.not_before or now) - now)

    if not doubtful:
        wave = min(chunk.wave for chunk in unfinished)
        started = sum(chunk.state is not ChunkState.PLANNED or chunk.number in busy for chunk in unfinished)
        waiting = [chunk for chunk in idle if chunk.state is ChunkState.PLANNED and chunk.wave == wave]
        if started < in_flight:
            for chunk in waiting:
                if _ready(chunk, now):
                    return Submit(chunk.number)
                later.append((chunk.not_before or now) - now)

    polls = [(poll_due(chunk, scale), chunk) for chunk in idle if chunk.state is ChunkState.SUBMITTED]
    if polls:
        due, chunk = min(polls, key=lambda item: (item[0], item[1].number))
        if due <= now:
            return Poll(chunk.number)
        later.append(due - now)
    return Wait(min([*later, LONGEST_WAIT]))


def poll_due(chunk: Chunk, scale: float = 1.0) -> float:
    """When a submitted chunk's job is to be asked for next, in epoch seconds."""
    last = chunk.polled_at if chunk.polled_at is not None else chunk.sent_at
    return max((last or 0.0) + poll_pause(chunk.polls) * scale, chunk.not_before or 0.0)


def poll_pause(polls: int) -> float:
    """Seconds to the next poll after so many."""
    if polls >= STUCK:
        return STUCK_PAUSE
    if polls >= SLOW:
        return SLOW_PAUSE
    return PAUSES[min(polls, len(PAUSES) - 1)]


def _ready(chunk: Chunk, now: float) -> bool:
    return chunk.not_before is None or chunk.not_before <= now
