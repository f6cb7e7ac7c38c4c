"""What lists of jobs are believed, over real HTTP."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from etl import events
from etl.apply.actions import MAX_UNKNOWN_POLLS, Actions, ActionTimes
from etl.apply.circuit_breaker import CircuitBreaker
from etl.apply.import_history import ImportHistory
from etl.apply.job_judge import JobJudge
from etl.model.runs import Chunk, ChunkState, JobList
from etl.sandbox import Fault
from tests.support.stage import Stage, parts, stage


class Scene:
    """Four slow jobs, a list that tells of the newest ones only, and a clock that may be set."""

    def __init__(self, on: Stage) -> None:
        self.on, self.told, self.later = on, 0, 0.0
        self.moves = Actions(
            ledger=on.ledger,
            client=on.connect,
            judge=JobJudge(on.records_of, ImportHistory()),
            times=ActionTimes(self.clock),
            emit=events.ignore,
            circuit_breaker=CircuitBreaker(emit=events.ignore, timeout=None, rng=random.Random(1), clock=self.clock),
        )
        on.sandbox.inject(Fault(kind="job_slow", delay=600.0, times=0))
        on.plan(*(parts(1 + 2 * n, 2) for n in range(4)))
        self.sent = [
            self.moves.submit(chunk, on.gate.acquire()).chunks[0] for chunk in on.ledger.chunks.list_by_run("r1")
        ]
        whole = on.connect.list_jobs
        on.connect.list_jobs = lambda permit=None: JobList(whole(permit).jobs[: self.told])  # type: ignore[method-assign]

    def clock(self) -> float:
        return time.time() + self.later

    def poll(self, chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
        return self.moves.poll(chunks, self.on.gate.acquire()).chunks

    def jobs(self, *numbers: int) -> set[int | None]:
        return {self.sent[number - 1].job_id for number in numbers}

    def looked(self) -> list[Chunk]:
        return [chunk for chunk in self.on.ledger.chunks.list_by_run("r1") if chunk.polls]


@contextmanager
def scene(tmp_path: Path) -> Iterator[Scene]:
    with stage(tmp_path) as on:
        yield Scene(on)


def test_a_list_that_is_cut_off_serves_for_what_it_tells(tmp_path: Path) -> None:
    """What it tells of has been looked at, in one step; the rest is to be asked for by itself, until it is listed."""
    with scene(tmp_path) as on:
        on.told = 2
        assert [chunk.number for chunk in on.poll(on.sent)] == [3, 4]
        assert [chunk.number for chunk in on.looked()] == [3, 4]
        assert set(on.moves.unlisted_jobs) == on.jobs(1, 2)
        assert on.moves.poll_together
        on.told = 3
        on.poll(on.looked())
        assert set(on.moves.unlisted_jobs) == on.jobs(1)


def test_a_young_job_may_be_listed_later(tmp_path: Path) -> None:
    """Asked for by itself, it is looked for in the list again; an old one is not, and lists without any job of ours
    are given up only when one of them is old."""
    with scene(tmp_path) as on:
        for _ in range(MAX_UNKNOWN_POLLS):
            on.poll(on.sent)
        assert on.moves.poll_together
        on.poll(on.sent[:1])
        assert set(on.moves.unlisted_jobs) == on.jobs(2, 3, 4)
        on.later = 30.0 + 1
        on.poll(on.sent[1:2])
        assert set(on.moves.unlisted_jobs) == on.jobs(2, 3, 4)
        for _ in range(MAX_UNKNOWN_POLLS):
            on.poll(on.sent)
        assert not on.moves.poll_together


def test_a_job_that_may_be_another_requests_is_not_adopted(tmp_path: Path) -> None:
    """Two requests of one size without an answer, and one job: nobody knows whose it is. Alone, it is the request's."""
    with stage(tmp_path) as on:
        on.sandbox.inject(Fault(kind="job_slow", delay=600.0, times=0))
        on.plan(parts(1, 2), parts(3, 2))
        moves = Actions(
            ledger=on.ledger,
            client=on.connect,
            judge=JobJudge(on.records_of, ImportHistory()),
            times=ActionTimes(time.time),
            emit=events.ignore,
            circuit_breaker=CircuitBreaker(emit=events.ignore, timeout=None, rng=random.Random(1)),
        )
        first, second = on.ledger.chunks.list_by_run("r1")
        sending = on.ledger.mark_sending(first)
        on.connect.submit(sending, on.gate.acquire())
        rival = on.ledger.mark_sending(second)
        (waiting,) = moves.resolve_unknown(sending, on.gate.acquire()).chunks
        assert waiting.job_id is None
        assert waiting.state is ChunkState.SENDING
        on.ledger.requeue(rival)
        (adopted,) = moves.resolve_unknown(waiting, on.gate.acquire()).chunks
        assert adopted.state is ChunkState.SUBMITTED
        assert adopted.job_id is not None
