"""Brings the ended runs of a feed into a new base, and removes what a crash has left that nobody will ask for.

Order of writes: the base and what the feed still owes Norce are synced, then the ledger names them in one step,
then what they replace is removed. A crash in between leaves files that do not count; `sweep` finds them.
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
    """What Norce has from a feed; of its records and columns only those that are asked for are read.

    Raises StateError when a file of it is damaged.
    """
    checksums.check_files(ledger, snapshot_files(ledger, state, feed))
    return accepted.scan(state, feed, ledger.feeds.generation(feed), ledger.feeds.overlays(feed))


def read_accepted(ledger: Ledger, state: Path, feed: str) -> pl.DataFrame:
    """All of it in memory."""
    return scan_accepted(ledger, state, feed).collect()


def snapshot_files(ledger: Ledger, state: Path, feed: str) -> list[Path]:
    """The files that what Norce has from a feed is read from."""
    generation = ledger.feeds.generation(feed)
    base = [] if generation is None else [accepted.base_path(state, feed, generation)]
    owed = [] if generation is None else [accepted.pending_path(state, feed, generation)]
    sent = [
        run_folder.sent_records_path(state, run)
        for run, found in ledger.runs.list_uncompacted(feed)
        if found in PROCESSED_STATES
    ]
    overlays = {run_folder.sent_records_path(state, overlay.run) for overlay in ledger.feeds.overlays(feed)}
    needed = [path for path in owed if path.exists() or ledger.digests.find(path) is not None]
    return [*base, *needed, *(path for path in sent if path.exists() and path not in overlays), *sorted(overlays)]


def read_pending(ledger: Ledger, state: Path, feed: str) -> pl.DataFrame:
    """What a feed of changes has said and Norce has not taken yet."""
    worked = [run for run, ended in ledger.runs.list_uncompacted(feed) if ended in PROCESSED_STATES]
    last = ledger.runs.find(worked[-1]) if worked else None
    return accepted.read_pending(state, feed, ledger.feeds.generation(feed), ledger.feeds.overlays(feed), last)


def has_pending(ledger: Ledger, state: Path, feed: str) -> bool:
    """Whether a feed of changes whose runs have ended still has something for Norce."""
    generation = ledger.feeds.generation(feed)
    return generation is not None and accepted.pending_path(state, feed, generation).exists()


def compact_feed(ledger: Ledger, state: Path, feed: str, *, is_changes_feed: bool) -> None:
    """Merge a feed's ended runs; not while one is open that has had something accepted. Raises StateError."""
    unmerged = ledger.runs.list_uncompacted(feed)
    overlays = ledger.feeds.overlays(feed)
    ended = [run for run, found in unmerged if found.is_final]
    if not ended or any(overlay.run not in ended for overlay in overlays):
        return
    checksums.check_files(ledger, snapshot_files(ledger, state, feed))
    before = name = ledger.feeds.generation(feed)
    pending = read_pending(ledger, state, feed) if is_changes_feed else None
    owed = before is not None and accepted.pending_path(state, feed, before).exists()
    if overlays or owed or (pending is not None and pending.height):
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
    """What a run kept on disk while it was open."""
    shutil.rmtree(run_folder.folder_path(state, run), ignore_errors=True)


def remove_orphans(ledger: Ledger, state: Path, feeds: Iterable[str]) -> None:
    """Remove folders of runs that are part of a base, bases that do not count, and half-written files."""
    needed = {run.id for run in ledger.runs.list_open()}
    for feed in sorted({*feeds, *(folder.name for folder in (state / "accepted").glob("*"))}):
        needed |= {run for run, run_state in ledger.runs.list_uncompacted(feed) if run_state in _NEEDED_STATES}
        generation = ledger.feeds.generation(feed)
        counts = set()
        if generation is not None:
            counts = {path(state, feed, generation) for path in (accepted.base_path, accepted.pending_path)}
        for path in (state / "accepted" / feed).glob("*"):
            if path not in counts:
                path.unlink(missing_ok=True)
    for folder in (state / "runs").glob("*"):
        if folder.name not in needed:
            delete_run_folder(state, folder.name)
    filesystem.delete_temp_files(state / "claimed")
    remove_stale_checksums(ledger, state)


def remove_stale_checksums(ledger: Ledger, state: Path) -> None:
    """Of files that are gone, unless they belong to a base that counts: those are missed."""
    feeds = {folder.name: ledger.feeds.generation(folder.name) for folder in (state / "accepted").glob("*")}
    bases = [(feed, generation) for feed, generation in feeds.items() if generation is not None]
    ledger.digests.delete_stale([accepted.pending_path(state, feed, generation) for feed, generation in bases])
