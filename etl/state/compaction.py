"""Compacts the ended runs of a feed into a new base snapshot, and removes files that a crash has left behind.

Order of writes: base snapshot and pending records are synced, then the ledger names them in one step, then the files
that they replace are removed. A crash in between leaves files that do not count; `remove_orphans` deletes them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from etl import filesystem
from etl.model.runs import PROCESSED_STATES
from etl.state.files import checksums, parquet, run_folder
from etl.state.ledger.facade import Ledger
from etl.state.ledger.runs import OPEN_RUN_STATES
from etl.state.snapshots import accepted

if TYPE_CHECKING:
    import polars as pl

#: States of runs whose folder the accepted records or the run itself still need.
_NEEDED_STATES = (*PROCESSED_STATES, *OPEN_RUN_STATES)


def scan_accepted(ledger: Ledger, state: Path, feed: str) -> pl.LazyFrame:
    """Return the accepted records of a feed; only the records and columns that a query selects are read.

    Raises StateError when one of the files is damaged.
    """
    checksums.check_files(ledger, snapshot_files(ledger, state, feed))
    return accepted.scan(state, feed, ledger.feeds.generation(feed), ledger.feeds.overlays(feed))


def read_accepted(ledger: Ledger, state: Path, feed: str) -> pl.DataFrame:
    """Return the accepted records of a feed, all of them in memory. Raises StateError like `scan_accepted`."""
    return scan_accepted(ledger, state, feed).collect()


def snapshot_files(ledger: Ledger, state: Path, feed: str) -> list[Path]:
    """Return the files that hold a feed's accepted and pending records, also those that ought to exist."""
    generation = ledger.feeds.generation(feed)
    base = [] if generation is None else [accepted.base_path(state, feed, generation)]
    pending = [] if generation is None else [accepted.pending_path(state, feed, generation)]
    sent = [
        run_folder.sent_records_path(state, run)
        for run, run_state in ledger.runs.list_uncompacted(feed)
        if run_state in PROCESSED_STATES
    ]
    overlays = {run_folder.sent_records_path(state, overlay.run) for overlay in ledger.feeds.overlays(feed)}
    needed = [path for path in pending if path.exists() or ledger.digests.find(path) is not None]
    return [*base, *needed, *(path for path in sent if path.exists() and path not in overlays), *sorted(overlays)]


def read_pending(ledger: Ledger, state: Path, feed: str) -> pl.DataFrame:
    """Return the pending records of a feed of changes."""
    processed = [run for run, run_state in ledger.runs.list_uncompacted(feed) if run_state in PROCESSED_STATES]
    last = ledger.runs.find(processed[-1]) if processed else None
    return accepted.read_pending(state, feed, ledger.feeds.generation(feed), ledger.feeds.overlays(feed), last)


def has_pending(ledger: Ledger, state: Path, feed: str) -> bool:
    """Return whether a feed of changes has pending records; only for a feed without open runs."""
    generation = ledger.feeds.generation(feed)
    return generation is not None and accepted.pending_path(state, feed, generation).exists()


def compact_feed(ledger: Ledger, state: Path, feed: str) -> None:
    """Merge a feed's ended runs into a new base snapshot. Raises StateError.

    Does nothing while an open run of the feed has accepted records. Whether pending records stay pending is a fact of
    the newest ended run, and not of a mapping that may have changed, or be missing, since then.
    """
    uncompacted = ledger.runs.list_uncompacted(feed)
    overlays = ledger.feeds.overlays(feed)
    ended = [run for run, run_state in uncompacted if run_state.is_final]
    if not ended or any(overlay.run not in ended for overlay in overlays):
        return
    checksums.check_files(ledger, snapshot_files(ledger, state, feed))
    before = name = ledger.feeds.generation(feed)
    newest = ledger.runs.find(ended[-1])
    pending = read_pending(ledger, state, feed) if newest is not None and newest.content == "changes" else None
    had_pending = before is not None and accepted.pending_path(state, feed, before).exists()
    if overlays or had_pending or (pending is not None and pending.height):
        if before is not None and not overlays:
            name = accepted.link_base(state, feed, ended[-1], before)
        else:
            name = accepted.write_base(state, feed, ended[-1], accepted.scan(state, feed, before, overlays))
        if pending is not None and pending.height:
            parquet.write_parquet(accepted.pending_path(state, feed, name), pending)
        written = (accepted.base_path(state, feed, name), accepted.pending_path(state, feed, name))
        checksums.save_digests(ledger, [path for path in written if path.exists()])
    ledger.replace_base(feed, name, ended)
    for run in ended:
        delete_run_folder(state, run)
    if before is not None and before != name:
        for path in (accepted.base_path(state, feed, before), accepted.pending_path(state, feed, before)):
            path.unlink(missing_ok=True)


def delete_run_folder(state: Path, run: str) -> None:
    """Delete the folder of an ended run: payloads, sent records, plan facts."""
    shutil.rmtree(run_folder.folder_path(state, run), ignore_errors=True)


def remove_orphans(ledger: Ledger, state: Path, feeds: Iterable[str]) -> None:
    """Remove folders of compacted runs, snapshots that do not count, and half-written files."""
    needed = {run.id for run in ledger.runs.list_open()}
    for feed in sorted({*feeds, *(folder.name for folder in (state / "accepted").glob("*"))}):
        needed |= {run for run, run_state in ledger.runs.list_uncompacted(feed) if run_state in _NEEDED_STATES}
        generation = ledger.feeds.generation(feed)
        current = set()
        if generation is not None:
            current = {path(state, feed, generation) for path in (accepted.base_path, accepted.pending_path)}
        for path in (state / "accepted" / feed).glob("*"):
            if path not in current:
                path.unlink(missing_ok=True)
    for folder in (state / "runs").glob("*"):
        if folder.name not in needed:
            delete_run_folder(state, folder.name)
    filesystem.delete_temp_files(state / "claimed")
    remove_stale_checksums(ledger, state)


def remove_stale_checksums(ledger: Ledger, state: Path) -> None:
    """Delete digests of files that are gone, except pending records that count: their absence must be noticed."""
    feeds = {folder.name: ledger.feeds.generation(folder.name) for folder in (state / "accepted").glob("*")}
    bases = [(feed, generation) for feed, generation in feeds.items() if generation is not None]
    ledger.digests.delete_stale([accepted.pending_path(state, feed, generation) for feed, generation in bases])
