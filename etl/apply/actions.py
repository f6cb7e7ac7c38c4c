"""The moves of the schedule, each one request: send, settle, ask for jobs, read a log and judge.

The order of writes, by the numbers of the crash table in ARCHITECTURE.md: 3 the chunk is marked *sending* after the
gate let it in and before its first byte leaves; 4 the POST is answered; 5 the job's id is stored; 6 the job has
ended and its log is read; 7 the chunk is closed and *accepted* moves, in one ledger transaction. Every step stands
alone: stop after any of them, and the next start goes on from what the ledger says.

Each move ends with one ledger step and tells the chunks that it has changed. Failures of the network end with a
postponement; what is raised concerns the whole run, or everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from etl.apply import job_matching, job_outcome, scheduler, split_payload
from etl.apply.circuit_breaker import CircuitBreaker
from etl.apply.job_log import ERROR, LogMatches, RecordIdentity, match_log
from etl.connect.rate_limiter import Stopped
from etl.connect.responses import PayloadTooLargeError, ThrottledError
from etl.contract import spec
from etl.errors import ConnectError, ConnectHttpError, ConnectUnreachableError, InternalError, OutcomeUnknownError
from etl.events import EventSink
from etl.model.runs import Chunk, ChunkState, Job, LogRow, RecordError, Submission
from etl.state.ledger.facade import Ledger

#: Gives the records of a chunk in the order of its payload; called only when a log has complaints.
ReadChunkRecords = Callable[[Chunk], Sequence[RecordIdentity]]

Response = TypeVar("Response")

#: Called when the gate has let a request in.
OnPermit = Callable[[], None]

#: Seconds until jobs are looked for again while one that may be ours still runs.
RESOLVE_INTERVAL = 30.0

#: A request that Connect answers with errors so often, while it answers others, is given up.
MAX_ATTEMPTS = 12

#: A job that Connect does not know any more is asked for so often before its chunk is sent again.
MAX_UNKNOWN_POLLS = 3

#: So many seconds after its import a job is in every list that lists it at all.
LISTING_DELAY = 30.0

#: A planned chunk is halved so often in search of unnamed bad records (some ten of them in 1000); then what is left
#: of it fails, because finding more would use up the budget of everybody else.
MAX_HALVINGS = 100

#: So many requests of one header are halved while Connect refuses all of them; then it is the header that it refuses.
MAX_HALVINGS_WITHOUT_SUCCESS = 15

#: Refusals of everybody, whatever is sent: nothing is tried until the operator has acted.
ACCOUNT_ERROR_CODES = frozenset(
    {"connect-credentials", "connect-unauthorized", "connect-moved", "connect-address", "connect-certificate"}
)

#: Refusals of an import as such: its runs stay as they are, the others go on.
_IMPORT_ERROR_CODES = frozenset({"connect-forbidden", "connect-not-found"})


class ImportClient(Protocol):
    """What is needed of `connect.Connect`."""

    def submit(self, chunk: Chunk, on_permit: OnPermit) -> Submission: ...

    def get_job(self, job_id: int, on_permit: OnPermit) -> Job: ...

    def get_job_log(self, job_id: int, on_permit: OnPermit) -> tuple[LogRow, ...]: ...

    def list_jobs(self, on_permit: OnPermit) -> tuple[Job, ...]: ...


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What has come of a move."""

    chunks: tuple[Chunk, ...] = ()  #: changed or new, as the ledger has them now
    finished_jobs: tuple[
        tuple[Chunk, Job], ...
    ] = ()  #: jobs that have ended; nothing is stored before their log is read


class Actions:
    """One method per move. Safe to share between threads."""

    def __init__(
        self,
        ledger: Ledger,
        client: ImportClient,
        read_chunk_records: ReadChunkRecords,
        clock: Callable[[], float],
        emit: EventSink,
        circuit_breaker: CircuitBreaker,
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._read_chunk_records = read_chunk_records
        self._clock = clock
        self._emit = emit
        self._circuit_breaker = circuit_breaker
        self._unknown_polls: dict[int, int] = {}
        self._useless_lists = 0  # lists in a row that told of none of our jobs
        self._unlisted_jobs: set[int] = set()

    @property
    def poll_together(self) -> bool:
        """Whether asking for several jobs at once is worth a request."""
        return self._useless_lists < MAX_UNKNOWN_POLLS

    @property
    def unlisted_jobs(self) -> Collection[int]:
        """Jobs that a list has not told of: they are asked for by themselves."""
        return self._unlisted_jobs

    def submit(self, chunk: Chunk, on_permit: OnPermit) -> ActionResult:
        """Send a planned chunk."""
        marked = chunk

        def leaving() -> None:
            nonlocal marked
            marked = self._ledger.mark_sending(marked)
            on_permit()

        try:
            submission = self._client.submit(chunk, leaving)
        except Stopped:
            return ActionResult()
        except ThrottledError as error:
            self._circuit_breaker.record_success()
            self._emit("request_throttled", run=chunk.run, chunk=chunk.number, seconds=round(error.delay, 1))
            return ActionResult((self._ledger.requeue(marked, self._throttled_until(error), error.message),))
        except PayloadTooLargeError as error:
            self._circuit_breaker.record_success()
            self._ledger.learn_size_limit(chunk.operation, error.size)
            return self._halve(marked, error.message)
        except OutcomeUnknownError as error:
            self._emit("outcome_unknown", run=chunk.run, chunk=chunk.number, reason=error.message)
            return ActionResult((self._ledger.postpone(marked, self._pause_until(error), error.message),))
        except ConnectUnreachableError as error:
            return ActionResult((self._ledger.requeue(marked, self._pause_until(error), error.message),))
        except ConnectHttpError as error:
            return self._handle_http_error(marked, error)
        self._circuit_breaker.record_success()
        known = self._ledger.save_submission(marked, submission)
        self._emit("chunk_submitted", run=chunk.run, chunk=chunk.number, job=submission.job_id, records=chunk.records)
        return ActionResult((known,))

    def resolve_unknown(self, chunk: Chunk, on_permit: OnPermit) -> ActionResult:
        """Find out what became of a request without an answer, else let it go again."""
        try:
            jobs = self._request((chunk,), lambda: self._client.list_jobs(on_permit))
        except ConnectHttpError as error:
            if error.code in ACCOUNT_ERROR_CODES or error.code == "connect-forbidden":
                raise
            jobs = ()  # the list is not offered here
        if isinstance(jobs, ActionResult):
            return jobs
        # Rivals are looked for before the known ids: an answer stored in between makes its job known.
        rivals = self._ledger.has_ambiguous_sibling(chunk)
        known = self._ledger.find_own_jobs([job.id for job in jobs])
        found = None if rivals else job_matching.match_job(chunk, jobs, known)
        facts = {"run": chunk.run, "chunk": chunk.number}
        if found is not None:
            adopted = self._ledger.save_submission(chunk, Submission(found.id), resolution="adopted")
            self._emit("outcome_resolved", **facts, resolution="adopted", job=found.id)
            return ActionResult((adopted,))
        if job_matching.may_be_running(
            chunk, jobs, known
        ):  # sent again now, it could come after what follows, and undo it
            reason = "a job that may be its own is still running"
            return ActionResult((self._ledger.postpone(chunk, self._clock() + RESOLVE_INTERVAL, reason),))
        if chunk.attempts >= MAX_ATTEMPTS:
            reason = f"sent {chunk.attempts} times without a usable answer: {chunk.error or 'no answer'}"
            return self._fail(chunk, reason)
        again = self._ledger.requeue(chunk, resolution="resubmitted")
        self._emit("outcome_resolved", **facts, resolution="resubmitted")
        return ActionResult((again,))

    def poll(self, chunks: Sequence[Chunk], on_permit: OnPermit) -> ActionResult:
        """Ask for the jobs of these chunks: for the only one by its id, for several with one request."""
        if len(chunks) > 1:
            return self._poll_many(chunks, on_permit)
        (chunk,) = chunks
        try:
            job = self._request(chunks, lambda: self._client.get_job(_require_job_id(chunk), on_permit))
        except ConnectHttpError as error:
            return self._handle_unknown_job(chunk, error)
        if isinstance(job, ActionResult):
            return job
        if job.finished or self._may_be_unlisted(chunk):
            self._unlisted_jobs.discard(job.id)
        return (
            ActionResult(finished_jobs=((chunk, job),))
            if job.finished
            else ActionResult((self._ledger.save_poll(chunk, job),))
        )

    def read_log(self, chunk: Chunk, job: Job, on_permit: OnPermit) -> ActionResult:
        """Read the log of an ended job, and close its chunk."""
        try:
            log = self._request((chunk,), lambda: self._client.get_job_log(_require_job_id(chunk), on_permit))
        except ConnectHttpError as error:
            return self._handle_unknown_job(chunk, error)
        return log if isinstance(log, ActionResult) else self._apply_outcome(chunk, job, log)

    # -- inside -------------------------------------------------------------------------------------------------

    def _request(self, chunks: Sequence[Chunk], send: Callable[[], Response]) -> Response | ActionResult:
        """Connect's answer, else what has come of asking. ConnectRefused is the caller's matter."""
        try:
            answer = send()
        except Stopped:
            return ActionResult()
        except ThrottledError as error:
            self._circuit_breaker.record_success()
            return self._postpone(chunks, self._throttled_until(error), error)
        except ConnectHttpError:
            raise
        except ConnectError as error:
            return self._postpone(chunks, self._pause_until(error), error)
        self._circuit_breaker.record_success()
        return answer

    def _pause_until(self, error: ConnectError) -> float:
        """Until when nothing is tried, as everybody does not: nothing came back."""
        return self._clock() + self._circuit_breaker.record_failure(error)

    def _throttled_until(self, error: ThrottledError) -> float:
        """Until when nothing is tried after a 429; the gate keeps everybody for as long as it takes."""
        return self._clock() + min(error.delay, scheduler.MAX_WAIT)

    def _postpone(self, chunks: Sequence[Chunk], until: float, error: ConnectError) -> ActionResult:
        return ActionResult(tuple(self._ledger.postpone(chunk, until, error.message) for chunk in chunks))

    def _poll_many(self, chunks: Sequence[Chunk], on_permit: OnPermit) -> ActionResult:
        """Nothing promises that the list holds a job, or all that is to be known of it. What is missing is asked for
        by itself, and everything is when lists do not tell of any of our jobs again and again."""
        try:
            jobs = self._request(chunks, lambda: self._client.list_jobs(on_permit))
        except ConnectHttpError as error:
            if error.code in ACCOUNT_ERROR_CODES:
                raise
            self._useless_lists += 1
            self._unlisted_jobs.update(_require_job_id(chunk) for chunk in chunks)
            return ActionResult()
        if isinstance(jobs, ActionResult):
            return jobs
        listed = {job.id: job for job in jobs if _is_complete(job)}
        self._unlisted_jobs.update(_require_job_id(chunk) for chunk in chunks)
        self._unlisted_jobs.difference_update(listed)
        told = [(chunk, listed[_require_job_id(chunk)]) for chunk in chunks if _require_job_id(chunk) in listed]
        if told:
            self._useless_lists = 0
        elif not all(self._may_be_unlisted(chunk) for chunk in chunks):
            self._useless_lists += 1
        going = self._ledger.save_polls([(chunk, job) for chunk, job in told if not job.finished])
        return ActionResult(going, tuple((chunk, job) for chunk, job in told if job.finished))

    def _may_be_unlisted(self, chunk: Chunk) -> bool:
        """Whether its job may not be listed yet."""
        return self._clock() - (chunk.sent_at or 0.0) < LISTING_DELAY

    def _handle_unknown_job(self, chunk: Chunk, error: ConnectHttpError) -> ActionResult:
        """Just after the submission a job may not be visible yet; later it is gone, and the records go again."""
        if error.code != "connect-job-unknown":
            raise error
        self._circuit_breaker.record_success()
        job = _require_job_id(chunk)
        self._unlisted_jobs.discard(job)
        asked = self._unknown_polls[job] = self._unknown_polls.get(job, 0) + 1
        if asked < MAX_UNKNOWN_POLLS:
            until = self._clock() + scheduler.poll_delay(asked)
            return ActionResult((self._ledger.postpone(chunk, until, error.message),))
        if chunk.repeats == 0:
            return self._split(chunk, (split_payload.duplicate(chunk),), error=error.message)
        return self._fail(chunk, f"{error.message}, twice")

    # -- ends ---------------------------------------------------------------------------------------------------

    def _apply_outcome(self, chunk: Chunk, job: Job, log: tuple[LogRow, ...]) -> ActionResult:
        facts = {"run": chunk.run, "chunk": chunk.number, "job": job.id, "status": job.status, "failed": job.failed}
        match job_outcome.decide(
            chunk, job, log, lambda rows: self._match_log(chunk, rows), lambda: self._single_record(chunk)
        ):
            case job_outcome.Accept(refusals, untraced):
                accepted = self._ledger.accept(chunk, refusals, job.status)
                self._emit("job_finished", **facts, traced=len(refusals), untraced=untraced)
                return ActionResult((accepted,))
            case job_outcome.Halve(reason):
                self._emit("job_finished", **facts)
                if self._count_halvings(chunk) >= MAX_HALVINGS:
                    return self._fail(
                        chunk, f"{reason}; not halved again after {MAX_HALVINGS} halvings", (), job.status
                    )
                return self._halve(chunk, reason, job.status)
            case job_outcome.SendRemainder(positions, refusals, reason):
                self._emit("job_finished", **facts, traced=len(refusals))
                rest = split_payload.without_records(chunk, positions)
                if rest is None:
                    return self._fail(chunk, reason, refusals, job.status)
                return self._split(chunk, (rest,), refusals, error=reason, job_status=job.status)
            case job_outcome.Repeat(reason):
                self._emit("job_finished", **facts)
                return self._split(chunk, (split_payload.duplicate(chunk),), error=reason, job_status=job.status)
            case job_outcome.Fail(reason, refusals):
                self._emit("job_finished", **facts, traced=len(refusals))
                return self._fail(chunk, reason, refusals, job.status)

    def _halve(self, chunk: Chunk, reason: str, job_status: int | None = None, detail: str = "") -> ActionResult:
        if chunk.header.get("FullFile"):  # a scope cut in two would make each half retire the other's rows
            return self._fail(chunk, f"{reason}; a FullFile request is not cut", (), job_status, detail)
        if chunk.records == 1:
            record = self._single_record(chunk)
            refusals = (record.make_error(ERROR, _join_reason(reason, detail)),) if record else ()
            return self._fail(chunk, reason, refusals, job_status, detail)
        done = self._split(chunk, split_payload.halve(chunk), error=reason, job_status=job_status)
        self._emit("chunk_halved", run=chunk.run, chunk=chunk.number, records=chunk.records, reason=reason)
        return done

    def _count_halvings(self, chunk: Chunk) -> int:
        chunks = self._ledger.list_chunks(chunk.run)
        return sum(other.origin_chunk == chunk.origin_chunk and other.state is ChunkState.SPLIT for other in chunks)

    def _split(
        self, chunk: Chunk, parts: Sequence[Chunk], record_errors: Sequence[RecordError] = (), *, error: str,
        job_status: int | None = None,
    ) -> ActionResult:  # fmt: skip
        made = self._ledger.split(chunk, parts, record_errors, error=error, job_status=job_status)
        return ActionResult((replace(chunk, state=ChunkState.SPLIT), *made))

    def _fail(
        self, chunk: Chunk, reason: str, record_errors: Sequence[RecordError] = (), job_status: int | None = None,
        detail: str = "",
    ) -> ActionResult:  # fmt: skip
        """`said`: what Connect adds to the reason; it may hold cell values and is not for the log."""
        failed = self._ledger.fail(chunk, _join_reason(reason, detail), record_errors, job_status)
        self._emit("chunk_failed", run=chunk.run, chunk=chunk.number, records=chunk.records, reason=reason)
        return ActionResult((failed,))

    def _handle_http_error(self, chunk: Chunk, error: ConnectHttpError) -> ActionResult:
        self._circuit_breaker.record_success()
        if error.code in ACCOUNT_ERROR_CODES | _IMPORT_ERROR_CODES:
            if chunk.state is ChunkState.SENDING:
                self._ledger.requeue(chunk, None, error.message)
            raise error
        alike = [other for other in self._ledger.list_chunks(chunk.run) if other.header == chunk.header]
        taken = any(other.job_id is not None for other in alike)
        halved = sum(other.state is ChunkState.SPLIT for other in alike)
        if halved >= (MAX_HALVINGS if taken else MAX_HALVINGS_WITHOUT_SUCCESS):
            return self._fail(chunk, f"{error.message}; not halved again after {halved} halvings", detail=error.hint)
        return self._halve(chunk, error.message, detail=error.hint)

    def _match_log(self, chunk: Chunk, rows: Sequence[LogRow]) -> LogMatches:
        operation = spec.load_contract().operations.get(chunk.operation)
        return match_log(self._read_chunk_records(chunk), rows, operation.key.fields if operation else ())

    def _single_record(self, chunk: Chunk) -> RecordIdentity | None:
        return next(iter(self._read_chunk_records(chunk)), None)


def _join_reason(reason: str, detail: str) -> str:
    return f"{reason}; {detail}" if detail else reason


def _is_complete(job: Job) -> bool:
    """Whether a list tells of a job what its end is judged by."""
    return job.status is not None and (not job.finished or (job.total is not None and job.failed is not None))


def _require_job_id(chunk: Chunk) -> int:
    if chunk.job_id is None:
        raise InternalError(f"chunk {chunk.number} of run {chunk.run} has no job id")
    return chunk.job_id
