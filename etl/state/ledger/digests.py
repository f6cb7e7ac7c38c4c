"""The digests of files in the state folder, by which a damaged file is noticed before it is used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from etl.state.ledger.database import IN_JSON, Database, json_list
from etl.state.ledger.rows import to_stored_path


class DigestStore:
    """Table `file_digests`."""

    def __init__(self, database: Database, state_folder: Path) -> None:
        self._database = database
        self._state_folder = state_folder

    def save(self, digests: Mapping[Path, str]) -> None:
        """Store the SHA-256 of files, in the place of earlier ones."""
        rows = [{"path": self._stored(path), "digest": digest} for path, digest in digests.items()]
        if rows:
            with self._database.write() as db:
                db.insert("file_digests", *rows, replace=True)

    def find(self, path: Path) -> str | None:
        """Return the SHA-256 stored for a file, or None."""
        with self._database.read() as db:
            digest: str | None = db.scalar("SELECT digest FROM file_digests WHERE path = ?", self._stored(path))
        return digest

    def delete_stale(self, needed_paths: Collection[Path]) -> None:
        """Delete the digests of files that neither exist nor are needed. Call it only while no run is worked on."""
        needed = {self._stored(path) for path in needed_paths}
        with self._database.write() as db:
            paths = [path for (path,) in db.execute("SELECT path FROM file_digests")]
            stale = [path for path in paths if path not in needed and not (self._state_folder / path).exists()]
            db.execute(f"DELETE FROM file_digests WHERE path {IN_JSON}", (json_list(stale),))

    def _stored(self, path: Path) -> str | None:
        return to_stored_path(path, self._state_folder)
