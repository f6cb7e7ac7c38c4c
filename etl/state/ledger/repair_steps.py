"""Steps that only `etl state` and the retention take: count orphans, reset and delete runs, keep permits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from etl.state.ledger.database import IN_JSON, Database, json_list
from etl.state.ledger.feeds import increment_revision
from etl.state.ledger.runs import FINAL_RUN_STATES

_RUNS_PER_TRANSACTION = 100


def count_orphan_rows(database: Database) -> dict[str, int]:
    """Return the number of rows that belong to no run, by table; tables without such rows are left out."""
    sql = "SELECT count(*) FROM {} WHERE run NOT IN (SELECT id FROM runs)"
    with database.read() as db:
        counts = {table: db.scalar(sql.format(table)) for table in ("chunks", "record_errors")}
    return {table: count for table, count in counts.items() if count}


def return_to_claimed(database: Database, run_id: str) -> None:
    """Delete the plan of an open run, so that it is planned again. Only for a run that has sent no request."""
    with database.write() as db:
        db.execute("DELETE FROM chunks WHERE run = ?", (run_id,))
        db.execute("DELETE FROM record_errors WHERE run = ?", (run_id,))
        db.update("runs", {"state": "claimed"}, f"id = ? AND state NOT {IN_JSON}", run_id, FINAL_RUN_STATES)


def fail_chunks(database: Database, run_id: str, numbers: Collection[int] | None, reason: str) -> None:
    """Mark chunks of a run as failed; with `numbers` None all but split ones, accepted chunks too."""
    failed = {"state": "failed", "error": reason, "retry_after": None}
    with database.write() as db:
        if numbers is None:
            db.update("chunks", failed, "run = ? AND state != 'split'", run_id)
        else:
            db.update("chunks", failed, f"run = ? AND number {IN_JSON}", run_id, json_list(numbers))


def drop_accepted(database: Database, feed: str) -> None:
    """Make the feed start without accepted records. Open runs continue; plans that are not sent yet are outdated."""
    with database.write() as db:
        increment_revision(db, feed)
        db.update("feeds", {"generation": None}, "feed = ?", feed)
        db.update("runs", {"compacted": 1}, f"feed = ? AND state {IN_JSON}", feed, FINAL_RUN_STATES)


def delete_runs(database: Database, run_ids: Collection[str]) -> None:
    """Delete ended runs with their chunks and record errors, in transactions of 100 runs."""
    ordered_ids = list(run_ids)
    for start in range(0, len(ordered_ids), _RUNS_PER_TRANSACTION):
        part = json_list(ordered_ids[start : start + _RUNS_PER_TRANSACTION])
        with database.write() as db:
            for table, column in (("chunks", "run"), ("record_errors", "run"), ("runs", "id")):
                db.execute(f"DELETE FROM {table} WHERE {column} {IN_JSON}", (part,))


def copy_rate_limit(source: Database, database: Database) -> None:
    """Copy the permits and pauses of another ledger."""
    with source.read() as old, database.write() as db:
        for name in ("permits", "pauses"):
            db.insert(name, *(dict(row) for row in old.execute(f"SELECT * FROM {name}")))


def insert_pause(database: Database, since: Mapping[str, Any], seconds: float) -> None:
    """Let nothing be sent for so many seconds. `since`: the columns of a moment."""
    with database.write() as db:
        db.insert("pauses", {"lane": "connect", **since, "seconds": seconds, "strikes": 0}, replace=True)
