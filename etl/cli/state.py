"""The commands of `etl state`: verify, export, import and repair a state folder.

Each of them locks the folder, so no other process changes it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from etl import filesystem
from etl.cli import tables
from etl.config.settings import Settings, resolve_state_folder
from etl.errors import ExitStatus, StateError, UsageError
from etl.maintenance import repair, transfer, verify
from etl.state.files import lock
from etl.state.ledger.facade import Ledger


def verify_folder(settings: Settings, *, as_json: bool) -> ExitStatus:
    """Print every problem of the state folder with the command that repairs it."""
    state = _state_folder(settings)
    if not state.is_dir():
        problems = []
    else:
        with lock.lock_state_folder(state):
            problems = list(verify.find_problems(state))
    if as_json:
        rows = [{"problem": each.message, "where": str(each.where), "repair": each.repair} for each in problems]
        tables.print_json({"state": str(state), "problems": rows})
    else:
        for each in problems:
            click.echo(f"{each.message}\n  where:  {each.where}\n  repair: {each.repair}")
        if not problems:
            click.echo(f"{state} has no problems")
    return ExitStatus.CANNOT_CONTINUE if problems else ExitStatus.OK


def export_to_file(settings: Settings, target: Path, feeds: Sequence[str]) -> ExitStatus:
    """Write the accepted and pending records of the feeds to a new file."""
    with _locked_ledger(settings) as (ledger, state):
        _print_lines(transfer.export_state(ledger, state, feeds, target))
    click.echo(f"wrote {target}; later changes are not included")
    return ExitStatus.OK


def import_from_file(settings: Settings, source: Path) -> ExitStatus:
    """Fill an empty state folder from an exported file."""
    state = _state_folder(settings)
    target = settings.connect.target if settings.connect is not None else "sandbox"
    with filesystem.translate_os_errors(state):
        filesystem.make_folder(state)
    with lock.lock_state_folder(state), Ledger.open(state, target=target) as ledger:
        _print_lines(transfer.import_state(ledger, state, source))
    return ExitStatus.OK


def rebuild_state(
    settings: Settings, names: Sequence[str], *, forget: bool, reset: bool, trust_ledger: bool
) -> ExitStatus:
    """Rebuild feeds, repair runs, or reset the whole folder."""
    if reset or trust_ledger:
        if names or forget or (reset and trust_ledger):
            raise UsageError(
                "rebuild-mixed",
                "--all and --trust-ledger take no other option and no name",
                hint="see `etl state rebuild --help`",
            )
        state = _state_folder(settings)
        if not state.is_dir():
            raise _empty_state_error(state)
        with lock.lock_state_folder(state):
            _print_lines(repair.reset_state(state, settings.paths.inbox) if reset else repair.reseal_ledger(state))
        return ExitStatus.OK
    with _locked_ledger(settings) as (ledger, state):
        for name in names or ledger.feeds.list_names():
            run = repair.find_run_or_feed(ledger, name)
            if run is not None:
                _print_lines(repair.repair_run(ledger, state, run))
            else:
                _print_lines(repair.repair_feed(ledger, state, name, forget=forget))
    return ExitStatus.OK


@contextmanager
def _locked_ledger(settings: Settings) -> Iterator[tuple[Ledger, Path]]:
    state = _state_folder(settings)
    if not (state / "ledger.sqlite").exists():
        raise _empty_state_error(state)
    with lock.lock_state_folder(state), Ledger.open(state) as ledger:
        yield ledger, state


def _empty_state_error(state: Path) -> StateError:
    return StateError(
        "state-empty",
        "the state folder is empty",
        where=str(state),
        hint="check paths.state; `etl state import` fills an empty folder from an export",
    )


def _state_folder(settings: Settings) -> Path:
    return resolve_state_folder(settings).paths.state


def _print_lines(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        click.echo(sentence)
