"""The scheduler's actions, one request each: submit a chunk, resolve an unknown outcome, poll jobs, read a log.

The order of writes, by the numbers of the crash table in ARCHITECTURE.md: 3 the sender has a permit, and the chunk is
marked *sending* before the first byte leaves; 4 the response to the POST arrives; 5 the job's id is stored; 6 the job
has ended and its log is read; 7 one ledger transaction closes the chunk and changes the accepted records. After a stop
behind any step the next start continues from the ledger.

Each action ends with one ledger step and returns the chunks that it changed. A failure of the network postpones the
chunks; an error that is raised stops the run, or all runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from etl.apply import job_matching, job_outcome, scheduler, split_payload
from etl.apply.circuit_breaker import CircuitBreaker
from etl.apply.import_client import ImportClient
from etl.apply.job_judge import JobJudge, ReadAgain
from etl.apply.job_log import ERROR
from etl.apply.job_outcome import JobOutcome
from etl.apply.scheduler import RequestAction, Submit, chunks_of
from etl.connect.rate_limiter import Permit, Stopped
from etl.connect.responses import PayloadTooLargeError, ThrottledError
from etl.errors import (
    ConnectError,
    ConnectHttpError,
    ConnectUnreachableError,
    InternalError,
    OutcomeUndecidedError,
    OutcomeUnknownError,
)
from etl.events import EventSink
from etl.model.runs import Chunk, ChunkState, Job, JobList, LogRow, RecordError, Submission
from etl.state.ledger.facade import Ledger

Response = TypeVar("Response")

#: Parts of `limits.lost_answer_seconds` until an unknown outcome is looked into again, and until a person decides.
RESOLVE_FRACTION, DECISION_FACTOR = 0.1, 6.0

#: Part of `limits.lost_answer_seconds` in which Connect may not know a job whose id it has given, nor list it.
VISIBLE_FRACTION = 0.1

#: Attempts after which a chunk fails that Connect answers with errors while it answers others.
MAX_ATTEMPTS = 12

#: Polls of a job that Connect does not know any more, until its chunk is sent again.
MAX_UNKNOWN_POLLS = 3

#: Halvings of a planned chunk in search of unnamed bad records (some ten of them in 1000); then the rest fails,
#: because the search for more would use up the requests of all other runs.
MAX_HALVINGS = 100

#: Halvings in a run because of counts that do not agree, or warnings without a record: nothing may be wrong at all.
MAX_UNCERTAIN_HALVINGS = 32

#: Halvings of requests with one header while Connect refuses all of them; after that many the header is at fault.
MAX_HALVINGS_WITHOUT_SUCCESS = 15

#: Codes of errors that concern every request: nothing is sent until the operator has acted.
ACCOUNT_ERROR_CODES = frozenset(
    {"connect-credentials", "connect-unauthorized", "connect-moved", "connect-address", "connect-certificate"}
)

#: Codes of errors that concern one operation: its runs stop, the others continue.
_IMPORT_ERROR_CODES = frozenset({"connect-forbidden", "connect-not-found"})


@dataclass(frozen=True, slots=True)
class ActionResult:
    """The chunks that an action changed."""

    chunks: tuple[Chunk, ...] = ()  #: changed or new, as the ledger has them now
    finished_jobs: tuple[tuple[Chunk, Job], ...] = ()  #: ended jobs; nothing is stored until their log is read
    reopened_jobs: tuple[Chunk, ...] = ()  #: chunks whose ended job is polled once more, because it was not final


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why a chunk fails or is replaced."""

    reason: str
    detail: str = ""  #: what Connect adds to the reason; it may hold cell values and is not for the log
    record_errors: Sequence[RecordError] = ()
    job_status: int | None = None

    @property
    def text(self) -> str:
        """Reason and detail."""
        return f"{self.reason}; {self.detail}" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class ActionTimes:
    """The clock of actions, and how long they wait for what Connect does late."""

    clock: Callable[[], float]  #: epoch seconds
    lost_answer_seconds: float = 300.0  #: until Connect lists a job whose response was lost, at the latest


class Actions:
    """One method per action. Threads may share it."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        client: ImportClient,
        judge: JobJudge,
        times: ActionTimes,
        emit: EventSink,
        circuit_breaker: CircuitBreaker,
    ) -> None:
        self._lost_answer_seconds = times.lost_answer_seconds
        self._ledger = ledger
        self._client = client
        self._judge = judge
        self._clock = times.clock
        self._emit = emit
        self._circuit_breaker = circuit_breaker
        self._unknown_polls: dict[int, int] = {}
        self._useless_lists = 0  # successive lists that contained none of our jobs
        self._unlisted_jobs: set[int] = set()

    @property
    def poll_together(self) -> bool:
        """Whether one list of jobs may replace polls of single jobs."""
        return self._useless_lists < MAX_UNKNOWN_POLLS

    @property
    def unlisted_jobs(self) -> Collection[int]:
        """Jobs that a list did not contain: each is polled on its own."""
        return self._unlisted_jobs

    def prepare(self, action: RequestAction) -> ActionResult | None:
        """Verify the payload of an import and get an access token, so that the permit is not wasted.

        Return None when the request may go, else the result of the failure.
        """
        if not isinstance(action, Submit):
            return self._request(chunks_of(action), self._client.prepare)
        try:
            self._client.prepare(action.chunk)
        except Stopped:
            return ActionResult()
        except ConnectError as error:
            return self._handle_submit_error(action.chunk, error)
        return None

    def submit(self, chunk: Chunk, permit: Permit) -> ActionResult:
        """Mark a prepared chunk as *sending* and send it."""
        sending = self._ledger.mark_sending(chunk)
        try:
            submission = self._client.submit(sending, permit)
        except Stopped:  # while it waited to repeat a request that Connect had refused
            return ActionResult((self._ledger.requeue(sending),))
        except ConnectError as error:
            return self._handle_submit_error(sending, error)
        self._circuit_breaker.record_success()
        submitted = self._ledger.save_submission(sending, submission)
        self._emit("chunk_submitted", run=chunk.run, chunk=chunk.number, job=submission.job_id, records=chunk.records)
        return ActionResult((submitted,))

    def resolve_unknown(self, chunk: Chunk, permit: Permit) -> ActionResult:
        """Find the job of a request without a response, or let the request be sent again.

        It goes again only when two complete lists, `lost_answer_seconds` apart, have shown no job that may be its own
        and has not ended: sent again while its first job runs, it could undo what comes after it. Raises
        OutcomeUndecidedError when that cannot be had for six times as long: a person decides.
        """
        listed = self._list_jobs_or_none(permit)
        if listed is not None:
            # Look for siblings before the ids of own jobs: a response stored in between makes its job an own one.
            is_ambiguous = self._ledger.chunks.has_ambiguous_sibling(chunk)
            own_jobs = self._ledger.jobs.find_own(_job_ids(listed))
            match = None if is_ambiguous else job_matching.match_job(chunk, listed.jobs, own_jobs)
            if match is not None:
                adopted = self._ledger.save_submission(chunk, Submission(match.id), resolution="adopted")
                self._emit("outcome_resolved", run=chunk.run, chunk=chunk.number, resolution="adopted", job=match.id)
                return ActionResult((adopted,))
            if not job_matching.may_be_running(chunk, listed, own_jobs):
                return self._note_absence(chunk)
        now = self._clock()
        if chunk.sent_at is None or now - chunk.sent_at >= DECISION_FACTOR * self._lost_answer_seconds:
            raise OutcomeUndecidedError(chunk.run, chunk.number)
        reason = "Connect does not list its jobs" if listed is None else "a job that may be its own has not ended"
        until = now + RESOLVE_FRACTION * self._lost_answer_seconds
        return ActionResult((self._ledger.postpone(chunk, until, f"{reason}; the outcome of the request is unknown"),))

    def _note_absence(self, chunk: Chunk) -> ActionResult:
        """Record the first complete list without the chunk's job; after the second one send the chunk again."""
        now = self._clock()
        since = now if chunk.absent_since is None or chunk.absent_since > now else chunk.absent_since
        if now - since >= self._lost_answer_seconds:
            return self._resubmit(chunk)
        return ActionResult((self._ledger.note_absence(chunk, since, since + self._lost_answer_seconds),))

    def _list_jobs_or_none(self, permit: Permit) -> JobList | None:
        """Return the list; None when Connect does not give one. Raises ConnectHttpError when nothing can be sent."""
        try:
            return self._list_jobs(permit)
        except (Stopped, ThrottledError):
            return None
        except ConnectHttpError as error:
            if error.code in ACCOUNT_ERROR_CODES:
                raise
            return None

    def poll(self, chunks: Sequence[Chunk], permit: Permit) -> ActionResult:
        """Poll the jobs of these chunks: a single one by its id, several with one list."""
        if len(chunks) > 1:
            return self._poll_many(chunks, permit)
        (chunk,) = chunks
        try:
            job = self._request(chunks, lambda: self._client.get_job(_require_job_id(chunk), permit))
        except ConnectHttpError as error:
            return self._handle_unknown_job(chunk, error)
        if isinstance(job, ActionResult):
            return job
        if job.finished or self._may_be_invisible(chunk):
            self._unlisted_jobs.discard(job.id)
        if job.finished:
            return ActionResult(finished_jobs=((chunk, job),))
        return ActionResult((self._ledger.save_poll(chunk, job),))

    def read_log(self, chunk: Chunk, job: Job, permit: Permit) -> ActionResult:
        """Read the log of an ended job and close its chunk, or poll the job once more when it is not final."""
        try:
            log = self._request((chunk,), lambda: self._read_log(chunk, permit))
        except ConnectHttpError as error:
            return self._handle_unknown_job(chunk, error)
        if isinstance(log, ActionResult):
            return log
        decision = self._judge.judge(chunk, job, log, self._clock())
        if isinstance(decision, ReadAgain):
            until = self._clock() + decision.pause
            postponed = self._ledger.postpone(chunk, until, f"job {job.id} has ended, but its log is not complete")
            return ActionResult((postponed,), reopened_jobs=(chunk,))
        return self._apply_outcome(chunk, job, decision)

    def _read_log(self, chunk: Chunk, permit: Permit) -> tuple[LogRow, ...] | None:
        """Return the log of the chunk's job; None when Connect answers with something else."""
        try:
            return self._client.get_job_log(_require_job_id(chunk), permit)
        except ConnectUnreachableError as error:
            if error.code != "connect-garbled":
                raise
            return None

    # -- failures -----------------------------------------------------------------------------------------------

    def _request(self, chunks: Sequence[Chunk], send: Callable[[], Response]) -> Response | ActionResult:
        """Return the response, or the result of a failure. Raises ConnectHttpError, which the caller handles."""
        try:
            response = send()
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
        return response

    def _handle_submit_error(self, chunk: Chunk, error: ConnectError) -> ActionResult:
        """Store what a failed import means for its chunk."""
        match error:
            case ThrottledError():
                self._circuit_breaker.record_success()
                self._emit("request_throttled", run=chunk.run, chunk=chunk.number, seconds=round(error.delay, 1))
                return ActionResult((self._ledger.requeue(chunk, self._throttled_until(error), error.message),))
            case PayloadTooLargeError():
                self._circuit_breaker.record_success()
                self._ledger.meta.learn_size_limit(chunk.operation, error.size)
                return self._halve(chunk, Outcome(error.message))
            case OutcomeUnknownError():
                self._emit("outcome_unknown", run=chunk.run, chunk=chunk.number, reason=error.message)
                return ActionResult((self._ledger.postpone(chunk, self._pause_until(error), error.message),))
            case ConnectUnreachableError():
                return ActionResult((self._ledger.requeue(chunk, self._pause_until(error), error.message),))
            case ConnectHttpError():
                return self._handle_http_error(chunk, error)
        raise error

    def _handle_http_error(self, chunk: Chunk, error: ConnectHttpError) -> ActionResult:
        """Halve a chunk that Connect refuses; raise an error that no other content would change."""
        self._circuit_breaker.record_success()
        if error.code in ACCOUNT_ERROR_CODES | _IMPORT_ERROR_CODES:
            if chunk.state is ChunkState.SENDING:
                self._ledger.requeue(chunk, None, error.message)
            raise error
        siblings = [other for other in self._ledger.chunks.list_by_run(chunk.run) if other.header == chunk.header]
        has_success = any(sibling.job_id is not None for sibling in siblings)
        halvings = sum(sibling.state is ChunkState.SPLIT for sibling in siblings)
        if halvings >= (MAX_HALVINGS if has_success else MAX_HALVINGS_WITHOUT_SUCCESS):
            reason = f"{error.message}; not halved again after {halvings} halvings"
            return self._fail(chunk, Outcome(reason, error.hint))
        return self._halve(chunk, Outcome(error.message, error.hint))

    def _pause_until(self, error: ConnectError) -> float:
        """Return until when a chunk waits after a request without a response: as long as all requests pause."""
        return self._clock() + self._circuit_breaker.record_failure(error)

    def _throttled_until(self, error: ThrottledError) -> float:
        """Return until when a chunk waits after a 429; the rate limiter makes all requests wait for the whole time."""
        return self._clock() + min(error.delay, scheduler.MAX_WAIT)

    def _postpone(self, chunks: Sequence[Chunk], until: float, error: ConnectError) -> ActionResult:
        return ActionResult(tuple(self._ledger.postpone(chunk, until, error.message) for chunk in chunks))

    # -- jobs ---------------------------------------------------------------------------------------------------

    def _resubmit(self, chunk: Chunk) -> ActionResult:
        """Let a request without a job be sent again, unless it was sent too often."""
        if chunk.attempts >= MAX_ATTEMPTS:
            cause = chunk.error or "no answer"
            return self._fail(chunk, Outcome(f"sent {chunk.attempts} times without a usable answer: {cause}"))
        requeued = self._ledger.requeue(chunk, resolution="resubmitted")
        self._emit("outcome_resolved", run=chunk.run, chunk=chunk.number, resolution="resubmitted")
        return ActionResult((requeued,))

    def _poll_many(self, chunks: Sequence[Chunk], permit: Permit) -> ActionResult:
        """Poll by one list of jobs.

        Connect does not promise that the list contains a job, or all of its facts. A job that is missing is polled on
        its own; all jobs are, once lists have contained none of ours several times.
        """
        try:
            response = self._request(chunks, lambda: self._list_jobs(permit))
        except ConnectHttpError as error:
            if error.code in ACCOUNT_ERROR_CODES:
                raise
            response = None
        if isinstance(response, ActionResult):
            return response
        if response is None:
            self._useless_lists += 1
            self._unlisted_jobs.update(_require_job_id(chunk) for chunk in chunks)
            return ActionResult()
        listed = {job.id: job for job in response.jobs if _is_complete(job)}
        self._note_unlisted(chunks, listed)
        polled = [(chunk, listed[_require_job_id(chunk)]) for chunk in chunks if chunk.job_id in listed]
        running = self._ledger.save_polls([(chunk, job) for chunk, job in polled if not job.finished])
        return ActionResult(running, tuple((chunk, job) for chunk, job in polled if job.finished))

    def _list_jobs(self, permit: Permit) -> JobList | None:
        """Return the list; None without a usable response. Each job can be polled on its own, so nothing waits."""
        try:
            return self._client.list_jobs(permit)
        except ConnectUnreachableError:
            return None

    def _note_unlisted(self, chunks: Sequence[Chunk], listed: Collection[int]) -> None:
        """Record the jobs that a list did not contain, and whether the list was of any use."""
        self._unlisted_jobs.update(_require_job_id(chunk) for chunk in chunks)
        self._unlisted_jobs.difference_update(listed)
        if any(chunk.job_id in listed for chunk in chunks):
            self._useless_lists = 0
        elif not all(self._may_be_invisible(chunk) for chunk in chunks):
            self._useless_lists += 1

    def _may_be_invisible(self, chunk: Chunk) -> bool:
        """Return whether the chunk's job is so young that Connect may not know or list it yet."""
        return self._clock() - (chunk.sent_at or 0.0) < VISIBLE_FRACTION * self._lost_answer_seconds

    def _handle_unknown_job(self, chunk: Chunk, error: ConnectHttpError) -> ActionResult:
        """Poll again soon, because a new job may not be visible yet; after several polls send the records again."""
        if error.code != "connect-job-unknown":
            raise error
        self._circuit_breaker.record_success()
        job_id = _require_job_id(chunk)
        self._unlisted_jobs.discard(job_id)
        polls = self._unknown_polls[job_id] = self._unknown_polls.get(job_id, 0) + 1
        if polls < MAX_UNKNOWN_POLLS or self._may_be_invisible(chunk):
            until = self._clock() + scheduler.poll_delay(polls)
            return ActionResult((self._ledger.postpone(chunk, until, error.message),))
        if chunk.repeats == 0:
            return self._split(chunk, (split_payload.duplicate(chunk),), Outcome(error.message))
        return self._fail(chunk, Outcome(f"{error.message}, twice"))

    # -- ends ---------------------------------------------------------------------------------------------------

    def _apply_outcome(self, chunk: Chunk, job: Job, outcome: JobOutcome) -> ActionResult:
        """Close the chunk of an ended job, or replace it by what is sent again."""
        facts = {"run": chunk.run, "chunk": chunk.number, "job": job.id, "status": job.status, "failed": job.failed}
        match outcome:
            case job_outcome.Accept(record_errors, warnings):
                accepted = self._ledger.accept(chunk, record_errors, job.status, job_total=job.total, warnings=warnings)
                self._emit("job_finished", **facts, traced=len(record_errors), untraced=len(warnings))
                return ActionResult((accepted,))
            case job_outcome.SendRemainder(_, record_errors, _) | job_outcome.Fail(_, record_errors):
                self._emit("job_finished", **facts, traced=len(record_errors))
            case _:
                self._emit("job_finished", **facts)
        return self._repeat_or_fail(chunk, outcome, job.status)

    def _repeat_or_fail(
        self,
        chunk: Chunk,
        decision: job_outcome.Halve | job_outcome.SendRemainder | job_outcome.Repeat | job_outcome.Fail,
        job_status: int | None,
    ) -> ActionResult:
        """Replace a chunk that was not accepted by what is sent again of it, or let it fail."""
        match decision:
            case job_outcome.Halve(reason, is_certain):
                limit = MAX_HALVINGS if is_certain else MAX_UNCERTAIN_HALVINGS
                if self._count_halvings(chunk, of_run=not is_certain) >= limit:
                    reason = f"{reason}; not halved again after {limit} halvings"
                    return self._fail(chunk, Outcome(reason, job_status=job_status))
                return self._halve(chunk, Outcome(reason, job_status=job_status))
            case job_outcome.SendRemainder(positions, record_errors, reason):
                outcome = Outcome(reason, record_errors=record_errors, job_status=job_status)
                remainder = split_payload.without_records(chunk, positions)
                return self._fail(chunk, outcome) if remainder is None else self._split(chunk, (remainder,), outcome)
            case job_outcome.Repeat(reason):
                return self._split(chunk, (split_payload.duplicate(chunk),), Outcome(reason, job_status=job_status))
            case job_outcome.Fail(reason, record_errors):
                return self._fail(chunk, Outcome(reason, record_errors=record_errors, job_status=job_status))

    def _halve(self, chunk: Chunk, outcome: Outcome) -> ActionResult:
        """Send the chunk again in two halves, or let it fail when it cannot be halved."""
        if chunk.header.get("FullFile"):  # each half would deactivate the records of the other half
            return self._fail(chunk, replace(outcome, reason=f"{outcome.reason}; a FullFile request is not cut"))
        if chunk.records == 1:
            record = self._judge.single_record(chunk)
            record_errors = (record.make_error(ERROR, outcome.text),) if record else ()
            return self._fail(chunk, replace(outcome, record_errors=record_errors))
        result = self._split(chunk, split_payload.halve(chunk), outcome)
        self._emit("chunk_halved", run=chunk.run, chunk=chunk.number, records=chunk.records, reason=outcome.reason)
        return result

    def _count_halvings(self, chunk: Chunk, *, of_run: bool) -> int:
        """Return how often the planned chunk of these records was halved, or all chunks of the run."""
        split = [other for other in self._ledger.chunks.list_by_run(chunk.run) if other.state is ChunkState.SPLIT]
        return sum(of_run or other.origin_chunk == chunk.origin_chunk for other in split)

    def _split(self, chunk: Chunk, parts: Sequence[Chunk], outcome: Outcome) -> ActionResult:
        """Replace a chunk by others. The ledger stores the reason without its detail."""
        new_chunks = self._ledger.split(
            chunk, parts, outcome.record_errors, error=outcome.reason, job_status=outcome.job_status
        )
        return ActionResult((replace(chunk, state=ChunkState.SPLIT), *new_chunks))

    def _fail(self, chunk: Chunk, outcome: Outcome) -> ActionResult:
        failed = self._ledger.fail(chunk, outcome.text, outcome.record_errors, outcome.job_status)
        self._emit("chunk_failed", run=chunk.run, chunk=chunk.number, records=chunk.records, reason=outcome.reason)
        return ActionResult((failed,))


def _is_complete(job: Job) -> bool:
    """Return whether a list gives all facts of a job that its end is judged by."""
    return not job.finished or (job.total is not None and job.failed is not None)


def _job_ids(listed: JobList) -> list[int]:
    return [*(job.id for job in listed.jobs), *(job_id for job_id in listed.odd_ids if job_id is not None)]


def _require_job_id(chunk: Chunk) -> int:
    if chunk.job_id is None:
        raise InternalError(f"chunk {chunk.number} of run {chunk.run} has no job id")
    return chunk.job_id
