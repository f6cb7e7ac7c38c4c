"""Carries out the schedule's moves for all runs that are under way, side by side, through one gate.

A thread of its own picks the moves, so that jobs are followed and requests leave while the next file is being
planned; requests travel in worker threads. The next move is picked when the one before has passed the gate: what is
most urgent is decided when there is leave to send, not before. All decisions are made by pure functions (`schedule`,
`settle`, `verdict`); what a move does is in `moves`.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from etl import filesystem as durable
from etl.apply import actions as moves
from etl.apply import scheduler as schedule
from etl.apply.actions import OnEvent, RecordsOf, Service
from etl.apply.circuit_breaker import Breaker
from etl.apply.job_durations import Pace
from etl.apply.scheduler import Ask, Course, Place, Read, Room, Settle, Submit, Turn, Wait, place
from etl.config.settings import Limits
from etl.connect.job_events import Tidings
from etl.errors import ConnectRefused, ConnectUnreachable, EtlError
from etl.model.runs import Chunk, ChunkState, Job
from etl.shutdown import Stop
from etl.state.ledger.facade import Ledger

#: Threads besides those of requests whose answers are awaited: what waits for the gate.
_MORE_THREADS = 2


@dataclass(frozen=True, slots=True)
class Landing:
    """A run is under way no more: every chunk has ended, or `error` says why nothing of it can be sent now."""

    run: str
    error: EtlError | None = None
    everybody: bool = False  #: nothing of any run can be sent


@dataclass(slots=True)
class _Run:
    """A run under way."""

    id: str
    urgent: bool
    chunks: dict[int, Chunk]
    jobs: dict[int, Job] = field(default_factory=dict)
    sent: float = 0.0
    landing: Landing | None = None

    def course(self) -> Course:
        return Course(tuple(self.chunks.values()), self.urgent, self.sent, self.jobs)


class Flight:
    """All runs under way. Use it as a context: at its end requests in hand are finished and their answers stored."""

    def __init__(
        self,
        ledger: Ledger,
        connect: Service,
        limits: Limits,
        records_of: RecordsOf,
        stop: Stop,
        *,
        clock: Callable[[], float] = time.time,
        on_event: OnEvent = lambda *_args, **_facts: None,
        patience: float | None = None,
        rng: random.Random | None = None,
        poll_scale: float = 1.0,
        tidings: Tidings | None = None,
    ) -> None:
        """`patience`: seconds without any answer after which all runs land with ConnectUnreachable (None: never)."""
        self._ledger = ledger
        self._room = Room(limits.in_flight, limits.unfinished, limits.requests, limits.per_seconds / limits.requests)
        self._pace = Pace(since=clock())
        self._stop = stop
        self._clock = clock
        self._scale = poll_scale
        self._breaker = Breaker(on_event, patience, rng or random.Random())
        self._moves = moves.Moves(ledger, connect, records_of, clock, on_event, self._breaker)
        self._lock = threading.Lock()
        self._stir = threading.Event()
        self._over = threading.Event()
        self._runs: dict[str, _Run] = {}
        self._landed: list[Landing] = []
        self._fatal: BaseException | None = None
        self._travelling: dict[Future[moves.Done], tuple[Chunk, ...]] = {}
        self._moved = 0  # moves so far
        self._at_the_gate = 0  # the number of the move that has not passed the gate yet
        self._turn = Turn()
        self._tidings = tidings or Tidings()
        self._tidings.call(self._stir.set)
        self._thread = threading.Thread(target=self._carry, name="flight")
        self.news = threading.Event()  #: set when a run has landed
        for event in (self._stir, self.news):
            stop.wakes(event)

    def __enter__(self) -> Flight:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._stir.set()
        self._thread.join()

    def add(self, run_id: str, *, urgent: bool = False) -> int:
        """Let a planned run go; how many requests are left of it. It must share no key with another one under way."""
        chunks = {chunk.number: chunk for chunk in self._ledger.chunks(run_id, unfinished=True)}
        with self._lock:
            self._runs[run_id] = _Run(run_id, urgent, chunks)
        self._stir.set()
        return len(chunks)

    def landed(self) -> list[Landing]:
        """The runs that have landed since the last call. Raises what nobody foresaw."""
        with self._lock:
            found, self._landed = self._landed, []
            if self._fatal is not None:
                raise self._fatal
        return found

    def under_way(self) -> frozenset[str]:
        """Runs that have not landed, or whose landing nobody has heard of."""
        with self._lock:
            return frozenset([*self._runs, *(landing.run for landing in self._landed)])

    def slow(self) -> frozenset[str]:
        """Runs on whose end nobody should count: a job of theirs has been running for long."""
        with self._lock:
            return frozenset(
                run.id for run in self._runs.values() if any(schedule.is_slow(chunk) for chunk in run.chunks.values())
            )

    # -- in the thread ------------------------------------------------------------------------------------------

    def _carry(self) -> None:
        with self._pool() as pool:
            while True:
                self._stir.clear()
                if self._over.is_set() or self._stop.is_set():  # asked after clearing, so that no word is lost
                    return
                self._collect()
                action = self._next()
                if isinstance(action, Wait):
                    self._stir.wait(action.seconds)
                    continue
                self._moved += 1
                self._at_the_gate = self._moved
                future = pool.submit(self._move, action, partial(self._passed, self._moved))
                self._travelling[future] = action.chunks if isinstance(action, Ask) else (action.chunk,)
                if isinstance(action, Ask):
                    self._tidings.asked(chunk.job_id for chunk in action.chunks)
                self._turn = schedule.after(self._turn, action)

    @contextlib.contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Workers; at the end the requests in hand are finished. What goes wrong is kept for `landed`."""
        pool = ThreadPoolExecutor(max_workers=2 * self._room.in_flight + _MORE_THREADS, thread_name_prefix="upload")
        try:
            yield pool
        except BaseException as error:
            with self._lock:
                self._fatal = error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self.news.set()

    def _next(self) -> schedule.Action:
        quiet = self._breaker.quiet_for()
        if quiet > 0 or self._at_the_gate:
            return Wait(quiet or schedule.LONGEST_WAIT)
        with self._lock:
            courses = [run.course() for run in self._runs.values() if run.landing is None]
        busy: set[Place] = {place(chunk) for chunks in self._travelling.values() for chunk in chunks}
        return schedule.next_action(
            courses,
            self._room,
            self._clock(),
            busy,
            self._turn,
            scale=self._scale * self._tidings.stretch,
            together=self._moves.together,
            alone=self._moves.unlisted,
            usual=self._pace.usual,
            noticed=self._tidings.pending(chunk.job_id for course in courses for chunk in course.chunks),
        )

    def _move(self, action: schedule.Move, passed: Callable[[], None]) -> moves.Done:
        """In a worker."""
        try:
            with durable.translated(self._ledger.state):
                match action:
                    case Settle(chunk):
                        return self._moves.settle(chunk, passed)
                    case Submit(chunk):
                        self._runs[chunk.run].sent = self._clock()
                        return self._moves.submit(chunk, passed)
                    case Ask(chunks):
                        return self._moves.ask(chunks, passed)
                    case Read(chunk):
                        return self._moves.read(chunk, self._runs[chunk.run].jobs[chunk.number], passed)
        finally:
            passed()
            self._stir.set()

    def _passed(self, number: int) -> None:
        """The move has passed the gate, or needs it no more."""
        if self._at_the_gate == number:
            self._at_the_gate = 0
            self._stir.set()

    def _collect(self) -> None:
        """What the moves that have come back have changed, and which runs have landed by that."""
        for future in [future for future in self._travelling if future.done()]:
            chunks = self._travelling.pop(future)
            try:
                done = future.result()
            except EtlError as error:
                self._stopped_by(error, {chunk.run for chunk in chunks})
                continue
            with self._lock:
                for chunk in done.chunks:
                    run = self._runs[chunk.run]
                    run.chunks[chunk.number] = chunk
                    self._pace.going(chunk)
                    if chunk.state is not ChunkState.SUBMITTED:
                        run.jobs.pop(chunk.number, None)
                    if chunk.state.is_final:
                        del run.chunks[chunk.number]
                for chunk, job in done.ended:
                    self._runs[chunk.run].jobs[chunk.number] = job
                    self._pace.ended(chunk, self._clock())
                    self._tidings.ended(job.id)
        self._land()

    def _stopped_by(self, error: EtlError, runs: set[str]) -> None:
        everybody = isinstance(error, ConnectUnreachable) or (
            isinstance(error, ConnectRefused) and error.code in moves.CONCERNS_ALL
        )
        with self._lock:
            for run in self._runs.values():
                if run.landing is None and (everybody or run.id in runs):
                    run.landing = Landing(run.id, error, everybody)

    def _land(self) -> None:
        with self._lock:
            busy = {chunk.run for chunks in self._travelling.values() for chunk in chunks}
            for run in [run for run in self._runs.values() if run.id not in busy]:
                if run.landing is not None or not run.chunks:
                    del self._runs[run.id]
                    self._landed.append(run.landing or Landing(run.id))
                    self.news.set()
