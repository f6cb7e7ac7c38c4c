"""Carries out the schedule's moves for one run: send, settle, poll, judge.

The order of writes, by the numbers of the crash table in ARCHITECTURE.md: 3 the chunk is marked *sending* after the
gate let it in and before its first byte leaves; 4 the POST is answered; 5 the job's id is stored; 6 the job has
ended and its log is read; 7 the chunk is closed and *accepted* moves, in one ledger transaction. Every step stands
alone: stop after any of them, and `carry_out` goes on from what the ledger says.

Requests travel in worker threads, so that the next chunk can leave while one is on its way; all decisions are made
by pure functions (`schedule`, `settle`, `verdict`).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

from etl import contract, cut, schedule, settle, verdict
from etl.answer import RateLimited, TooLarge
from etl.config import Limits
from etl.errors import ConnectError, ConnectRefused, ConnectUnreachable, Defect, OutcomeUnknown
from etl.gate import Stopped
from etl.ledger import Ledger
from etl.model import Chunk, ChunkState, Job, LogRow, Refusal, Submission
from etl.trace import ERROR, Traced, TracedRecord, trace

#: Gives the records of a chunk in the order of its payload; called only when a log has complaints.
RecordsOf = Callable[[Chunk], Sequence[TracedRecord]]

#: Told what happened: an event name and facts without cell values.
OnEvent = Callable[..., None]

#: Seconds of the first pause after a failed exchange, and of the longest; doubled in between, with jitter.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0

#: A request that Connect answers with errors so often, while it answers others, is given up.
MOST_ATTEMPTS = 12

#: A job that Connect does not know any more is asked for so often before its chunk is sent again.
MOST_UNKNOWN = 3

#: A planned chunk is halved so often in search of unnamed bad records (some ten of them in 1000); then what is left
#: of it fails, because finding more would use up the budget of everybody else.
MOST_HALVES = 100

#: Refusals that concern every request, not this one: the run stays as it is until the operator has acted.
_CONCERNS_ALL = frozenset(
    {
        "connect-credentials",
        "connect-unauthorized",
        "connect-forbidden",
        "connect-not-found",
        "connect-moved",
        "connect-address",
    }
)


class Service(Protocol):
    """What is needed of `connect.Connect`."""

    def submit(self, chunk: Chunk, leaving: Callable[[], None]) -> Submission: ...

    def job(self, job_id: int) -> Job: ...

    def log(self, job_id: int) -> tuple[LogRow, ...]: ...

    def jobs(self) -> tuple[Job, ...]: ...


def carry_out(
    run_id: str,
    ledger: Ledger,
    connect: Service,
    limits: Limits,
    records_of: RecordsOf,
    stop: threading.Event,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] | None = None,
    on_event: OnEvent = lambda *_args, **_facts: None,
    patience: float | None = None,
    rng: random.Random | None = None,
    poll_scale: float = 1.0,
) -> bool:
    """Bring every chunk of the run to its end. True when all have ended, False when stopped before.

    `patience`: seconds without any answer after which ConnectUnreachable is raised (None: never). Raises
    ConnectRefused when nothing of the run can be sent; whatever is raised, the run can be continued later.
    """
    work = _Work(ledger, connect, records_of, clock, on_event, patience, rng or random.Random(), limits)
    pause = sleep or stop.wait
    on_the_way: dict[int, Future[None]] = {}
    pool = ThreadPoolExecutor(max_workers=limits.in_flight + 1, thread_name_prefix="upload")
    try:
        while True:
            for number in [number for number, future in on_the_way.items() if future.done()]:
                on_the_way.pop(number).result()
            if stop.is_set():
                return False
            chunks = ledger.chunks(run_id, unfinished=True)
            action = schedule.next_action(chunks, limits.in_flight, clock(), on_the_way, scale=poll_scale)
            quiet = work.quiet_for()
            if isinstance(action, schedule.Done):
                return True
            if isinstance(action, schedule.Wait) or quiet > 0:
                seconds = max(quiet, action.seconds if isinstance(action, schedule.Wait) else 0.0)
                if on_the_way:
                    wait(on_the_way.values(), timeout=min(seconds, 0.5), return_when=FIRST_COMPLETED)
                else:
                    pause(max(seconds, 0.001))
                continue
            chunk = next(chunk for chunk in chunks if chunk.number == action.number)
            move = {schedule.Settle: work.settle, schedule.Submit: work.submit, schedule.Poll: work.poll}[type(action)]
            on_the_way[chunk.number] = pool.submit(move, chunk)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # the request in hand is finished and its answer stored


class _Work:
    """The moves. Each ends with one ledger step; failures of the network end with a postponement."""

    def __init__(
        self,
        ledger: Ledger,
        connect: Service,
        records_of: RecordsOf,
        clock: Callable[[], float],
        on_event: OnEvent,
        patience: float | None,
        rng: random.Random,
        limits: Limits,
    ) -> None:
        self._ledger = ledger
        self._connect = connect
        self._records_of = records_of
        self._clock = clock
        self._tell = on_event
        self._patience = patience
        self._rng = rng
        self._limits = limits
        self._lock = threading.Lock()
        self._failures = 0
        self._silent_since: float | None = None
        self._quiet_until = 0.0
        self._unknown_asked: dict[int, int] = {}

    def quiet_for(self) -> float:
        """Seconds for which nothing is tried, because nothing has been getting through."""
        with self._lock:
            return max(0.0, self._quiet_until - self._clock())

    # -- moves --------------------------------------------------------------------------------------------------

    def submit(self, chunk: Chunk) -> None:
        """Send a planned chunk."""
        marked = chunk

        def leaving() -> None:
            nonlocal marked
            marked = self._ledger.sending(marked)

        try:
            submission = self._connect.submit(chunk, leaving)
        except Stopped:
            return
        except RateLimited as error:
            self._answered()
            self._ledger.unsent(marked, self._clock() + error.delay, error.message)
            self._tell("request_limited", chunk=chunk.number, seconds=round(error.delay, 1))
        except TooLarge as error:
            self._answered()
            self._ledger.learn_size_limit(chunk.operation, error.size)
            self._halve(marked, error.message)
        except OutcomeUnknown as error:
            self._tell("outcome_unknown", chunk=chunk.number, reason=error.message)
            self._ledger.postpone(marked, self._failed(error), error.message)
        except ConnectUnreachable as error:
            self._ledger.unsent(marked, self._failed(error), error.message)
        except ConnectRefused as error:
            self._refused(marked, error)
        else:
            self._answered()
            self._ledger.submitted(marked, submission)
            self._tell("chunk_submitted", chunk=chunk.number, job=submission.job_id, records=chunk.records)

    def settle(self, chunk: Chunk) -> None:
        """Find out what became of a request without an answer, else let it go again."""
        try:
            jobs = self._connect.jobs()
        except Stopped:
            return
        except RateLimited as error:
            self._answered()
            self._ledger.postpone(chunk, self._clock() + error.delay, error.message)
            return
        except ConnectRefused as error:
            if error.code in _CONCERNS_ALL and error.code != "connect-not-found":
                raise
            jobs = ()  # the list is not offered here
        except ConnectUnreachable as error:
            self._ledger.postpone(chunk, self._failed(error), error.message)
            return
        self._answered()
        # Rivals are looked for before the known ids: an answer stored in between makes its job known.
        rivals = self._ledger.has_rivals(chunk)
        known = self._ledger.jobs_known([job.id for job in jobs])
        found = None if rivals else settle.fitting_job(chunk, jobs, known)
        if found is not None:
            self._ledger.submitted(chunk, Submission(found.id), settled="adopted")
            self._tell("doubt_settled", chunk=chunk.number, how="adopted", job=found.id)
        elif chunk.attempts >= MOST_ATTEMPTS:
            self._fail(chunk, f"sent {chunk.attempts} times without a usable answer: {chunk.error or 'no answer'}")
        else:
            self._ledger.unsent(chunk, settled="sent again")
            self._tell("doubt_settled", chunk=chunk.number, how="sent again")

    def poll(self, chunk: Chunk) -> None:
        """Ask for the job; when it has ended, read its log and close the chunk."""
        if chunk.job_id is None:
            raise Defect(f"chunk {chunk.number} of run {chunk.run} waits for a job without an id")
        try:
            job = self._connect.job(chunk.job_id)
            log = self._connect.log(chunk.job_id) if job.finished else ()
        except Stopped:
            return
        except RateLimited as error:
            self._answered()
            self._ledger.postpone(chunk, self._clock() + error.delay, error.message)
        except ConnectRefused as error:
            if error.code != "connect-job-unknown":
                raise
            self._answered()
            self._job_lost(chunk, error)
        except ConnectError as error:
            self._ledger.postpone(chunk, self._failed(error), error.message)
        else:
            self._answered()
            if job.finished:
                self._end(chunk, job, log)
            else:
                self._ledger.polled(chunk, job)

    # -- ends ---------------------------------------------------------------------------------------------------

    def _end(self, chunk: Chunk, job: Job, log: tuple[LogRow, ...]) -> None:
        facts = {"chunk": chunk.number, "job": job.id, "status": job.status, "failed": job.failed}
        match verdict.reach(chunk, job, log, lambda rows: self._trace(chunk, rows), lambda: self._alone(chunk)):
            case verdict.Accept(refusals, untraced):
                self._ledger.accept(chunk, refusals, job.status)
                self._tell("job_finished", **facts, refused=len(refusals), untraced=untraced)
            case verdict.Halve(reason):
                self._tell("job_finished", **facts)
                if self._halves_of(chunk) >= MOST_HALVES:
                    self._fail(chunk, f"{reason}; given up after {MOST_HALVES} halvings", (), job.status)
                else:
                    self._halve(chunk, reason, job.status)
            case verdict.SendRest(positions, refusals, reason):
                self._tell("job_finished", **facts, refused=len(refusals))
                rest = cut.rest(chunk, positions)
                if rest is None:
                    self._fail(chunk, reason, refusals, job.status)
                else:
                    self._ledger.split(chunk, (rest,), refusals, error=reason, job_status=job.status)
            case verdict.Repeat(reason):
                self._tell("job_finished", **facts)
                self._ledger.split(chunk, (cut.same(chunk),), error=reason, job_status=job.status)
            case verdict.Fail(reason, refusals):
                self._tell("job_finished", **facts, refused=len(refusals))
                self._fail(chunk, reason, refusals, job.status)

    def _halve(self, chunk: Chunk, reason: str, job_status: int | None = None) -> None:
        if chunk.header.get("FullFile"):  # a scope cut in two would make each half retire the other's rows
            self._fail(chunk, f"{reason}; a FullFile request is not cut", (), job_status)
        elif chunk.records == 1:
            record = self._alone(chunk)
            refusals = (Refusal(record.key, ERROR, reason, record.source_row),) if record else ()
            self._fail(chunk, reason, refusals, job_status)
        else:
            self._ledger.split(chunk, cut.halves(chunk), error=reason, job_status=job_status)
            self._tell("chunk_halved", chunk=chunk.number, records=chunk.records, reason=reason)

    def _halves_of(self, chunk: Chunk) -> int:
        chunks = self._ledger.chunks(chunk.run)
        return sum(other.origin == chunk.origin and other.state is ChunkState.SPLIT for other in chunks)

    def _fail(self, chunk: Chunk, reason: str, refusals: Sequence[Refusal] = (), job_status: int | None = None) -> None:
        self._ledger.fail(chunk, reason, refusals, job_status)
        self._tell("chunk_failed", chunk=chunk.number, records=chunk.records, reason=reason)

    def _refused(self, chunk: Chunk, error: ConnectRefused) -> None:
        self._answered()
        if error.code in _CONCERNS_ALL:
            if chunk.state is ChunkState.SENDING:
                self._ledger.unsent(chunk, None, error.message)
            raise error
        self._ledger.fail(chunk, f"{error.message}; {error.hint}")
        self._tell("chunk_failed", chunk=chunk.number, records=chunk.records, reason=error.message)

    def _job_lost(self, chunk: Chunk, error: ConnectRefused) -> None:
        """Just after the submission a job may not be visible yet; later it is gone, and the records go again."""
        asked = self._unknown_asked[chunk.number] = self._unknown_asked.get(chunk.number, 0) + 1
        if asked < MOST_UNKNOWN:
            self._ledger.postpone(chunk, self._clock() + schedule.poll_pause(asked), error.message)
        elif chunk.repeats == 0:
            self._ledger.split(chunk, (cut.same(chunk),), error=error.message)
        else:
            self._fail(chunk, f"{error.message}, twice")

    def _trace(self, chunk: Chunk, rows: Sequence[LogRow]) -> Traced:
        operation = contract.load().operations.get(chunk.operation)
        return trace(self._records_of(chunk), rows, operation.key.fields if operation else ())

    def _alone(self, chunk: Chunk) -> TracedRecord | None:
        return next(iter(self._records_of(chunk)), None)

    # -- the breaker --------------------------------------------------------------------------------------------

    def _answered(self) -> None:
        with self._lock:
            if self._failures:
                self._tell("connect_resumed", failures=self._failures)
            self._failures, self._silent_since, self._quiet_until = 0, None, 0.0

    def _failed(self, error: ConnectError) -> float:
        """Note that nothing came back; the time before which nothing is tried. Raises when patience has ended."""
        with self._lock:
            now = self._clock()
            self._failures += 1
            self._silent_since = now if self._silent_since is None else self._silent_since
            seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures - 1, 10))
            seconds *= 0.5 + self._rng.random() / 2
            if self._patience is not None:
                if now - self._silent_since >= self._patience:
                    raise _given_up(error)
                seconds = min(seconds, max(0.05, self._silent_since + self._patience - now))
            self._quiet_until = now + seconds
            self._tell("connect_paused", seconds=round(seconds, 1), reason=error.message)
            return self._quiet_until


def _given_up(error: ConnectError) -> ConnectUnreachable:
    return ConnectUnreachable(
        "connect-unreachable",
        error.message,
        where=error.where,
        hint="the file stays claimed; the next `etl once` or `etl run` goes on where this one stopped",
    )
