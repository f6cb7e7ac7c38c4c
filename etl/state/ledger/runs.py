"""The runs of a ledger: one row per run, by state, feed and file."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from etl.errors import InternalError
from etl.model.runs import PROCESSED_STATES, Run, RunState
from etl.state.ledger.database import IN_JSON, Connection, Database, json_list
from etl.state.ledger.rows import run_from_row, run_to_row, to_stored_path

#: States in which a run has ended, for `IN_JSON`.
FINAL_RUN_STATES = json_list(state for state in RunState if state.is_final)

OPEN_RUN_STATES = tuple(state for state in RunState if not state.is_final)


#: Days between two runs that count for the age of the runs before them; more may be a clock that is set wrong.
MAX_GAP_DAYS = 31

#: The newest run that is so many days old, by the times between the runs after it.
_OLD_ENOUGH = """
    WITH gaps AS (
        SELECT seq, julianday(lead(started, 1, ?) OVER (ORDER BY seq)) - julianday(started) AS gap FROM runs
    )
    SELECT max(seq) FROM (
        SELECT seq, sum(iif(gap BETWEEN 0 AND ?, gap, 0)) OVER (ORDER BY seq DESC) AS age FROM gaps
    ) WHERE age > ?
"""


class RunStore:
    """Table `runs`. Methods with a `db` parameter are parts of a transaction that the caller has opened."""

    def __init__(self, database: Database, state_folder: Path) -> None:
        self._database = database
        self._state_folder = state_folder

    def find(self, run_id: str) -> Run | None:
        """Return one run, or None."""
        with self._database.read() as db:
            row = db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
            return run_from_row(row, self._state_folder) if row else None

    def find_existing(self, run_ids: Collection[str]) -> set[str]:
        """Return those of the ids that runs of the ledger have."""
        sql = f"SELECT id FROM runs WHERE id {IN_JSON}"
        with self._database.read() as db:
            return {run_id for (run_id,) in db.execute(sql, (json_list(run_ids),))}

    def list_recent(self, limit: int = 20, feed: str | None = None, *states: RunState) -> tuple[Run, ...]:
        """Return the newest runs, newest first; those in `states` only, when there are any."""
        filters = {"feed = ?": feed, f"state {IN_JSON}": json_list(states) if states else None}
        filters = {clause: value for clause, value in filters.items() if value is not None}
        sql = f"SELECT * FROM runs WHERE {' AND '.join(('1', *filters))} ORDER BY seq DESC LIMIT ?"
        with self._database.read() as db:
            return tuple(run_from_row(row, self._state_folder) for row in db.execute(sql, (*filters.values(), limit)))

    def list_open(self) -> tuple[Run, ...]:
        """Return the runs that have not ended, oldest first."""
        return self._select(f"state NOT {IN_JSON}", FINAL_RUN_STATES)

    def list_uncompacted(self, feed: str) -> tuple[tuple[str, RunState], ...]:
        """Return id and state of the feed's runs that are not part of its base snapshot, oldest first."""
        sql = "SELECT id, state FROM runs WHERE feed = ? AND compacted = 0 ORDER BY seq"
        with self._database.read() as db:
            return tuple((run_id, RunState(state)) for run_id, state in db.execute(sql, (feed,)))

    def list_awaiting_merge(self, feed: str) -> tuple[Run, ...]:
        """Return the feed's merged runs whose pending records no completed run has sent yet, oldest first."""
        return self._select("feed = ? AND state = 'merged' AND merged_into IS NULL", feed)

    def count_awaiting_merge(self) -> dict[str, int]:
        """Return by feed the number of merged runs whose pending records wait and which no open run will send."""
        open_feeds = "SELECT feed FROM runs WHERE ended IS NULL"
        condition = f"state = 'merged' AND merged_into IS NULL AND feed NOT IN ({open_feeds})"
        with self._database.read() as db:
            return dict(db.execute(f"SELECT feed, count(*) FROM runs WHERE {condition} GROUP BY feed ORDER BY feed"))

    def list_merged_into(self, run_id: str) -> tuple[Run, ...]:
        """Return the merged runs whose records this run has sent, oldest first."""
        return self._select("merged_into = ?", run_id)

    def list_deletable(self, now: datetime, days: int, limit: int) -> list[Run]:
        """Return runs that ended more than `days` ago and do not contribute to accepted records, oldest first.

        A clock that is set wrong makes nothing old: the age of a run is the sum of the times between the runs after it
        and until `now`, without those that are longer than MAX_GAP_DAYS.
        """
        before = (now - timedelta(days=days)).astimezone(UTC).isoformat()
        ended = f"""
            SELECT * FROM runs WHERE state {IN_JSON} AND ended < ? AND (compacted = 1 OR state NOT {IN_JSON})
            AND (state != 'merged' OR merged_into IS NOT NULL) ORDER BY seq LIMIT ?
        """
        with self._database.read() as db:
            rows = db.execute(ended, (FINAL_RUN_STATES, before, json_list(PROCESSED_STATES), limit)).fetchall()
            newest_seq = db.scalar(_OLD_ENOUGH, now.astimezone(UTC).isoformat(), MAX_GAP_DAYS, days) if rows else None
        return [run_from_row(row, self._state_folder) for row in rows if row["seq"] <= (newest_seq or 0)]

    def has_run_since(self, file: str, since: float) -> bool:
        """Return whether a run of a file of this name, or of its members, was opened since then (epoch seconds)."""
        moment = datetime.fromtimestamp(since, UTC).isoformat()
        sql = "SELECT 1 FROM runs WHERE started >= ? AND (file = ? OR substr(file, 1, ?) = ?) LIMIT 1"
        with self._database.read() as db:
            return db.scalar(sql, moment, file, len(file) + 1, f"{file}/") is not None

    def shares_file(self, run: Run) -> bool:
        """Return whether another open run needs the claimed file of this run."""
        sql = f"SELECT 1 FROM runs WHERE claimed = ? AND id != ? AND state NOT {IN_JSON} LIMIT 1"
        claimed = to_stored_path(run.claimed, self._state_folder)
        with self._database.read() as db:
            return db.scalar(sql, claimed, run.id, FINAL_RUN_STATES) is not None

    # -- parts of a transaction ---------------------------------------------------------------------------------

    def insert(self, db: Connection, run: Run, started: datetime) -> None:
        """Add a run; `started` counts when the run has no time of its own."""
        db.insert("runs", run_to_row(run, self._state_folder, started))

    def update(self, db: Connection, run_id: str, allowed: tuple[RunState, ...], state: RunState, **values: Any) -> Run:
        """Move a run to a state, set further columns, and return it. InternalError when its state is not `allowed`."""
        values = {"state": state.value, **values}
        if db.update("runs", values, f"id = ? AND state {IN_JSON}", run_id, json_list(allowed)) != 1:
            raise InternalError(f"run {run_id} cannot become {state.value} from its current state")
        return run_from_row(db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone(), self._state_folder)

    def assign_awaiting_merge(self, db: Connection, run: Run) -> None:
        """Record that a completed run has sent the pending records of the merged runs of its feed."""
        condition = "feed = ? AND state = 'merged' AND merged_into IS NULL"
        db.update("runs", {"merged_into": run.id}, condition, run.feed)

    def mark_compacted(self, db: Connection, feed: str, run_ids: Iterable[str]) -> None:
        """Record that the base snapshot holds these runs. InternalError when one of them is open."""
        compacted = json_list(run_ids)
        open_run = f"SELECT id FROM runs WHERE feed = ? AND id {IN_JSON} AND state NOT {IN_JSON} LIMIT 1"
        open_id = db.scalar(open_run, feed, compacted, FINAL_RUN_STATES)
        if open_id is not None:
            raise InternalError(f"run {open_id} was to be merged before it ended")
        db.update("runs", {"compacted": 1}, f"feed = ? AND id {IN_JSON}", feed, compacted)

    def _select(self, condition: str, value: str) -> tuple[Run, ...]:
        with self._database.read() as db:
            rows = db.execute(f"SELECT * FROM runs WHERE {condition} ORDER BY seq", (value,))
            return tuple(run_from_row(row, self._state_folder) for row in rows)
