"""Visits suppliers' servers: by their timetables beside a service, or at once by hand.

A slow server must not keep files that are here waiting, so the service visits servers in a thread of its own. It
shares nothing with the rest but the inbox and the ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from etl import cron
from etl.config import secrets
from etl.config.settings import Settings
from etl.errors import EtlError
from etl.events import EventSink
from etl.state.ledger.alerts import Alert, AlertStore
from etl.state.ledger.facade import Ledger
from etl.state.ledger.fetched_files import FetchedFiles

if TYPE_CHECKING:
    from etl.sources.fetcher import FetchResult

#: Seconds between two checks of the timetables.
_CHECK_INTERVAL = 5.0


@contextmanager
def poll_in_background(
    settings: Settings, ledger: Ledger, shutdown: threading.Event, emit: EventSink
) -> Iterator[None]:
    """Visit servers by their timetables in a thread for as long as the block lasts."""
    over = threading.Event()

    def keep() -> None:
        while not (shutdown.is_set() or over.is_set()):
            for name in settings.fetch:
                if not (shutdown.is_set() or over.is_set()) and _is_poll_due(settings, name, ledger):
                    _poll_and_report(settings, name, ledger, emit, lambda: shutdown.is_set() or over.is_set())
            over.wait(_CHECK_INTERVAL)

    thread = threading.Thread(target=keep, name="fetch", daemon=True)
    if settings.fetch:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join(timeout=10)


def _is_poll_due(settings: Settings, name: str, ledger: Ledger) -> bool:
    last = FetchedFiles(ledger.database, name).last_poll_time()
    return last is None or cron.is_due(settings.fetch[name].schedule, last, datetime.now(UTC))


def _poll_and_report(
    settings: Settings, name: str, ledger: Ledger, emit: EventSink, is_stopped: Callable[[], bool]
) -> None:
    try:
        poll_source(settings, name, ledger, emit, is_stopped)
    except EtlError as error:
        emit("fetch_failed", source=name, code=error.code, reason=error.message, hint=error.hint)
    except Exception as error:  # a defect in one visit must not end the visits to all servers
        reason = f"the program has a defect ({type(error).__name__})"
        message = f"files cannot be fetched from {name}: {reason}"
        AlertStore(ledger.database).raise_alert(Alert(f"fetch:{name}", message, datetime.now(UTC)))
        emit(
            "fetch_failed",
            source=name,
            code="defect",
            reason=reason,
            hint="the next visit tries again; please report it",
        )


def poll_source(
    settings: Settings, name: str, ledger: Ledger, emit: EventSink, is_stopped: Callable[[], bool]
) -> FetchResult | None:
    """Visit one server, fetch its new files, and raise or resolve the alert `fetch:NAME`.

    Raises:
        EtlError: the server cannot be visited; the alert is raised.
    """
    from etl.sources.fetcher import Fetcher, Source

    fetched_files, alerts = FetchedFiles(ledger.database, name), AlertStore(ledger.database)
    try:
        secret = secrets.load_fetch_secret(name, settings.fetch[name])
        source = Source(name, settings.fetch[name], secret)
        fetcher = Fetcher(source, settings.paths.inbox, fetched_files, ledger.runs.has_run_since, emit)
        result = fetcher.poll(is_stopped)
    except EtlError as error:
        sentence = f"files cannot be fetched from {name}: {error.message} ({error.code})"
        alerts.raise_alert(Alert(f"fetch:{name}", sentence, datetime.now(UTC)))
        raise
    finally:
        fetched_files.save_poll_time(datetime.now(UTC))
    alerts.resolve_alert(f"fetch:{name}")
    return result
