"""Converts chunks and runs to rows of the ledger, and back.

Paths inside the state folder are stored relative to it, so that the folder can be moved.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from etl.model.runs import Chunk, ChunkState, Counts, Run, RunState
from etl.state.ledger.database import Row


def to_stored_path(path: Path | None, state: Path) -> str | None:
    """Return a path as the ledger stores it: relative when it is in the state folder."""
    if path is None:
        return None
    absolute = path.absolute()
    return str(absolute.relative_to(state)) if absolute.is_relative_to(state) else str(absolute)


def from_stored_path(stored: str | None, state: Path) -> Path | None:
    """Return the current path of a stored one."""
    return None if stored is None else state / stored


def chunk_to_row(chunk: Chunk, state: Path) -> dict[str, Any]:
    """Return the columns of a chunk."""
    row = {item.name: getattr(chunk, item.name) for item in fields(Chunk)}
    row.update(
        header=json.dumps(dict(chunk.header)),
        payload=to_stored_path(chunk.payload, state),
        state=chunk.state.value,
        origin_chunk=chunk.origin_chunk or chunk.number,
        excluded_indexes=json.dumps(chunk.excluded_indexes),
        messages=json.dumps(chunk.messages),
        warnings=json.dumps(chunk.warnings),
    )
    return row


def chunk_from_row(row: Row, state: Path) -> Chunk:
    """Return the chunk of a row."""
    values = dict(row)
    values.update(
        payload=from_stored_path(values["payload"], state),
        header=json.loads(values["header"]),
        state=ChunkState(values["state"]),
        excluded_indexes=tuple(json.loads(values["excluded_indexes"])),
        messages=tuple(json.loads(values["messages"])),
        warnings=tuple(json.loads(values["warnings"])),
    )
    return Chunk(**values)


def run_to_row(run: Run, state: Path, started: datetime) -> dict[str, Any]:
    """Return the columns of a run that is not compacted; `started` counts when the run has no time of its own."""
    return {
        "id": run.id,
        "feed": run.feed,
        "operation": run.operation,
        "file": run.file,
        "digest": run.digest,
        "state": run.state.value,
        "kind": run.kind,
        "content": run.content,
        "started": (run.started or started).isoformat(),
        "claimed": to_stored_path(run.claimed, state),
        "compacted": 0,
        **asdict(run.counts),
    }


def run_from_row(row: Row, state: Path) -> Run:
    """Return the run of a row."""
    return Run(
        id=row["id"],
        feed=row["feed"],
        operation=row["operation"],
        file=row["file"],
        digest=row["digest"],
        state=RunState(row["state"]),
        counts=Counts(**{item.name: row[item.name] for item in fields(Counts)}),
        kind=row["kind"],
        content=row["content"],
        started=_parse_time(row["started"]),
        ended=_parse_time(row["ended"]),
        error=row["error"],
        claimed=from_stored_path(row["claimed"], state),
        archive=from_stored_path(row["archive"], state),
        merged_into=row["merged_into"],
    )


def _parse_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
