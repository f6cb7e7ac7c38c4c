"""Looks at the ledger as a whole, and the steps in it that only `etl state` and the retention take."""

from __future__ import annotations

from collections.abc import Collection

from etl.model.runs import WORKED, Run
from etl.state.ledger import rows as ledger_rows
from etl.state.ledger import schema
from etl.state.ledger.database import AMONG, Database, many
from etl.state.ledger.facade import Ledger
from etl.state.ledger.meta import FINAL_RUN


def known_runs(database: Database, names: Collection[str]) -> set[str]:
    """Which of these runs there are."""
    with database.read() as db:
        return {run_id for (run_id,) in db.execute(f"SELECT id FROM runs WHERE id {AMONG}", (many(names),))}


def feeds(database: Database) -> list[str]:
    """Every feed that has had a run or a base."""
    with database.read() as db:
        return [feed for (feed,) in db.execute("SELECT feed FROM runs UNION SELECT feed FROM feeds ORDER BY feed")]


def foreign_rows(database: Database) -> dict[str, int]:
    """Tables with rows of runs that do not exist, and how many."""
    found = {}
    with database.read() as db:
        for table in ("chunks", "refusals"):
            number = db.value(f"SELECT count(*) FROM {table} WHERE run NOT IN (SELECT id FROM runs)")
            if number:
                found[table] = number
    return found


def was_sent(database: Database, run_id: str) -> bool:
    """Whether a request of the run has left, or may have."""
    sql = "SELECT 1 FROM chunks WHERE run = ? AND (attempts > 0 OR state != 'planned') LIMIT 1"
    with database.read() as db:
        return db.value(sql, run_id) is not None


def plan_anew(database: Database, run_id: str) -> None:
    """Back to a claimed file; only for a run of which nothing has left."""
    with database.write() as db:
        db.execute("DELETE FROM chunks WHERE run = ?", (run_id,))
        db.execute("DELETE FROM refusals WHERE run = ?", (run_id,))
        db.update("runs", {"state": "claimed"}, f"id = ? AND state NOT {AMONG}", run_id, FINAL_RUN)


def give_up(database: Database, run_id: str, numbers: Collection[int] | None, reason: str) -> None:
    """These requests have failed, the others go on; None: all of them, also what had been accepted."""
    failed = {"state": "failed", "error": reason, "not_before": None}
    with database.write() as db:
        if numbers is None:
            db.update("chunks", failed, "run = ? AND state != 'split'", run_id)
        else:
            db.update("chunks", failed, f"run = ? AND number {AMONG}", run_id, many(numbers))


def forget(database: Database, feed: str) -> None:
    """Nothing of the feed counts as accepted; open runs go on, but what was planned before is outdated."""
    with database.write() as db:
        schema.note(db, f"moves:{feed}", str(int(schema.noted(db, f"moves:{feed}") or 0) + 1))
        db.update("feeds", {"generation": None}, "feed = ?", feed)
        db.update("runs", {"merged": 1}, f"feed = ? AND state {AMONG}", feed, FINAL_RUN)


def ended_before(ledger: Ledger, moment: str, limit: int) -> list[Run]:
    """Runs that had ended then, oldest first, and are not needed to tell what Norce has."""
    sql = f"""
        SELECT * FROM runs WHERE state {AMONG} AND ended < ? AND (merged = 1 OR state NOT {AMONG})
        AND (state != 'carried' OR carried_into IS NOT NULL) ORDER BY seq LIMIT ?
    """
    with ledger.database.read() as db:
        rows = db.execute(sql, (FINAL_RUN, moment, many(WORKED), limit))
        return [ledger_rows.run(row, ledger.state) for row in rows]


def forget_runs(database: Database, run_ids: Collection[str]) -> None:
    """Ended runs with all that belongs to them, some at a time."""
    wanted = list(run_ids)
    for start in range(0, len(wanted), 100):
        part = many(wanted[start : start + 100])
        with database.write() as db:
            for table, column in (("chunks", "run"), ("refusals", "run"), ("runs", "id")):
                db.execute(f"DELETE FROM {table} WHERE {column} {AMONG}", (part,))
