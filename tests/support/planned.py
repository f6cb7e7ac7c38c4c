"""Two days of the made-up shop, claimed and planned in a process of its own: `python -m tests.support.planned FOLDER`.

Norce's part is played by the ledger alone: what is planned on the first day is accepted, what is planned on the second
is then taken back. Prints one line for each run: what it was, and everything that is kept of its plan.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

from etl import events
from etl.config.settings import PathSettings, Settings
from etl.ingest.intake import Intake
from etl.mapping import load
from etl.model.runs import Job, Run, RunState, Submission
from etl.runs.lifecycle import RunLifecycle
from etl.runs.undo import open_undo_run
from etl.state.files import run_folder
from etl.state.ledger.facade import Ledger

REPOSITORY = Path(__file__).parents[2]
EXPORTS = REPOSITORY / "etl" / "demo" / "data"


def main(folder: Path) -> None:
    mappings, problems = load.load_mappings(REPOSITORY / "mappings")
    assert not problems
    settings = Settings(paths=PathSettings(inbox=folder / "inbox", mappings=folder, state=folder / "state"))
    settings.paths.state.mkdir(parents=True)
    with Ledger.open(settings.paths.state, target="nobody") as ledger:
        intake = Intake(settings, ledger, mappings, events.ignore)
        lifecycle = RunLifecycle(settings, 7, ledger, mappings, intake, events.ignore)
        made: list[Run] = []
        for day in ("day1", "day2"):
            shutil.copytree(EXPORTS / day, settings.paths.inbox, dirs_exist_ok=True)
            names = sorted(
                path.relative_to(settings.paths.inbox).as_posix() for path in settings.paths.inbox.rglob("*.*")
            )
            for name in sorted(names, key=lambda name: intake.rank(name) or (99, 0, name)):
                made += [planned(lifecycle, ledger, run) for run in intake.claim(name)]
        for run in made[len(made) // 2 :]:
            planned(lifecycle, ledger, open_undo_run(ledger, settings.paths.state, run))


def planned(lifecycle: RunLifecycle, ledger: Ledger, run: Run) -> Run:
    """Plan a run, print what came of it, and let Norce take all of it."""
    run = lifecycle.plan(run)
    folder = run_folder.folder_path(ledger.state_folder, run.id)
    kept = {path.name: digest(path) for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".parquet")}
    facts = (folder / "plan.json").read_text(encoding="utf-8")
    kept["plan.json"] = facts.replace(json.loads(facts)["undoes"] or "-", "the run that is taken back")
    chunks = [
        (chunk.number, chunk.wave, json.dumps(chunk.header), digest(chunk.payload), chunk.records, chunk.values)
        for chunk in ledger.chunks.list_by_run(run.id)
    ]
    print(json.dumps([run.feed, run.kind, run.state, chunks, kept]))
    if run.state is RunState.HELD:
        ledger.release_run(run.id)
    for number, chunk in enumerate(ledger.chunks.list_by_run(run.id), 1):
        sent = ledger.save_submission(ledger.mark_sending(chunk), Submission(number))
        ledger.accept(ledger.save_poll(sent, Job(number, 2, True)))
    return lifecycle.complete(run)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
