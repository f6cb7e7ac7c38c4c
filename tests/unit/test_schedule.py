"""The schedule: order, barriers, room, patience and turns, on plain values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from etl import schedule
from etl.model import Chunk, ChunkState
from etl.schedule import Action, Ask, Course, Submit, Turn, Wait, after, next_action

BASE = Chunk("r", 1, 1, "Product/ImportOnhands", {}, Path("p"), "d", 1, 1)


def chunk(number: int, state: ChunkState = ChunkState.PLANNED, **more: object) -> Chunk:
    return replace(BASE, number=number, state=state, **more)  # type: ignore[arg-type]


def sent(number: int, state: ChunkState = ChunkState.SUBMITTED, **more: object) -> Chunk:
    return chunk(number, state, **{"sent_at": 0.0, **more})


def course(*chunks: Chunk, run: str = "r", **more: object) -> Course:
    return Course(tuple(replace(one, run=run) for one in chunks), **more)  # type: ignore[arg-type]


def names(action: Action) -> str:
    """`submit r1`, `ask r1 r2`, `wait 2.0`."""
    if isinstance(action, Wait):
        return f"wait {action.seconds:.1f}"
    chunks = action.chunks if isinstance(action, Ask) else (action.chunk,)
    return " ".join([type(action).__name__.lower(), *(f"{one.run}{one.number}" for one in chunks)])


def test_nothing_left_waits() -> None:
    """Without chunks there is nothing to do."""
    assert names(next_action([], 4, 0)) == "wait 60.0"
    assert names(next_action([course()], 4, 0)) == "wait 60.0"


def test_planned_chunks_leave_in_order_while_there_is_room() -> None:
    """The lowest number first, until in_flight jobs are unfinished, over all runs."""
    travelling = sent(1, sent_at=100.0)
    assert names(next_action([course(travelling, chunk(2), chunk(3))], 2, 100)) == "submit r2"
    assert names(next_action([course(travelling, chunk(2), chunk(3))], 1, 100)) == "wait 1.0"
    assert names(next_action([course(travelling), course(chunk(1), run="q")], 1, 100)) == "wait 1.0"
    assert names(next_action([course(chunk(1), chunk(2))], 2, 0, busy={("r", 1)})) == "submit r2"


def test_a_later_wave_waits_for_the_whole_earlier_one() -> None:
    """A wave is a barrier within its run, and none for another run."""
    first = sent(1)
    assert names(next_action([course(first, chunk(2, wave=2))], 4, 0.5)) == "wait 0.5"
    assert names(next_action([course(chunk(2, wave=2))], 4, 0.5)) == "submit r2"
    other = course(chunk(1, wave=2), run="q")
    assert names(next_action([course(first, chunk(2, wave=2)), other], 4, 0.5)) == "submit q1"


def test_doubt_comes_before_everything_else_that_is_sent() -> None:
    """A chunk in doubt is settled first; while that has to wait nothing of its run is sent, but jobs are asked for."""
    doubtful = sent(2, state=ChunkState.SENDING)
    assert names(next_action([course(chunk(1), doubtful)], 4, 10)) == "settle r2"
    waiting = replace(doubtful, not_before=15.0)
    assert names(next_action([course(chunk(1), waiting)], 4, 10)) == "wait 5.0"
    assert names(next_action([course(chunk(1), waiting, sent(3))], 4, 10)) == "ask r3"
    assert names(next_action([course(chunk(1), waiting), course(chunk(1), run="q")], 4, 10)) == "submit q1"


def test_sending_by_this_process_is_no_doubt() -> None:
    """A chunk whose request is on its way here is left alone."""
    travelling = course(sent(1, state=ChunkState.SENDING))
    assert names(next_action([travelling], 4, 10, busy={("r", 1)})) == "wait 60.0"


def test_the_log_of_an_ended_job_is_read_at_once() -> None:
    """Before anything is sent or asked for; when reading has failed, not before its time."""
    ended = course(sent(1), chunk(2), ended={1: None})
    assert names(next_action([ended], 4, 10)) == "read r1"
    waiting = course(sent(1, not_before=12.0), chunk(2), ended={1: None})
    assert names(next_action([waiting], 4, 10)) == "submit r2"
    assert names(next_action([waiting], 1, 10)) == "wait 2.0"


def test_postponed_chunks_wait_their_time() -> None:
    """not_before is respected for sending and asking, and others are not held up by it."""
    assert names(next_action([course(chunk(1, not_before=20.0), chunk(2))], 4, 10)) == "submit r2"
    assert names(next_action([course(chunk(1, not_before=20.0))], 4, 10)) == "wait 10.0"
    assert names(next_action([course(sent(1, not_before=30.0))], 4, 10)) == "wait 20.0"


def test_several_jobs_are_asked_for_at_once() -> None:
    """Due ones with those that soon will be; one by one, the one due longest first, where that is not offered."""
    one, two, late = sent(1, polled_at=8.0, polls=1), sent(2, sent_at=9.5), sent(3, sent_at=19.9)
    courses = [course(one, late), course(two, run="q")]
    assert names(next_action(courses, 4, 10.2)) == "ask r1 q2"
    assert names(next_action(courses, 4, 10.2, together=False)) == "ask r1"
    assert names(next_action([course(one)], 4, 10.2)) == "ask r1"


def test_sends_go_before_questions_and_never_shut_them_out() -> None:
    """A question that is due waits for in_flight sends at most, whatever becomes of them."""
    both = [course(sent(1), *(chunk(number) for number in range(2, 9)))]
    turn, seen = Turn(), []
    for _ in range(8):
        action = next_action(both, 3, 10, turn=turn)
        turn = after(turn, action)  # type: ignore[arg-type]
        seen.append(type(action))
    assert seen == [Submit, Submit, Submit, Ask] * 2


def test_stock_and_prices_go_first_and_leave_every_fourth_send_to_others() -> None:
    """Urgent runs go before others, take turns among themselves, and never shut the others out."""
    seen: list[str] = []
    last = {"p": 0.0, "q": 0.0, "u": 0.0, "v": 0.0}
    turn = Turn()
    for now in range(1, 13):
        courses = [course(chunk(1), run=run, urgent=run in "uv", sent=last[run]) for run in sorted(last)]
        action = next_action(courses, 4, now, turn=turn)
        assert isinstance(action, Submit)
        turn = after(turn, action)
        last[action.chunk.run] = float(now)
        seen.append(action.chunk.run)
    assert "".join(seen) == "uvupvuvquvup"


def test_a_job_that_runs_for_long_takes_no_room_from_others() -> None:
    """Jobs that do not end stop their own run at in_flight, and no other one."""
    stuck = course(*(sent(n, polls=schedule.LONG, polled_at=10.0) for n in (1, 2)), chunk(3))
    assert names(next_action([stuck], 2, 10)) == "wait 30.0"
    assert names(next_action([stuck, course(chunk(1), run="q")], 2, 10)) == "submit q1"
    young = course(sent(1, polls=1, polled_at=10.0), sent(2, polls=1, polled_at=10.0))
    assert names(next_action([young, course(chunk(1), run="q")], 2, 10)) == "wait 2.0"


def test_questions_grow_rarer() -> None:
    """Pauses never shrink; a stuck job costs twelve requests an hour."""
    pauses = [schedule.poll_pause(polls) for polls in range(200)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 30]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 300


CHUNKS = st.lists(
    st.tuples(st.sampled_from(ChunkState), st.integers(1, 3), st.none() | st.floats(0, 100), st.integers(0, 30)),
    max_size=8,
)


@given(runs=st.lists(CHUNKS, max_size=4), in_flight=st.integers(1, 5), now=st.floats(0, 100), turn=st.integers(0, 9))
def test_every_action_is_allowed(
    runs: list[list[tuple[ChunkState, int, float | None, int]]], in_flight: int, now: float, turn: int
) -> None:
    """Whatever the progress: only ready chunks act, never beyond in_flight, never over a wave or a doubt."""
    courses = [
        course(
            *(
                chunk(n, state, wave=wave, not_before=when, sent_at=0.0, polls=polls)
                for n, (state, wave, when, polls) in enumerate(made, 1)
                if not state.is_final
            ),
            run=str(name),
        )
        for name, made in enumerate(runs)
    ]
    action = next_action(courses, in_flight, now, turn=Turn(turn))
    if isinstance(action, Wait):
        assert 0 < action.seconds <= schedule.LONGEST_WAIT
        return
    acting = action.chunks if isinstance(action, Ask) else (action.chunk,)
    assert all((one.not_before or 0) <= now for one in acting)
    if isinstance(action, Submit):
        own = courses[int(action.chunk.run)].chunks
        assert action.chunk.state is ChunkState.PLANNED
        assert action.chunk.wave == min(one.wave for one in own)
        assert sum(one.state is not ChunkState.PLANNED for one in own) < in_flight
        assert not any(one.state is ChunkState.SENDING for one in own)
        everything = [one for run in courses for one in run.chunks]
        assert sum(one.state is not ChunkState.PLANNED and one.polls < schedule.LONG for one in everything) < in_flight


def test_a_job_that_is_said_to_have_ended_is_asked_for_at_once() -> None:
    """Unless it was put off; the others wait for their time, which is later when the pauses are stretched."""
    running = course(sent(1, job_id=7), sent(2, job_id=8))
    assert names(next_action([running], 4, 0.1, together=False, noticed={7})) == "ask r1"
    assert names(next_action([course(sent(1, job_id=7, not_before=20.0))], 4, 0.1, noticed={7})) == "wait 19.9"
    assert names(next_action([running], 4, 0.1, scale=10.0)) == "wait 9.9"
