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
from etl.app import Session
from etl.cli import tables
from etl.config.settings import Limits, Paths, Settings
from etl.demo.compare import differences
from etl.errors import Exit, UsageError
from etl.ingest import scan
from etl.mapping import load as mapping_file
from etl.model.runs import Run

ROUNDS = (("day 1: the first load", "day1"), ("day 2: a few changes", "day2"), ("day 2 again", "day2"))

#: The demonstration need not wait for minutes to pass: the sandbox grants it more than Connect's 60 a minute.
REQUESTS = 600


def run(mappings: Path, keep: Path | None) -> Exit:
    """Exit status 0 when the catalogue is what the files say and the third round sends nothing."""
    good, bad = mapping_file.read_all(mappings)
    if bad:
        raise bad[0]
    if not good:
        raise UsageError(
            "no-mappings",
            "there are no mappings here",
            where=str(mappings),
            hint="run the demonstration in the project's folder",
        )
    with _folder(keep) as folder, contextlib.ExitStack() as stack:
        from etl import sandbox

        settings = Settings(
            paths=Paths(inbox=folder / "inbox", mappings=mappings, state=folder / "var"),
            limits=Limits(requests=REQUESTS),
        )
        kept = folder / "norce"
        kept.mkdir(parents=True, exist_ok=True)
        chosen = sandbox.Settings(state=kept, requests=REQUESTS)
        work = stack.enter_context(
            session.opened(settings, good, tell=lambda *_args, **_facts: None, sandbox_settings=chosen)
        )
        click.echo(f"The sandbox grants {REQUESTS} requests a minute here, ten times what Connect does.\n")
        last: list[Run] = []
        for title, day in ROUNDS:
            with _data() as data:
                shutil.copytree(data / day, settings.paths.inbox, dirs_exist_ok=True)
            last = _round(work)
            tables.runs_table([(r, work.ledger.chunks(r.id)) for r in last], title)
            click.echo("")
        with _data() as data:
            wrong = differences(data / "day2", work.server)
        if any(noted := work.server.audit().values()):
            wrong.append(f"the sandbox noted: {list(noted)}")
    again = sum(r.counts.requests for r in last)
    if again:
        wrong.append(f"the third round sent {again} requests")
    for line in wrong[:20]:
        click.echo(f"differs: {line}", err=True)
    click.echo("the catalogue is not what the files say" if wrong else "The sandbox's catalogue is what the files say.")
    return Exit.CANNOT_GO_ON if wrong else Exit.OK


def _round(work: Session) -> list[Run]:
    names = scan.scan(work.settings.paths.inbox)
    ranked = sorted((rank, name) for name in names if (rank := work.pipeline.intake.rank(name)) is not None)
    traffic = work.traffic
    traffic.forget()
    for _, name in ranked:
        traffic.add(work.pipeline.intake.claim(name))
    while traffic.step() or traffic.busy:
        traffic.news.wait(0.02)
        traffic.news.clear()
    return traffic.results()


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="etl-demo-") as folder:
        yield Path(folder)


def _data() -> contextlib.AbstractContextManager[Path]:
    return resources.as_file(resources.files("etl.demo") / "data")
