"""The schedule: order, barriers, room, patience and turns, on plain values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from etl.apply import scheduler
from etl.apply.scheduler import (
    Action,
    ActionHistory,
    Capacity,
    Poll,
    PollPolicy,
    ReadLog,
    ResolveUnknown,
    RunProgress,
    Submit,
    Wait,
    next_action,
    update_history,
)
from etl.model.runs import Chunk, ChunkState

WIDE = Capacity(in_flight=4, unfinished=100)
VERBS = {Submit: "submit", Poll: "poll", ReadLog: "read", ResolveUnknown: "resolve"}
BASE = Chunk("r", 1, 1, "Product/ImportOnhands", {}, Path("p"), "d", 1, 1)


def chunk(number: int, state: ChunkState = ChunkState.READY, **more: object) -> Chunk:
    return replace(BASE, number=number, state=state, **more)  # type: ignore[arg-type]


def sent(number: int, state: ChunkState = ChunkState.SUBMITTED, **more: object) -> Chunk:
    return chunk(number, state, **{"sent_at": 0.0, **more})


def course(*chunks: Chunk, run: str = "r", **more: object) -> RunProgress:
    return RunProgress(tuple(replace(one, run=run) for one in chunks), **more)  # type: ignore[arg-type]


def names(action: Action) -> str:
    """`submit r1`, `poll r1 r2`, `wait 2.0`."""
    if isinstance(action, Wait):
        return f"wait {action.seconds:.1f}"
    chunks = action.chunks if isinstance(action, Poll) else (action.chunk,)
    return " ".join([VERBS[type(action)], *(f"{one.run}{one.number}" for one in chunks)])


def test_nothing_left_waits() -> None:
    """Without chunks there is nothing to do."""
    assert names(next_action([], WIDE, 0)) == "wait 60.0"
    assert names(next_action([course()], WIDE, 0)) == "wait 60.0"


def test_planned_chunks_leave_in_order_while_there_is_room() -> None:
    """The lowest number first, until so many jobs are unfinished, over all runs."""
    travelling = sent(1, sent_at=100.0)
    assert names(next_action([course(travelling, chunk(2), chunk(3))], Capacity(4, 2), 100)) == "submit r2"
    assert names(next_action([course(travelling, chunk(2), chunk(3))], Capacity(4, 1), 100)) == "wait 0.2"
    assert names(next_action([course(travelling), course(chunk(1), run="q")], Capacity(4, 1), 100)) == "wait 0.2"


def test_so_many_imports_may_be_without_an_answer() -> None:
    """Answers that take long hold up no more than that; what has been answered takes no such room."""
    leaving = course(*(chunk(number) for number in range(1, 5)))
    assert names(next_action([leaving], Capacity(2, 100), 0, busy={("r", 1)})) == "submit r2"
    assert names(next_action([leaving], Capacity(2, 100), 0, busy={("r", 1), ("r", 2)})) == "wait 60.0"
    answered = course(*(sent(number, sent_at=100.0) for number in range(1, 9)), chunk(9))
    assert names(next_action([answered], Capacity(2, 100), 100)) == "submit r9"


def test_questions_without_an_answer_hold_up_questions_only() -> None:
    """As many as imports; a common question is one, however many jobs it is about."""
    jobs = [course(*(sent(number) for number in range(1, 5)), chunk(5), finished_jobs={1: None, 2: None, 3: None})]
    logs = {("r", 1), ("r", 2)}
    assert names(next_action(jobs, Capacity(3, 100), 10, busy=logs)) == "read r3"
    assert names(next_action(jobs, Capacity(2, 100), 10, busy=logs)) == "submit r5"
    common = [course(*(sent(number) for number in range(1, 5)))]
    asked = {("r", 1), ("r", 2), ("r", 3)}
    assert names(next_action(common, Capacity(2, 100), 10, busy=asked)) == "poll r4"
    assert (
        names(next_action(common, Capacity(2, 100), 10, busy=asked, policy=PollPolicy(together=False))) == "wait 60.0"
    )


def test_a_later_wave_waits_for_the_whole_earlier_one() -> None:
    """A wave is a barrier within its run, and none for another run."""
    first = sent(1)
    assert names(next_action([course(first, chunk(2, wave=2))], WIDE, 0.125)) == "wait 0.1"
    assert names(next_action([course(chunk(2, wave=2))], WIDE, 0.125)) == "submit r2"
    other = course(chunk(1, wave=2), run="q")
    assert names(next_action([course(first, chunk(2, wave=2)), other], WIDE, 0.125)) == "submit q1"


def test_unknown_outcomes_come_before_everything_else_that_is_sent() -> None:
    """An unknown outcome is resolved first; while it waits, other chunks of its wave are sent: they have other keys."""
    doubtful = sent(2, state=ChunkState.SENDING)
    assert names(next_action([course(chunk(1), doubtful)], WIDE, 10)) == "resolve r2"
    waiting = replace(doubtful, retry_after=15.0)
    assert names(next_action([course(chunk(1), waiting)], WIDE, 10)) == "submit r1"
    assert names(next_action([course(replace(chunk(1), wave=2), waiting)], WIDE, 10)) == "wait 5.0"
    assert names(next_action([course(waiting, sent(3))], WIDE, 10)) == "poll r3"


def test_a_request_of_this_process_has_no_unknown_outcome() -> None:
    """A chunk whose request is on its way here is left alone."""
    travelling = course(sent(1, state=ChunkState.SENDING))
    assert names(next_action([travelling], WIDE, 10, busy={("r", 1)})) == "wait 60.0"


def test_the_log_of_an_ended_job_is_read_at_once() -> None:
    """Before anything is sent or asked for; when reading has failed, not before its time."""
    ended = course(sent(1), chunk(2), finished_jobs={1: None})
    assert names(next_action([ended], WIDE, 10)) == "read r1"
    waiting = course(sent(1, retry_after=12.0), chunk(2), finished_jobs={1: None})
    assert names(next_action([waiting], WIDE, 10)) == "submit r2"
    assert names(next_action([waiting], Capacity(4, 1), 10)) == "wait 2.0"


def test_postponed_chunks_wait_their_time() -> None:
    """retry_after is respected for sending and asking, and others are not held up by it."""
    assert names(next_action([course(chunk(1, retry_after=20.0), chunk(2))], WIDE, 10)) == "submit r2"
    assert names(next_action([course(chunk(1, retry_after=20.0))], WIDE, 10)) == "wait 10.0"
    assert names(next_action([course(sent(1, retry_after=30.0))], WIDE, 10)) == "wait 20.0"


def test_stamps_of_a_clock_that_was_set_back_hold_nothing_up() -> None:
    """What was sent, asked for or put off at a time that has not come yet is due; a minute's pause is kept."""
    hours = 7200.0
    assert names(next_action([course(sent(1, sent_at=hours))], WIDE, 10)) == "poll r1"
    assert names(next_action([course(sent(1, polled_at=hours, polls=30))], WIDE, 10)) == "poll r1"
    assert names(next_action([course(sent(1, sent_at=hours, retry_after=hours))], WIDE, 10)) == "poll r1"
    assert names(next_action([course(chunk(1, retry_after=hours))], WIDE, 10)) == "submit r1"
    assert names(next_action([course(sent(1, state=ChunkState.SENDING, retry_after=hours))], WIDE, 10)) == "resolve r1"
    assert names(next_action([course(chunk(1, retry_after=70.0))], WIDE, 10)) == "wait 60.0"


def test_several_jobs_are_asked_for_at_once() -> None:
    """Due ones with those a third of whose pause is over; without a list the one due longest."""
    one, two, late = sent(1, polled_at=8.0, polls=4), sent(2, polled_at=9.0, polls=4), sent(3, sent_at=10.1)
    courses = [course(one, late), course(two, run="q")]  # pauses of 2, 2 and 0.25 seconds
    assert names(next_action(courses, WIDE, 10.1)) == "poll r1 q2"
    earlier = [course(one), course(two, run="q")]
    assert names(next_action(earlier, WIDE, 10.0)) == "poll r1 q2"
    assert names(next_action(earlier, WIDE, 9.9)) == "wait 0.1"
    assert names(next_action(courses, WIDE, 10.1, policy=PollPolicy(together=False))) == "poll r1"
    assert names(next_action([course(one)], WIDE, 10.1)) == "poll r1"
    soon = [course(one, replace(two, polled_at=9.6))]
    assert names(next_action(soon, WIDE, 10.1)) == "poll r1"


def test_a_job_that_is_not_listed_is_asked_for_by_itself() -> None:
    """In its turn, and never with the others."""
    courses = [course(sent(1, job_id=7), sent(2, job_id=8, sent_at=1.0), sent(3, job_id=9, sent_at=1.0))]
    assert names(next_action(courses, WIDE, 10, policy=PollPolicy(unlisted_jobs={7}))) == "poll r1"
    assert names(next_action(courses, WIDE, 10, policy=PollPolicy(unlisted_jobs={8}))) == "poll r1 r3"
    assert names(next_action(courses, WIDE, 10, policy=PollPolicy(unlisted_jobs={7, 8, 9}))) == "poll r1"


def turns(courses: list[RunProgress], count: int, **more: object) -> list[type]:
    """What so many moves in a row are, if none of them changes anything."""
    turn, seen = ActionHistory(), []
    for _ in range(count):
        action = next_action(courses, WIDE, 10, history=turn, **more)  # type: ignore[arg-type]
        turn = update_history(turn, action)  # type: ignore[arg-type]
        seen.append(type(action))
    return seen


def test_sends_and_logs_go_before_questions_and_never_shut_them_out() -> None:
    """A question that is due waits for so many of them at most; for fewer where each job needs one of its own."""
    both = [course(sent(1), sent(2), *(chunk(number) for number in range(3, 9)))]
    assert turns(both, 34) == ([Submit] * 16 + [Poll]) * 2
    assert turns(both, 6, policy=PollPolicy(together=False)) == [Submit, Submit, Poll] * 2
    reading = [course(sent(1), sent(2), sent(3), finished_jobs={2: None})]
    assert turns(reading, 17) == [ReadLog] * 16 + [Poll]


def test_sends_and_logs_take_turns() -> None:
    """Neither a backlog of logs nor one of imports stops the other."""
    assert turns([course(sent(1), sent(2), chunk(3), finished_jobs={1: None, 2: None})], 4) == [ReadLog, Submit] * 2


def test_logs_of_urgent_runs_are_read_first() -> None:
    """What waits for the end of a stock run is in a hurry as well."""
    courses = [course(sent(1), finished_jobs={1: None}), course(sent(1), run="u", urgent=True, finished_jobs={1: None})]
    assert names(next_action(courses, WIDE, 10)) == "read u1"


def test_stock_and_prices_go_first_and_leave_every_fourth_send_to_others() -> None:
    """Urgent runs go before others, take turns among themselves, and never shut the others out."""
    seen: list[str] = []
    last = {"p": 0.0, "q": 0.0, "u": 0.0, "v": 0.0}
    turn = ActionHistory()
    for now in range(1, 13):
        courses = [course(chunk(1), run=run, urgent=run in "uv", last_sent_at=last[run]) for run in sorted(last)]
        action = next_action(courses, WIDE, now, history=turn)
        assert isinstance(action, Submit)
        turn = update_history(turn, action)
        last[action.chunk.run] = float(now)
        seen.append(action.chunk.run)
    assert "".join(seen) == "uvupvuvquvup"


def test_a_job_that_runs_for_long_takes_no_room_from_others() -> None:
    """Jobs that do not end stop their own run, and no other one."""
    stuck = course(*(sent(n, polls=scheduler.LONG_RUNNING_POLLS, polled_at=10.0) for n in (1, 2)), chunk(3))
    assert names(next_action([stuck], Capacity(4, 2), 10)) == "wait 30.0"
    assert names(next_action([stuck, course(chunk(1), run="q")], Capacity(4, 2), 10)) == "submit q1"
    young = course(sent(1, polls=1, polled_at=10.0), sent(2, polls=1, polled_at=10.0))
    assert names(next_action([young, course(chunk(1), run="q")], Capacity(4, 2), 10)) == "wait 0.2"


def test_a_long_backlog_leaves_evenly() -> None:
    """More than a minute's worth of imports leaves one by one at the rate of the limit; urgent ones, logs and less than
    a minute's worth leave at once. A last import that the clock puts in the future holds nothing up."""
    room = Capacity(4, 100, request_limit=3, request_spacing=2.0)
    backlog = [chunk(number) for number in range(2, 6)]
    load = course(*backlog, last_sent_at=9.5)
    assert names(next_action([load], room, 10)) == "wait 1.5"
    assert names(next_action([load], room, 11.5)) == "submit r2"
    assert names(next_action([course(*backlog[:3], last_sent_at=9.5)], room, 10)) == "submit r2"
    assert names(next_action([load, course(chunk(1), run="u", urgent=True, last_sent_at=9.9)], room, 10)) == "submit u1"
    assert names(next_action([load, course(sent(1), run="q", finished_jobs={1: None})], room, 10)) == "read q1"
    assert names(next_action([course(*backlog, last_sent_at=99.0)], room, 10)) == "submit r2"


def test_urgent_runs_find_room_whatever_others_have_under_way() -> None:
    """A long load of products keeps no stock waiting; stock keeps products waiting, and other stock."""
    load = course(sent(1, sent_at=10.0), sent(2, sent_at=10.0), chunk(3))
    stock = course(chunk(1), run="u", urgent=True)
    assert names(next_action([load, stock], Capacity(4, 2), 10)) == "submit u1"
    full = course(sent(1, sent_at=10.0), sent(2, sent_at=10.0), run="v", urgent=True)
    assert names(next_action([full, stock], Capacity(4, 2), 10)) == "wait 0.2"
    assert names(next_action([full, course(chunk(1))], Capacity(4, 2), 10)) == "wait 0.2"


def test_questions_grow_rarer() -> None:
    """Pauses never shrink; a stuck job costs twelve requests an hour."""
    pauses = [scheduler.poll_delay(polls) for polls in range(200)]
    assert pauses[:9] == [0.25, 0.25, 0.5, 1, 2, 4, 8, 16, 30]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 300


def test_the_first_question_comes_about_when_such_jobs_usually_end() -> None:
    """Somewhat before; the second one soon after that, then rarer; within bounds however quick or slow they are."""
    assert [scheduler.poll_delay(polls, 10.0) for polls in range(6)] == [8, 2.5, 5, 10, 20, 30]
    assert scheduler.poll_delay(0, 0.001) == scheduler.poll_delay(1, 0.001) == 0.1
    assert scheduler.poll_delay(0, 3600) == scheduler.poll_delay(1, 3600) == 30
    assert [scheduler.poll_delay(polls, 10.0) for polls in (scheduler.SLOW_POLLS, scheduler.STUCK_POLLS)] == [60, 300]
    running = [course(sent(1, sent_at=0.0))]
    assert names(next_action(running, WIDE, 7, policy=PollPolicy(usual_durations={BASE.operation: 10.0}))) == "wait 1.0"
    assert (
        names(next_action(running, WIDE, 7, policy=PollPolicy(usual_durations={"Product/ImportProducts": 10.0})))
        == "poll r1"
    )


CHUNKS = st.lists(
    st.tuples(st.sampled_from(ChunkState), st.integers(1, 3), st.none() | st.floats(0, 100), st.integers(0, 30)),
    max_size=8,
)


@given(
    runs=st.lists(CHUNKS, max_size=4),
    most=st.integers(1, 5),
    now=st.floats(0, 100),
    turn=st.integers(0, 20),
    read=st.booleans(),
)
def test_every_action_is_allowed(
    runs: list[list[tuple[ChunkState, int, float | None, int]]], most: int, now: float, turn: int, read: bool
) -> None:
    """Whatever the progress: only ready chunks act, never beyond the room, never over a wave or a doubt."""
    courses = [
        course(
            *(
                chunk(n, state, wave=wave, retry_after=when, sent_at=0.0, polls=polls)
                for n, (state, wave, when, polls) in enumerate(made, 1)
                if not state.is_final
            ),
            run=str(name),
        )
        for name, made in enumerate(runs)
    ]
    action = next_action(courses, Capacity(4, most), now, history=ActionHistory(turn, last_was_log_read=read))
    if isinstance(action, Wait):
        assert 0 < action.seconds <= scheduler.MAX_WAIT
        return
    acting = action.chunks if isinstance(action, Poll) else (action.chunk,)
    assert not any(now < (one.retry_after or 0) <= now + scheduler.MAX_WAIT for one in acting)
    if isinstance(action, Submit):
        own = courses[int(action.chunk.run)].chunks
        assert action.chunk.state is ChunkState.READY
        assert action.chunk.wave == min(one.wave for one in own)
        assert sum(one.state is not ChunkState.READY for one in own) < most
        assert not any(one.state is ChunkState.SENDING for one in own)
        everything = [one for run in courses for one in run.chunks]
        assert (
            sum(one.state is not ChunkState.READY and one.polls < scheduler.LONG_RUNNING_POLLS for one in everything)
            < most
        )


def test_a_job_that_is_said_to_have_ended_is_asked_for_at_once() -> None:
    """Unless it was put off; the others wait for their time, which is later when the pauses are stretched."""
    running = course(sent(1, job_id=7), sent(2, job_id=8))
    assert names(next_action([running], WIDE, 0.1, policy=PollPolicy(together=False, jobs_with_event={7}))) == "poll r1"
    assert (
        names(
            next_action(
                [course(sent(1, job_id=7, retry_after=20.0))], WIDE, 0.1, policy=PollPolicy(jobs_with_event={7})
            )
        )
        == "wait 19.9"
    )
    assert names(next_action([running], WIDE, 0.1, policy=PollPolicy(scale=10.0))) == "wait 2.4"
