"""The access tokens of a ledger, shared by the processes of a state folder."""

from __future__ import annotations

from etl.state.ledger.database import Database


class TokenStore:
    """Table `tokens`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: str) -> tuple[str, float, float] | None:
        """Return a token with the times at which it was obtained and expires (epoch seconds), or None."""
        with self._database.read() as db:
            row = db.execute("SELECT value, obtained, expires FROM tokens WHERE name = ?", (name,)).fetchone()
        return (row["value"], row["obtained"], row["expires"]) if row else None

    def save(self, name: str, value: str, obtained: float, expires: float) -> None:
        """Store a token in the place of an earlier one; times in epoch seconds."""
        row = {"name": name, "value": value, "obtained": obtained, "expires": expires}
        with self._database.write() as db:
            db.insert("tokens", row, replace=True)
