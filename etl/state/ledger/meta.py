"""Single values of a ledger: the catalogue that the state folder belongs to, and the size limits learned."""

from __future__ import annotations

from pathlib import Path

from etl.errors import StateError
from etl.state.ledger.database import Connection, Database


def get_meta(db: Connection, key: str) -> str | None:
    """Return the value under a key, or None."""
    text: str | None = db.scalar("SELECT value FROM meta WHERE key = ?", key)
    return text


def set_meta(db: Connection, key: str, value: str) -> None:
    """Store a value under a key, in the place of an earlier one."""
    db.insert("meta", {"key": key, "value": value}, replace=True)


class MetaStore:
    """Table `meta`, as far as its values concern the whole folder."""

    def __init__(self, database: Database, state_folder: Path) -> None:
        self._database = database
        self._state_folder = state_folder

    def size_limit(self, operation: str) -> int | None:
        """Return the largest body in bytes worth trying, learned from 413 responses; None before the first."""
        with self._database.read() as db:
            limit = get_meta(db, f"size_limit:{operation}")
        return int(limit) if limit else None

    def learn_size_limit(self, operation: str, size: int) -> None:
        """Record that a body of this many bytes was too large; the smallest such size counts."""
        key = f"size_limit:{operation}"
        with self._database.write() as db:
            limit = get_meta(db, key)
            if limit is None or size - 1 < int(limit):
                set_meta(db, key, str(size - 1))

    def target(self) -> str | None:
        """Return the catalogue that the folder is bound to, or None."""
        with self._database.read() as db:
            return get_meta(db, "target")

    def bind_target(self, target: str) -> None:
        """Bind the folder to one catalogue. Raises StateError when it belongs to another."""
        bound_target = self.target()
        if bound_target is None:
            bound_target = self._set_target(target)
        if bound_target != target:
            raise StateError(
                "state-other-target",
                f"this state folder belongs to {bound_target}, the settings name {target}",
                where=str(self._state_folder),
                hint="give each catalogue its own paths.state",
            )

    def _set_target(self, target: str) -> str:
        """Bind the folder unless another process was faster; return the catalogue that it belongs to."""
        with self._database.write() as db:
            bound_target = get_meta(db, "target")
            if bound_target is None:
                set_meta(db, "target", target)
        return bound_target or target
