"""Repairs a state folder: derives again what can be derived, deletes what cannot, and says which.

Deleting accepted records is safe: the next file is compared with nothing, so all of its records are sent. It costs
requests, and missing records are not detected in that file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from etl import filesystem
from etl.connect.rate_limiter import MachineClock
from etl.errors import StateError, UsageError
from etl.ingest import claims
from etl.model.plan_facts import PlanFacts
from etl.model.runs import Run, RunState
from etl.state import compaction, startup_check
from etl.state.files import archive, checksums, run_folder
from etl.state.ledger import repair_steps, schema, seal
from etl.state.ledger.facade import Ledger

#: Seconds for which nothing is sent after a repair of a ledger whose permits cannot be read: the longest window.
UNREADABLE_LEDGER_PAUSE = 60.0

#: Entries of the state folder that a reset leaves in place.
_NOT_BACKED_UP = ("lock", "norce")


def repair_feed(ledger: Ledger, state: Path, feed: str, *, forget: bool) -> list[str]:
    """Compact the accepted records of a feed, or delete them; return what was done, as sentences. Raises StateError."""
    if forget:
        repair_steps.drop_accepted(ledger.database, feed)
        compaction.remove_orphans(ledger, state, [feed])
        return [
            f"{feed}: the accepted records are deleted. All records of its next file are sent again.",
            "Records that Norce has and that file lacks are not deactivated. Look for them in Norce.",
            "The pending records are deleted, too: `etl rerun` the runs whose records failed.",
        ]
    try:
        before = compaction.read_accepted(ledger, state, feed).height
        compaction.compact_feed(ledger, state, feed)
    except StateError as error:
        raise StateError(
            "accepted-unreadable",
            f"the accepted records of {feed} are not readable: {error.message}",
            where=error.where,
            hint=f"`etl state rebuild {feed} --forget` deletes them: the next file of the feed is sent in full",
        ) from error
    return [f"{feed}: {before} records, all readable"]


def repair_run(ledger: Ledger, state: Path, run: Run) -> list[str]:
    """Repair an open run: plan it again if none of its requests was sent, else fail its damaged chunks.

    Return what was done, as sentences. Raises UsageError, StateError.
    """
    if run.state.is_final:
        raise UsageError("run-ended", f"run {run.id} has ended", hint="only open runs are rebuilt; `etl status`")
    if run.has_file and (run.claimed is None or not run.claimed.is_file()):
        if ledger.chunks.has_sent_requests(run.id):
            return _abandon_damaged_chunks(ledger, state, run)
        ledger.close_run(run.id, RunState.DISCARDED, error="its file is gone from the state folder")
        compaction.delete_run_folder(state, run.id)
        return [f"{run.id} is discarded: its file is gone. Drop it into the inbox again."]
    if ledger.chunks.has_sent_requests(run.id):
        return _abandon_damaged_chunks(ledger, state, run)
    if run.kind == "undo":
        ledger.close_run(run.id, RunState.DISCARDED, error="its files in the state folder were damaged")
        compaction.delete_run_folder(state, run.id)
        return [f"{run.id} is discarded, nothing of it had left. Ask for the undo again."]
    repair_steps.return_to_claimed(ledger.database, run.id)
    compaction.delete_run_folder(state, run.id)
    return [f"{run.id}: none of its requests was sent. The next `etl once` or `etl run` plans it again."]


def _abandon_damaged_chunks(ledger: Ledger, state: Path, run: Run) -> list[str]:
    sentences = []
    folder = run_folder.folder_path(state, run.id)
    sent = run_folder.sent_records_path(state, run.id)
    if not checksums.matches_digest(ledger, sent):
        repair_steps.fail_chunks(ledger.database, run.id, None, "its content is lost")
        sentences = [f"{run.id}: its sent records are no longer known, so its requests count as failed.", *repair_feed(
            ledger, state, run.feed, forget=True
        )]  # fmt: skip
    else:
        damaged = [
            chunk.number
            for chunk in ledger.chunks.list_by_run(run.id, unfinished=True)
            if not chunk.payload.is_file() or filesystem.digest(chunk.payload) != chunk.digest
        ]
        repair_steps.fail_chunks(ledger.database, run.id, damaged, "its payload was damaged in the state folder")
        sentences = [
            f"{run.id}: {len(damaged)} damaged requests have failed; their records are not accepted and go with the "
            "feed's next file, or with `etl rerun`."
        ]
    plan = folder / "plan.json"
    if not _is_valid_plan_file(ledger, plan):
        filesystem.make_folder(folder)
        filesystem.write_atomically(plan, json.dumps(PlanFacts().to_json()).encode())
        sentences.append("The facts of its plan are lost; its report will lack them.")
    for file in run_folder.list_plan_files(state, run.id):
        if not checksums.matches_digest(ledger, file) and file != plan:
            file.unlink()
    checksums.save_digests(ledger, [plan])
    return sentences


def _is_valid_plan_file(ledger: Ledger, path: Path) -> bool:
    if not checksums.matches_digest(ledger, path):
        return False
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def reset_state(state: Path, inbox_folder: Path) -> list[str]:
    """Empty the state folder: move its contents into a backup folder within it, and claimed files into the inbox.

    Return what was done, as sentences. Raises StateError.
    """
    backup = state / f"backup-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with filesystem.translate_os_errors(state):
        claimed = claims.claimed_files(state).items()
        returned = [_return_file(state, base, path, inbox_folder, backup) for base, path in claimed]
        filesystem.make_folder(backup)
        for path in sorted(state.iterdir()):
            if path.name not in _NOT_BACKED_UP and not path.name.startswith("backup-"):
                path.rename(backup / path.name)
        filesystem.sync_folder(backup)
        filesystem.sync_folder(state)
        _keep_rate_limit(backup, state)
    sentences = [
        "The state folder is empty: it has no accepted records, so every feed's next file is sent in full. Records "
        "that those files lack are not deactivated.",
        f"The old state with its archive is in {backup}; delete that folder when you no longer need it.",
    ]
    return [*(line for line in returned if line), *sentences]


def _keep_rate_limit(backup: Path, state: Path) -> None:
    """Copy the permits and pauses of the old ledger into the empty one: the rate limit of the server goes on."""
    if not schema.ledger_path(backup).exists():
        return
    with Ledger.open(state) as ledger:
        try:
            with Ledger.open_read_only(backup) as old:
                repair_steps.copy_rate_limit(old.database, ledger.database)
        except StateError:
            repair_steps.insert_pause(ledger.database, MachineClock().now()._asdict(), UNREADABLE_LEDGER_PAUSE)


def _return_file(state: Path, claim_id: str, path: Path, inbox_folder: Path, backup: Path) -> str:
    name = path.relative_to(archive.claim_folder(state, claim_id))
    if claim_id.endswith(("-full", "-rerun", "-resend")):
        return ""
    if claims.return_to_inbox(path, state, claim_id, inbox_folder):
        return f"{name} is back in the inbox."
    if filesystem.is_regular_file(inbox_folder / name):
        return f"{name} was being processed; a newer one is in the inbox."
    return f"{name} was being processed; its folder in the inbox does not take it, so it is kept in {backup}/claimed."


def reseal_ledger(state: Path) -> list[str]:
    """Seal a ledger that somebody has changed, if SQLite finds no damage in it. Raises StateError."""
    path = schema.ledger_path(state)
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            result = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        result = str(error)
    if result != "ok":
        raise StateError(
            "state-corrupt", f"the ledger is damaged: {result}", where=str(path), hint=startup_check.RESET_COMMAND
        )
    with path.open("rb") as file:
        seal.write_seal(path, file.fileno())
    return ["The ledger is taken as it is."]


def find_run_or_feed(ledger: Ledger, name: str) -> Run | None:
    """Return the run with this id; None when the name is a feed. Raises UsageError."""
    run = ledger.runs.find(name)
    if run is not None:
        return run
    feeds: Sequence[str] = ledger.feeds.list_names()
    if name in feeds:
        return None
    raise UsageError(
        "feed-or-run-unknown", f'there is no feed and no run "{name}"', hint=f"feeds are: {', '.join(feeds) or 'none'}"
    )
