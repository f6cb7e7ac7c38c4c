"""Alerts: late files, feeds whose content never changes, files that are not ready, servers that fail.

An alert emits one event when it is raised and one when it is resolved. Late files are derived from the ledger alone, so
`etl status` shows them also while no other command runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Map
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from etl import defect_report, terminal
from etl.errors import EtlError, StateError
from etl.events import EventSink
from etl.mapping import expectations
from etl.model.runs import Chunk, ChunkState, Run
from etl.state.ledger.alerts import Alert, AlertStore, Expectation
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    from etl.ingest.intake import WaitingFile
    from etl.mapping.model import Mapping

#: Number of runs of a feed, ended and open, that are searched.
_RUN_LOOKBACK = 200

#: Prefixes of the names of alerts that are derived from the ledger, and the prefix of those from a scan of the inbox.
_DERIVED_PREFIXES = ("late:", "unchanged:")
#: Prefix of the alerts about claimed files that a start could not take up.
_CLAIM_PREFIX = "claimed:"

#: Name of the alert that the inbox cannot be read.
_INBOX_ALERT = "inbox"

_NOT_READY_PREFIX = "not_ready:"

#: Prefixes of the names of alerts about the jobs of a run that has ended.
_JOB_PREFIXES = ("job_warning:", "totals_differ:")

#: Prefix of the names of alerts about runs that a defect has parked.
_PARKED_PREFIX = "parked:"

#: Time that a file may be not ready before an alert is raised.
NOT_READY_TIMEOUT = timedelta(hours=1)


def refresh(
    ledger: Ledger,
    mappings: Iterable[Mapping],
    now: datetime,
    emit: EventSink,
    waiting_files: Iterable[WaitingFile] = (),
) -> None:
    """Save the expectations of the mappings; raise and resolve alerts.

    `waiting_files`: files and folders of the inbox that cannot be processed yet.
    """
    board = AlertStore(ledger.database)
    board.save_expectations({m.feed: (m.expect, m.changes) for m in mappings if m.expect or m.changes}, now)
    alerts = {alert.name: alert for alert in _derive_alerts(ledger, board, now)}
    active_names = {alert.name for alert in board.list_alerts()}
    for file in waiting_files:
        alert = _describe_waiting(file)
        # A raised alert stays until its file does not wait any more.
        if file.needs_alert or alert.name in active_names or now - alert.since >= NOT_READY_TIMEOUT:
            alerts[alert.name] = alert
    for old in board.list_alerts():
        if (
            old.name.startswith((*_DERIVED_PREFIXES, _NOT_READY_PREFIX))
            and old.name not in alerts
            and board.resolve_alert(old.name)
        ):
            emit("alert_resolved", alert=old.name)
    for alert in alerts.values():
        if board.raise_alert(alert):
            emit("alert_raised", alert=alert.name, message=alert.message)


def _describe_waiting(file: WaitingFile) -> Alert:
    moment = datetime.fromtimestamp(file.since, UTC)
    shown = terminal.printable(file.name)[:200]
    message = f"{shown} has been in the inbox since {_format_time(moment, ZoneInfo('UTC'))}: {file.reason}"
    return Alert(_NOT_READY_PREFIX + shown, message, moment)


def raise_inbox_alert(ledger: Ledger, error: StateError, now: datetime, emit: EventSink) -> None:
    """Raise the alert that the inbox cannot be read."""
    if AlertStore(ledger.database).raise_alert(Alert(_INBOX_ALERT, f"{error.message}: {error.where}", now)):
        emit("alert_raised", alert=_INBOX_ALERT, message=error.message)


def resolve_inbox_alert(ledger: Ledger, emit: EventSink) -> None:
    """Resolve the alert that the inbox cannot be read, if it is active."""
    if AlertStore(ledger.database).resolve_alert(_INBOX_ALERT):
        emit("alert_resolved", alert=_INBOX_ALERT)


def update_claim_alerts(ledger: Ledger, problems: Map[str, Exception], now: datetime, emit: EventSink) -> None:
    """Raise an alert for each claimed file, by name, that a start could not take up; resolve those of other files."""
    board = AlertStore(ledger.database)
    names = set()
    for file, error in problems.items():
        reason = f"{error.message} ({error.where})" if isinstance(error, EtlError) else _describe_defect(error)
        shown = terminal.printable(file)[:200]
        alert = Alert(_CLAIM_PREFIX + shown, f"{shown} is claimed and cannot be processed or archived: {reason}", now)
        names.add(alert.name)
        if board.raise_alert(alert):
            emit("alert_raised", alert=alert.name, message=alert.message)
    for old in board.list_alerts():
        if old.name.startswith(_CLAIM_PREFIX) and old.name not in names and board.resolve_alert(old.name):
            emit("alert_resolved", alert=old.name)


def _describe_defect(error: Exception) -> str:
    return f"{type(error).__name__}; the traceback is in {defect_report.write_traceback(error)}"


def refresh_job_alerts(ledger: Ledger, run: Run, chunks: Sequence[Chunk], now: datetime, emit: EventSink) -> None:
    """Raise or resolve the alerts about the jobs of a run that has ended."""
    accepted = [chunk for chunk in chunks if chunk.state is ChunkState.ACCEPTED]
    if not accepted:
        return
    board = AlertStore(ledger.database)
    messages = dict(zip(_JOB_PREFIXES, (_job_warning(run, accepted), _totals_difference(run, accepted)), strict=True))
    for prefix, message in messages.items():
        name = prefix + run.feed
        if message is None:
            if board.resolve_alert(name):
                emit("alert_resolved", alert=name)
        elif board.raise_alert(Alert(name, message, now)):
            emit("alert_raised", alert=name, message=message)


def list_parked(ledger: Ledger) -> list[str]:
    """Return the ids of the runs that a defect has parked."""
    names = (alert.name for alert in AlertStore(ledger.database).list_alerts())
    return [name.removeprefix(_PARKED_PREFIX) for name in names if name.startswith(_PARKED_PREFIX)]


def park(ledger: Ledger, run: Run, message: str, emit: EventSink) -> None:
    """Raise the alert that parks a run, until `unpark`."""
    alert = Alert(_PARKED_PREFIX + run.id, message, datetime.now(UTC))
    if AlertStore(ledger.database).raise_alert(alert):
        emit("alert_raised", alert=alert.name, message=message)


def unpark(ledger: Ledger, run: Run, emit: EventSink) -> bool:
    """Resolve the alert that parks a run; return whether it was parked."""
    name = _PARKED_PREFIX + run.id
    is_parked = AlertStore(ledger.database).resolve_alert(name)
    if is_parked:
        emit("alert_resolved", alert=name)
    return is_parked


def find_active(ledger: Ledger, now: datetime) -> list[Alert]:
    """Return the active alerts. Changes nothing."""
    board = AlertStore(ledger.database)
    saved = {alert.name: alert for alert in board.list_alerts()}
    others = [alert for alert in saved.values() if not alert.name.startswith(_DERIVED_PREFIXES)]
    return [*(saved.get(alert.name, alert) for alert in _derive_alerts(ledger, board, now)), *others]


def _job_warning(run: Run, chunks: Sequence[Chunk]) -> str | None:
    count = sum(bool(chunk.warnings) for chunk in chunks)
    if not count:
        return None
    return (
        f"{count} jobs of run {run.id} warn of something that concerns none of their records; see `etl show {run.id}`"
    )


def _totals_difference(run: Run, chunks: Sequence[Chunk]) -> str | None:
    counted = [chunk for chunk in chunks if chunk.job_total not in (None, chunk.records, _validated(chunk))]
    if not counted:
        return None
    total, records = sum(chunk.job_total or 0 for chunk in counted), sum(chunk.records for chunk in counted)
    return (
        f"the jobs of run {run.id} count {total} items, but {records} were sent; all jobs of {run.operation} "
        "count like this, so they are accepted (limits.trust_totals)"
    )


def _validated(chunk: Chunk) -> int:
    return chunk.records - chunk.validation_failures


def _derive_alerts(ledger: Ledger, store: AlertStore, now: datetime) -> list[Alert]:
    alerts = []
    for expectation in store.list_expectations():
        files = [
            run
            for run in ledger.runs.list_recent(_RUN_LOOKBACK, expectation.feed)
            if run.kind == "file" and run.started is not None
        ]
        alerts += [
            alert
            for alert in (_late_alert(expectation, files, now), _unchanged_alert(expectation, files, now))
            if alert is not None
        ]
    return alerts


def _late_alert(expectation: Expectation, file_runs: list[Run], now: datetime) -> Alert | None:
    if expectation.arrives is None:
        return None
    expected = expectations.parse_expectation(expectation.arrives)
    missed = expectations.find_overdue(
        expected, expectation.since, [run.started for run in file_runs if run.started is not None], now
    )
    if missed is None:
        return None
    zone = ZoneInfo(expected.zone)
    last = (
        f"the last one arrived {_format_time(missed.last_arrival, zone)}"
        if missed.last_arrival
        else "none has arrived yet"
    )
    due = _format_time(missed.due, zone)
    message = f"{expectation.feed}: the file due {due} has not arrived ({expectation.arrives}); {last}"
    return Alert(f"late:{expectation.feed}:{missed.due:%Y-%m-%dT%H:%MZ}", message, missed.due)


def _unchanged_alert(expectation: Expectation, file_runs: list[Run], now: datetime) -> Alert | None:
    if expectation.changes is None:
        return None
    arrivals = [(run.started, run.digest) for run in file_runs if run.started is not None]
    since = expectations.unchanged_since(expectations.parse_max_gap(expectation.changes), arrivals, now)
    if since is None:
        return None
    message = f"{expectation.feed}: the content has been the same since {_format_time(since, ZoneInfo('UTC'))}"
    return Alert(
        f"unchanged:{expectation.feed}:{since:%Y-%m-%dT%H:%MZ}", f"{message} (a change: {expectation.changes})", since
    )


def _format_time(time: datetime, zone: ZoneInfo) -> str:
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M} {zone.key}"
