"""Deletes what is old while no run is open: folders of the archive first, rows of the ledger later.

Never deleted: the newest processed run of each feed with its file (`etl full`, `etl rerun`, `etl undo` and the
comparison with the previous file need it), the runs of feeds in which a rerun, full run or undo run is open, and what
is not compacted yet. The row of a run is deleted after its folder, so that the ledger knows every folder.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from etl.config.settings import RetentionSettings
from etl.events import EventSink
from etl.model.runs import PROCESSED_STATES, Run
from etl.state import compaction
from etl.state.files import archive
from etl.state.ledger import repair_steps
from etl.state.ledger.facade import Ledger

#: Hours between two passes, and the largest number of runs that one pass deletes: it delays other work.
INTERVAL_HOURS, RUNS_PER_PASS = 1.0, 500


@dataclass(slots=True)
class Retention:
    """The deletion of old runs of one state folder, at most once per interval."""

    ledger: Ledger
    state: Path
    settings: RetentionSettings
    emit: EventSink
    last_pass: datetime | None = None

    def apply(self, now: datetime) -> None:
        """Delete what is old, at most once an hour. Call it when no run is under way. Raises StateError."""
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
        count = 0
        for run in self._find_deletable_runs(self.settings.archive_days, now):
            if run.archive is not None and run.archive.is_dir() and self.state in run.archive.parents:
                shutil.rmtree(run.archive, ignore_errors=True)
                with contextlib.suppress(OSError):
                    run.archive.parent.rmdir()  # the folder of the day, when it is empty
                count += 1
        return count

    def _delete_ledger_rows(self, now: datetime) -> int:
        old = self._find_deletable_runs(self.settings.ledger_days, now)
        gone = [run.id for run in old if run.archive is None or not run.archive.exists()]
        repair_steps.delete_runs(self.ledger.database, gone)
        return len(gone)

    def _find_deletable_runs(self, days: int, now: datetime) -> list[Run]:
        """Return the runs that ended more than `days` ago and are not needed; none if `days` is 0."""
        if not days:
            return []
        old = self.ledger.runs.list_deletable(now, days, RUNS_PER_PASS)
        needed = find_needed_runs(self.ledger, {run.feed for run in old})
        busy = {run.feed for run in self.ledger.runs.list_open() if run.kind != "file"}
        return [run for run in old if run.id not in needed and run.feed not in busy]


def find_needed_runs(ledger: Ledger, feeds: Iterable[str]) -> set[str]:
    """Return of each feed the newest processed run, the newest over a dropped file, and the newest with its file."""
    needed: set[str] = set()
    for feed in feeds:
        processed = ledger.runs.list_recent(1000, feed, *PROCESSED_STATES)
        wanted = (
            next(iter(processed), None),
            next((run for run in processed if run.kind == "file"), None),
            next((run for run in processed if archive.archived_file(run) is not None), None),
        )
        needed |= {run.id for run in wanted if run is not None}
    return needed
