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
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from etl import schema
from etl.errors import Defect, StateError
from etl.model import (
    AcceptedRange,
    Chunk,
    ChunkState,
    Counts,
    Job,
    Overlay,
    Refusal,
    Run,
    RunState,
    Submission,
)

_FINAL_RUN = [state.value for state in RunState if state.is_final]
_FINAL_CHUNK = [state.value for state in ChunkState if state.is_final]

#: From this severity on a record was not, or not wholly, imported.
NOT_TAKEN = 2


class Ledger:
    """The durable memory of one state folder. Safe to share between threads; processes share the folder."""

    def __init__(self, database: schema.Database, state: Path, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.state = state
        self._clock = clock

    @classmethod
    def open(cls, state: Path, *, target: str | None = None, clock: Callable[[], float] = time.time) -> Ledger:
        """The ledger of a state folder, created when missing.

        `target` (ConnectSettings.target) ties the folder to one catalogue: StateError when it belongs to another.
        """
        ledger = cls(schema.open_database(state), state.absolute(), clock)
        try:
            if target is not None:
                ledger._tie(target)
        except BaseException:
            ledger.shut()
            raise
        return ledger

    def shut(self) -> None:
        """Give back all connections."""
        self.database.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()

    # -- runs ---------------------------------------------------------------------------------------------------

    def open_run(self, run: Run) -> None:
        """A claimed file has its run."""
        started = run.started or datetime.fromtimestamp(self._clock(), UTC)
        with self.database.write() as db:
            db.execute(
                insert(schema.runs).values(
                    id=run.id,
                    feed=run.feed,
                    operation=run.operation,
                    file=run.file,
                    digest=run.digest,
                    state=run.state.value,
                    kind=run.kind,
                    started=started.isoformat(),
                    claimed=self._kept(run.claimed),
                    merged=0,
                    **asdict(run.counts),
                )
            )

    def planned(self, run_id: str, counts: Counts, chunks: Iterable[Chunk], state: RunState = RunState.PLANNED) -> None:
        """The plan is made and its payload files are synced. A repeated call replaces a plan not yet sent."""
        rows = [self._chunk_values(chunk) for chunk in chunks]
        with self.database.write() as db:
            self._step_run(db, run_id, (RunState.CLAIMED, RunState.PLANNED, RunState.HELD), state, **asdict(counts))
            db.execute(delete(schema.chunks).where(schema.chunks.c.run == run_id))
            if rows:
                db.execute(insert(schema.chunks), rows)

    def hold(self, run_id: str) -> None:
        """A planned run waits for a person."""
        with self.database.write() as db:
            self._step_run(db, run_id, (RunState.CLAIMED, RunState.PLANNED, RunState.HELD), RunState.HELD)

    def release(self, run_id: str) -> None:
        """A person said yes."""
        with self.database.write() as db:
            self._step_run(db, run_id, (RunState.HELD,), RunState.PLANNED)

    def close(
        self,
        run_id: str,
        state: RunState,
        counts: Counts | None = None,
        error: str | None = None,
        archive: Path | None = None,
    ) -> None:
        """The run has ended; what is left is to file the file away. Defect while a chunk is unfinished."""
        ended = datetime.fromtimestamp(self._clock(), UTC).isoformat()
        c = schema.chunks.c
        with self.database.write() as db:
            if (
                state is RunState.DONE
                and db.execute(select(c.number).where(c.run == run_id, c.state.not_in(_FINAL_CHUNK)).limit(1)).first()
            ):
                raise Defect(f"run {run_id} was to be closed with unfinished chunks")
            open_states = tuple(state for state in RunState if not state.is_final)
            self._step_run(
                db,
                run_id,
                (*open_states, state),
                state,
                ended=ended,
                error=error,
                archive=self._kept(archive),
                **(asdict(counts) if counts else {}),
            )

    def runs(self, limit: int = 20, feed: str | None = None, state: RunState | None = None) -> tuple[Run, ...]:
        """The newest runs first."""
        query = select(schema.runs).order_by(schema.runs.c.seq.desc()).limit(limit)
        if feed is not None:
            query = query.where(schema.runs.c.feed == feed)
        if state is not None:
            query = query.where(schema.runs.c.state == state.value)
        with self.database.read() as db:
            return tuple(self._run(row) for row in db.execute(query))

    def run(self, run_id: str) -> Run | None:
        """One run, or None."""
        with self.database.read() as db:
            row = db.execute(select(schema.runs).where(schema.runs.c.id == run_id)).first()
        return self._run(row) if row else None

    def open_runs(self) -> tuple[Run, ...]:
        """Runs that have not ended, oldest first: what a start goes on with."""
        query = select(schema.runs).where(schema.runs.c.state.not_in(_FINAL_RUN)).order_by(schema.runs.c.seq)
        with self.database.read() as db:
            return tuple(self._run(row) for row in db.execute(query))

    # -- chunks -------------------------------------------------------------------------------------------------

    def chunks(self, run_id: str, *, unfinished: bool = False) -> tuple[Chunk, ...]:
        """The run's chunks by number."""
        c = schema.chunks.c
        query = select(schema.chunks).where(c.run == run_id).order_by(c.number)
        if unfinished:
            query = query.where(c.state.not_in(_FINAL_CHUNK))
        with self.database.read() as db:
            return tuple(self._chunk(row) for row in db.execute(query))

    def sending(self, chunk: Chunk) -> Chunk:
        """Marked before the request leaves. From here until `submitted` the outcome is unknown after a crash."""
        with self.database.write() as db:
            updated = self._step(
                db,
                chunk,
                (ChunkState.PLANNED, ChunkState.SENDING),
                state=ChunkState.SENDING,
                attempts=chunk.attempts + 1,
                sent_at=self._clock(),
                not_before=None,
                error=None,
            )
            self._step_run(db, chunk.run, (RunState.PLANNED, RunState.SENDING), RunState.SENDING)
        return updated

    def unsent(
        self, chunk: Chunk, not_before: float | None = None, error: str | None = None, settled: str | None = None
    ) -> Chunk:
        """The request certainly did not arrive, or nothing newer of its keys was sent: it may go (again)."""
        with self.database.write() as db:
            return self._step(
                db,
                chunk,
                (ChunkState.PLANNED, ChunkState.SENDING),
                state=ChunkState.PLANNED,
                not_before=not_before,
                error=error,
                settled=settled or chunk.settled,
            )

    def submitted(self, chunk: Chunk, submission: Submission, settled: str | None = None) -> Chunk:
        """Connect gave a job id. `settled` says how an unknown outcome became known."""
        with self.database.write() as db:
            return self._step(
                db,
                chunk,
                (ChunkState.SENDING,),
                state=ChunkState.SUBMITTED,
                job_id=submission.job_id,
                validation_failures=submission.validation_failures,
                messages=submission.messages,
                polled_at=None,
                polls=0,
                not_before=None,
                error=None,
                settled=settled or chunk.settled,
            )

    def polled(self, chunk: Chunk, job: Job) -> Chunk:
        """The job was looked at and goes on."""
        with self.database.write() as db:
            return self._step(
                db,
                chunk,
                (ChunkState.SUBMITTED,),
                state=ChunkState.SUBMITTED,
                job_status=job.status,
                polled_at=self._clock(),
                polls=chunk.polls + 1,
                not_before=None,
                error=None,
            )

    def postpone(self, chunk: Chunk, not_before: float, error: str | None = None) -> Chunk:
        """Not before that time (epoch seconds); nothing else changes."""
        with self.database.write() as db:
            return self._step(
                db,
                chunk,
                tuple(state for state in ChunkState if not state.is_final),
                not_before=not_before,
                error=error,
            )

    def accept(self, chunk: Chunk, refusals: Iterable[Refusal] = (), job_status: int | None = None) -> Chunk:
        """THE commit point: all records of the chunk but the refused ones are what Norce has."""
        with self.database.write() as db:
            self._refuse(db, chunk, refusals)
            return self._step(
                db,
                chunk,
                (ChunkState.SUBMITTED,),
                state=ChunkState.ACCEPTED,
                job_status=job_status if job_status is not None else chunk.job_status,
                error=None,
                not_before=None,
            )

    def fail(self, chunk: Chunk, error: str, refusals: Iterable[Refusal] = (), job_status: int | None = None) -> Chunk:
        """Nothing of the chunk is accepted; its records come up again with the next run of the feed."""
        with self.database.write() as db:
            self._refuse(db, chunk, refusals)
            return self._step(
                db,
                chunk,
                tuple(state for state in ChunkState if not state.is_final),
                state=ChunkState.FAILED,
                error=error,
                job_status=job_status if job_status is not None else chunk.job_status,
                not_before=None,
            )

    def split(
        self,
        chunk: Chunk,
        parts: Sequence[Chunk],
        refusals: Iterable[Refusal] = (),
        *,
        error: str | None = None,
        job_status: int | None = None,
    ) -> tuple[Chunk, ...]:
        """The chunk is replaced by `parts` (payloads synced before); they get the run's next numbers."""
        c = schema.chunks.c
        with self.database.write() as db:
            last = db.execute(select(func.max(c.number)).where(c.run == chunk.run)).scalar_one()
            numbered = tuple(replace(part, number=last + n) for n, part in enumerate(parts, 1))
            self._refuse(db, chunk, refusals)
            self._step(
                db,
                chunk,
                tuple(state for state in ChunkState if not state.is_final),
                state=ChunkState.SPLIT,
                error=error,
                job_status=job_status if job_status is not None else chunk.job_status,
                not_before=None,
            )
            if numbered:
                db.execute(insert(schema.chunks), [self._chunk_values(part) for part in numbered])
        return numbered

    def refusals(self, run_id: str) -> tuple[Refusal, ...]:
        """What Connect did not take of a run, one per key (the highest severity), in the order of the keys' file."""
        r = schema.refusals.c
        with self.database.read() as db:
            rows = db.execute(select(schema.refusals).where(r.run == run_id).order_by(r.id)).all()
        worst: dict[str, Refusal] = {}
        for row in rows:
            found = worst.get(row.key)
            if found is None or row.severity > found.severity:
                worst[row.key] = Refusal(row.key, row.severity, row.message, row.source_row)
        return tuple(sorted(worst.values(), key=lambda item: (item.source_row or 0, item.key)))

    def jobs_known(self, job_ids: Collection[int]) -> dict[int, float | None]:
        """Which of these jobs are ours, with the time they were sent (epoch seconds)."""
        c = schema.chunks.c
        with self.database.read() as db:
            return {
                row.job_id: row.sent_at
                for row in db.execute(select(c.job_id, c.sent_at).where(c.job_id.in_(list(job_ids))))
            }

    # -- accepted -----------------------------------------------------------------------------------------------

    def generation(self, feed: str) -> str | None:
        """File name of the feed's immutable base, or None."""
        with self.database.read() as db:
            return db.execute(select(schema.feeds.c.generation).where(schema.feeds.c.feed == feed)).scalar_one_or_none()

    def overlays(self, feed: str) -> tuple[Overlay, ...]:
        """What lies over the base: runs in the order they were opened, each with what it has had accepted."""
        r, c, f = schema.runs.c, schema.chunks.c, schema.refusals.c
        with self.database.read() as db:
            run_ids = db.execute(select(r.id).where(r.feed == feed, r.merged == 0).order_by(r.seq)).scalars().all()
            accepted = db.execute(
                select(schema.chunks)
                .join(schema.runs, r.id == c.run)
                .where(r.feed == feed, r.merged == 0, c.state == ChunkState.ACCEPTED.value)
                .order_by(c.origin, c.first, c.number)
            ).all()
            refused = db.execute(
                select(f.run, f.origin, f.key)
                .join(schema.runs, r.id == f.run)
                .where(r.feed == feed, r.merged == 0, f.severity >= NOT_TAKEN)
            ).all()
        keys: dict[tuple[str, int], set[str]] = defaultdict(set)
        for row in refused:
            keys[row.run, row.origin].add(row.key)
        ranges: dict[str, list[AcceptedRange]] = defaultdict(list)
        for row in accepted:
            chunk = self._chunk(row)
            ranges[chunk.run].append(
                AcceptedRange(chunk.origin, chunk.indexes, frozenset(keys[chunk.run, chunk.origin]))
            )
        return tuple(Overlay(run_id, tuple(ranges[run_id])) for run_id in run_ids if run_id in ranges)

    def compacted(self, feed: str, generation: str | None, runs_merged: Iterable[str]) -> None:
        """A new base is on disk (synced) and holds these runs; Defect when one of them is still open.

        With `generation` None the feed starts from nothing: pass all its runs to forget what was accepted.
        """
        merged = list(runs_merged)
        r = schema.runs.c
        with self.database.write() as db:
            still_open = db.execute(
                select(r.id).where(r.feed == feed, r.id.in_(merged), r.state.not_in(_FINAL_RUN)).limit(1)
            ).first()
            if still_open:
                raise Defect(f"run {still_open.id} was to be merged before it ended")
            known = db.execute(select(schema.feeds).where(schema.feeds.c.feed == feed)).first()
            if known:
                db.execute(update(schema.feeds).where(schema.feeds.c.feed == feed).values(generation=generation))
            else:
                db.execute(insert(schema.feeds).values(feed=feed, generation=generation))
            db.execute(update(schema.runs).where(r.feed == feed, r.id.in_(merged)).values(merged=1))

    # -- tokens and limits --------------------------------------------------------------------------------------

    def token(self, name: str) -> tuple[str, float, float] | None:
        """A kept access token with the times it was obtained and ends (epoch seconds)."""
        t = schema.tokens.c
        with self.database.read() as db:
            row = db.execute(select(t.value, t.obtained, t.expires).where(t.name == name)).first()
        return (row.value, row.obtained, row.expires) if row else None

    def keep_token(self, name: str, value: str, obtained: float, expires: float) -> None:
        """Share an access token with the other processes of this folder."""
        with self.database.write() as db:
            db.execute(delete(schema.tokens).where(schema.tokens.c.name == name))
            db.execute(insert(schema.tokens).values(name=name, value=value, obtained=obtained, expires=expires))

    def size_limit(self, operation: str) -> int | None:
        """Largest body in bytes worth trying, learnt from 413 answers; None when none was seen."""
        with self.database.read() as db:
            found = db.execute(select(schema.meta.c.value).where(schema.meta.c.key == f"limit:{operation}")).first()
        return int(found.value) if found else None

    def learn_size_limit(self, operation: str, size: int) -> None:
        """A body of this many bytes was too large; the smallest such size counts."""
        key = f"limit:{operation}"
        with self.database.write() as db:
            found = db.execute(select(schema.meta.c.value).where(schema.meta.c.key == key)).first()
            if found is None:
                db.execute(insert(schema.meta).values(key=key, value=str(size - 1)))
            elif size - 1 < int(found.value):
                db.execute(update(schema.meta).where(schema.meta.c.key == key).values(value=str(size - 1)))

    # -- inside -------------------------------------------------------------------------------------------------

    def _tie(self, target: str) -> None:
        with self.database.read() as db:
            found = db.execute(select(schema.meta.c.value).where(schema.meta.c.key == "target")).first()
        if found is None:
            with self.database.write() as db:
                found = db.execute(select(schema.meta.c.value).where(schema.meta.c.key == "target")).first()
                if found is None:
                    db.execute(insert(schema.meta).values(key="target", value=target))
                    return
        if found.value != target:
            raise StateError(
                "state-other-target",
                f"this state folder belongs to {found.value}, the settings name {target}",
                where=str(self.state),
                hint="give each catalogue its own paths.state",
            )

    def _step_run(
        self, db: Connection, run_id: str, allowed: tuple[RunState, ...], state: RunState, **values: Any
    ) -> None:
        r = schema.runs.c
        done = db.execute(
            update(schema.runs)
            .where(r.id == run_id, r.state.in_([item.value for item in allowed]))
            .values(state=state.value, **values)
        )
        if done.rowcount != 1:
            raise Defect(f"run {run_id} cannot become {state.value} from where it is")

    def _step(self, db: Connection, chunk: Chunk, allowed: tuple[ChunkState, ...], **values: Any) -> Chunk:
        c = schema.chunks.c
        updated = replace(chunk, **values)
        stored = {name: self._chunk_values(updated)[name] for name in values}
        done = db.execute(
            update(schema.chunks)
            .where(c.run == chunk.run, c.number == chunk.number, c.state.in_([item.value for item in allowed]))
            .values(stored)
        )
        if done.rowcount != 1:
            raise Defect(f"chunk {chunk.number} of run {chunk.run} cannot become {updated.state.value}")
        return updated

    @staticmethod
    def _refuse(db: Connection, chunk: Chunk, refusals: Iterable[Refusal]) -> None:
        rows = [{"run": chunk.run, "origin": chunk.origin or chunk.number, **asdict(item)} for item in refusals]
        if rows:
            db.execute(insert(schema.refusals), rows)

    def _kept(self, path: Path | None) -> str | None:
        """Paths inside the state folder are stored relative to it, so that the folder can be moved."""
        if path is None:
            return None
        whole = path.absolute()
        return str(whole.relative_to(self.state)) if whole.is_relative_to(self.state) else str(whole)

    def _found(self, kept: str | None) -> Path | None:
        return None if kept is None else self.state / kept

    def _chunk_values(self, chunk: Chunk) -> dict[str, Any]:
        values = {item.name: getattr(chunk, item.name) for item in fields(Chunk)}
        values.update(
            header=dict(chunk.header),
            payload=self._kept(chunk.payload),
            state=chunk.state.value,
            origin=chunk.origin or chunk.number,
            without=list(chunk.without),
            messages=list(chunk.messages),
        )
        return values

    def _chunk(self, row: Any) -> Chunk:
        values = dict(row._mapping)
        values.update(
            payload=self._found(values["payload"]),
            state=ChunkState(values["state"]),
            without=tuple(values["without"]),
            messages=tuple(values["messages"]),
        )
        return Chunk(**values)

    def _run(self, row: Any) -> Run:
        values = row._mapping
        return Run(
            id=values["id"],
            feed=values["feed"],
            operation=values["operation"],
            file=values["file"],
            digest=values["digest"],
            state=RunState(values["state"]),
            counts=Counts(**{item.name: values[item.name] for item in fields(Counts)}),
            kind=values["kind"],
            started=_moment(values["started"]),
            ended=_moment(values["ended"]),
            error=values["error"],
            claimed=self._found(values["claimed"]),
            archive=self._found(values["archive"]),
        )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
