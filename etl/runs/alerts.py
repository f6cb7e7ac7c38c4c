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

from etl.mapping import expectations as expect
from etl.model.runs import Run
from etl.state.ledger.alerts import Board, Expected, Notice
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    from etl.mapping.model import Mapping

#: Ended and open runs of a feed that are looked at.
_RUNS = 200

#: How the names of notices begin that are worked out from the ledger, and of those that whoever works finds.
_KINDS = ("late:", "unchanged:")
_FOUND = "waits:"

#: How long a file may wait for what it lacks before somebody should know.
PATIENCE = timedelta(hours=1)


def refresh(
    ledger: Ledger,
    mappings: Iterable[Mapping],
    now: datetime,
    tell: Callable[..., None],
    waiting: Iterable[tuple[str, str, float]] = (),
) -> None:
    """Take in what the mappings expect, and tell what has begun and what has ended.

    `waiting`: files in the inbox that lack something, what it is, and since when (epoch seconds).
    """
    board = Board(ledger.database)
    board.expect({m.feed: (m.expect, m.changes) for m in mappings if m.expect or m.changes}, now)
    found = {notice.name: notice for notice in _worked_out(ledger, board, now)}
    for name, reason, since in waiting:
        moment = datetime.fromtimestamp(since, UTC)
        if now - moment >= PATIENCE:
            sentence = f"{name} has been in the inbox since {_shown(moment, ZoneInfo('UTC'))}: {reason}"
            found[_FOUND + name] = Notice(_FOUND + name, sentence, moment)
    for old in board.notices():
        if old.name.startswith((*_KINDS, _FOUND)) and old.name not in found and board.drop(old.name):
            tell("notice_ended", notice=old.name)
    for notice in found.values():
        if board.put(notice):
            tell("notice_begun", notice=notice.name, sentence=notice.sentence)


def standing(ledger: Ledger, now: datetime) -> list[Notice]:
    """All that hold now; changes nothing."""
    board = Board(ledger.database)
    kept = {notice.name: notice for notice in board.notices()}
    others = [notice for notice in kept.values() if not notice.name.startswith(_KINDS)]
    return [*(kept.get(notice.name, notice) for notice in _worked_out(ledger, board, now)), *others]


def _worked_out(ledger: Ledger, board: Board, now: datetime) -> list[Notice]:
    found = []
    for one in board.expected():
        files = [run for run in ledger.runs(_RUNS, one.feed) if run.kind == "file" and run.started is not None]
        found += [notice for notice in (_late(one, files, now), _unchanged(one, files, now)) if notice is not None]
    return found


def _late(one: Expected, files: list[Run], now: datetime) -> Notice | None:
    if one.arrives is None:
        return None
    expected = expect.parse(one.arrives)
    missed = expect.late(expected, one.since, [run.started for run in files if run.started is not None], now)
    if missed is None:
        return None
    zone = ZoneInfo(expected.zone)
    last = f"the last one came {_shown(missed.last, zone)}" if missed.last else "none has come yet"
    sentence = f"{one.feed}: the file due {_shown(missed.due, zone)} is not here ({one.arrives}); {last}"
    return Notice(f"late:{one.feed}:{missed.due:%Y-%m-%dT%H:%MZ}", sentence, missed.due)


def _unchanged(one: Expected, files: list[Run], now: datetime) -> Notice | None:
    if one.changes is None:
        return None
    came = [(run.started, run.digest) for run in files if run.started is not None]
    since = expect.unchanged(expect.pause(one.changes), came, now)
    if since is None:
        return None
    sentence = f"{one.feed}: the same content has come again and again since {_shown(since, ZoneInfo('UTC'))}"
    return Notice(f"unchanged:{one.feed}:{since:%Y-%m-%dT%H:%MZ}", f"{sentence} (a change: {one.changes})", since)


def _shown(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M} {zone.key}"
