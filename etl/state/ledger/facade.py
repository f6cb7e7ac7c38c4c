"""The ledger of a state folder: its stores, and the steps of a run, each of them one transaction.

Reads are methods of the stores (`ledger.runs`, `ledger.chunks`, ...). The steps are methods of the ledger, because most
change several tables at once; they are the rows of the crash table. After a crash exactly the last finished step is
visible, and the next start reads the state and continues from there:

    open_run         a claimed file has its run
    save_plan        plan, chunks and payload files are there (payloads were synced before)
    mark_sending     marked before the request leaves: after a crash from here on the outcome is unknown
    save_submission  the id of the job is known
    save_polls       the job was polled and goes on
    accept           the commit point: closes the chunk, stores record errors, changes the feed's accepted records
    close_run        the run has ended; its file is still to be archived
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from etl.errors import InternalError
from etl.model.runs import Chunk, ChunkState, Counts, Job, RecordError, Run, RunState, Submission
from etl.state.ledger import schema
from etl.state.ledger.chunks import OPEN_CHUNK_STATES, ChunkStore
from etl.state.ledger.database import Database
from etl.state.ledger.digests import DigestStore
from etl.state.ledger.feeds import FeedStore
from etl.state.ledger.jobs import JobStore
from etl.state.ledger.meta import MetaStore, get_meta, set_meta
from etl.state.ledger.record_errors import RecordErrorStore
from etl.state.ledger.rows import to_stored_path
from etl.state.ledger.runs import OPEN_RUN_STATES, RunStore
from etl.state.ledger.tokens import TokenStore


@dataclass(frozen=True, slots=True)
class ImportedFeed:
    """A feed of another state folder."""

    name: str
    generation: str  #: file name of its base snapshot, which is written and synced
    newest_run: Run | None  #: its newest processed run, still as a claimed one


class Ledger:
    """The durable memory of one state folder. Safe to share between threads; processes share the folder."""

    def __init__(self, database: Database, state_folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.state_folder = state_folder
        self.runs = RunStore(database, state_folder)
        self.chunks = ChunkStore(database, state_folder)
        self.record_errors = RecordErrorStore(database)
        self.jobs = JobStore(database)
        self.feeds = FeedStore(database, state_folder)
        self.digests = DigestStore(database, state_folder)
        self.tokens = TokenStore(database)
        self.meta = MetaStore(database, state_folder)
        self._clock = clock

    @classmethod
    def open(cls, state_folder: Path, *, target: str | None = None, clock: Callable[[], float] = time.time) -> Ledger:
        """Open the ledger of a state folder, and create it when it is missing.

        Args:
            target: the catalogue (ConnectSettings.target) to which the folder is bound.

        Raises:
            StateError: the ledger cannot be used, or the folder belongs to another catalogue.
        """
        ledger = cls(schema.open_database(state_folder), state_folder.absolute(), clock)
        try:
            if target is not None:
                ledger.meta.bind_target(target)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def open_read_only(cls, state_folder: Path) -> Ledger:
        """Open the ledger of a state folder for reading, also while another process writes. Raises StateError."""
        return cls(schema.open_database_read_only(state_folder), state_folder.absolute())

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- runs ---------------------------------------------------------------------------------------------------

    def open_run(self, run: Run) -> None:
        """Add the run of a claimed file."""
        with self.database.write() as db:
            self.runs.insert(db, run, self._now())

    def save_plan(
        self, run_id: str, counts: Counts, chunks: Iterable[Chunk], state: RunState = RunState.PLANNED
    ) -> Run:
        """Store a plan whose payload files are synced, in the place of one that is not sent yet; return the run."""
        chunks = tuple(chunks)
        with self.database.write() as db:
            self.chunks.replace_all(db, run_id, chunks)
            unsent = (RunState.CLAIMED, RunState.PLANNED, RunState.HELD)
            return self.runs.update(db, run_id, unsent, state, **asdict(counts))

    def change_operation(self, run_id: str, operation: str) -> Run:
        """Let a claimed run be of another import, and return it."""
        with self.database.write() as db:
            return self.runs.update(db, run_id, (RunState.CLAIMED,), RunState.CLAIMED, operation=operation)

    def release_run(self, run_id: str) -> Run:
        """Let a held run be sent, and return it."""
        with self.database.write() as db:
            return self.runs.update(db, run_id, (RunState.HELD,), RunState.PLANNED)

    def close_run(
        self,
        run_id: str,
        state: RunState,
        counts: Counts | None = None,
        error: str | None = None,
        archive: Path | None = None,
    ) -> Run:
        """End a run and return it; its file is still to be archived.

        A completed run was planned with all pending records of its feed: the merged runs that brought them are
        assigned to it.

        Raises:
            InternalError: the run is to be completed and has an unfinished chunk.
        """
        ending = {
            "ended": self._now().isoformat(),
            "error": error,
            "archive": to_stored_path(archive, self.state_folder),
            **(asdict(counts) if counts else {}),
        }
        with self.database.write() as db:
            if state is RunState.COMPLETED and self.chunks.has_unfinished(db, run_id):
                raise InternalError(f"run {run_id} was to be closed with unfinished chunks")
            run = self.runs.update(db, run_id, (*OPEN_RUN_STATES, state), state, **ending)
            if state is RunState.COMPLETED:
                self.runs.assign_awaiting_merge(db, run)
        return run

    # -- chunks -------------------------------------------------------------------------------------------------

    def mark_sending(self, chunk: Chunk) -> Chunk:
        """Mark a chunk before its request leaves; until `save_submission` the outcome is unknown after a crash."""
        with self.database.write() as db:
            updated = self.chunks.update(
                db,
                chunk,
                (ChunkState.READY, ChunkState.SENDING),
                state=ChunkState.SENDING,
                attempts=chunk.attempts + 1,
                sent_at=self._clock(),
                absent_since=None,
                retry_after=None,
                error=None,
            )
            self.runs.update(db, chunk.run, (RunState.PLANNED, RunState.SENDING), RunState.SENDING)
        return updated

    def requeue(
        self, chunk: Chunk, retry_after: float | None = None, error: str | None = None, resolution: str | None = None
    ) -> Chunk:
        """Let a chunk be sent (again): its request did not arrive, or no newer values of its keys were sent.

        Args:
            retry_after: epoch seconds before which it must not be sent.
            resolution: how an unknown outcome was resolved.
        """
        with self.database.write() as db:
            return self.chunks.update(
                db,
                chunk,
                (ChunkState.READY, ChunkState.SENDING),
                state=ChunkState.READY,
                retry_after=retry_after,
                error=error,
                resolution=resolution or chunk.resolution,
            )

    def note_absence(self, chunk: Chunk, since: float, retry_after: float) -> Chunk:
        """Store since when lists lack a job that may be that of a request without a response (epoch seconds)."""
        with self.database.write() as db:
            return self.chunks.update(db, chunk, (ChunkState.SENDING,), absent_since=since, retry_after=retry_after)

    def hold_unknown(self, run_id: str, error: str) -> Run:
        """Hold a run because a person has to decide on a request whose outcome is unknown."""
        with self.database.write() as db:
            return self.runs.update(db, run_id, (RunState.SENDING, RunState.HELD), RunState.HELD, error=error)

    def release_unknown(self, run_id: str) -> Run:
        """Let the requests of a run whose outcome is unknown be sent again, because a person has decided so."""
        with self.database.write() as db:
            for chunk in self.chunks.list_by_run(run_id, unfinished=True):
                if chunk.state is ChunkState.SENDING:
                    self.chunks.update(
                        db, chunk, (ChunkState.SENDING,), state=ChunkState.READY, retry_after=None, error=None
                    )
            return self.runs.update(db, run_id, (RunState.HELD,), RunState.SENDING, error=None)

    def save_submission(self, chunk: Chunk, submission: Submission, resolution: str | None = None) -> Chunk:
        """Store the job id that Connect gave; `resolution` says how an unknown outcome was resolved."""
        with self.database.write() as db:
            return self.chunks.update(
                db,
                chunk,
                (ChunkState.SENDING,),
                state=ChunkState.SUBMITTED,
                job_id=submission.job_id,
                validation_failures=submission.validation_failures,
                messages=submission.messages,
                polled_at=None,
                polls=0,
                retry_after=None,
                error=None,
                resolution=resolution or chunk.resolution,
            )

    def save_poll(self, chunk: Chunk, job: Job) -> Chunk:
        """Store the state of a job that has not ended."""
        (polled_chunk,) = self.save_polls([(chunk, job)])
        return polled_chunk

    def save_polls(self, polls: Sequence[tuple[Chunk, Job]]) -> tuple[Chunk, ...]:
        """Store the states of several jobs that have not ended."""
        if not polls:
            return ()
        with self.database.write() as db:
            return tuple(
                self.chunks.update(
                    db,
                    chunk,
                    (ChunkState.SUBMITTED,),
                    state=ChunkState.SUBMITTED,
                    job_status=job.status,
                    job_counts=job.counts,
                    polled_at=self._clock(),
                    polls=chunk.polls + 1,
                    retry_after=None,
                    error=None,
                )
                for chunk, job in polls
            )

    def postpone(self, chunk: Chunk, retry_after: float, error: str | None = None) -> Chunk:
        """Leave an open chunk alone until a time (epoch seconds); nothing else changes."""
        with self.database.write() as db:
            return self.chunks.update(db, chunk, OPEN_CHUNK_STATES, retry_after=retry_after, error=error)

    def accept(
        self,
        chunk: Chunk,
        record_errors: Iterable[RecordError] = (),
        job_status: int | None = None,
        *,
        job_total: int | None = None,
        warnings: Iterable[str] = (),
    ) -> Chunk:
        """Take the commit point: all records of the chunk but the failed ones are accepted records from here on."""
        with self.database.write() as db:
            self.record_errors.insert(db, chunk, record_errors)
            self.feeds.bump_revision(db, chunk.run)
            return self.chunks.update(
                db,
                chunk,
                (ChunkState.SUBMITTED,),
                state=ChunkState.ACCEPTED,
                job_status=job_status if job_status is not None else chunk.job_status,
                job_total=job_total,
                warnings=tuple(warnings),
                error=None,
                retry_after=None,
            )

    def fail(
        self, chunk: Chunk, error: str, record_errors: Iterable[RecordError] = (), job_status: int | None = None
    ) -> Chunk:
        """Close a chunk of which nothing is accepted; the next run of the feed sends its records again."""
        with self.database.write() as db:
            self.record_errors.insert(db, chunk, record_errors)
            return self.chunks.update(
                db,
                chunk,
                OPEN_CHUNK_STATES,
                state=ChunkState.FAILED,
                error=error,
                job_status=job_status if job_status is not None else chunk.job_status,
                retry_after=None,
            )

    def split(
        self,
        chunk: Chunk,
        parts: Sequence[Chunk],
        record_errors: Iterable[RecordError] = (),
        *,
        error: str | None = None,
        job_status: int | None = None,
    ) -> tuple[Chunk, ...]:
        """Replace a chunk by `parts`, whose payloads are synced, and return them with the run's next numbers."""
        with self.database.write() as db:
            self.record_errors.insert(db, chunk, record_errors)
            self.chunks.update(
                db,
                chunk,
                OPEN_CHUNK_STATES,
                state=ChunkState.SPLIT,
                error=error,
                job_status=job_status if job_status is not None else chunk.job_status,
                retry_after=None,
            )
            return self.chunks.append(db, chunk.run, parts)

    # -- accepted records ---------------------------------------------------------------------------------------

    def replace_base(self, feed: str, generation: str | None, run_ids: Iterable[str]) -> None:
        """Make a synced base snapshot the one that counts; it holds the records of these runs.

        With `generation` None the feed has no accepted records: pass all its runs to forget what they had accepted.

        Raises:
            InternalError: one of the runs is still open.
        """
        with self.database.write() as db:
            self.feeds.set_generation(db, feed, generation)
            self.runs.mark_compacted(db, feed, run_ids)

    def import_feeds(self, target: str | None, feeds: Iterable[ImportedFeed]) -> None:
        """Make the synced base snapshots of another folder count here, all of them at once.

        `target`: the catalogue to which the folder is bound, if it is not bound yet.
        """
        with self.database.write() as db:
            if target is not None and get_meta(db, "target") is None:
                set_meta(db, "target", target)
            for feed in feeds:
                if feed.newest_run is not None:
                    run = feed.newest_run
                    self.runs.insert(db, run, self._now())
                    ending = {"ended": self._now().isoformat(), **asdict(run.counts)}
                    self.runs.update(db, run.id, (run.state,), RunState.COMPLETED, **ending)
                self.feeds.set_generation(db, feed.name, feed.generation)
                self.runs.mark_compacted(db, feed.name, [feed.newest_run.id] if feed.newest_run else [])

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
