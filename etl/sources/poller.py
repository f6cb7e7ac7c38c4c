"""When suppliers' servers are visited: by their timetables beside a service, or at once by hand.

A slow server must not keep files that are here waiting, so the service visits servers in a thread of its own. It
shares nothing with the rest but the inbox and the ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from etl import app as session
from etl import cron as timetable
from etl import filesystem as durable
from etl import log
from etl.cli.progress import Transfers
from etl.config import settings as config
from etl.config.settings import Settings
from etl.errors import EtlError, Exit, UsageError
from etl.state.ledger.alerts import Board, Notice
from etl.state.ledger.facade import Ledger
from etl.state.ledger.fetched_files import Memory

if TYPE_CHECKING:
    from etl.sources.fetcher import Round

#: Seconds between two looks at the timetables.
_LOOK = 5.0


def fetch(settings: Settings, names: Sequence[str], *, as_json: bool, verbose: bool) -> Exit:
    """Visit these servers now, or all of them; trouble with one does not keep the others."""
    from etl.cli.show import print_json

    log.set_up(verbose=verbose)
    settings = config.state_settings(settings)
    unknown = [name for name in names if name not in settings.fetch]
    if unknown or not settings.fetch:
        known = ", ".join(settings.fetch) or "none"
        raise UsageError(
            "fetch-unknown",
            f"the settings have no [fetch.{unknown[0]}]" if unknown else "the settings have no [fetch.NAME]",
            hint=f"known are: {known}; see docs/settings.md",
        )
    worst = Exit.OK
    shown: list[dict[str, Any]] = []
    state = settings.paths.state
    with durable.translated(state):
        durable.make_folder(state)
    with session.alone(state), Ledger.open(state) as ledger, Transfers() as transfers:
        for name in names or settings.fetch:
            visit: dict[str, Any] = {"source": name, "fetched": [], "waiting": [], "known": 0, "error": None}
            try:
                made = _visit(settings, name, ledger, transfers.tell, lambda: False)
                assert made is not None
                visit["fetched"], visit["known"] = list(made.arrived), made.known
                visit["waiting"] = [{"file": file, "reason": reason} for file, reason in made.waiting]
            except EtlError as error:
                click.echo(str(error), err=True)
                visit["error"] = str(error)
                worst = Exit.CANNOT_GO_ON
            shown.append(visit)
    if as_json:
        print_json({"sources": shown})
        return worst
    for visit in (visit for visit in shown if visit["error"] is None):
        click.echo(f"{visit['source']}: {len(visit['fetched'])} fetched, {visit['known']} known before")
        for file in visit["fetched"]:
            click.echo(f"  {file}")
        for waiting in visit["waiting"]:
            click.echo(f"  {waiting['file']} waits: {waiting['reason']}")
    return worst


@contextmanager
def beside(settings: Settings, ledger: Ledger, stop: threading.Event, tell: Callable[..., None]) -> Iterator[None]:
    """A thread that visits servers by their timetables for as long as the block lasts."""
    over = threading.Event()

    def keep() -> None:
        while not (stop.is_set() or over.is_set()):
            for name in settings.fetch:
                if not (stop.is_set() or over.is_set()) and _is_due(settings, name, ledger):
                    _try(settings, name, ledger, tell, lambda: stop.is_set() or over.is_set())
            over.wait(_LOOK)

    thread = threading.Thread(target=keep, name="fetch", daemon=True)
    if settings.fetch:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join(timeout=10)


def _is_due(settings: Settings, name: str, ledger: Ledger) -> bool:
    last = Memory(ledger.database, name).last_round()
    return last is None or timetable.due(settings.fetch[name].schedule, last, datetime.now(UTC))


def _try(settings: Settings, name: str, ledger: Ledger, tell: Callable[..., None], stopped: Callable[[], bool]) -> None:
    try:
        _visit(settings, name, ledger, tell, stopped)
    except EtlError as error:
        tell("fetch_failed", source=name, code=error.code, reason=error.message, hint=error.hint)


def _visit(
    settings: Settings, name: str, ledger: Ledger, tell: Callable[..., None], stopped: Callable[[], bool]
) -> Round | None:
    from etl.sources.fetcher import Fetch

    memory, board = Memory(ledger.database, name), Board(ledger.database)
    try:
        secret = config.fetch_secret(name, settings.fetch[name])
        source = Fetch(name, settings.fetch[name], secret, settings.paths.inbox, memory, ledger.was_taken, tell)
        made = source.round(stopped)
    except EtlError as error:
        sentence = f"nothing comes from {name}: {error.message} ({error.code})"
        board.put(Notice(f"fetch:{name}", sentence, datetime.now(UTC)))
        raise
    finally:
        memory.asked(datetime.now(UTC))
    board.drop(f"fetch:{name}")
    return made
