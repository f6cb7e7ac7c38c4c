"""The commands of `etl state`: look at a state folder, carry it elsewhere, put it right.

All of them take the lock of the folder: what they say has to hold when they have said it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from etl import filesystem as durable
from etl.cli import tables
from etl.config import settings as config
from etl.config.settings import Settings
from etl.errors import Exit, StateError, UsageError
from etl.maintenance import repair as rebuild
from etl.maintenance import transfer as portable
from etl.maintenance import verify
from etl.mapping import load as mapping_file
from etl.state.files import lock
from etl.state.ledger import repair_steps as ledger_repair
from etl.state.ledger.facade import Ledger


def check(settings: Settings, *, as_json: bool) -> Exit:
    """Every problem of the folder, each with what repairs it."""
    state = _state(settings)
    if not state.is_dir():
        found = []
    else:
        with lock.alone(state):
            found = list(verify.problems(state))
    if as_json:
        rows = [{"problem": each.sentence, "where": str(each.where), "repair": each.repair} for each in found]
        tables.print_json({"state": str(state), "problems": rows})
    else:
        for each in found:
            click.echo(f"{each.sentence}\n  where:  {each.where}\n  repair: {each.repair}")
        if not found:
            click.echo(f"{state} is whole")
    return Exit.CANNOT_GO_ON if found else Exit.OK


def carry_out(settings: Settings, target: Path, feeds: Sequence[str]) -> Exit:
    """What Norce has, as one file."""
    with _opened(settings) as (ledger, state):
        _say(portable.write(ledger, state, feeds, target))
    click.echo(f"written to {target}; what is sent from here on it does not know")
    return Exit.OK


def carry_in(settings: Settings, source: Path) -> Exit:
    """An empty folder filled from such a file."""
    state = _state(settings)
    target = settings.connect.target if settings.connect is not None else "sandbox"
    with durable.translated(state):
        durable.make_folder(state)
    with lock.alone(state), Ledger.open(state, target=target) as ledger:
        _say(portable.read(ledger, state, source))
    return Exit.OK


def put_right(settings: Settings, names: Sequence[str], *, forget: bool, everything: bool, as_it_is: bool) -> Exit:
    """Feeds, runs or the whole folder made anew."""
    if everything or as_it_is:
        if names or forget or (everything and as_it_is):
            raise UsageError("rebuild-mixed", "--all and --as-it-is stand alone", hint="see `etl state rebuild --help`")
        state = _state(settings)
        if not state.is_dir():
            raise _empty(state)
        with lock.alone(state):
            _say(rebuild.all_anew(state, settings.paths.inbox) if everything else rebuild.as_it_is(state))
        return Exit.OK
    mappings, _ = mapping_file.read_all(settings.paths.mappings)
    changes = {mapping.feed for mapping in mappings if mapping.source.content == "changes"}
    with _opened(settings) as (ledger, state):
        for name in names or ledger_repair.feeds(ledger.database):
            run = rebuild.which(ledger, name)
            if run is not None:
                _say(rebuild.run(ledger, state, run))
            else:
                _say(rebuild.feed(ledger, state, name, forget=forget, changes=name in changes))
    return Exit.OK


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Ledger, Path]]:
    state = _state(settings)
    if not (state / "ledger.sqlite").exists():
        raise _empty(state)
    with lock.alone(state), Ledger.open(state) as ledger:
        yield ledger, state


def _empty(state: Path) -> StateError:
    return StateError(
        "state-empty",
        "the state folder holds nothing",
        where=str(state),
        hint="check paths.state; `etl state import` fills an empty folder from an export",
    )


def _state(settings: Settings) -> Path:
    return config.state_settings(settings).paths.state


def _say(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        click.echo(sentence)
