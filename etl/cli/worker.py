"""What the commands that work on runs share: their session, steps until a run has ended, results and exit status."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from etl import log
from etl.app import Session, SessionOptions, open_session
from etl.cli import tables
from etl.cli.progress import RunDisplay
from etl.config.settings import Settings
from etl.errors import EtlError, ExitStatus, InvalidMappingError, RunParkedError, UsageError
from etl.mapping import conflicts, load
from etl.model.runs import Chunk, ChunkState, Run, RunState
from etl.report import run_report
from etl.shutdown import ShutdownEvent, set_on_signals
from etl.state.ledger.facade import Ledger

#: Seconds without any answer of Connect after which a command leaves the rest open.
CONNECT_TIMEOUT = 120.0

#: Seconds between two steps while nothing happens.
_STEP_INTERVAL = 5.0

#: Exit statuses by their weight, for runs that ended differently.
EXIT_PRECEDENCE = (
    ExitStatus.INTERNAL_ERROR,
    ExitStatus.CANNOT_CONTINUE,
    ExitStatus.CONNECT_ERROR,
    ExitStatus.HELD,
    ExitStatus.ROWS_REJECTED,
    ExitStatus.OK,
)


@contextmanager
def worker_session(
    settings: Settings, *, verbose: bool, connect_timeout: float | None = CONNECT_TIMEOUT, listen: bool = False
) -> Iterator[Session]:
    """Open a session with mappings, signals, log and progress.

    Raises UsageError without mapping files, InvalidMappingError when none of them is usable.
    """
    log.configure(verbose=verbose)
    mappings, mapping_errors = load.load_mappings(settings.paths.mappings)
    if not mappings:
        raise _no_mapping_error(settings, mapping_errors)
    for error in (*mapping_errors, *conflicts.find_conflicts(mappings).values()):
        click.echo(str(error), err=True)
    settings.paths.inbox.mkdir(parents=True, exist_ok=True)
    if settings.connect is None:
        click.echo("no [connect] settings: the built-in sandbox is used, nothing reaches Norce", err=True)
    shutdown, display = ShutdownEvent(), RunDisplay()
    options = SessionOptions(shutdown=shutdown, emit=display.emit, connect_timeout=connect_timeout, listen=listen)
    with set_on_signals(shutdown), open_session(settings, mappings, options) as session, display:
        yield session


def _no_mapping_error(settings: Settings, mapping_errors: Sequence[InvalidMappingError]) -> EtlError:
    if mapping_errors:
        return InvalidMappingError([problem for error in mapping_errors for problem in error.problems])
    return UsageError(
        "no-mappings",
        "there is no mapping file",
        where=str(settings.paths.mappings),
        hint="write one (docs/mapping.md), and check it with `etl check`",
    )


def step_and_report(session: Session) -> bool:
    """Take one step and print the runs that stalled in it. True when more may be possible at once."""
    stalled_before = len(session.coordinator.stalled_runs)
    has_more = session.coordinator.step()
    printed_errors: set[str] = set()
    for run, error in session.coordinator.stalled_runs[stalled_before:]:
        is_parked = isinstance(error, RunParkedError)
        message = f"run {run.id} " + ("is parked" if is_parked else "stays open; the next `etl once` continues it")
        click.echo(message if str(error) in printed_errors else f"{message}\n{error}", err=True)
        printed_errors.add(str(error))
    return has_more


def run_to_completion(session: Session, run: Run) -> None:
    """Take one run and its follow-up runs to their ends."""
    coordinator = session.coordinator
    coordinator.restrict_to(run)
    while not session.shutdown.is_set():
        if step_and_report(session):
            continue
        if not coordinator.is_busy:
            break
        coordinator.wake_event.wait(_STEP_INTERVAL)
        coordinator.wake_event.clear()


def print_results(session: Session, *, as_json: bool) -> ExitStatus:
    """Print the results of a session that is closed, and return its exit status."""
    errors = [error for _, error in session.coordinator.stalled_runs]
    with Ledger.open_read_only(session.settings.paths.state) as ledger:
        pairs = [
            (ledger.runs.find(run.id) or run, ledger.chunks.list_by_run(run.id))
            for run in session.coordinator.results()
        ]
    if as_json:
        tables.print_json({"runs": [run_report.run_json(run, chunks) for run, chunks in pairs]})
    elif pairs:
        tables.print_runs(pairs)
        for run, chunks in pairs:
            _print_hints(run, chunks)
    else:
        click.echo("nothing to do")
    if session.shutdown.is_set():
        return ExitStatus.INTERRUPTED
    statuses = {exit_status_of(run, chunks) for run, chunks in pairs} | {error.exit_status for error in errors}
    return next((status for status in EXIT_PRECEDENCE if status in statuses), ExitStatus.OK)


def _print_hints(run: Run, chunks: Sequence[Chunk]) -> None:
    if run.state is RunState.INVALID and run.error:
        click.echo(f"{run.file}: {run.error}", err=True)
    if run.state is RunState.HELD:
        click.echo(f"held: {run.id}: inspect it with `etl show`, then `etl approve` or `etl discard` it")
    elif run.counts.rejected or run.counts.failed or any(c.state is ChunkState.FAILED for c in chunks):
        click.echo(f"more: `etl show {run.id}`")
    if run.counts.rejected and run.archive:
        click.echo(f"      {os.path.relpath(run.archive / 'rejections.csv')}")


def exit_status_of(run: Run, chunks: Sequence[Chunk]) -> ExitStatus:
    """Return the exit status for the end of one run."""
    if run.state is RunState.INVALID:
        return ExitStatus.CANNOT_CONTINUE
    if run.state is RunState.HELD:
        return ExitStatus.HELD
    if any(chunk.state is ChunkState.FAILED for chunk in chunks) or run.counts.failed:
        return ExitStatus.CONNECT_ERROR
    return ExitStatus.ROWS_REJECTED if run.counts.rejected else ExitStatus.OK
