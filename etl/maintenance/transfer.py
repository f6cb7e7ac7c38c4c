"""What Norce has, out of one state folder into another, as one file.

The archive holds for each feed its accepted records, what it still owes, and the newest run that ended well, so that a
file that has shrunk or is older than that one is noticed in the new folder too. Sent files, reports and tokens stay
behind. It says how things stood when it was written: what is sent afterwards from the old folder it does not know.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from etl import __version__, filesystem
from etl.errors import StateError, UsageError
from etl.mapping import load
from etl.model.runs import PROCESSED_STATES, ChunkState, Counts, Run, RunState
from etl.state import compaction
from etl.state.files import checksums, parquet
from etl.state.ledger.facade import Ledger
from etl.state.snapshots import accepted

#: Raised by one when the archive's contents change.
EXPORT_FORMAT = 1

_CONTENTS_FILE = "contents.json"


def export_state(ledger: Ledger, state: Path, feeds: Sequence[str], target: Path) -> list[str]:
    """Write the archive (new, 0600); what is in it, as sentences. Raises StateError, UsageError."""
    known = ledger.feeds.list_names()
    for feed in feeds:
        if feed not in known:
            raise UsageError("feed-or-run-unknown", f'there is no feed "{feed}"', hint=f"feeds are: {', '.join(known)}")
    if target.exists():
        raise UsageError("file-exists", f"{target} exists already", hint="name another file, or remove that one")
    facts: dict[str, Any] = {
        "format": EXPORT_FORMAT,
        "program": __version__,
        "written": datetime.now(UTC).isoformat(),
        "target": ledger.meta.target(),
        "feeds": {},
    }
    said, stream = [], io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for number, feed in enumerate(feeds or known, 1):
            _check_no_unfinished_jobs(ledger, feed)
            frame = compaction.read_accepted(ledger, state, feed)
            pending = compaction.read_pending(ledger, state, feed)
            newest = next(
                (run for run in ledger.runs.list_recent(1000, feed, *PROCESSED_STATES) if run.is_comparison), None
            )
            facts["feeds"][feed] = {
                "records": frame.height,
                "accepted": _write_frame(archive, f"{number:04}-accepted.parquet", frame),
                "pending": _write_frame(archive, f"{number:04}-pending.parquet", pending) if pending.height else None,
                "newest": _run_to_json(newest) if newest else None,
            }
            said.append(f"{feed}: {frame.height} records")
        archive.writestr(_CONTENTS_FILE, json.dumps(facts, ensure_ascii=False, indent=2))
    filesystem.write_atomically(target.absolute(), stream.getvalue())
    return said


def import_state(ledger: Ledger, state: Path, source: Path) -> list[str]:
    """Fill an empty state folder from an archive; what came, as sentences. Raises StateError, UsageError."""
    if ledger.runs.list_recent(1) or ledger.feeds.list_names():
        raise StateError(
            "state-not-empty",
            "the state folder has feeds of its own",
            where=str(state),
            hint="import into an empty folder: name another one in paths.state, or move this one away",
        )
    facts, contents = _read_export(source)
    if facts["target"] is not None:
        ledger.meta.bind_target(facts["target"])
    said = []
    for feed, found in facts["feeds"].items():
        name = f"imported-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        generation = accepted.write_base(state, feed, name, contents[found["accepted"]["name"]].lazy())
        paths = [accepted.base_path(state, feed, generation)]
        if found["pending"]:
            paths.append(accepted.pending_path(state, feed, generation))
            parquet.write_parquet(paths[1], contents[found["pending"]["name"]])
        checksums.save_digests(ledger, paths)
        if found["newest"] is not None:
            run = _run_from_json(found["newest"])
            ledger.open_run(run)
            ledger.close_run(run.id, RunState.COMPLETED, run.counts)
            ledger.replace_base(feed, generation, [run.id])
        else:
            ledger.replace_base(feed, generation, [])
        said.append(f"{feed}: {found['records']} records")
    return said


def _check_no_unfinished_jobs(ledger: Ledger, feed: str) -> None:
    """Jobs that go on would change what Norce has behind the archive's back."""
    for run in ledger.runs.list_open():
        states = {chunk.state for chunk in ledger.chunks.list_by_run(run.id)} if run.feed == feed else set()
        if states & {ChunkState.SENDING, ChunkState.SUBMITTED}:
            raise StateError(
                "run-under-way",
                f"run {run.id} of {feed} has requests whose jobs have not ended",
                where=run.file,
                hint="run `etl once` first to end it",
            )


def _write_frame(archive: zipfile.ZipFile, name: str, frame: pl.DataFrame) -> dict[str, str]:
    stream = io.BytesIO()
    frame.write_parquet(stream, compression="zstd")
    archive.writestr(name, stream.getvalue())
    return {"name": name, "sha256": hashlib.sha256(stream.getvalue()).hexdigest()}


def _run_to_json(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "feed": run.feed,
        "operation": run.operation,
        "file": run.file,
        "digest": run.digest,
        "kind": run.kind,
        "content": run.content,
        "started": run.started.isoformat() if run.started else None,
        "counts": asdict(run.counts),
    }


def _run_from_json(facts: dict[str, Any]) -> Run:
    started = facts["started"]
    return Run(
        **{name: facts[name] for name in ("id", "feed", "operation", "file", "digest", "kind", "content")},
        state=RunState.CLAIMED,
        counts=Counts(**facts["counts"]),
        started=datetime.fromisoformat(started) if started else None,
    )


def _read_export(source: Path) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """Everything in an archive, held against its digests before anything is written."""
    try:
        with zipfile.ZipFile(source) as archive:
            facts = json.loads(archive.read(_CONTENTS_FILE))
            if facts["format"] != EXPORT_FORMAT:
                raise _unusable_export(source, f"it has format {facts['format']}, this program knows {EXPORT_FORMAT}")
            contents = {}
            for feed, found in facts["feeds"].items():
                if not load.FEED_NAME_PATTERN.fullmatch(feed):
                    raise _unusable_export(source, f"{feed!r} is no name of a feed")
                for part in (found["accepted"], found["pending"]):
                    if part is not None:
                        data = archive.read(part["name"])
                        if hashlib.sha256(data).hexdigest() != part["sha256"]:
                            raise _unusable_export(source, f"{part['name']} is not as it was written")
                        contents[part["name"]] = pl.read_parquet(io.BytesIO(data))
    except (
        OSError,
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        pl.exceptions.PolarsError,
    ) as e:
        raise _unusable_export(source, f"it cannot be read ({type(e).__name__})") from e
    return facts, contents


def _unusable_export(source: Path, reason: str) -> StateError:
    return StateError(
        "export-unusable", f"this is no export that can be used: {reason}", where=str(source), hint="export it again"
    )
