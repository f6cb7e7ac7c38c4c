"""`etl demo`: two days of exports through the whole pipeline, and the sandbox's catalogue held against the files.

Day one, day two with its few per cent of changes, and day two again, which must send nothing. The comparison at
the end (`etl.demo.compare`) reads the files with other means than the pipeline does.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import click

from etl import app as session
from etl import events
from etl.app import Session
from etl.cli import tables
from etl.config.settings import LimitSettings, PathSettings, Settings
from etl.demo.compare import compare_catalogue
from etl.errors import ExitStatus, UsageError
from etl.ingest import scan
from etl.mapping import load
from etl.model.runs import Run

ROUNDS = (("day 1: the first load", "day1"), ("day 2: a few changes", "day2"), ("day 2 again", "day2"))

#: The demonstration need not wait for minutes to pass: the sandbox grants it more than Connect's 60 a minute.
REQUESTS_PER_MINUTE = 600


def run_demo(mappings: Path, work_folder: Path | None) -> ExitStatus:
    """Exit status 0 when the catalogue is what the files say and the third round sends nothing."""
    good, bad = load.load_mappings(mappings)
    if bad:
        raise bad[0]
    if not good:
        raise UsageError(
            "no-mappings",
            "there are no mappings here",
            where=str(mappings),
            hint="run the demonstration in the project's folder",
        )
    with _work_folder(work_folder) as folder, contextlib.ExitStack() as stack:
        from etl import sandbox

        settings = Settings(
            paths=PathSettings(inbox=folder / "inbox", mappings=mappings, state=folder / "var"),
            limits=LimitSettings(requests=REQUESTS_PER_MINUTE),
        )
        kept = folder / "norce"
        kept.mkdir(parents=True, exist_ok=True)
        chosen = sandbox.SandboxSettings(state=kept, requests=REQUESTS_PER_MINUTE)
        work = stack.enter_context(session.open_session(settings, good, emit=events.ignore, sandbox_settings=chosen))
        click.echo(f"The sandbox grants {REQUESTS_PER_MINUTE} requests a minute here, ten times what Connect does.\n")
        last: list[Run] = []
        for title, day in ROUNDS:
            with _data_folder() as data:
                shutil.copytree(data / day, settings.paths.inbox, dirs_exist_ok=True)
            last = _process_inbox(work)
            tables.print_runs([(r, work.ledger.list_chunks(r.id)) for r in last], title)
            click.echo("")
        with _data_folder() as data:
            wrong = compare_catalogue(data / "day2", work.sandbox)
        if any(noted := work.sandbox.audit().values()):
            wrong.append(f"the sandbox noted: {list(noted)}")
    again = sum(r.counts.requests for r in last)
    if again:
        wrong.append(f"the third round sent {again} requests")
    for line in wrong[:20]:
        click.echo(f"differs: {line}", err=True)
    click.echo("the catalogue is not what the files say" if wrong else "The sandbox's catalogue is what the files say.")
    return ExitStatus.CANNOT_CONTINUE if wrong else ExitStatus.OK


def _process_inbox(session: Session) -> list[Run]:
    names = scan.scan(session.settings.paths.inbox)
    ranked = sorted((rank, name) for name in names if (rank := session.lifecycle.intake.rank(name)) is not None)
    traffic = session.coordinator
    traffic.clear_results()
    for _, name in ranked:
        traffic.add(session.lifecycle.intake.claim(name))
    while traffic.step() or traffic.is_busy:
        traffic.wake_event.wait(0.02)
        traffic.wake_event.clear()
    return traffic.results()


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
