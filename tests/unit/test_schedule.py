"""The schedule: order, barriers, room and patience, on plain values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from etl import schedule
from etl.model import Chunk, ChunkState
from etl.schedule import Done, Poll, Settle, Submit, Wait, next_action

BASE = Chunk("r", 1, 1, "Product/ImportOnhands", {}, Path("p"), "d", 1, 1)


def chunk(number: int, state: ChunkState = ChunkState.PLANNED, **more: object) -> Chunk:
    return replace(BASE, number=number, state=state, **more)  # type: ignore[arg-type]


def test_nothing_left_is_done() -> None:
    """A run whose chunks have all ended is done, and so is one without chunks."""
    assert next_action([], 4, 0) == Done()
    assert next_action([chunk(1, ChunkState.ACCEPTED), chunk(2, ChunkState.SPLIT)], 4, 0) == Done()


def test_planned_chunks_leave_in_order_while_there_is_room() -> None:
    """The lowest number first, until in_flight jobs are unfinished."""
    travelling = chunk(1, ChunkState.SUBMITTED, sent_at=100.0)
    assert next_action([travelling, chunk(2), chunk(3)], 2, 100) == Submit(2)
    assert next_action([travelling, chunk(2), chunk(3)], 1, 100) == Wait(1.0)
    assert next_action([chunk(1), chunk(2)], 2, 0, busy={1}) == Submit(2)


def test_a_later_wave_waits_for_the_whole_earlier_one() -> None:
    """A wave is a barrier: nothing of the next leaves before all of this one has ended."""
    first = chunk(1, ChunkState.SUBMITTED, sent_at=0.0)
    assert next_action([first, chunk(2, wave=2)], 4, 0.5) == Wait(0.5)
    assert next_action([chunk(1, ChunkState.FAILED), chunk(2, wave=2)], 4, 0.5) == Submit(2)


def test_doubt_comes_before_everything_else_that_is_sent() -> None:
    """A chunk in doubt is settled first; while that has to wait, jobs are polled but nothing is sent."""
    doubtful = chunk(2, ChunkState.SENDING, sent_at=0.0)
    assert next_action([chunk(1), doubtful], 4, 10) == Settle(2)
    waiting = replace(doubtful, not_before=15.0)
    assert next_action([chunk(1), waiting], 4, 10) == Wait(5.0)
    assert next_action([chunk(1), waiting, chunk(3, ChunkState.SUBMITTED, sent_at=0.0)], 4, 10) == Poll(3)


def test_sending_by_this_process_is_no_doubt() -> None:
    """A chunk whose request is on its way here is left alone."""
    assert next_action([chunk(1, ChunkState.SENDING, sent_at=0.0)], 4, 10, busy={1}) == Wait(schedule.LONGEST_WAIT)


def test_postponed_chunks_wait_their_time() -> None:
    """not_before is respected for sending and polling, and others are not held up by it."""
    assert next_action([chunk(1, not_before=20.0), chunk(2)], 4, 10) == Submit(2)
    assert next_action([chunk(1, not_before=20.0)], 4, 10) == Wait(10.0)
    assert next_action([chunk(1, ChunkState.SUBMITTED, sent_at=0.0, not_before=30.0)], 4, 10) == Wait(20.0)


def test_the_poll_due_longest_comes_first() -> None:
    """Among due polls the oldest due time wins."""
    one = chunk(1, ChunkState.SUBMITTED, sent_at=0.0, polled_at=8.0, polls=1)
    two = chunk(2, ChunkState.SUBMITTED, sent_at=7.0)
    assert next_action([one, two], 2, 20) == Poll(2)


def test_polls_grow_rarer() -> None:
    """Pauses never shrink; a stuck job costs twelve requests an hour."""
    pauses = [schedule.poll_pause(polls) for polls in range(200)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 30]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 300


@given(
    chunks=st.lists(
        st.builds(
            lambda state, wave, not_before: (state, wave, not_before),
            st.sampled_from(ChunkState),
            st.integers(1, 3),
            st.none() | st.floats(0, 100),
        ),
        max_size=12,
    ),
    in_flight=st.integers(1, 5),
    now=st.floats(0, 100),
)
def test_every_action_is_allowed(
    chunks: list[tuple[ChunkState, int, float | None]], in_flight: int, now: float
) -> None:
    """Whatever the progress: only ready chunks act, never beyond in_flight, never over a wave or a doubt."""
    made = [chunk(n, state, wave=wave, not_before=when, sent_at=0.0) for n, (state, wave, when) in enumerate(chunks, 1)]
    action = next_action(made, in_flight, now)
    unfinished = [item for item in made if not item.state.is_final]
    if isinstance(action, Done):
        assert not unfinished
        return
    if isinstance(action, Wait):
        assert 0 < action.seconds <= schedule.LONGEST_WAIT
        return
    acting = made[action.number - 1]
    assert (acting.not_before or 0) <= now
    if isinstance(action, Submit):
        assert acting.state is ChunkState.PLANNED
        assert acting.wave == min(item.wave for item in unfinished)
        assert sum(item.state is not ChunkState.PLANNED for item in unfinished) < in_flight
        assert not any(item.state is ChunkState.SENDING for item in unfinished)
