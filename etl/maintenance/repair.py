"""Puts a state folder right: what can be derived is derived anew, and what cannot is forgotten, with a word.

Forgetting is always right in the end, because the next file is then compared with nothing and sends everything; it
costs requests, and records that are gone from the file are not noticed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from etl import filesystem as durable
from etl.errors import StateError, UsageError
from etl.ingest import claims as inbox
from etl.model.runs import Run, RunState
from etl.state import compaction as compact
from etl.state import startup_check
from etl.state.files import archive, run_folder
from etl.state.files import checksums as witness
from etl.state.ledger import repair_steps as ledger_repair
from etl.state.ledger import schema, seal
from etl.state.ledger.facade import Ledger
from etl.state.snapshots import accepted

#: What is left where it is when everything begins anew.
_STAYS = ("lock", "norce")


def feed(ledger: Ledger, state: Path, name: str, *, forget: bool, changes: bool) -> list[str]:
    """Make what Norce has from a feed anew, or forget it; what was done, as sentences. Raises StateError."""
    if forget:
        ledger_repair.forget(ledger.database, name)
        compact.sweep(ledger, state, [name])
        return [
            f"{name}: nothing counts as accepted any more. Its next file is compared with nothing, so all of its "
            "records are sent again.",
            "Records that Norce has and that file has not are not switched off: whatever has gone since the last file "
            "has to be looked for in Norce.",
            "What a feed of changes still owed Norce is forgotten, too: `etl rerun` runs whose records were refused.",
        ]
    try:
        before = compact.read_accepted(ledger, state, name).height
        compact.runs_of(ledger, state, name, changes=changes)
    except StateError as error:
        raise StateError(
            "accepted-unreadable",
            f"what Norce has from {name} cannot be told: {error.message}",
            where=error.where,
            hint=f"`etl state rebuild {name} --forget` forgets it: the feed's next file is sent whole",
        ) from error
    return [f"{name}: {before} records, read whole"]


def run(ledger: Ledger, state: Path, found: Run) -> list[str]:
    """Put an open run right: planned anew while nothing of it has left, else what is damaged is given up."""
    if found.state.is_final:
        raise UsageError("run-ended", f"run {found.id} has ended", hint="only open runs are rebuilt; `etl status`")
    if found.has_file and (found.claimed is None or not found.claimed.is_file()):
        if ledger_repair.was_sent(ledger.database, found.id):
            return _give_up(ledger, state, found)
        ledger.close(found.id, RunState.DISCARDED, error="its file is gone from the state folder")
        compact.forget(state, found.id)
        return [f"{found.id} is discarded: its file is gone. Drop it into the inbox again."]
    if ledger_repair.was_sent(ledger.database, found.id):
        return _give_up(ledger, state, found)
    if found.kind == "undo":
        ledger.close(found.id, RunState.DISCARDED, error="its files in the state folder were damaged")
        compact.forget(state, found.id)
        return [f"{found.id} is discarded, nothing of it had left. Ask for the undo again."]
    ledger_repair.plan_anew(ledger.database, found.id)
    compact.forget(state, found.id)
    return [f"{found.id}: nothing of it had left. It is planned anew by the next `etl once` or `etl run`."]


def _give_up(ledger: Ledger, state: Path, found: Run) -> list[str]:
    said = []
    folder = run_folder.path(state, found.id)
    sent = accepted.sent_path(state, found.id)
    if not witness.is_sound(ledger, sent):
        ledger_repair.give_up(ledger.database, found.id, None, "what it held is not known any more")
        said = [f"{found.id}: what it has sent is not known any more, so its requests count as failed.", *feed(
            ledger, state, found.feed, forget=True, changes=False
        )]  # fmt: skip
    else:
        damaged = [
            chunk.number
            for chunk in ledger.chunks(found.id, unfinished=True)
            if not chunk.payload.is_file() or durable.digest(chunk.payload) != chunk.digest
        ]
        ledger_repair.give_up(ledger.database, found.id, damaged, "its payload was damaged in the state folder")
        said = [
            f"{found.id}: {len(damaged)} damaged requests are given up; their records are not accepted and go with the "
            "feed's next file, or with `etl rerun`."
        ]
    plan = folder / "plan.json"
    if not _is_facts(ledger, plan):
        durable.make_folder(folder)
        durable.write(plan, json.dumps({"doubts": []}).encode())
        said.append("The facts of its plan are lost; its report will lack them.")
    for file in run_folder.files(state, found.id):
        if not witness.is_sound(ledger, file) and file != plan:
            file.unlink()
    witness.note(ledger, [plan])
    return said


def _is_facts(ledger: Ledger, plan: Path) -> bool:
    if not witness.is_sound(ledger, plan):
        return False
    try:
        return isinstance(json.loads(plan.read_bytes()), dict)
    except ValueError:
        return False


def all_anew(state: Path, folder: Path) -> list[str]:
    """Begin with an empty state; what there was is kept beside it, and claimed files go back into the inbox."""
    aside = state / f"set-aside-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with durable.translated(state):
        back = [_put_back(state, base, path, folder) for base, path in inbox.claimed_files(state).items()]
        durable.make_folder(aside)
        for path in sorted(state.iterdir()):
            if path.name not in _STAYS and not path.name.startswith("set-aside-"):
                path.rename(aside / path.name)
        durable.sync_folder(aside)
        durable.sync_folder(state)
    said = [
        "The state begins anew: nothing counts as accepted, so every feed's next file is sent whole. Records that are "
        "gone from those files are not switched off.",
        f"What there was is kept in {aside}, with the archive; delete it when nobody needs it.",
    ]
    return [*(line for line in back if line), *said]


def _put_back(state: Path, base: str, path: Path, folder: Path) -> str:
    name = path.relative_to(archive.claim_folder(state, base))
    if base.endswith(("-full", "-rerun", "-resend")):
        return ""
    with suppress(FileExistsError):
        durable.move_new(path, folder / name)
        inbox.restore(state, base, folder)
        return f"{name} is back in the inbox."
    return f"{name} was being worked; a newer one is in the inbox."


def as_it_is(state: Path) -> list[str]:
    """Take a ledger that somebody has changed for what it is; SQLite at least has to find it whole."""
    path = schema.ledger_path(state)
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            said = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        raise StateError(
            "state-corrupt", f"the ledger is damaged: {said}", where=str(path), hint=startup_check.BEGIN_ANEW
        )
    with path.open("rb") as file:
        seal.put(path, file.fileno())
    return ["The ledger is taken as it is."]


def which(ledger: Ledger, name: str) -> Run | None:
    """The run of a name, None when it is a feed. Raises UsageError."""
    found = ledger.run(name)
    if found is not None:
        return found
    feeds: Sequence[str] = ledger_repair.feeds(ledger.database)
    if name in feeds:
        return None
    raise UsageError(
        "feed-or-run-unknown", f'there is no feed and no run "{name}"', hint=f"feeds are: {', '.join(feeds) or 'none'}"
    )
