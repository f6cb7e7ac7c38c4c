"""Lets go of what is old, at quiet moments: folders of the archive first, rows of the ledger later.

Kept whatever its age: of each feed the newest run that ended well with its file (`etl full`, `etl rerun`, `etl undo`,
and the comparison with the file before), everything of feeds in which a rerun, full feed or undo is open, and all that
is not part of a base yet. A run's row goes after its folder, so that a folder is never unknown.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from etl.config.settings import RetentionSettings
from etl.events import EventSink
from etl.model.runs import PROCESSED_STATES, Run
from etl.state import compaction
from etl.state.files import archive
from etl.state.ledger import repair_steps
from etl.state.ledger.facade import Ledger

#: Hours between two looks, and the most runs that one look lets go of: nobody waits for it.
INTERVAL_HOURS, RUNS_PER_PASS = 1.0, 500


@dataclass(slots=True)
class Retention:
    """What a service remembers between its looks."""

    ledger: Ledger
    state: Path
    settings: RetentionSettings
    emit: EventSink
    last_pass: datetime | None = None

    def apply(self, now: datetime) -> None:
        """Let go of what is old, at most once an hour. Call it when nothing is under way. Raises StateError."""
        if self.last_pass is not None and now - self.last_pass < timedelta(hours=INTERVAL_HOURS):
            return
        self.last_pass = now
        folders = self._delete_archive_folders(now)
        rows = self._delete_ledger_rows(now)
        if folders or rows:
            self.emit("retention_applied", folders=folders, runs=rows)
        compaction.remove_stale_checksums(self.ledger, self.state)
        self.ledger.database.checkpoint()

    def _delete_archive_folders(self, now: datetime) -> int:
        done = 0
        for run in self._find_deletable_runs(self.settings.archive_days, now):
            if run.archive is not None and run.archive.is_dir() and self.state in run.archive.parents:
                shutil.rmtree(run.archive, ignore_errors=True)
                with contextlib.suppress(OSError):
                    run.archive.parent.rmdir()  # the day, when it was its last
                done += 1
        return done

    def _delete_ledger_rows(self, now: datetime) -> int:
        old = self._find_deletable_runs(self.settings.ledger_days, now)
        gone = [run.id for run in old if run.archive is None or not run.archive.exists()]
        repair_steps.delete_runs(self.ledger.database, gone)
        return len(gone)

    def _find_deletable_runs(self, days: int, now: datetime) -> list[Run]:
        """Runs that ended longer ago than that and are not needed; 0 days: none ever."""
        if not days:
            return []
        before = (now - timedelta(days=days)).astimezone(UTC).isoformat()
        old = self.ledger.runs.list_deletable(before, RUNS_PER_PASS)
        needed = find_needed_runs(self.ledger, {run.feed for run in old})
        busy = {run.feed for run in self.ledger.runs.list_open() if run.kind != "file"}
        return [run for run in old if run.id not in needed and run.feed not in busy]


def find_needed_runs(ledger: Ledger, feeds: Iterable[str]) -> set[str]:
    """Of each feed the newest run that ended well, the newest over a dropped file, and the newest with its file."""
    found: set[str] = set()
    for feed in feeds:
        worked = ledger.runs.list_recent(1000, feed, *PROCESSED_STATES)
        wanted = (
            next(iter(worked), None),
            next((run for run in worked if run.kind == "file"), None),
            next((run for run in worked if archive.archived_file(run) is not None), None),
        )
        found |= {run.id for run in wanted if run is not None}
    return found
