"""`etl demo`: processes two days of exports, and compares the sandbox's catalogue with the files.

Day one, day two with its few per cent of changes, and day two again, which must send nothing. The comparison at the
end (`etl.demo.compare`) reads the files with its own code, not with `etl.formats`.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import click

from etl import events
from etl.app import Session, SessionOptions, open_session
from etl.cli import tables
from etl.config.settings import LimitSettings, PathSettings, Settings
from etl.demo.compare import compare_catalogue
from etl.errors import ExitStatus, UsageError
from etl.ingest import scan
from etl.mapping import load
from etl.mapping.model import Mapping
from etl.model.runs import Run
from etl.sandbox import SandboxSettings

ROUNDS = (("day 1: the first load", "day1"), ("day 2: a few changes", "day2"), ("day 2 again", "day2"))

#: The sandbox allows more than Connect's 60 a minute, so that the demonstration takes seconds.
REQUESTS_PER_MINUTE = 600

#: Differences between catalogue and files that are shown.
DIFFERENCES_SHOWN = 20


def run_demo(mappings_folder: Path, work_folder: Path | None) -> ExitStatus:
    """Run the demonstration. OK when the catalogue agrees with the files and the third round sends nothing."""
    mappings = _load_mappings(mappings_folder)
    with _work_folder(work_folder) as folder:
        settings = Settings(
            paths=PathSettings(inbox=folder / "inbox", mappings=mappings_folder, state=folder / "var"),
            limits=LimitSettings(requests=REQUESTS_PER_MINUTE),
        )
        with open_session(settings, mappings, _session_options(folder / "norce")) as session:
            click.echo(
                f"The sandbox grants {REQUESTS_PER_MINUTE} requests a minute here, ten times what Connect does.\n"
            )
            differences = _run_days(session)
    for line in differences[:DIFFERENCES_SHOWN]:
        click.echo(f"differs: {line}", err=True)
    if differences:
        click.echo("the catalogue is not what the files say")
        return ExitStatus.CANNOT_CONTINUE
    click.echo("The sandbox's catalogue is what the files say.")
    return ExitStatus.OK


def _load_mappings(folder: Path) -> list[Mapping]:
    mappings, mapping_errors = load.load_mappings(folder)
    if mapping_errors:
        raise mapping_errors[0]
    if not mappings:
        raise UsageError(
            "no-mappings",
            "there are no mappings here",
            where=str(folder),
            hint="run the demonstration in the project's folder",
        )
    return mappings


def _session_options(catalogue_folder: Path) -> SessionOptions:
    catalogue_folder.mkdir(parents=True, exist_ok=True)
    sandbox_settings = SandboxSettings(state=catalogue_folder, requests=REQUESTS_PER_MINUTE)
    return SessionOptions(emit=events.ignore, sandbox_settings=sandbox_settings)


def _run_days(session: Session) -> list[str]:
    """Process each round's files, and return what is wrong at the end, in words."""
    runs: list[Run] = []
    for title, day in ROUNDS:
        with _data_folder() as data:
            shutil.copytree(data / day, session.settings.paths.inbox, dirs_exist_ok=True)
        runs = _process_inbox(session)
        tables.print_runs([(run, session.ledger.chunks.list_by_run(run.id)) for run in runs], title)
        click.echo("")
    with _data_folder() as data:
        differences = compare_catalogue(data / "day2", session.sandbox)
    if any(violations := session.sandbox.audit().values()):
        differences.append(f"the sandbox noted: {list(violations)}")
    requests = sum(run.counts.requests for run in runs)
    if requests:
        differences.append(f"the third round sent {requests} requests")
    return differences


def _process_inbox(session: Session) -> list[Run]:
    names = scan.scan(session.settings.paths.inbox)
    ranked = sorted((rank, name) for name in names if (rank := session.intake.rank(name)) is not None)
    coordinator = session.coordinator
    coordinator.clear_results()
    for _, name in ranked:
        coordinator.add(session.intake.claim(name))
    while coordinator.step() or coordinator.is_busy:
        coordinator.wake_event.wait(0.02)
        coordinator.wake_event.clear()
    return coordinator.results()


@contextlib.contextmanager
def _work_folder(work_folder: Path | None) -> Iterator[Path]:
    if work_folder is not None:
        work_folder.mkdir(parents=True, exist_ok=True)
        yield work_folder.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="etl-demo-") as folder:
        yield Path(folder)


def _data_folder() -> contextlib.AbstractContextManager[Path]:
    return resources.as_file(resources.files("etl.demo") / "data")
