"""Exports the accepted records of one state folder into one file, and imports them into another.

The export holds for each feed its accepted records, its pending records and its newest processed run, so that the new
folder, too, detects a file that has shrunk or is older than that run. It holds no files, reports and tokens. It does
not contain what the old folder sends after the export.
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
from etl.state.ledger.facade import ImportedFeed, Ledger
from etl.state.snapshots import accepted

#: Version of the export's contents; it grows by 1 with each change of them.
EXPORT_FORMAT = 1

_CONTENTS_FILE = "contents.json"


def export_state(ledger: Ledger, state: Path, feeds: Sequence[str], target: Path) -> list[str]:
    """Write the export (a new file, mode 0600); return its contents, as sentences. Raises StateError, UsageError."""
    feed_names = ledger.feeds.list_names()
    for feed in feeds:
        if feed not in feed_names:
            raise UsageError(
                "feed-or-run-unknown", f'there is no feed "{feed}"', hint=f"feeds are: {', '.join(feed_names)}"
            )
    if target.exists():
        raise UsageError("file-exists", f"{target} exists already", hint="name another file, or remove that one")
    facts: dict[str, Any] = {
        "format": EXPORT_FORMAT,
        "program": __version__,
        "written": datetime.now(UTC).isoformat(),
        "target": ledger.meta.target(),
        "feeds": {},
    }
    sentences, stream = [], io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for number, feed in enumerate(feeds or feed_names, 1):
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
            sentences.append(f"{feed}: {frame.height} records")
        archive.writestr(_CONTENTS_FILE, json.dumps(facts, ensure_ascii=False, indent=2))
    filesystem.write_atomically(target.absolute(), stream.getvalue())
    return sentences


def import_state(ledger: Ledger, state: Path, source: Path) -> list[str]:
    """Fill an empty state folder from an export; return its contents, as sentences. Raises StateError, UsageError."""
    if ledger.runs.list_recent(1) or ledger.feeds.list_names():
        raise StateError(
            "state-not-empty",
            "the state folder has feeds of its own",
            where=str(state),
            hint="import into an empty folder: name another one in paths.state, or move this one away",
        )
    facts, contents = _read_export(source)
    if facts["target"] is not None and ledger.meta.target() is not None:
        ledger.meta.bind_target(facts["target"])  # the same one, or an error
    feeds = [_write_feed(ledger, state, feed, feed_facts, contents) for feed, feed_facts in facts["feeds"].items()]
    ledger.import_feeds(facts["target"], feeds)
    return [f"{feed}: {feed_facts['records']} records" for feed, feed_facts in facts["feeds"].items()]


def _write_feed(
    ledger: Ledger, state: Path, feed: str, feed_facts: dict[str, Any], contents: dict[str, pl.DataFrame]
) -> ImportedFeed:
    """Write the base snapshot and the pending records of a feed; they count once the ledger names them."""
    name = f"imported-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    generation = accepted.write_base(state, feed, name, contents[feed_facts["accepted"]["name"]].lazy())
    paths = [accepted.base_path(state, feed, generation)]
    if feed_facts["pending"]:
        paths.append(accepted.pending_path(state, feed, generation))
        parquet.write_parquet(paths[1], contents[feed_facts["pending"]["name"]])
    checksums.save_digests(ledger, paths)
    newest = feed_facts["newest"]
    return ImportedFeed(feed, generation, None if newest is None else _run_from_json(newest))


def _check_no_unfinished_jobs(ledger: Ledger, feed: str) -> None:
    """Raise StateError while jobs of the feed have not ended: they would change what is exported."""
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
    """Read an export and compare its parts with their digests, before anything is written. Raises StateError."""
    try:
        with zipfile.ZipFile(source) as archive:
            facts = json.loads(archive.read(_CONTENTS_FILE))
            if facts["format"] != EXPORT_FORMAT:
                raise _unusable_export(source, f"it has format {facts['format']}, this program knows {EXPORT_FORMAT}")
            contents = {}
            for feed, feed_facts in facts["feeds"].items():
                if not load.FEED_NAME_PATTERN.fullmatch(feed):
                    raise _unusable_export(source, f"{feed!r} is no name of a feed")
                for part in (feed_facts["accepted"], feed_facts["pending"]):
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
