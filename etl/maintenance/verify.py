"""Checks that the ledger is intact and that the files it refers to exist and are unchanged.

Every problem is one sentence with the command that repairs it. The check changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from etl.errors import EtlError, StateError
from etl.model.columns import ITEM, KEY
from etl.model.runs import Run, RunState
from etl.state import compaction
from etl.state.files import checksums
from etl.state.ledger import repair_steps, schema, seal
from etl.state.ledger.facade import Ledger
from etl.state.startup_check import RESET_COMMAND, StateProblem, check_payloads, check_run_files, find_unknown_runs


def find_problems(state: Path) -> Iterator[StateProblem]:
    """Yield the problems of a state folder; those of a damaged ledger alone, because all other checks rely on it."""
    path = schema.ledger_path(state)
    if not path.exists():
        if any(
            (state / name).is_dir() and any((state / name).iterdir()) for name in ("accepted", "archive", "claimed")
        ):
            yield StateProblem("the ledger is missing", path, RESET_COMMAND)
        return
    ledger_problems = list(_check_ledger(path))
    yield from ledger_problems
    if ledger_problems:
        return
    try:
        with Ledger.open_read_only(state) as ledger:
            yield from _check_rows(ledger, path)
            for folder in find_unknown_runs(ledger, state):
                yield StateProblem(
                    "the ledger does not know this run: it is older than its folders", folder, RESET_COMMAND
                )
            for run in ledger.runs.list_open():
                yield from _check_claimed_file(state, run)
                yield from check_run_files(ledger, state, run)
                yield from check_payloads(ledger, run)
            for feed in ledger.feeds.list_names():
                yield from _check_accepted(ledger, state, feed)
    except StateError as error:
        yield StateProblem(error.message, path, RESET_COMMAND)
    yield from _check_permissions(state)


def _check_ledger(path: Path) -> Iterator[StateProblem]:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            lines = db.execute("PRAGMA integrity_check(5)").fetchall()
    except sqlite3.Error as error:
        yield StateProblem(f"the ledger is damaged: {error}", path, RESET_COMMAND)
        return
    for (line,) in lines:
        if line != "ok":
            yield StateProblem(f"the ledger is damaged: {line}", path, RESET_COMMAND)
            return
    try:
        seal.check_seal(path)
    except StateError as error:
        yield StateProblem(
            error.message, path, f"{RESET_COMMAND}; if you changed it yourself: etl state rebuild --trust-ledger"
        )


def _check_rows(ledger: Ledger, path: Path) -> Iterator[StateProblem]:
    for table, number in repair_steps.count_orphan_rows(ledger.database).items():
        yield StateProblem(f"{number} rows of {table} belong to no run", path, RESET_COMMAND)


def _check_claimed_file(state: Path, run: Run) -> Iterator[StateProblem]:
    if run.state is RunState.CLAIMED and run.has_file and (run.claimed is None or not run.claimed.is_file()):
        where = run.claimed or state / "claimed"
        yield StateProblem(f"the file of run {run.id} is missing", where, f"etl state rebuild {run.id}")


def _check_accepted(ledger: Ledger, state: Path, feed: str) -> Iterator[StateProblem]:
    repair = f"etl state rebuild {feed} --forget"
    try:
        for file in compaction.snapshot_files(ledger, state, feed):
            if not checksums.matches_digest(ledger, file):
                sentence = "not as it was written" if file.exists() else "missing"
                yield StateProblem(f"the accepted records of {feed} are incomplete: a file is {sentence}", file, repair)
                return
        frame = compaction.read_accepted(ledger, state, feed)
    except EtlError as error:
        yield StateProblem(
            f"the accepted records of {feed} are not readable: {error.message}", state / "accepted" / feed, repair
        )
        return
    if frame[KEY].null_count() or frame[ITEM].null_count() or frame[KEY].n_unique() != frame.height:
        sentence = f"the accepted records of {feed} have missing or duplicate keys"
        yield StateProblem(sentence, state / "accepted" / feed, repair)


def _check_permissions(state: Path) -> Iterator[StateProblem]:
    for path in [state, *state.rglob("*")]:
        if not path.is_symlink() and path.stat().st_mode & 0o077:
            yield StateProblem("other users may read the state folder", path, f"chmod -R go= '{state}'")
            return
