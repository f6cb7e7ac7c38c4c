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

from etl import events, filesystem
from etl.apply import actions, scheduler
from etl.apply.actions import ImportClient, ReadChunkRecords
from etl.apply.circuit_breaker import CircuitBreaker
from etl.apply.job_durations import JobDurations
from etl.apply.scheduler import (
    ActionHistory,
    Capacity,
    ChunkId,
    Poll,
    ReadLog,
    ResolveUnknown,
    RunProgress,
    Submit,
    Wait,
    chunk_id,
)
from etl.config.settings import LimitSettings
from etl.connect.job_events import JobEvents
from etl.errors import ConnectHttpError, ConnectUnreachableError, EtlError
from etl.events import EventSink
from etl.model.runs import Chunk, ChunkState, Job
from etl.shutdown import ShutdownEvent
from etl.state.ledger.facade import Ledger

#: Threads besides those of requests whose answers are awaited: what waits for the gate.
_EXTRA_THREADS = 2


@dataclass(frozen=True, slots=True)
class SendResult:
    """A run is under way no more: every chunk has ended, or `error` says why nothing of it can be sent now."""

    run_id: str
    error: EtlError | None = None
    affects_all_runs: bool = False  #: nothing of any run can be sent


@dataclass(slots=True)
class _ActiveRun:
    """A run under way."""

    id: str
    urgent: bool
    chunks: dict[int, Chunk]
    finished_jobs: dict[int, Job] = field(default_factory=dict)
    last_sent_at: float = 0.0
    result: SendResult | None = None

    def progress(self) -> RunProgress:
        return RunProgress(tuple(self.chunks.values()), self.urgent, self.last_sent_at, self.finished_jobs)


class Sender:
    """All runs under way. Use it as a context: at its end requests in hand are finished and their answers stored."""

    def __init__(
        self,
        ledger: Ledger,
        client: ImportClient,
        limits: LimitSettings,
        read_chunk_records: ReadChunkRecords,
        stop: ShutdownEvent,
        *,
        clock: Callable[[], float] = time.time,
        emit: EventSink = events.ignore,
        timeout: float | None = None,
        rng: random.Random | None = None,
        poll_scale: float = 1.0,
        job_events: JobEvents | None = None,
    ) -> None:
        """`patience`: seconds without any answer after which all runs land with ConnectUnreachable (None: never)."""
        self._ledger = ledger
        self._capacity = Capacity(
            limits.in_flight, limits.unfinished, limits.requests, limits.per_seconds / limits.requests
        )
        self._job_durations = JobDurations(since=clock())
        self._stop = stop
        self._clock = clock
        self._poll_scale = poll_scale
        self._circuit_breaker = CircuitBreaker(emit, timeout, rng or random.Random())
        self._actions = actions.Actions(ledger, client, read_chunk_records, clock, emit, self._circuit_breaker)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._runs: dict[str, _ActiveRun] = {}
        self._results: list[SendResult] = []
        self._fatal_error: BaseException | None = None
        self._futures: dict[Future[actions.ActionResult], tuple[Chunk, ...]] = {}
        self._action_count = 0  # moves so far
        self._action_without_permit = 0  # the number of the move that has not passed the gate yet
        self._history = ActionHistory()
        self._job_events = job_events or JobEvents()
        self._job_events.set_wake(self._wake.set)
        self._thread = threading.Thread(target=self._loop, name="flight")
        self.result_ready = threading.Event()  #: set when a run has landed
        for event in (self._wake, self.result_ready):
            stop.also_set(event)

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def add(self, run_id: str, *, urgent: bool = False) -> int:
        """Let a planned run go; how many requests are left of it. It must share no key with another one under way."""
        chunks = {chunk.number: chunk for chunk in self._ledger.list_chunks(run_id, unfinished=True)}
        with self._lock:
            self._runs[run_id] = _ActiveRun(run_id, urgent, chunks)
        self._wake.set()
        return len(chunks)

    def take_finished(self) -> list[SendResult]:
        """The runs that have landed since the last call. Raises what nobody foresaw."""
        with self._lock:
            found, self._results = self._results, []
            if self._fatal_error is not None:
                raise self._fatal_error
        return found

    def active_runs(self) -> frozenset[str]:
        """Runs that have not landed, or whose landing nobody has heard of."""
        with self._lock:
            return frozenset([*self._runs, *(landing.run_id for landing in self._results)])

    def slow_runs(self) -> frozenset[str]:
        """Runs on whose end nobody should count: a job of theirs has been running for long."""
        with self._lock:
            return frozenset(
                run.id for run in self._runs.values() if any(scheduler.is_slow(chunk) for chunk in run.chunks.values())
            )

    # -- in the thread ------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        with self._worker_pool() as pool:
            while True:
                self._wake.clear()
                if self._closing.is_set() or self._stop.is_set():  # asked after clearing, so that no word is lost
                    return
                self._collect_results()
                action = self._next_action()
                if isinstance(action, Wait):
                    self._wake.wait(action.seconds)
                    continue
                self._action_count += 1
                self._action_without_permit = self._action_count
                future = pool.submit(self._execute, action, partial(self._note_permit, self._action_count))
                self._futures[future] = action.chunks if isinstance(action, Poll) else (action.chunk,)
                if isinstance(action, Poll):
                    self._job_events.mark_polled(chunk.job_id for chunk in action.chunks)
                self._history = scheduler.update_history(self._history, action)

    @contextlib.contextmanager
    def _worker_pool(self) -> Iterator[ThreadPoolExecutor]:
        """Workers; at the end the requests in hand are finished. What goes wrong is kept for `landed`."""
        pool = ThreadPoolExecutor(
            max_workers=2 * self._capacity.in_flight + _EXTRA_THREADS, thread_name_prefix="upload"
        )
        try:
            yield pool
        except BaseException as error:
            with self._lock:
                self._fatal_error = error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self.result_ready.set()

    def _next_action(self) -> scheduler.Action:
        quiet = self._circuit_breaker.remaining_pause()
        if quiet > 0 or self._action_without_permit:
            return Wait(quiet or scheduler.MAX_WAIT)
        with self._lock:
            courses = [run.progress() for run in self._runs.values() if run.result is None]
        busy: set[ChunkId] = {chunk_id(chunk) for chunks in self._futures.values() for chunk in chunks}
        return scheduler.next_action(
            courses,
            self._capacity,
            self._clock(),
            busy,
            self._history,
            poll_scale=self._poll_scale * self._job_events.poll_factor,
            poll_together=self._actions.poll_together,
            unlisted_jobs=self._actions.unlisted_jobs,
            usual_durations=self._job_durations.usual_durations,
            jobs_with_event=self._job_events.unpolled_jobs(
                chunk.job_id for course in courses for chunk in course.chunks
            ),
        )

    def _execute(self, action: scheduler.RequestAction, on_permit: Callable[[], None]) -> actions.ActionResult:
        """In a worker."""
        try:
            with filesystem.translate_os_errors(self._ledger.state_folder):
                match action:
                    case ResolveUnknown(chunk):
                        return self._actions.resolve_unknown(chunk, on_permit)
                    case Submit(chunk):
                        self._runs[chunk.run].last_sent_at = self._clock()
                        return self._actions.submit(chunk, on_permit)
                    case Poll(chunks):
                        return self._actions.poll(chunks, on_permit)
                    case ReadLog(chunk):
                        return self._actions.read_log(
                            chunk, self._runs[chunk.run].finished_jobs[chunk.number], on_permit
                        )
        finally:
            on_permit()
            self._wake.set()

    def _note_permit(self, action_number: int) -> None:
        """The move has passed the gate, or needs it no more."""
        if self._action_without_permit == action_number:
            self._action_without_permit = 0
            self._wake.set()

    def _collect_results(self) -> None:
        """What the moves that have come back have changed, and which runs have landed by that."""
        for future in [future for future in self._futures if future.done()]:
            chunks = self._futures.pop(future)
            try:
                done = future.result()
            except EtlError as error:
                self._stop_runs(error, {chunk.run for chunk in chunks})
                continue
            with self._lock:
                for chunk in done.chunks:
                    run = self._runs[chunk.run]
                    run.chunks[chunk.number] = chunk
                    self._job_durations.observe_running(chunk)
                    if chunk.state is not ChunkState.SUBMITTED:
                        run.finished_jobs.pop(chunk.number, None)
                    if chunk.state.is_final:
                        del run.chunks[chunk.number]
                for chunk, job in done.finished_jobs:
                    self._runs[chunk.run].finished_jobs[chunk.number] = job
                    self._job_durations.observe_finished(chunk, self._clock())
                    self._job_events.observe_finished(job.id)
        self._finish_runs()

    def _stop_runs(self, error: EtlError, run_ids: set[str]) -> None:
        everybody = isinstance(error, ConnectUnreachableError) or (
            isinstance(error, ConnectHttpError) and error.code in actions.ACCOUNT_ERROR_CODES
        )
        with self._lock:
            for run in self._runs.values():
                if run.result is None and (everybody or run.id in run_ids):
                    run.result = SendResult(run.id, error, everybody)

    def _finish_runs(self) -> None:
        with self._lock:
            busy = {chunk.run for chunks in self._futures.values() for chunk in chunks}
            for run in [run for run in self._runs.values() if run.id not in busy]:
                if run.result is not None or not run.chunks:
                    del self._runs[run.id]
                    self._results.append(run.result or SendResult(run.id))
                    self.result_ready.set()
