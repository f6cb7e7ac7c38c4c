"""Looks at the ledger as a whole, and the steps in it that only `etl state` and the retention take."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, func, insert, select, update

from etl import ledger_rows, schema
from etl.ledger import Ledger
from etl.model import ChunkState, Run, RunState
from etl.schema import Database

_FINAL_RUN = [state.value for state in RunState if state.is_final]


def known_runs(database: Database, names: Collection[str]) -> set[str]:
    """Which of these runs there are."""
    wanted, found = list(names), set()
    with database.read() as db:
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            found |= set(db.execute(select(schema.runs.c.id).where(schema.runs.c.id.in_(part))).scalars())
    return found


def feeds(database: Database) -> list[str]:
    """Every feed that has had a run or a base."""
    with database.read() as db:
        run = db.execute(select(schema.runs.c.feed).distinct()).scalars().all()
        based = db.execute(select(schema.feeds.c.feed)).scalars().all()
    return sorted({*run, *based})


def foreign_rows(database: Database) -> dict[str, int]:
    """Tables with rows of runs that do not exist, and how many."""
    found = {}
    with database.read() as db:
        ids = select(schema.runs.c.id)
        for table in (schema.chunks, schema.refusals):
            number = db.execute(select(func.count()).select_from(table).where(table.c.run.not_in(ids))).scalar_one()
            if number:
                found[table.name] = number
    return found


def was_sent(database: Database, run_id: str) -> bool:
    """Whether a request of the run has left, or may have."""
    c = schema.chunks.c
    with database.read() as db:
        query = select(c.number).where(c.run == run_id, (c.attempts > 0) | (c.state != ChunkState.PLANNED.value))
        return db.execute(query.limit(1)).first() is not None


def plan_anew(database: Database, run_id: str) -> None:
    """Back to a claimed file; only for a run of which nothing has left."""
    with database.write() as db:
        db.execute(delete(schema.chunks).where(schema.chunks.c.run == run_id))
        db.execute(delete(schema.refusals).where(schema.refusals.c.run == run_id))
        db.execute(
            update(schema.runs)
            .where(schema.runs.c.id == run_id, schema.runs.c.state.not_in(_FINAL_RUN))
            .values(state=RunState.CLAIMED.value)
        )


def give_up(database: Database, run_id: str, numbers: Collection[int] | None, reason: str) -> None:
    """These requests have failed, the others go on; None: all of them, also what had been accepted."""
    c = schema.chunks.c
    which = c.run == run_id
    which &= c.state != ChunkState.SPLIT.value if numbers is None else c.number.in_(list(numbers))
    with database.write() as db:
        db.execute(
            update(schema.chunks).where(which).values(state=ChunkState.FAILED.value, error=reason, not_before=None)
        )


def forget(database: Database, feed: str) -> None:
    """Nothing of the feed counts as accepted; open runs go on, but what was planned before is outdated."""
    r, m = schema.runs.c, schema.meta.c
    with database.write() as db:
        moves = db.execute(select(m.value).where(m.key == f"moves:{feed}")).scalar_one_or_none()
        db.execute(delete(schema.meta).where(m.key == f"moves:{feed}"))
        db.execute(insert(schema.meta).values(key=f"moves:{feed}", value=str(int(moves or 0) + 1)))
        db.execute(update(schema.feeds).where(schema.feeds.c.feed == feed).values(generation=None))
        db.execute(update(schema.runs).where(r.feed == feed, r.state.in_(_FINAL_RUN)).values(merged=1))


def ended_before(ledger: Ledger, moment: str, limit: int) -> list[Run]:
    """Runs that had ended then, oldest first, and are not needed to tell what Norce has."""
    r = schema.runs.c
    query = (
        select(schema.runs)
        .where(r.state.in_(_FINAL_RUN), r.ended < moment, (r.merged == 1) | (r.state != RunState.DONE.value))
        .order_by(r.seq)
        .limit(limit)
    )
    with ledger.database.read() as db:
        return [ledger_rows.run(row._mapping, ledger.state) for row in db.execute(query)]


def forget_runs(database: Database, run_ids: Collection[str]) -> None:
    """Ended runs with all that belongs to them, some at a time."""
    wanted = list(run_ids)
    for start in range(0, len(wanted), 100):
        part = wanted[start : start + 100]
        with database.write() as db:
            for table, column in ((schema.chunks, "run"), (schema.refusals, "run"), (schema.runs, "id")):
                db.execute(delete(table).where(table.c[column].in_(part)))
