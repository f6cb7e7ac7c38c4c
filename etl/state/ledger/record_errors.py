"""The record errors of a ledger: what Norce said of failed records, by run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from etl.model.runs import Chunk, RecordError
from etl.state.ledger.database import Connection, Database


class RecordErrorStore:
    """Table `record_errors`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_by_run(self, run_id: str) -> tuple[RecordError, ...]:
        """Return one record error per key, that of the highest severity.

        Records of earlier files come first, file by file; then those of the run's own file in the order of its rows.
        """
        sql = """SELECT key, severity, message, source_row, source_file, source_run FROM record_errors
                 WHERE run = ? ORDER BY id"""
        with self._database.read() as db:
            record_errors = [RecordError(*row) for row in db.execute(sql, (run_id,))]
        worst: dict[str, RecordError] = {}
        for record_error in record_errors:
            previous = worst.get(record_error.key)
            if previous is None or record_error.severity > previous.severity:
                worst[record_error.key] = record_error
        return tuple(sorted(worst.values(), key=_sort_key))

    def insert(self, db: Connection, chunk: Chunk, record_errors: Iterable[RecordError]) -> None:
        """Add the record errors of a chunk, in a transaction that the caller has opened."""
        origin = {"run": chunk.run, "origin_chunk": chunk.origin_chunk or chunk.number}
        db.insert("record_errors", *({**origin, **asdict(record_error)} for record_error in record_errors))


def _sort_key(record_error: RecordError) -> tuple[bool, str, int, str]:
    return (
        record_error.source_run is None,
        record_error.source_run or "",
        record_error.source_row or 0,
        record_error.key,
    )
