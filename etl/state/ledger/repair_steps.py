"""Looks at the ledger as a whole, and the steps in it that only `etl state` and the retention take."""

from __future__ import annotations

from collections.abc import Collection

from etl.model.runs import PROCESSED_STATES, Run
from etl.state.ledger import schema
from etl.state.ledger.database import IN_JSON, Database, json_list
from etl.state.ledger.facade import Ledger
from etl.state.ledger.meta import FINAL_RUN_STATES
from etl.state.ledger.rows import run_from_row


def find_existing_runs(database: Database, run_ids: Collection[str]) -> set[str]:
    """Which of these runs there are."""
    with database.read() as db:
        return {run_id for (run_id,) in db.execute(f"SELECT id FROM runs WHERE id {IN_JSON}", (json_list(run_ids),))}


def list_feeds(database: Database) -> list[str]:
    """Every feed that has had a run or a base."""
    with database.read() as db:
        return [feed for (feed,) in db.execute("SELECT feed FROM runs UNION SELECT feed FROM feeds ORDER BY feed")]


def count_orphan_rows(database: Database) -> dict[str, int]:
    """Tables with rows of runs that do not exist, and how many."""
    found = {}
    with database.read() as db:
        for table in ("chunks", "record_errors"):
            number = db.scalar(f"SELECT count(*) FROM {table} WHERE run NOT IN (SELECT id FROM runs)")
            if number:
                found[table] = number
    return found


def has_sent_requests(database: Database, run_id: str) -> bool:
    """Whether a request of the run has left, or may have."""
    sql = "SELECT 1 FROM chunks WHERE run = ? AND (attempts > 0 OR state != 'ready') LIMIT 1"
    with database.read() as db:
        return db.scalar(sql, run_id) is not None


def return_to_claimed(database: Database, run_id: str) -> None:
    """Back to a claimed file; only for a run of which nothing has left."""
    with database.write() as db:
        db.execute("DELETE FROM chunks WHERE run = ?", (run_id,))
        db.execute("DELETE FROM record_errors WHERE run = ?", (run_id,))
        db.update("runs", {"state": "claimed"}, f"id = ? AND state NOT {IN_JSON}", run_id, FINAL_RUN_STATES)


def fail_chunks(database: Database, run_id: str, numbers: Collection[int] | None, reason: str) -> None:
    """These requests have failed, the others go on; None: all of them, also what had been accepted."""
    failed = {"state": "failed", "error": reason, "retry_after": None}
    with database.write() as db:
        if numbers is None:
            db.update("chunks", failed, "run = ? AND state != 'split'", run_id)
        else:
            db.update("chunks", failed, f"run = ? AND number {IN_JSON}", run_id, json_list(numbers))


def drop_accepted(database: Database, feed: str) -> None:
    """Nothing of the feed counts as accepted; open runs go on, but what was planned before is outdated."""
    with database.write() as db:
        schema.set_meta(db, f"revision:{feed}", str(int(schema.get_meta(db, f"revision:{feed}") or 0) + 1))
        db.update("feeds", {"generation": None}, "feed = ?", feed)
        db.update("runs", {"compacted": 1}, f"feed = ? AND state {IN_JSON}", feed, FINAL_RUN_STATES)


def list_deletable_runs(ledger: Ledger, before: str, limit: int) -> list[Run]:
    """Runs that had ended then, oldest first, and are not needed to tell what Norce has."""
    sql = f"""
        SELECT * FROM runs WHERE state {IN_JSON} AND ended < ? AND (compacted = 1 OR state NOT {IN_JSON})
        AND (state != 'merged' OR merged_into IS NOT NULL) ORDER BY seq LIMIT ?
    """
    with ledger.database.read() as db:
        rows = db.execute(sql, (FINAL_RUN_STATES, before, json_list(PROCESSED_STATES), limit))
        return [run_from_row(row, ledger.state_folder) for row in rows]


def delete_runs(database: Database, run_ids: Collection[str]) -> None:
    """Ended runs with all that belongs to them, some at a time."""
    wanted = list(run_ids)
    for start in range(0, len(wanted), 100):
        part = json_list(wanted[start : start + 100])
        with database.write() as db:
            for table, column in (("chunks", "run"), ("record_errors", "run"), ("runs", "id")):
                db.execute(f"DELETE FROM {table} WHERE {column} {IN_JSON}", (part,))
