"""What the ledger keeps besides runs: whose folder it is, access tokens, limits learnt, what is not part of a base
yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from etl.errors import StateError
from etl.model.runs import Run, RunState
from etl.state.ledger import schema
from etl.state.ledger.database import IN_JSON, Connection, Database, json_list
from etl.state.ledger.rows import run_from_row, to_stored_path

#: States in which a run has ended, for `AMONG`.
FINAL_RUN_STATES = json_list(state for state in RunState if state.is_final)


class MetaStore:
    """Base of the ledger; knows its database and its state folder."""

    def __init__(self, database: Database, state: Path) -> None:
        self.database = database
        self.state_folder = state

    @classmethod
    def open_read_only(cls, state: Path) -> Self:
        """The ledger of a state folder for looking only, also while somebody works on it. Raises StateError."""
        return cls(schema.open_database_read_only(state), state.absolute())

    def find_token(self, name: str) -> tuple[str, float, float] | None:
        """A kept access token with the times it was obtained and ends (epoch seconds)."""
        with self.database.read() as db:
            row = db.execute("SELECT value, obtained, expires FROM tokens WHERE name = ?", (name,)).fetchone()
        return (row["value"], row["obtained"], row["expires"]) if row else None

    def save_token(self, name: str, value: str, obtained: float, expires: float) -> None:
        """Share an access token with the other processes of this folder."""
        row = {"name": name, "value": value, "obtained": obtained, "expires": expires}
        with self.database.write() as db:
            db.insert("tokens", row, replace=True)

    def size_limit(self, operation: str) -> int | None:
        """Largest body in bytes worth trying, learnt from 413 answers; None when none was seen."""
        with self.database.read() as db:
            found = schema.get_meta(db, f"size_limit:{operation}")
        return int(found) if found else None

    def learn_size_limit(self, operation: str, size: int) -> None:
        """A body of this many bytes was too large; the smallest such size counts."""
        key = f"size_limit:{operation}"
        with self.database.write() as db:
            found = schema.get_meta(db, key)
            if found is None or size - 1 < int(found):
                schema.set_meta(db, key, str(size - 1))

    def revision(self, feed: str) -> int:
        """How often *accepted* of a feed has moved; a plan that was made at another count is outdated."""
        with self.database.read() as db:
            return int(schema.get_meta(db, f"revision:{feed}") or 0)

    @staticmethod
    def _bump_revision(db: Connection, run_id: str) -> None:
        """In the transaction in which *accepted* of the run's feed moves."""
        key = f"revision:{db.scalar('SELECT feed FROM runs WHERE id = ?', run_id)}"
        schema.set_meta(db, key, str(int(schema.get_meta(db, key) or 0) + 1))

    def save_digests(self, digests: Mapping[Path, str]) -> None:
        """What files of the folder hold, as SHA-256."""
        rows = [{"path": to_stored_path(path, self.state_folder), "digest": digest} for path, digest in digests.items()]
        if rows:
            with self.database.write() as db:
                db.insert("file_digests", *rows, replace=True)

    def find_digest(self, path: Path) -> str | None:
        """What a file was noted to hold; None when it was not."""
        with self.database.read() as db:
            found: str | None = db.scalar(
                "SELECT digest FROM file_digests WHERE path = ?", to_stored_path(path, self.state_folder)
            )
        return found

    def delete_digests(self, needed_paths: Collection[Path]) -> None:
        """Of files that are gone and not needed; only when nothing is being worked."""
        with self.database.write() as db:
            kept = [path for (path,) in db.execute("SELECT path FROM file_digests")]
            wanted = {to_stored_path(path, self.state_folder) for path in needed_paths}
            gone = [path for path in kept if path not in wanted and not (self.state_folder / path).exists()]
            db.execute(f"DELETE FROM file_digests WHERE path {IN_JSON}", (json_list(gone),))

    def uncompacted_runs(self, feed: str) -> tuple[tuple[str, RunState], ...]:
        """The feed's runs that are not part of its base, in the order they were opened."""
        sql = "SELECT id, state FROM runs WHERE feed = ? AND compacted = 0 ORDER BY seq"
        with self.database.read() as db:
            return tuple((run_id, RunState(state)) for run_id, state in db.execute(sql, (feed,)))

    def runs_awaiting_merge(self, feed: str) -> tuple[Run, ...]:
        """The feed's runs whose records no other one has taken over yet, in the order they were opened."""
        return self._select_runs("feed = ? AND state = 'merged' AND merged_into IS NULL", feed)

    def count_awaiting_merge(self) -> dict[str, int]:
        """By feed without an open run how many carried files there are whose records no run has taken over."""
        open_feeds = "SELECT feed FROM runs WHERE ended IS NULL"
        which = f"state = 'merged' AND merged_into IS NULL AND feed NOT IN ({open_feeds})"
        with self.database.read() as db:
            return dict(db.execute(f"SELECT feed, count(*) FROM runs WHERE {which} GROUP BY feed ORDER BY feed"))

    def runs_merged_into(self, run_id: str) -> tuple[Run, ...]:
        """The runs whose records this one has taken over."""
        return self._select_runs("merged_into = ?", run_id)

    def _select_runs(self, condition: str, value: str) -> tuple[Run, ...]:
        with self.database.read() as db:
            rows = db.execute(f"SELECT * FROM runs WHERE {condition} ORDER BY seq", (value,))
            return tuple(run_from_row(row, self.state_folder) for row in rows)

    def has_run_since(self, file: str, since: float) -> bool:
        """Whether a run of a file of this name was opened at that time (epoch seconds) or later."""
        moment = datetime.fromtimestamp(since, UTC).isoformat()
        sql = "SELECT 1 FROM runs WHERE started >= ? AND (file = ? OR substr(file, 1, ?) = ?) LIMIT 1"
        with self.database.read() as db:
            return db.scalar(sql, moment, file, len(file) + 1, f"{file}/") is not None

    def target(self) -> str | None:
        """The catalogue that the folder is bound to."""
        with self.database.read() as db:
            return schema.get_meta(db, "target")

    def shares_file(self, run: Run) -> bool:
        """Whether another run that has not ended needs the claimed file of this one."""
        sql = f"SELECT 1 FROM runs WHERE claimed = ? AND id != ? AND state NOT {IN_JSON} LIMIT 1"
        with self.database.read() as db:
            return db.scalar(sql, to_stored_path(run.claimed, self.state_folder), run.id, FINAL_RUN_STATES) is not None

    def bind_target(self, target: str) -> None:
        """Bind the folder to one catalogue. Raises StateError when it belongs to another."""
        found = self.target()
        if found is None:
            with self.database.write() as db:
                found = schema.get_meta(db, "target")
                if found is None:
                    schema.set_meta(db, "target", target)
                    return
        if found != target:
            raise StateError(
                "state-other-target",
                f"this state folder belongs to {found}, the settings name {target}",
                where=str(self.state_folder),
                hint="give each catalogue its own paths.state",
            )
