"""Stores the state in a folder, so that a sandbox can be stopped and started again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from etl.errors import StateError
from etl.sandbox.jobs import ImportJob
from etl.sandbox.record_merge import StoredRecord

_SCHEMA = """
create table if not exists records (operation text, key text, body blob, primary key (operation, key));
create table if not exists jobs (id integer primary key, body blob);
create table if not exists tokens (token text primary key, until real);
"""
_UPSERT = "insert into records values (?, ?, ?) on conflict do update set body = excluded.body"
_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode_record = msgspec.json.Decoder(StoredRecord, float_hook=Decimal).decode
_decode_job = msgspec.json.Decoder(ImportJob, float_hook=Decimal).decode


class FolderStore:
    """One SQLite file; every write is one transaction."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "sandbox.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._open() as db:
                db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StateError(
                "sandbox-state-unusable",
                f"the sandbox cannot keep its state: {error}",
                where=str(self._path),
                hint="choose another folder, or delete this one to start afresh",
            ) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path)) as db:
            db.execute("pragma journal_mode=wal")
            db.execute("pragma synchronous=normal")
            with db:
                yield db

    def load(self) -> tuple[dict[str, dict[str, StoredRecord]], dict[int, ImportJob], dict[str, float]]:
        """Load everything that was saved."""
        records: dict[str, dict[str, StoredRecord]] = {}
        with self._open() as db:
            for operation, key, body in db.execute("select operation, key, body from records order by rowid"):
                records.setdefault(operation, {})[key] = _decode_record(body)
            jobs = {number: _decode_job(body) for number, body in db.execute("select id, body from jobs order by id")}
            tokens = dict(db.execute("select token, until from tokens").fetchall())
        return records, jobs, tokens

    def save(
        self,
        records: Iterable[tuple[str, str, StoredRecord | None]],
        jobs: Iterable[ImportJob],
        tokens: dict[str, float],
    ) -> None:
        """Write what changed; a record of None is gone."""
        with self._open() as db:
            for operation, key, record in records:
                if record is None:
                    db.execute("delete from records where operation = ? and key = ?", (operation, key))
                else:
                    row: tuple[Any, ...] = (operation, key, _encode(record))
                    db.execute(_UPSERT, row)
            for job in jobs:
                db.execute("insert or replace into jobs values (?, ?)", (job.id, _encode(job)))
            db.execute("delete from tokens")
            db.executemany("insert into tokens values (?, ?)", tokens.items())

    def clear(self) -> None:
        """Forget everything."""
        with self._open() as db:
            for table in ("records", "jobs", "tokens"):
                db.execute(f"delete from {table}")
