"""Carries out the scheduler's actions for all runs under way, side by side.

A thread of its own picks the actions, so that jobs are followed and requests leave while the next file is being
planned; requests travel in worker threads. For each action the thread verifies the payload and gets a token, then takes
a permit of the rate limiter and hands both to a worker. Without a permit it waits and decides again: the most urgent
action is chosen when a request may leave, not before. All decisions are made by pure functions (`scheduler`,
`job_matching`, `job_outcome`); `actions` describes what an action does.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from etl import filesystem
from etl.apply import actions, scheduler
from etl.apply.actions import ActionResult, Actions, ActionTimes
from etl.apply.circuit_breaker import CircuitBreaker
from etl.apply.import_client import ImportClient
from etl.apply.import_history import ImportHistory
from etl.apply.job_durations import JobDurations
from etl.apply.job_judge import JobJudge, ReadChunkRecords
from etl.apply.scheduler import (
    ActionHistory,
    Capacity,
    ChunkId,
    Poll,
    PollPolicy,
    ReadLog,
    ResolveUnknown,
    RunProgress,
    Submit,
    Wait,
    chunk_id,
    chunks_of,
)
from etl.config.settings import LimitSettings
from etl.connect.job_events import JobEvents
from etl.connect.rate_limiter import Permit, RateLimiter
from etl.errors import ConnectHttpError, ConnectUnreachableError, EtlError, UnforeseenError
from etl.events import EventSink
from etl.model.runs import Chunk, ChunkState, Job
from etl.shutdown import ShutdownEvent
from etl.state.ledger.facade import Ledger

#: Seconds that requests under way have at the end; the outcome of an import is unknown after that.
CLOSING_SECONDS = 5.0

#: Threads besides those of requests whose responses are awaited.
_EXTRA_THREADS = 2


@dataclass(frozen=True, slots=True)
class SendResult:
    """The end of a run in the sender: every chunk has ended, or `error` says why nothing of it can be sent now."""

    run_id: str
    error: EtlError | None = None
    affects_all_runs: bool = False  #: nothing of any run can be sent


@dataclass(slots=True)
class _ActiveRun:
    """A run whose chunks are being sent or followed."""

    id: str
    urgent: bool
    chunks: dict[int, Chunk]
    finished_jobs: dict[int, Job] = field(default_factory=dict)
    last_sent_at: float = 0.0
    result: SendResult | None = None

    def progress(self) -> RunProgress:
        return RunProgress(tuple(self.chunks.values()), self.urgent, self.last_sent_at, self.finished_jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectServices:
    """What the sender needs of Connect."""

    client: ImportClient
    rate_limiter: RateLimiter
    job_events: JobEvents = field(default_factory=JobEvents)


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderOptions:
    """Limits and times of a sender."""

    limits: LimitSettings
    #: seconds without any response, or without any change of a chunk or a job, after which all runs end with an error
    timeout: float | None = None  #: None: never
    poll_scale: float = 1.0  #: stretches the pauses between polls
    clock: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=random.Random)


class Sender:
    """All runs under way. A context: at its end requests in flight have CLOSING_SECONDS to finish."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        connect: ConnectServices,
        read_chunk_records: ReadChunkRecords,
        shutdown: ShutdownEvent,
        emit: EventSink,
        options: SenderOptions,
    ) -> None:
        limits = options.limits
        self._ledger = ledger
        self._client = connect.client
        self._rate_limiter = connect.rate_limiter
        self._capacity = Capacity(
            limits.in_flight, limits.unfinished, limits.requests, limits.per_seconds / limits.requests
        )
        self._job_durations = JobDurations(since=options.clock())
        self._shutdown = shutdown
        self._clock = options.clock
        self._poll_scale = options.poll_scale
        self._timeout = options.timeout
        self._progress_at = options.clock()
        self._circuit_breaker = CircuitBreaker(emit=emit, timeout=options.timeout, rng=options.rng)
        self._actions = Actions(
            ledger=ledger,
            client=connect.client,
            judge=JobJudge(read_chunk_records, ImportHistory(limits.trust_totals), options.poll_scale),
            times=ActionTimes(options.clock, limits.lost_answer_seconds),
            emit=emit,
            circuit_breaker=self._circuit_breaker,
        )
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._runs: dict[str, _ActiveRun] = {}
        self._results: list[SendResult] = []
        self._fatal_error: BaseException | None = None
        self._futures: dict[Future[ActionResult], tuple[Chunk, ...]] = {}
        self._history = ActionHistory()
        self._job_events = connect.job_events
        self._job_events.set_wake(self._wake.set)
        self._thread = threading.Thread(target=self._loop, name="sender")
        self.result_ready = threading.Event()  #: set when a run has ended
        for event in (self._wake, self.result_ready):
            shutdown.also_set(event)

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._wake.set()
        abort = threading.Timer(CLOSING_SECONDS, self._client.abort)
        abort.start()
        self._thread.join()
        abort.cancel()

    def add(self, run_id: str, *, urgent: bool = False) -> int:
        """Start a planned run and return the number of its unfinished requests.

        The run must not share a key with another run under way.
        """
        chunks = {chunk.number: chunk for chunk in self._ledger.chunks.list_by_run(run_id, unfinished=True)}
        with self._lock:
            self._runs[run_id] = _ActiveRun(run_id, urgent, chunks)
            self._progress_at = self._clock()
        self._wake.set()
        return len(chunks)

    def take_finished(self) -> list[SendResult]:
        """Return the runs that have ended since the last call. Raises an unexpected error of the sender's thread."""
        with self._lock:
            results, self._results = self._results, []
            if self._fatal_error is not None:
                raise self._fatal_error
        return results

    def active_runs(self) -> frozenset[str]:
        """Return the runs that have not ended, or whose results nobody has taken yet."""
        with self._lock:
            return frozenset([*self._runs, *(result.run_id for result in self._results)])

    def slow_runs(self) -> frozenset[str]:
        """Return the runs with a job that has been running for so long that no other run should wait for it."""
        with self._lock:
            return frozenset(
                run.id for run in self._runs.values() if any(scheduler.is_slow(chunk) for chunk in run.chunks.values())
            )

    # -- in the thread ------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        with self._worker_pool() as pool:
            while True:
                self._wake.clear()
                # Check the events after clearing `wake`: an event set in between must not be overwritten.
                if self._closing.is_set() or self._shutdown.is_set():
                    return
                self._stop_without_progress()
                self._collect_results()
                action = self._next_action()
                if isinstance(action, Wait):
                    self._wake.wait(action.seconds)
                elif self._is_prepared(action):
                    permit = self._rate_limiter.try_acquire()
                    if isinstance(permit, Permit):
                        self._start(pool, action, permit)
                    else:
                        self._wake.wait(min(permit, scheduler.MAX_WAIT))

    @contextlib.contextmanager
    def _worker_pool(self) -> Iterator[ThreadPoolExecutor]:
        """Open the workers; at the end requests in flight are finished. An error is stored for `take_finished`."""
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

    def _stop_without_progress(self) -> None:
        """End all runs when nothing of them has changed for as long as the caller is willing to wait."""
        now = self._clock()
        if not self._runs or self._progress_at > now or self._circuit_breaker.is_failing:
            self._progress_at = now
        if self._timeout is not None and now - self._progress_at >= self._timeout:
            self._stop_runs(_no_progress_error(self._timeout), set())

    def _next_action(self) -> scheduler.Action:
        pause = self._circuit_breaker.remaining_pause()
        if pause > 0:
            return Wait(pause)
        with self._lock:
            runs = [run.progress() for run in self._runs.values() if run.result is None]
        in_flight: set[ChunkId] = {chunk_id(chunk) for chunks in self._futures.values() for chunk in chunks}
        return scheduler.next_action(
            runs,
            self._capacity,
            self._clock(),
            in_flight,
            self._history,
            self._poll_policy(runs),
        )

    def _poll_policy(self, runs: Sequence[RunProgress]) -> PollPolicy:
        return PollPolicy(
            scale=self._poll_scale * self._job_events.poll_factor,
            max_delay=math.inf if self._timeout is None else self._timeout / 4,
            together=self._actions.poll_together,
            unlisted_jobs=self._actions.unlisted_jobs,
            jobs_with_event=self._job_events.unpolled_jobs(chunk.job_id for run in runs for chunk in run.chunks),
            usual_durations=self._job_durations.usual_durations,
        )

    def _is_prepared(self, action: scheduler.RequestAction) -> bool:
        """Return whether the action may take a permit; if not, what its failure has changed is stored."""
        try:
            with filesystem.translate_os_errors(self._ledger.state_folder):
                result = self._actions.prepare(action)
        except Exception as error:
            self._stop_runs(_as_etl_error(error), {chunk.run for chunk in chunks_of(action)})
            return False
        if result is not None:
            self._store_result(result)
        return result is None

    def _start(self, pool: ThreadPoolExecutor, action: scheduler.RequestAction, permit: Permit) -> None:
        """Hand an action and its permit to a worker."""
        if isinstance(action, Submit):
            self._runs[action.chunk.run].last_sent_at = self._clock()
        if isinstance(action, Poll):
            self._job_events.mark_polled(chunk.job_id for chunk in action.chunks)
        self._futures[pool.submit(self._execute, action, permit)] = chunks_of(action)
        self._history = scheduler.update_history(self._history, action)

    def _execute(self, action: scheduler.RequestAction, permit: Permit) -> ActionResult:
        """Carry out an action in a worker."""
        try:
            with filesystem.translate_os_errors(self._ledger.state_folder):
                match action:
                    case ResolveUnknown(chunk):
                        return self._actions.resolve_unknown(chunk, permit)
                    case Submit(chunk):
                        return self._actions.submit(chunk, permit)
                    case Poll(chunks):
                        return self._actions.poll(chunks, permit)
                    case ReadLog(chunk):
                        return self._actions.read_log(chunk, self._runs[chunk.run].finished_jobs[chunk.number], permit)
        finally:
            self._wake.set()

    def _collect_results(self) -> None:
        """Store what finished actions have changed, and report the runs that ended by it."""
        for future in [future for future in self._futures if future.done()]:
            chunks = self._futures.pop(future)
            try:
                self._store_result(future.result())
            except Exception as error:
                self._stop_runs(_as_etl_error(error), {chunk.run for chunk in chunks})
        self._finish_runs()

    def _store_result(self, result: ActionResult) -> None:
        with self._lock:
            for chunk in result.chunks:
                run = self._runs[chunk.run]
                self._note_progress(run.chunks.get(chunk.number), chunk)
                run.chunks[chunk.number] = chunk
                self._job_durations.observe_running(chunk)
                if chunk.state is not ChunkState.SUBMITTED:
                    run.finished_jobs.pop(chunk.number, None)
                if chunk.state.is_final:
                    del run.chunks[chunk.number]
            for chunk in result.reopened_jobs:
                self._runs[chunk.run].finished_jobs.pop(chunk.number, None)
            for chunk, job in result.finished_jobs:
                self._progress_at = self._clock()
                self._runs[chunk.run].finished_jobs[chunk.number] = job
                self._job_durations.observe_finished(chunk, self._clock())
                self._job_events.observe_finished(job.id)

    def _note_progress(self, before: Chunk | None, chunk: Chunk) -> None:
        """Remember when a chunk, or what its job says, has changed last."""
        if before is None or (before.state, before.job_status, before.job_counts) != (
            chunk.state,
            chunk.job_status,
            chunk.job_counts,
        ):
            self._progress_at = self._clock()

    def _stop_runs(self, error: EtlError, run_ids: set[str]) -> None:
        """End these runs with the error, or all runs when the error concerns every request."""
        affects_all_runs = isinstance(error, ConnectUnreachableError) or (
            isinstance(error, ConnectHttpError) and error.code in actions.ACCOUNT_ERROR_CODES
        )
        with self._lock:
            for run in self._runs.values():
                if run.result is None and (affects_all_runs or run.id in run_ids):
                    run.result = SendResult(run.id, error, affects_all_runs)

    def _finish_runs(self) -> None:
        """Report the runs that have ended and have no request in flight."""
        with self._lock:
            runs_in_flight = {chunk.run for chunks in self._futures.values() for chunk in chunks}
            for run in [run for run in self._runs.values() if run.id not in runs_in_flight]:
                if run.result is not None or not run.chunks:
                    del self._runs[run.id]
                    self._results.append(run.result or SendResult(run.id))
                    self.result_ready.set()


def _as_etl_error(error: Exception) -> EtlError:
    return error if isinstance(error, EtlError) else UnforeseenError(error)


def _no_progress_error(seconds: float) -> ConnectUnreachableError:
    return ConnectUnreachableError(
        "connect-no-progress",
        f"no request or job has changed for {seconds:.0f} s",
        hint="nothing is lost: the next `etl once` or `etl run` goes on where this one stopped; "
        "`etl once --wait SECONDS` waits longer",
    )
