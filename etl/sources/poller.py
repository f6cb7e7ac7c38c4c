"""When suppliers' servers are visited: by their timetables beside a service, or at once by hand.

A slow server must not keep files that are here waiting, so the service visits servers in a thread of its own. It
shares nothing with the rest but the inbox and the ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from etl import cron as timetable
from etl.config import secrets
from etl.config.settings import Settings
from etl.errors import EtlError
from etl.state.ledger.alerts import Board, Notice
from etl.state.ledger.facade import Ledger
from etl.state.ledger.fetched_files import Memory

if TYPE_CHECKING:
    from etl.sources.fetcher import Round

#: Seconds between two looks at the timetables.
_LOOK = 5.0


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
        secret = secrets.fetch_secret(name, settings.fetch[name])
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
