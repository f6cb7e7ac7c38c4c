"""Runs, scheduler and rate limiter together, on a clock that is told the time: the limit is kept, used and shared."""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from etl.apply import scheduler
from etl.apply.job_durations import JobDurations
from etl.apply.scheduler import ActionHistory, Capacity, Poll, PollPolicy, ReadLog, RunProgress, Submit, Wait
from etl.config.settings import LimitSettings
from etl.connect.rate_limiter import Moment, PermitStamp, permit_wait
from etl.model.runs import Chunk, ChunkState, Run, RunState
from etl.runs import admission
from tests.support.campaign import few_or_all

LIMIT, WINDOW = 60, 60.0
ROOM = Capacity(LimitSettings().in_flight, LimitSettings().unfinished)
STOCK, PRICES = "Product/ImportOnhands", "Product/ImportSkuPriceLists"
PRODUCTS, RELATIONS, COMPETITORS = "Product/ImportProducts", "Product/ImportRelations", "Product/ImportCompetitorSkus"


@dataclass
class World:
    """Connect and one customer's process, without threads: a request takes its time, a job as well."""

    backlog: list[Run]
    chunks: dict[str, int]  #: requests of each run
    chance: random.Random
    job_seconds: tuple[float, float]
    stuck: frozenset[str] = frozenset()  #: runs whose jobs never end
    answer_seconds: tuple[float, float] = (0.05, 0.5)
    listed: bool = True  #: whether Job/List tells of jobs
    now: float = 0.0
    courses: dict[str, RunProgress] = field(default_factory=dict)  #: without their chunks
    going: dict[str, dict[int, Chunk]] = field(default_factory=dict)  #: chunks that have not ended, by number
    ends: dict[tuple[str, int], float] = field(default_factory=dict)
    left: list[float] = field(default_factory=list)  #: when each request left
    sent: list[tuple[float, str]] = field(default_factory=list)
    asked: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    closed: dict[str, float] = field(default_factory=dict)
    logs: int = 0
    questions: int = 0
    useful: int = 0  #: questions that found a job at its end
    pace: JobDurations = field(default_factory=lambda: JobDurations(0.0))

    def run(self, seconds: float) -> None:
        """Until then, or until nothing is left to do."""
        stamps: deque[PermitStamp] = deque(maxlen=LIMIT * 2)
        answers: list[tuple[float, int, scheduler.RequestAction]] = []
        turn = ActionHistory()
        while self.now < seconds and (self.backlog or self.courses):
            self._let_go()
            busy = {scheduler.chunk_id(chunk) for _, _, move in answers for chunk in chunks_of(move)}
            gate = permit_wait(stamps, self._moment(), LIMIT, WINDOW)
            action = scheduler.next_action(
                self._courses(),
                ROOM,
                self.now,
                busy,
                turn,
                PollPolicy(together=self.listed, usual_durations=self.pace.usual_durations),
            )
            if gate > 0 or isinstance(action, Wait):
                pause = max(gate, action.seconds if isinstance(action, Wait) else 0.0)
                until = min([self.now + max(pause, 0.001), *(at for at, _, _ in answers[:1])])
                self.now = max(until, self.now)
            else:
                turn = scheduler.update_history(turn, action)
                stamps.append(PermitStamp(self._moment(), True))
                self.left.append(self.now)
                self._left(action)
                answer = self.now + self.chance.uniform(*self.answer_seconds)
                heapq.heappush(answers, (answer, len(self.left), action))
            while answers and answers[0][0] <= self.now:
                self._answered(heapq.heappop(answers)[2])

    def _courses(self) -> Iterable[RunProgress]:
        return [replace(course, chunks=tuple(visible(self.going[run]))) for run, course in self.courses.items()]

    def _moment(self) -> Moment:
        return Moment("boot", self.now, self.now)

    def _let_go(self) -> None:
        slow = {run for run in self.courses if any(map(scheduler.is_slow, visible(self.going[run])))}
        going = [replace(run, state=RunState.SENDING) if run.id in self.courses else run for run in self.backlog[:50]]
        queue = sorted(going, key=lambda one: one.id not in self.courses)
        for run in admission.admit(queue, admission.FeedLinks({}), set(), slow).runs:
            if run.id not in self.courses:
                numbers = range(1, self.chunks[run.id] + 1)
                chunk = Chunk(run.id, 1, 1, run.operation, {}, Path("p"), "d", 1, 1)
                self.going[run.id] = {number: replace(chunk, number=number) for number in numbers}
                self.courses[run.id] = RunProgress((), run.operation in admission.URGENT_OPERATIONS)

    def _left(self, move: scheduler.RequestAction) -> None:
        if isinstance(move, Submit):
            self.sent.append((self.now, move.chunk.run))
            self._put(replace(move.chunk, state=ChunkState.SENDING, sent_at=self.now))
        if isinstance(move, Poll):
            for chunk in move.chunks:
                self.asked[chunk.run].append(self.now)

    def _answered(self, move: scheduler.RequestAction) -> None:
        self.logs += isinstance(move, ReadLog)
        self.questions += isinstance(move, Poll)
        self.useful += isinstance(move, Poll) and any(self._ended(chunk) for chunk in move.chunks)
        for chunk in chunks_of(move):
            known = self.going[chunk.run][chunk.number]
            if isinstance(move, Submit):
                self.ends[scheduler.chunk_id(chunk)] = (
                    float("inf") if chunk.run in self.stuck else self.now + self.chance.uniform(*self.job_seconds)
                )
                self._put(replace(known, state=ChunkState.SUBMITTED))
            elif isinstance(move, Poll) and self._ended(chunk):
                self.pace.observe_finished(chunk, self.now)
                course = self.courses[chunk.run]
                self.courses[chunk.run] = replace(course, finished_jobs={**course.finished_jobs, chunk.number: None})
            elif isinstance(move, Poll):
                looked = replace(known, polls=known.polls + 1, polled_at=self.now)
                self.pace.observe_running(looked)
                self._put(looked)
            elif isinstance(move, ReadLog):
                self._put(replace(known, state=ChunkState.ACCEPTED))

    def _ended(self, chunk: Chunk) -> bool:
        return self.ends[scheduler.chunk_id(chunk)] <= self.now

    def _put(self, chunk: Chunk) -> None:
        going = self.going[chunk.run]
        if chunk.state.is_final:
            del going[chunk.number]
        else:
            going[chunk.number] = chunk
        if chunk.state is ChunkState.SENDING:
            self.courses[chunk.run] = replace(self.courses[chunk.run], last_sent_at=chunk.sent_at or 0.0)
        if not going:
            del self.courses[chunk.run]
            self.closed[chunk.run] = self.now
            self.backlog = [run for run in self.backlog if run.id != chunk.run]


def visible(going: dict[int, Chunk]) -> Iterator[Chunk]:
    """The chunks on their way and the next ready ones: more of these than leave in two windows make no difference."""
    ready = 0
    for chunk in going.values():
        ready += chunk.state is ChunkState.READY
        if ready > 2 * LIMIT:
            return
        yield chunk


def chunks_of(move: scheduler.RequestAction) -> tuple[Chunk, ...]:
    return move.chunks if isinstance(move, Poll) else (move.chunk,)


def backlog(counts: dict[str, int]) -> list[Run]:
    """So many runs of each import, taking turns."""
    made = [
        (number / count, Run(f"{operation[-6:]}{number:05}", operation, operation, "f", "0", RunState.CLAIMED))
        for operation, count in counts.items()
        for number in range(count)
    ]
    return [run for _, run in sorted(made, key=lambda item: (item[0], item[1].id))]


def most_in_a_window(times: list[float]) -> int:
    return max(bisect_right(times, at + WINDOW - 1e-9) - n for n, at in enumerate(times))


def starts(runs: Iterable[str]) -> Counter[str]:
    return Counter(run[:6] for run in runs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(few_or_all(1, 2)))
def test_a_backlog_of_many_small_runs_uses_the_limit(seed: int) -> None:
    """An hour of runs with one to three requests each: never above the limit, at least 97 % of it used, and every
    import gets on."""
    chance = random.Random(seed)
    runs = backlog(dict.fromkeys((STOCK, PRICES, PRODUCTS, RELATIONS, COMPETITORS), 1500))
    # products that create nothing: nobody waits for them
    runs = [replace(run, state=RunState.PLANNED) if run.operation == PRODUCTS else run for run in runs]
    world = World(runs, {run.id: chance.randint(1, 3) for run in runs}, chance, (0.5, 6.0))
    world.run(3600)
    assert most_in_a_window(world.left) <= LIMIT
    assert len(world.left) >= 0.97 * 3600 / WINDOW * LIMIT
    ended = starts(world.closed)
    assert len(ended) == 5
    assert min(ended.values()) > 50
    assert ended["nhands"] > ended["ations"]


@pytest.mark.parametrize("comes", [600, 620, 640])
def test_stock_overtakes_a_long_load_of_products(comes: int) -> None:
    """Stock that comes in the middle of 700 product requests is through within a minute and a half, whenever it comes;
    the products go on."""
    load = Run("load", "pim", PRODUCTS, "f", "0", RunState.PLANNED)
    world = World([load], {"load": 700, "stock": 20}, random.Random(1), (5.0, 10.0))
    world.run(comes)
    world.backlog.append(Run("stock", "stock", STOCK, "f", "0", RunState.CLAIMED))
    world.run(900)
    assert world.closed["stock"] < comes + 90
    between = [run for at, run in world.sent if comes < at < world.closed["stock"]]
    assert between.count("load") > 0


@pytest.mark.parametrize(
    ("job_seconds", "answer_seconds"),
    [((300.0, 300.0), (0.05, 0.5)), ((240.0, 360.0), (5.0, 5.0)), ((20.0, 90.0), (5.0, 5.0)), ((0.1, 2.0), (4.0, 6.0))],
)
def test_slow_jobs_and_slow_answers_leave_the_limit_used(
    job_seconds: tuple[float, float], answer_seconds: tuple[float, float]
) -> None:
    """Half an hour of a long load whose jobs take minutes, or whose answers take seconds: at least 97 % of what the
    limit allows is imports, logs, or questions that found a job at its end; and no more than a tenth is questions."""
    load = Run("load", "pim", PRODUCTS, "f", "0", RunState.PLANNED)
    chance = random.Random(3)
    world = World([load], {"load": 1200}, chance, job_seconds, answer_seconds=answer_seconds)
    world.run(1800)
    assert most_in_a_window(world.left) <= LIMIT
    assert len(world.sent) + world.logs + world.useful >= 0.97 * 1800 / WINDOW * LIMIT
    assert world.questions <= 0.1 * len(world.left)


def test_where_no_list_helps_each_job_is_asked_for_and_the_limit_is_used() -> None:
    """Twenty minutes of it: questions take what they need, and most of them find a job at its end."""
    load = Run("load", "pim", PRODUCTS, "f", "0", RunState.PLANNED)
    world = World([load], {"load": 1000}, random.Random(4), (20.0, 40.0), listed=False)
    world.run(1200)
    assert len(world.left) >= 0.97 * 1200 / WINDOW * LIMIT
    assert world.useful >= 0.9 * world.questions


def test_a_small_run_alone_takes_few_questions() -> None:
    """Ten jobs of a minute each, with nothing else to do: their ends are seen within half of that time, and
    questions take less than a third of the limit."""
    small = Run("small", "pim", PRODUCTS, "f", "0", RunState.PLANNED)
    world = World([small], {"small": 10}, random.Random(5), (60.0, 60.0))
    world.run(600)
    assert world.closed["small"] < 90
    assert world.questions <= 20


def test_a_stuck_run_costs_next_to_nothing() -> None:
    """A run whose jobs never end keeps nobody else from the limit, and takes few questions."""
    runs = backlog(dict.fromkeys((PRICES, RELATIONS, COMPETITORS), 500))
    stuck = Run("stuck", "stock", STOCK, "f", "0", RunState.PLANNED)
    chance = random.Random(2)
    world = World(
        [stuck, *runs], {"stuck": 50, **{run.id: 2 for run in runs}}, chance, (0.5, 4.0), frozenset({"stuck"})
    )
    world.run(3600)
    assert len(world.left) >= 0.97 * 3600 / WINDOW * LIMIT
    assert sum(run == "stuck" for _, run in world.sent) == 50
    assert len(set(world.asked["stuck"])) < 180  # with the other jobs, which are asked for anyway
