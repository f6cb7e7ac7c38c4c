"""`etl run` and `etl once`: process the files of the inbox, until stopped or until all of them are done."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from etl import log, terminal
from etl.app import Session
from etl.cli import worker
from etl.config.settings import Settings
from etl.errors import ExitStatus, StateError
from etl.ingest import scan
from etl.maintenance import retention
from etl.model.runs import Run
from etl.runs import alerts
from etl.sources import poller


def once(settings: Settings, *, as_json: bool, verbose: bool, patience: float = worker.CONNECT_TIMEOUT) -> ExitStatus:
    """Process the files in the inbox and wait for their jobs.

    Args:
        patience: seconds without a change of any request or job after which the rest is left for the next start.
    """
    with worker.worker_session(settings, verbose=verbose, connect_timeout=patience) as session:
        unmatched: set[str] = set()
        for stable_files in _watch_inbox(session):
            _claim_files(session, stable_files, unmatched)
            if worker.step_and_report(session):
                session.coordinator.wake_event.set()
            elif _is_inbox_done(session, unmatched):
                runs = _open_remaining_runs(session)
                if not runs:
                    break
                session.coordinator.add(runs)
        _refresh_alerts(session)
        _make_retention(session).apply(datetime.now(UTC))
        for file in session.intake.list_waiting():
            click.echo(f"{terminal.printable(file.name)[:200]} stays in the inbox: {file.reason}", err=True)
    return worker.print_results(session, as_json=as_json)


def run(settings: Settings, *, verbose: bool) -> ExitStatus:
    """Watch the inbox until stopped. Stalled runs stay open and are tried again at every rescan.

    An inbox that cannot be read later on raises an alert, and is looked into again at every rescan.
    """
    scan.scan(settings.paths.inbox)
    with (
        worker.worker_session(settings, verbose=verbose, connect_timeout=None, listen=True) as session,
        poller.poll_in_background(session.settings, session.ledger, session.shutdown, session.emit),
    ):
        unmatched: set[str] = set()
        rescan_time, retention = -math.inf, _make_retention(session)
        for stable_files in _watch_inbox(session, is_patient=True):
            if time.monotonic() - rescan_time >= settings.watch.rescan_seconds:
                rescan_time = time.monotonic()
                _rescan(session, unmatched)
            _claim_files(session, stable_files, unmatched)
            if worker.step_and_report(session):
                session.coordinator.wake_event.set()
            elif not session.coordinator.is_busy:
                retention.apply(datetime.now(UTC))
            session.coordinator.clear_results()
        log.write_event("service_stopped")
    return ExitStatus.OK


def _is_inbox_done(session: Session, unmatched: set[str]) -> bool:
    """Return whether no run is under way, and no file of the inbox can become one."""
    coordinator = session.coordinator
    if coordinator.is_busy:
        return False
    if coordinator.connect_unavailable:
        return True
    return not scan.scan(session.settings.paths.inbox).keys() - unmatched - session.intake.not_ready.keys()


def _open_remaining_runs(session: Session) -> list[Run]:
    """Open the runs that no file in the inbox starts; none while Connect is unavailable."""
    if session.coordinator.connect_unavailable:
        return []
    processed_feeds = {run.feed for run in session.coordinator.results()}
    return [*session.follow_ups.flush_pending(processed_feeds), *session.follow_ups.open_unblocked()]


def _rescan(session: Session, unmatched: set[str]) -> None:
    """Open due runs, try stalled ones again, refresh alerts, and forget unmatched files that are gone."""
    session.coordinator.add(session.follow_ups.open_due_full_runs(datetime.now(UTC)))
    session.coordinator.add(session.follow_ups.open_unblocked())
    session.coordinator.retry_stalled()
    _refresh_alerts(session)
    with contextlib.suppress(StateError):  # an alert says so
        unmatched &= scan.scan(session.settings.paths.inbox).keys()


def _watch_inbox(session: Session, *, is_patient: bool = False) -> Iterator[dict[str, scan.FileStat]]:
    """Yield the stable files, whenever there is something to see or to do."""
    watch = session.settings.watch
    return scan.watch(
        session.settings.paths.inbox,
        watch.settle_seconds,
        watch.rescan_seconds,
        session.shutdown,
        wake_event=session.coordinator.wake_event,
        is_patient=is_patient,
    )


def _claim_files(session: Session, stable_files: dict[str, scan.FileStat], unmatched: set[str]) -> None:
    for name in _order_files(session, stable_files.keys() - unmatched, unmatched):
        if session.shutdown.is_set():
            break
        session.coordinator.add(session.intake.claim(name, stable_files[name]))


def _order_files(session: Session, names: set[str], unmatched: set[str]) -> list[str]:
    """Sort files in the order of their feeds; those that fit no mapping are reported and become `unmatched`."""
    ranked = []
    for name in names:
        rank = session.intake.rank(name)
        if rank is not None:
            ranked.append((rank, scan.modification_time(session.settings.paths.inbox / name), name))
            continue
        unmatched.add(name)
        if not session.intake.is_companion_file(name):
            session.intake.leave(name, scan.unusable_name_reason(name) or "its name fits no mapping")
    return [name for *_, name in sorted(ranked)]


def _make_retention(session: Session) -> retention.Retention:
    return retention.Retention(session.ledger, session.settings.paths.state, session.settings.retention, session.emit)


def _refresh_alerts(session: Session) -> None:
    """Raise and resolve alerts, also those about folders of the inbox that a scan skips."""
    try:
        content = scan.scan_folders(session.settings.paths.inbox)
    except StateError as error:
        alerts.raise_inbox_alert(session.ledger, error, datetime.now(UTC), session.emit)
        return
    alerts.resolve_inbox_alert(session.ledger, session.emit)
    session.intake.update_skipped_folders(content.skipped_folders)
    alerts.refresh(session.ledger, session.mappings, datetime.now(UTC), session.emit, session.intake.list_waiting())
