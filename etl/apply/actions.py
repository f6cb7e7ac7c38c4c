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

from etl.apply import job_matching as settle
from etl.apply import job_outcome as verdict
from etl.apply import scheduler as schedule
from etl.apply import split_payload as cut
from etl.apply.circuit_breaker import Breaker
from etl.apply.job_log import ERROR, Traced, TracedRecord, trace
from etl.connect.rate_limiter import Stopped
from etl.connect.responses import RateLimited, TooLarge
from etl.contract import spec as contract
from etl.errors import ConnectError, ConnectRefused, ConnectUnreachable, Defect, OutcomeUnknown
from etl.model.runs import Chunk, ChunkState, Job, LogRow, Refusal, Submission
from etl.state.ledger.facade import Ledger

#: Gives the records of a chunk in the order of its payload; called only when a log has complaints.
RecordsOf = Callable[[Chunk], Sequence[TracedRecord]]

Answer = TypeVar("Answer")

#: Told what happened: an event name and facts without cell values.
OnEvent = Callable[..., None]

#: Called when the gate has let a request in.
Leaving = Callable[[], None]

#: Seconds until jobs are looked for again while one that may be ours still runs.
LOOK_AGAIN = 30.0

#: A request that Connect answers with errors so often, while it answers others, is given up.
MOST_ATTEMPTS = 12

#: A job that Connect does not know any more is asked for so often before its chunk is sent again.
MOST_UNKNOWN = 3

#: So many seconds after its import a job is in every list that lists it at all.
LISTED = 30.0

#: A planned chunk is halved so often in search of unnamed bad records (some ten of them in 1000); then what is left
#: of it fails, because finding more would use up the budget of everybody else.
MOST_HALVES = 100

#: So many requests of one header are halved while Connect refuses all of them; then it is the header that it refuses.
MOST_REFUSED = 15

#: Refusals of everybody, whatever is sent: nothing is tried until the operator has acted.
CONCERNS_ALL = frozenset(
    {"connect-credentials", "connect-unauthorized", "connect-moved", "connect-address", "connect-certificate"}
)

#: Refusals of an import as such: its runs stay as they are, the others go on.
_CONCERNS_IMPORT = frozenset({"connect-forbidden", "connect-not-found"})


class Service(Protocol):
    """What is needed of `connect.Connect`."""

    def submit(self, chunk: Chunk, leaving: Leaving) -> Submission: ...

    def job(self, job_id: int, leaving: Leaving) -> Job: ...

    def log(self, job_id: int, leaving: Leaving) -> tuple[LogRow, ...]: ...

    def jobs(self, leaving: Leaving) -> tuple[Job, ...]: ...


@dataclass(frozen=True, slots=True)
class Done:
    """What has come of a move."""

    chunks: tuple[Chunk, ...] = ()  #: changed or new, as the ledger has them now
    ended: tuple[tuple[Chunk, Job], ...] = ()  #: jobs that have ended; nothing is stored before their log is read


class Moves:
    """One method per move. Safe to share between threads."""

    def __init__(
        self, ledger: Ledger, connect: Service, records_of: RecordsOf, clock: Callable[[], float], tell: OnEvent,
        breaker: Breaker,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._connect = connect
        self._records_of = records_of
        self._clock = clock
        self._tell = tell
        self._breaker = breaker
        self._unknown_asked: dict[int, int] = {}
        self._useless = 0  # lists in a row that told of none of our jobs
        self._unlisted: set[int] = set()

    @property
    def together(self) -> bool:
        """Whether asking for several jobs at once is worth a request."""
        return self._useless < MOST_UNKNOWN

    @property
    def unlisted(self) -> Collection[int]:
        """Jobs that a list has not told of: they are asked for by themselves."""
        return self._unlisted

    def submit(self, chunk: Chunk, through: Leaving) -> Done:
        """Send a planned chunk."""
        marked = chunk

        def leaving() -> None:
            nonlocal marked
            marked = self._ledger.sending(marked)
            through()

        try:
            submission = self._connect.submit(chunk, leaving)
        except Stopped:
            return Done()
        except RateLimited as error:
            self._breaker.answered()
            self._tell("request_limited", run=chunk.run, chunk=chunk.number, seconds=round(error.delay, 1))
            return Done((self._ledger.unsent(marked, self._limited(error), error.message),))
        except TooLarge as error:
            self._breaker.answered()
            self._ledger.learn_size_limit(chunk.operation, error.size)
            return self._halve(marked, error.message)
        except OutcomeUnknown as error:
            self._tell("outcome_unknown", run=chunk.run, chunk=chunk.number, reason=error.message)
            return Done((self._ledger.postpone(marked, self._pause(error), error.message),))
        except ConnectUnreachable as error:
            return Done((self._ledger.unsent(marked, self._pause(error), error.message),))
        except ConnectRefused as error:
            return self._refused(marked, error)
        self._breaker.answered()
        known = self._ledger.submitted(marked, submission)
        self._tell("chunk_submitted", run=chunk.run, chunk=chunk.number, job=submission.job_id, records=chunk.records)
        return Done((known,))

    def settle(self, chunk: Chunk, through: Leaving) -> Done:
        """Find out what became of a request without an answer, else let it go again."""
        try:
            jobs = self._answer((chunk,), lambda: self._connect.jobs(through))
        except ConnectRefused as error:
            if error.code in CONCERNS_ALL or error.code == "connect-forbidden":
                raise
            jobs = ()  # the list is not offered here
        if isinstance(jobs, Done):
            return jobs
        # Rivals are looked for before the known ids: an answer stored in between makes its job known.
        rivals = self._ledger.has_rivals(chunk)
        known = self._ledger.jobs_known([job.id for job in jobs])
        found = None if rivals else settle.fitting_job(chunk, jobs, known)
        facts = {"run": chunk.run, "chunk": chunk.number}
        if found is not None:
            adopted = self._ledger.submitted(chunk, Submission(found.id), settled="adopted")
            self._tell("doubt_settled", **facts, how="adopted", job=found.id)
            return Done((adopted,))
        if settle.running(chunk, jobs, known):  # sent again now, it could come after what follows, and undo it
            reason = "a job that may be its own is still running"
            return Done((self._ledger.postpone(chunk, self._clock() + LOOK_AGAIN, reason),))
        if chunk.attempts >= MOST_ATTEMPTS:
            reason = f"sent {chunk.attempts} times without a usable answer: {chunk.error or 'no answer'}"
            return self._fail(chunk, reason)
        again = self._ledger.unsent(chunk, settled="sent again")
        self._tell("doubt_settled", **facts, how="sent again")
        return Done((again,))

    def ask(self, chunks: Sequence[Chunk], through: Leaving) -> Done:
        """Ask for the jobs of these chunks: for the only one by its id, for several with one request."""
        if len(chunks) > 1:
            return self._list(chunks, through)
        (chunk,) = chunks
        try:
            job = self._answer(chunks, lambda: self._connect.job(_job_id(chunk), through))
        except ConnectRefused as error:
            return self._job_lost(chunk, error)
        if isinstance(job, Done):
            return job
        if job.finished or self._young(chunk):
            self._unlisted.discard(job.id)
        return Done(ended=((chunk, job),)) if job.finished else Done((self._ledger.polled(chunk, job),))

    def read(self, chunk: Chunk, job: Job, through: Leaving) -> Done:
        """Read the log of an ended job, and close its chunk."""
        try:
            log = self._answer((chunk,), lambda: self._connect.log(_job_id(chunk), through))
        except ConnectRefused as error:
            return self._job_lost(chunk, error)
        return log if isinstance(log, Done) else self._end(chunk, job, log)

    # -- inside -------------------------------------------------------------------------------------------------

    def _answer(self, chunks: Sequence[Chunk], ask: Callable[[], Answer]) -> Answer | Done:
        """Connect's answer, else what has come of asking. ConnectRefused is the caller's matter."""
        try:
            answer = ask()
        except Stopped:
            return Done()
        except RateLimited as error:
            self._breaker.answered()
            return self._later(chunks, self._limited(error), error)
        except ConnectRefused:
            raise
        except ConnectError as error:
            return self._later(chunks, self._pause(error), error)
        self._breaker.answered()
        return answer

    def _pause(self, error: ConnectError) -> float:
        """Until when nothing is tried, as everybody does not: nothing came back."""
        return self._clock() + self._breaker.failed(error)

    def _limited(self, error: RateLimited) -> float:
        """Until when nothing is tried after a 429; the gate keeps everybody for as long as it takes."""
        return self._clock() + min(error.delay, schedule.LONGEST_WAIT)

    def _later(self, chunks: Sequence[Chunk], until: float, error: ConnectError) -> Done:
        return Done(tuple(self._ledger.postpone(chunk, until, error.message) for chunk in chunks))

    def _list(self, chunks: Sequence[Chunk], through: Leaving) -> Done:
        """Nothing promises that the list holds a job, or all that is to be known of it. What is missing is asked for
        by itself, and everything is when lists do not tell of any of our jobs again and again."""
        try:
            jobs = self._answer(chunks, lambda: self._connect.jobs(through))
        except ConnectRefused as error:
            if error.code in CONCERNS_ALL:
                raise
            self._useless += 1
            self._unlisted.update(_job_id(chunk) for chunk in chunks)
            return Done()
        if isinstance(jobs, Done):
            return jobs
        listed = {job.id: job for job in jobs if _is_whole(job)}
        self._unlisted.update(_job_id(chunk) for chunk in chunks)
        self._unlisted.difference_update(listed)
        told = [(chunk, listed[_job_id(chunk)]) for chunk in chunks if _job_id(chunk) in listed]
        if told:
            self._useless = 0
        elif not all(self._young(chunk) for chunk in chunks):
            self._useless += 1
        going = self._ledger.looked([(chunk, job) for chunk, job in told if not job.finished])
        return Done(going, tuple((chunk, job) for chunk, job in told if job.finished))

    def _young(self, chunk: Chunk) -> bool:
        """Whether its job may not be listed yet."""
        return self._clock() - (chunk.sent_at or 0.0) < LISTED

    def _job_lost(self, chunk: Chunk, error: ConnectRefused) -> Done:
        """Just after the submission a job may not be visible yet; later it is gone, and the records go again."""
        if error.code != "connect-job-unknown":
            raise error
        self._breaker.answered()
        job = _job_id(chunk)
        self._unlisted.discard(job)
        asked = self._unknown_asked[job] = self._unknown_asked.get(job, 0) + 1
        if asked < MOST_UNKNOWN:
            until = self._clock() + schedule.poll_pause(asked)
            return Done((self._ledger.postpone(chunk, until, error.message),))
        if chunk.repeats == 0:
            return self._split(chunk, (cut.same(chunk),), error=error.message)
        return self._fail(chunk, f"{error.message}, twice")

    # -- ends ---------------------------------------------------------------------------------------------------

    def _end(self, chunk: Chunk, job: Job, log: tuple[LogRow, ...]) -> Done:
        facts = {"run": chunk.run, "chunk": chunk.number, "job": job.id, "status": job.status, "failed": job.failed}
        match verdict.reach(chunk, job, log, lambda rows: self._trace(chunk, rows), lambda: self._alone(chunk)):
            case verdict.Accept(refusals, untraced):
                accepted = self._ledger.accept(chunk, refusals, job.status)
                self._tell("job_finished", **facts, refused=len(refusals), untraced=untraced)
                return Done((accepted,))
            case verdict.Halve(reason):
                self._tell("job_finished", **facts)
                if self._halves_of(chunk) >= MOST_HALVES:
                    return self._fail(chunk, f"{reason}; given up after {MOST_HALVES} halvings", (), job.status)
                return self._halve(chunk, reason, job.status)
            case verdict.SendRest(positions, refusals, reason):
                self._tell("job_finished", **facts, refused=len(refusals))
                rest = cut.rest(chunk, positions)
                if rest is None:
                    return self._fail(chunk, reason, refusals, job.status)
                return self._split(chunk, (rest,), refusals, error=reason, job_status=job.status)
            case verdict.Repeat(reason):
                self._tell("job_finished", **facts)
                return self._split(chunk, (cut.same(chunk),), error=reason, job_status=job.status)
            case verdict.Fail(reason, refusals):
                self._tell("job_finished", **facts, refused=len(refusals))
                return self._fail(chunk, reason, refusals, job.status)

    def _halve(self, chunk: Chunk, reason: str, job_status: int | None = None, said: str = "") -> Done:
        if chunk.header.get("FullFile"):  # a scope cut in two would make each half retire the other's rows
            return self._fail(chunk, f"{reason}; a FullFile request is not cut", (), job_status, said)
        if chunk.records == 1:
            record = self._alone(chunk)
            refusals = (record.refusal(ERROR, _with(reason, said)),) if record else ()
            return self._fail(chunk, reason, refusals, job_status, said)
        done = self._split(chunk, cut.halves(chunk), error=reason, job_status=job_status)
        self._tell("chunk_halved", run=chunk.run, chunk=chunk.number, records=chunk.records, reason=reason)
        return done

    def _halves_of(self, chunk: Chunk) -> int:
        chunks = self._ledger.chunks(chunk.run)
        return sum(other.origin == chunk.origin and other.state is ChunkState.SPLIT for other in chunks)

    def _split(
        self, chunk: Chunk, parts: Sequence[Chunk], refusals: Sequence[Refusal] = (), *, error: str,
        job_status: int | None = None,
    ) -> Done:  # fmt: skip
        made = self._ledger.split(chunk, parts, refusals, error=error, job_status=job_status)
        return Done((replace(chunk, state=ChunkState.SPLIT), *made))

    def _fail(
        self, chunk: Chunk, reason: str, refusals: Sequence[Refusal] = (), job_status: int | None = None,
        said: str = "",
    ) -> Done:  # fmt: skip
        """`said`: what Connect adds to the reason; it may hold cell values and is not for the log."""
        failed = self._ledger.fail(chunk, _with(reason, said), refusals, job_status)
        self._tell("chunk_failed", run=chunk.run, chunk=chunk.number, records=chunk.records, reason=reason)
        return Done((failed,))

    def _refused(self, chunk: Chunk, error: ConnectRefused) -> Done:
        self._breaker.answered()
        if error.code in CONCERNS_ALL | _CONCERNS_IMPORT:
            if chunk.state is ChunkState.SENDING:
                self._ledger.unsent(chunk, None, error.message)
            raise error
        alike = [other for other in self._ledger.chunks(chunk.run) if other.header == chunk.header]
        taken = any(other.job_id is not None for other in alike)
        halved = sum(other.state is ChunkState.SPLIT for other in alike)
        if halved >= (MOST_HALVES if taken else MOST_REFUSED):
            return self._fail(chunk, f"{error.message}; given up after {halved} halvings", said=error.hint)
        return self._halve(chunk, error.message, said=error.hint)

    def _trace(self, chunk: Chunk, rows: Sequence[LogRow]) -> Traced:
        operation = contract.load().operations.get(chunk.operation)
        return trace(self._records_of(chunk), rows, operation.key.fields if operation else ())

    def _alone(self, chunk: Chunk) -> TracedRecord | None:
        return next(iter(self._records_of(chunk)), None)


def _with(reason: str, said: str) -> str:
    return f"{reason}; {said}" if said else reason


def _is_whole(job: Job) -> bool:
    """Whether a list tells of a job what its end is judged by."""
    return job.status is not None and (not job.finished or (job.total is not None and job.failed is not None))


def _job_id(chunk: Chunk) -> int:
    if chunk.job_id is None:
        raise Defect(f"chunk {chunk.number} of run {chunk.run} waits for a job without an id")
    return chunk.job_id
