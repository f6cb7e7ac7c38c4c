"""What somebody should know of for as long as it holds: late files, files that never change, files that wait for
something beside them, servers that make trouble.

Each is told once, when it begins, and taken down when it ends. What is late is worked out from the ledger alone, so
`etl status` sees it also while nothing else runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from etl.mapping import expectations
from etl.model.runs import Run
from etl.state.ledger.alerts import Alert, AlertStore, Expectation
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    from etl.mapping.model import Mapping

#: Ended and open runs of a feed that are looked at.
_RUN_LOOKBACK = 200

#: How the names of notices begin that are worked out from the ledger, and of those that whoever works finds.
_DERIVED_PREFIXES = ("late:", "unchanged:")
_NOT_READY_PREFIX = "waits:"

#: How long a file may wait for what it lacks before somebody should know.
NOT_READY_TIMEOUT = timedelta(hours=1)


def refresh(
    ledger: Ledger,
    mappings: Iterable[Mapping],
    now: datetime,
    emit: Callable[..., None],
    files_not_ready: Iterable[tuple[str, str, float]] = (),
) -> None:
    """Take in what the mappings expect, and tell what has begun and what has ended.

    `waiting`: files in the inbox that lack something, what it is, and since when (epoch seconds).
    """
    board = AlertStore(ledger.database)
    board.save_expectations({m.feed: (m.expect, m.changes) for m in mappings if m.expect or m.changes}, now)
    found = {notice.name: notice for notice in _derive_alerts(ledger, board, now)}
    for name, reason, since in files_not_ready:
        moment = datetime.fromtimestamp(since, UTC)
        if now - moment >= NOT_READY_TIMEOUT:
            sentence = f"{name} has been in the inbox since {_format_time(moment, ZoneInfo('UTC'))}: {reason}"
            found[_NOT_READY_PREFIX + name] = Alert(_NOT_READY_PREFIX + name, sentence, moment)
    for old in board.list_alerts():
        if (
            old.name.startswith((*_DERIVED_PREFIXES, _NOT_READY_PREFIX))
            and old.name not in found
            and board.resolve_alert(old.name)
        ):
            emit("notice_ended", notice=old.name)
    for notice in found.values():
        if board.raise_alert(notice):
            emit("notice_begun", notice=notice.name, sentence=notice.message)


def find_active(ledger: Ledger, now: datetime) -> list[Alert]:
    """All that hold now; changes nothing."""
    board = AlertStore(ledger.database)
    kept = {notice.name: notice for notice in board.list_alerts()}
    others = [notice for notice in kept.values() if not notice.name.startswith(_DERIVED_PREFIXES)]
    return [*(kept.get(notice.name, notice) for notice in _derive_alerts(ledger, board, now)), *others]


def _derive_alerts(ledger: Ledger, store: AlertStore, now: datetime) -> list[Alert]:
    found = []
    for one in store.list_expectations():
        files = [
            run for run in ledger.list_runs(_RUN_LOOKBACK, one.feed) if run.kind == "file" and run.started is not None
        ]
        found += [
            notice for notice in (_late_alert(one, files, now), _unchanged_alert(one, files, now)) if notice is not None
        ]
    return found


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
        f"the last one came {_format_time(missed.last_arrival, zone)}" if missed.last_arrival else "none has come yet"
    )
    sentence = (
        f"{expectation.feed}: the file due {_format_time(missed.due, zone)} is not here ({expectation.arrives}); {last}"
    )
    return Alert(f"late:{expectation.feed}:{missed.due:%Y-%m-%dT%H:%MZ}", sentence, missed.due)


def _unchanged_alert(expectation: Expectation, file_runs: list[Run], now: datetime) -> Alert | None:
    if expectation.changes is None:
        return None
    came = [(run.started, run.digest) for run in file_runs if run.started is not None]
    since = expectations.unchanged_since(expectations.parse_max_gap(expectation.changes), came, now)
    if since is None:
        return None
    sentence = (
        f"{expectation.feed}: the same content has come again and again since {_format_time(since, ZoneInfo('UTC'))}"
    )
    return Alert(
        f"unchanged:{expectation.feed}:{since:%Y-%m-%dT%H:%MZ}", f"{sentence} (a change: {expectation.changes})", since
    )


def _format_time(time: datetime, zone: ZoneInfo) -> str:
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M} {zone.key}"
