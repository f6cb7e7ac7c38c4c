"""Remembers runs, chunks, jobs and what was accepted; one transaction per step.

The methods are the rows of the crash table. After a crash exactly the last finished step is visible, so whoever
comes next reads the state and goes on:

    open_run    a claimed file has its run
    planned     plan, chunks and payload files are there (payloads were synced before)
    sending     marked before the request leaves: a crash from here on leaves the chunk in doubt
    submitted   the job's id is known
    polled      the job was looked at
    accept      THE commit point: chunk closed, refusals noted, and thereby the feed's accepted state moved
    close       nothing more to do but to file away

What a feed has had accepted is *derived*: a base generation and, over it, the accepted chunks of the runs not yet
merged into it. There is no second place to update, so the two cannot disagree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etl.errors import InternalError
from etl.model.runs import Chunk, ChunkState, Counts, Job, Overlay, RecordError, Run, RunState, Submission
from etl.state.ledger import schema
from etl.state.ledger.database import IN_JSON, Connection, Database, json_list
from etl.state.ledger.jobs import JobStore
from etl.state.ledger.meta import FINAL_RUN_STATES
from etl.state.ledger.overlays import read_overlay_of_run, read_overlays
from etl.state.ledger.rows import chunk_from_row, chunk_to_row, run_from_row, run_to_row, to_stored_path

#: States in which a chunk has ended, for `AMONG`.
_FINAL_CHUNK_STATES = json_list(state for state in ChunkState if state.is_final)


class Ledger(JobStore):
    """The durable memory of one state folder. Safe to share between threads; processes share the folder."""

    def __init__(self, database: Database, state: Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__(database, state)
        self._clock = clock

    @classmethod
    def open(cls, state: Path, *, target: str | None = None, clock: Callable[[], float] = time.time) -> Ledger:
        """The ledger of a state folder, created when missing.

        `target` (ConnectSettings.target) ties the folder to one catalogue: StateError when it belongs to another.
        """
        ledger = cls(schema.open_database(state), state.absolute(), clock)
        try:
            if target is not None:
                ledger.bind_target(target)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        """Give back all connections."""
        self.database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- runs ---------------------------------------------------------------------------------------------------

    def open_run(self, run: Run) -> None:
        """A claimed file has its run."""
        started = datetime.fromtimestamp(self._clock(), UTC)
        with self.database.write() as db:
            db.insert("runs", run_to_row(run, self.state_folder, started))

    def save_plan(
        self, run_id: str, counts: Counts, chunks: Iterable[Chunk], state: RunState = RunState.PLANNED
    ) -> None:
        """The plan is made and its payload files are synced. A repeated call replaces a plan not yet sent."""
        rows = [chunk_to_row(chunk, self.state_folder) for chunk in chunks]
        with self.database.write() as db:
            self._update_run(db, run_id, (RunState.CLAIMED, RunState.PLANNED, RunState.HELD), state, **asdict(counts))
            db.execute("DELETE FROM chunks WHERE run = ?", (run_id,))
            db.insert("chunks", *rows)

    def hold(self, run_id: str) -> None:
        """A planned run waits for a person."""
        with self.database.write() as db:
            self._update_run(db, run_id, (RunState.CLAIMED, RunState.PLANNED, RunState.HELD), RunState.HELD)

    def release_run(self, run_id: str) -> None:
        """A person said yes."""
        with self.database.write() as db:
            self._update_run(db, run_id, (RunState.HELD,), RunState.PLANNED)

    def close_run(
        self,
        run_id: str,
        state: RunState,
        counts: Counts | None = None,
        error: str | None = None,
        archive: Path | None = None,
    ) -> None:
        """The run has ended; what is left is to file the file away. Defect while a chunk is unfinished.

        A run that is done was planned with all that the feed owed: what had been carried is its own from here on.
        """
        ended = datetime.fromtimestamp(self._clock(), UTC).isoformat()
        unfinished = f"SELECT number FROM chunks WHERE run = ? AND state NOT {IN_JSON} LIMIT 1"
        with self.database.write() as db:
            if state is RunState.COMPLETED and db.scalar(unfinished, run_id, _FINAL_CHUNK_STATES) is not None:
                raise InternalError(f"run {run_id} was to be closed with unfinished chunks")
            open_states = tuple(state for state in RunState if not state.is_final)
            self._update_run(
                db,
                run_id,
                (*open_states, state),
                state,
                ended=ended,
                error=error,
                archive=to_stored_path(archive, self.state_folder),
                **(asdict(counts) if counts else {}),
            )
            if state is RunState.COMPLETED:
                feed = db.scalar("SELECT feed FROM runs WHERE id = ?", run_id)
                unsent = "feed = ? AND state = 'merged' AND merged_into IS NULL"
                db.update("runs", {"merged_into": run_id}, unsent, feed)

    def list_runs(self, limit: int = 20, feed: str | None = None, *states: RunState) -> tuple[Run, ...]:
        """The newest runs first; of these states, or of any."""
        wanted = {"feed = ?": feed, f"state {IN_JSON}": json_list(states) if states else None}
        wanted = {clause: value for clause, value in wanted.items() if value is not None}
        sql = f"SELECT * FROM runs WHERE {' AND '.join(('1', *wanted))} ORDER BY seq DESC LIMIT ?"
        with self.database.read() as db:
            return tuple(run_from_row(row, self.state_folder) for row in db.execute(sql, (*wanted.values(), limit)))

    def find_run(self, run_id: str) -> Run | None:
        """One run, or None."""
        with self.database.read() as db:
            row = db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
            return run_from_row(row, self.state_folder) if row else None

    def list_open_runs(self) -> tuple[Run, ...]:
        """Runs that have not ended, oldest first: what a start goes on with."""
        sql = f"SELECT * FROM runs WHERE state NOT {IN_JSON} ORDER BY seq"
        with self.database.read() as db:
            return tuple(run_from_row(row, self.state_folder) for row in db.execute(sql, (FINAL_RUN_STATES,)))

    # -- chunks -------------------------------------------------------------------------------------------------

    def list_chunks(self, run_id: str, *, unfinished: bool = False) -> tuple[Chunk, ...]:
        """The run's chunks by number."""
        sql = f"SELECT * FROM chunks WHERE run = ? AND state NOT {IN_JSON} ORDER BY number"
        with self.database.read() as db:
            rows = db.execute(sql, (run_id, _FINAL_CHUNK_STATES if unfinished else json_list(())))
            return tuple(chunk_from_row(row, self.state_folder) for row in rows)

    def mark_sending(self, chunk: Chunk) -> Chunk:
        """Marked before the request leaves. From here until `submitted` the outcome is unknown after a crash."""
        with self.database.write() as db:
            updated = self._update_chunk(
                db,
                chunk,
                (ChunkState.READY, ChunkState.SENDING),
                state=ChunkState.SENDING,
                attempts=chunk.attempts + 1,
                sent_at=self._clock(),
                retry_after=None,
                error=None,
            )
            self._update_run(db, chunk.run, (RunState.PLANNED, RunState.SENDING), RunState.SENDING)
        return updated

    def requeue(
        self, chunk: Chunk, retry_after: float | None = None, error: str | None = None, resolution: str | None = None
    ) -> Chunk:
        """The request certainly did not arrive, or nothing newer of its keys was sent: it may go (again)."""
        with self.database.write() as db:
            return self._update_chunk(
                db,
                chunk,
                (ChunkState.READY, ChunkState.SENDING),
                state=ChunkState.READY,
                retry_after=retry_after,
                error=error,
                resolution=resolution or chunk.resolution,
            )

    def save_submission(self, chunk: Chunk, submission: Submission, resolution: str | None = None) -> Chunk:
        """Connect gave a job id. `settled` says how an unknown outcome became known."""
        with self.database.write() as db:
            return self._update_chunk(
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
        """The job was looked at and goes on."""
        (looked,) = self.save_polls([(chunk, job)])
        return looked

    def save_polls(self, polls: Sequence[tuple[Chunk, Job]]) -> tuple[Chunk, ...]:
        """The same for several jobs at once."""
        if not polls:
            return ()
        with self.database.write() as db:
            return tuple(
                self._update_chunk(
                    db,
                    chunk,
                    (ChunkState.SUBMITTED,),
                    state=ChunkState.SUBMITTED,
                    job_status=job.status,
                    polled_at=self._clock(),
                    polls=chunk.polls + 1,
                    retry_after=None,
                    error=None,
                )
                for chunk, job in polls
            )

    def postpone(self, chunk: Chunk, retry_after: float, error: str | None = None) -> Chunk:
        """Not before that time (epoch seconds); nothing else changes."""
        with self.database.write() as db:
            return self._update_chunk(
                db,
                chunk,
                tuple(state for state in ChunkState if not state.is_final),
                retry_after=retry_after,
                error=error,
            )

    def accept(self, chunk: Chunk, record_errors: Iterable[RecordError] = (), job_status: int | None = None) -> Chunk:
        """THE commit point: all records of the chunk but the refused ones are what Norce has."""
        with self.database.write() as db:
            self._insert_record_errors(db, chunk, record_errors)
            self._bump_revision(db, chunk.run)
            return self._update_chunk(
                db,
                chunk,
                (ChunkState.SUBMITTED,),
                state=ChunkState.ACCEPTED,
                job_status=job_status if job_status is not None else chunk.job_status,
                error=None,
                retry_after=None,
            )

    def fail(
        self, chunk: Chunk, error: str, record_errors: Iterable[RecordError] = (), job_status: int | None = None
    ) -> Chunk:
        """Nothing of the chunk is accepted; its records come up again with the next run of the feed."""
        with self.database.write() as db:
            self._insert_record_errors(db, chunk, record_errors)
            return self._update_chunk(
                db,
                chunk,
                tuple(state for state in ChunkState if not state.is_final),
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
        """The chunk is replaced by `parts` (payloads synced before); they get the run's next numbers."""
        with self.database.write() as db:
            last = db.scalar("SELECT max(number) FROM chunks WHERE run = ?", chunk.run)
            numbered = tuple(replace(part, number=last + n) for n, part in enumerate(parts, 1))
            self._insert_record_errors(db, chunk, record_errors)
            self._update_chunk(
                db,
                chunk,
                tuple(state for state in ChunkState if not state.is_final),
                state=ChunkState.SPLIT,
                error=error,
                job_status=job_status if job_status is not None else chunk.job_status,
                retry_after=None,
            )
            db.insert("chunks", *(chunk_to_row(part, self.state_folder) for part in numbered))
        return numbered

    def list_record_errors(self, run_id: str) -> tuple[RecordError, ...]:
        """What Connect did not take of a run, one per key (the highest severity), in the order of the run's file; what
        earlier files brought comes first, file by file."""
        sql = """SELECT key, severity, message, source_row, source_file, source_run FROM record_errors
                 WHERE run = ? ORDER BY id"""
        with self.database.read() as db:
            said = [RecordError(*row) for row in db.execute(sql, (run_id,))]
        worst: dict[str, RecordError] = {}
        for refusal in said:
            found = worst.get(refusal.key)
            if found is None or refusal.severity > found.severity:
                worst[refusal.key] = refusal
        return tuple(sorted(worst.values(), key=_record_error_order))

    # -- accepted -----------------------------------------------------------------------------------------------

    def generation(self, feed: str) -> str | None:
        """File name of the feed's immutable base, or None."""
        with self.database.read() as db:
            name: str | None = db.scalar("SELECT generation FROM feeds WHERE feed = ?", feed)
        return name

    def overlays(self, feed: str) -> tuple[Overlay, ...]:
        """What lies over the base: runs in the order they were opened, each with what it has had accepted."""
        with self.database.read() as db:
            return read_overlays(db, feed, self.state_folder)

    def overlay_of_run(self, run_id: str) -> Overlay:
        """What one run has had accepted, whether or not it is part of the base by now."""
        with self.database.read() as db:
            return read_overlay_of_run(db, run_id, self.state_folder)

    def replace_base(self, feed: str, generation: str | None, run_ids: Iterable[str]) -> None:
        """A new base is on disk (synced) and holds these runs; Defect when one of them is still open.

        With `generation` None the feed starts from nothing: pass all its runs to forget what was accepted.
        """
        merged = json_list(run_ids)
        still_open = f"SELECT id FROM runs WHERE feed = ? AND id {IN_JSON} AND state NOT {IN_JSON} LIMIT 1"
        with self.database.write() as db:
            found = db.scalar(still_open, feed, merged, FINAL_RUN_STATES)
            if found is not None:
                raise InternalError(f"run {found} was to be merged before it ended")
            db.insert("feeds", {"feed": feed, "generation": generation}, replace=True)
            db.update("runs", {"compacted": 1}, f"feed = ? AND id {IN_JSON}", feed, merged)

    # -- inside -------------------------------------------------------------------------------------------------

    def _update_run(
        self, db: Connection, run_id: str, allowed: tuple[RunState, ...], state: RunState, **values: Any
    ) -> None:
        values = {"state": state.value, **values}
        if db.update("runs", values, f"id = ? AND state {IN_JSON}", run_id, json_list(allowed)) != 1:
            raise InternalError(f"run {run_id} cannot become {state.value} from where it is")

    def _update_chunk(self, db: Connection, chunk: Chunk, allowed: tuple[ChunkState, ...], **values: Any) -> Chunk:
        updated = replace(chunk, **values)
        row = chunk_to_row(updated, self.state_folder)
        stored = {name: row[name] for name in values}
        here = f"run = ? AND number = ? AND state {IN_JSON}"
        if db.update("chunks", stored, here, chunk.run, chunk.number, json_list(allowed)) != 1:
            raise InternalError(f"chunk {chunk.number} of run {chunk.run} cannot become {updated.state.value}")
        return updated

    @staticmethod
    def _insert_record_errors(db: Connection, chunk: Chunk, record_errors: Iterable[RecordError]) -> None:
        rows = (
            {"run": chunk.run, "origin_chunk": chunk.origin_chunk or chunk.number, **asdict(item)}
            for item in record_errors
        )
        db.insert("record_errors", *rows)


def _record_error_order(record_error: RecordError) -> tuple[bool, str, int, str]:
    return (
        record_error.source_run is None,
        record_error.source_run or "",
        record_error.source_row or 0,
        record_error.key,
    )
