"""Holds a state folder against itself: what the ledger counts on has to be there and as it was written.

Every problem is one sentence with the command that repairs it. Nothing is changed here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from etl.errors import EtlError, StateError
from etl.model.columns import ITEM, KEY
from etl.model.runs import Run, RunState
from etl.state import compaction as compact
from etl.state.files import checksums as witness
from etl.state.ledger import repair_steps as ledger_repair
from etl.state.ledger import schema, seal
from etl.state.ledger.facade import Ledger
from etl.state.startup_check import BEGIN_ANEW, Problem, _payloads, _run_files, unknown_runs


def problems(state: Path) -> Iterator[Problem]:
    """All of a folder's. The ledger first: when that cannot be believed nothing else can be told."""
    path = schema.ledger_path(state)
    if not path.exists():
        if any(
            (state / name).is_dir() and any((state / name).iterdir()) for name in ("accepted", "archive", "claimed")
        ):
            yield Problem("the ledger is gone", path, BEGIN_ANEW)
        return
    found = list(_ledger(path))
    yield from found
    if found:
        return
    try:
        with Ledger.read(state) as ledger:
            yield from _rows(ledger, path)
            for folder in unknown_runs(ledger, state):
                yield Problem("the ledger does not know this run: it is older than its folders", folder, BEGIN_ANEW)
            for run in ledger.open_runs():
                yield from _claimed(state, run)
                yield from _run_files(ledger, state, run)
                yield from _payloads(ledger, run)
            for feed in ledger_repair.feeds(ledger.database):
                yield from _accepted(ledger, state, feed)
    except StateError as error:
        yield Problem(error.message, path, BEGIN_ANEW)
    yield from _open_to_others(state)


def _ledger(path: Path) -> Iterator[Problem]:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            said = db.execute("PRAGMA integrity_check(5)").fetchall()
    except sqlite3.Error as error:
        yield Problem(f"the ledger is damaged: {error}", path, BEGIN_ANEW)
        return
    for (line,) in said:
        if line != "ok":
            yield Problem(f"the ledger is damaged: {line}", path, BEGIN_ANEW)
            return
    try:
        seal.check(path)
    except StateError as error:
        yield Problem(error.message, path, f"{BEGIN_ANEW}; if it was you who changed it: etl state rebuild --as-it-is")


def _rows(ledger: Ledger, path: Path) -> Iterator[Problem]:
    for table, number in ledger_repair.foreign_rows(ledger.database).items():
        yield Problem(f"{number} rows of {table} belong to no run", path, BEGIN_ANEW)


def _claimed(state: Path, run: Run) -> Iterator[Problem]:
    if run.state is RunState.CLAIMED and run.has_file and (run.claimed is None or not run.claimed.is_file()):
        where = run.claimed or state / "claimed"
        yield Problem(f"the file of run {run.id} is gone", where, f"etl state rebuild {run.id}")


def _accepted(ledger: Ledger, state: Path, feed: str) -> Iterator[Problem]:
    repair = f"etl state rebuild {feed} --forget"
    try:
        for file in compact.files_of(ledger, state, feed):
            if not witness.is_sound(ledger, file):
                sentence = "not as it was written" if file.exists() else "gone"
                yield Problem(f"what Norce has from {feed} cannot be told: a file of it is {sentence}", file, repair)
                return
        frame = compact.read_accepted(ledger, state, feed)
    except EtlError as error:
        yield Problem(f"what Norce has from {feed} cannot be read: {error.message}", state / "accepted" / feed, repair)
        return
    if frame[KEY].null_count() or frame[ITEM].null_count() or frame[KEY].n_unique() != frame.height:
        sentence = f"what Norce has from {feed} holds records without a key, or twice"
        yield Problem(sentence, state / "accepted" / feed, repair)


def _open_to_others(state: Path) -> Iterator[Problem]:
    for path in [state, *state.rglob("*")]:
        if not path.is_symlink() and path.stat().st_mode & 0o077:
            yield Problem("other users may look into the state folder", path, f"chmod -R go= '{state}'")
            return
