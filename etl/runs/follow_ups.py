"""Opens the runs that nobody drops a file for: what waited for another feed, what is owed, full feeds by timetable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

from etl import cron as timetable
from etl.config.settings import Settings
from etl.ingest.intake import Intake
from etl.mapping.model import Mapping
from etl.model.runs import WORKED, Run, RunState
from etl.runs import flush as owed
from etl.state import compaction as compact
from etl.state.files import archive
from etl.state.ledger.facade import Ledger


class Due:
    """Base of the pipeline; knows the mappings, and takes archived files again."""

    def __init__(
        self, settings: Settings, ledger: Ledger, mappings: Sequence[Mapping], tell: Callable[..., None]
    ) -> None:
        self._ledger = ledger
        self._state = settings.paths.state
        self.mappings = tuple(mappings)
        self._mappings = {mapping.feed: mapping for mapping in mappings}
        self.intake = Intake(settings, ledger, mappings, tell)

    def followers(self, run: Run) -> list[Run]:
        """New runs of what waited for this one: feeds that refer to what it has had accepted, and records that were
        carried into it and have to go without it."""
        if run.state in (RunState.CLAIMED, RunState.REFUSED):
            return self.left_behind([run.feed], alone=run.state is RunState.REFUSED)
        if run.state is not RunState.DONE or not run.counts.records_sent:
            return []
        opened = []
        for mapping in self._mappings.values():
            if all(feed != run.feed for feed, _ in mapping.references.values()):
                continue
            newest = next(iter(self._ledger.runs(1, mapping.feed)), None)
            if newest is not None and newest.state is RunState.DONE and newest.counts.waiting:
                opened.append(self._once_more(mapping, newest))
        return opened

    def left_behind(self, feeds: Iterable[str], *, alone: bool = False) -> list[Run]:
        """New runs of what has been carried and no file takes along; `alone`: nor may another one that waits."""
        known = [self._mappings[feed] for feed in feeds if feed in self._mappings]
        return [
            owed.opened(self._ledger, mapping) for mapping in known if owed.is_due(self._ledger, mapping, alone=alone)
        ]

    def _once_more(self, mapping: Mapping, newest: Run) -> Run:
        """A new run of what its newest one has left waiting: all of that is owed where files bring changes."""
        if mapping.source.content == "changes":
            return owed.opened(self._ledger, mapping)
        return self.intake.again(mapping.feed, newest, "rerun")

    def woken(self) -> list[Run]:
        """New runs of feeds that wait for what has been accepted since they were planned, and of what was carried.

        `followers` opens them at once; this finds what a stop in between, or a mapping that was missing, has left.
        """
        still_open = {run.feed for run in self._ledger.open_runs()}
        opened = self.left_behind(feed for feed in self._mappings if feed not in still_open)
        still_open |= {run.feed for run in opened}
        for mapping in self._mappings.values():
            if not mapping.references or mapping.feed in still_open:
                continue
            newest = next(iter(self._ledger.runs(1, mapping.feed)), None)
            if newest is None or newest.state is not RunState.DONE or not newest.counts.waiting:
                continue
            if any(self._moved_since(newest, feed) for feed, _ in mapping.references.values()):
                opened.append(self._once_more(mapping, newest))
        return opened

    def _moved_since(self, run: Run, feed: str) -> bool:
        """Whether a feed has had something accepted since a run was planned."""
        done = (other for other in self._ledger.runs(20, feed, RunState.DONE) if other.counts.records_sent)
        ended = next((other.ended for other in done), None)
        return ended is not None and run.started is not None and ended > run.started

    def owing(self, but: Collection[str]) -> list[Run]:
        """New runs of what feeds of changes still owe Norce; not of the feeds `but`."""
        still_open = {run.feed for run in self._ledger.open_runs()}
        opened = []
        for mapping in self._mappings.values():
            feed = mapping.feed
            if mapping.source.content != "changes" or feed in but or feed in still_open:
                continue
            if compact.owes(self._ledger, self._state, feed):
                opened.append(owed.opened(self._ledger, mapping))
        return opened

    def due_full(self, now: datetime) -> list[Run]:
        """Full runs whose time has come, each over the newest file of its feed."""
        opened = []
        for mapping in self._mappings.values():
            if mapping.full is None:
                continue
            done = [run for run in self._ledger.runs(200, mapping.feed) if run.started is not None]
            last = next((run for run in done if run.kind == "full"), done[-1] if done else None)
            source = next((run for run in done if run.state in WORKED and archive.archived_file(run)), None)
            if last is None or source is None or last.started is None:
                continue
            if timetable.due(mapping.full, last.started, now):
                opened.append(self.intake.again(mapping.feed, source, "full"))
        return opened
