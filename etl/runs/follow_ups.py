"""Opens the runs that nobody drops a file for: what waited for another feed, what is owed, full feeds by timetable."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from etl import cron
from etl.config.settings import Settings
from etl.events import EventSink
from etl.ingest.intake import Intake
from etl.mapping.model import Mapping
from etl.model.runs import PROCESSED_STATES, Run, RunState
from etl.runs import flush
from etl.state import compaction
from etl.state.files import archive
from etl.state.ledger.facade import Ledger


class FollowUps:
    """Base of the pipeline; knows the mappings, and takes archived files again."""

    def __init__(self, settings: Settings, ledger: Ledger, mappings: Sequence[Mapping], emit: EventSink) -> None:
        self._ledger = ledger
        self._state = settings.paths.state
        self.mappings = tuple(mappings)
        self._mappings_by_feed = {mapping.feed: mapping for mapping in mappings}
        self.intake = Intake(settings, ledger, mappings, emit)

    def open_follow_ups(self, run: Run) -> list[Run]:
        """New runs of what waited for this one: feeds that refer to what it has had accepted, and records that were
        carried into it and have to go without it."""
        if run.state in (RunState.CLAIMED, RunState.INVALID):
            return self.flush_awaiting_merge([run.feed], only_if_idle=run.state is RunState.INVALID)
        if run.state is not RunState.COMPLETED or not run.counts.records_sent:
            return []
        opened = []
        for mapping in self._mappings_by_feed.values():
            if all(feed != run.feed for feed, _ in mapping.references.values()):
                continue
            newest = next(iter(self._ledger.list_runs(1, mapping.feed)), None)
            if newest is not None and newest.state is RunState.COMPLETED and newest.counts.blocked:
                opened.append(self._retry_blocked(mapping, newest))
        return opened

    def flush_awaiting_merge(self, feeds: Iterable[str], *, only_if_idle: bool = False) -> list[Run]:
        """New runs of what has been carried and no file takes along; `alone`: nor may another one that waits."""
        known = [self._mappings_by_feed[feed] for feed in feeds if feed in self._mappings_by_feed]
        return [
            flush.open_flush_run(self._ledger, mapping)
            for mapping in known
            if flush.needs_flush(self._ledger, mapping, only_if_idle=only_if_idle)
        ]

    def _retry_blocked(self, mapping: Mapping, newest_run: Run) -> Run:
        """A new run of what its newest one has left waiting: all of that is owed where files bring changes."""
        if mapping.source.content == "changes":
            return flush.open_flush_run(self._ledger, mapping)
        return self.intake.reopen(mapping.feed, newest_run, "rerun")

    def open_unblocked(self) -> list[Run]:
        """New runs of feeds that wait for what has been accepted since they were planned, and of what was carried.

        `followers` opens them at once; this finds what a stop in between, or a mapping that was missing, has left.
        """
        still_open = {run.feed for run in self._ledger.list_open_runs()}
        opened = self.flush_awaiting_merge(feed for feed in self._mappings_by_feed if feed not in still_open)
        still_open |= {run.feed for run in opened}
        for mapping in self._mappings_by_feed.values():
            if not mapping.references or mapping.feed in still_open:
                continue
            newest = next(iter(self._ledger.list_runs(1, mapping.feed)), None)
            if newest is None or newest.state is not RunState.COMPLETED or not newest.counts.blocked:
                continue
            if any(self._has_accepted_since(newest, feed) for feed, _ in mapping.references.values()):
                opened.append(self._retry_blocked(mapping, newest))
        return opened

    def _has_accepted_since(self, run: Run, feed: str) -> bool:
        """Whether a feed has had something accepted since a run was planned."""
        done = (other for other in self._ledger.list_runs(20, feed, RunState.COMPLETED) if other.counts.records_sent)
        ended = next((other.ended for other in done), None)
        return ended is not None and run.started is not None and ended > run.started

    def flush_pending(self, excluded_feeds: Collection[str]) -> list[Run]:
        """New runs of what feeds of changes still owe Norce; not of the feeds `but`."""
        still_open = {run.feed for run in self._ledger.list_open_runs()}
        opened = []
        for mapping in self._mappings_by_feed.values():
            feed = mapping.feed
            if mapping.source.content != "changes" or feed in excluded_feeds or feed in still_open:
                continue
            if compaction.has_pending(self._ledger, self._state, feed):
                opened.append(flush.open_flush_run(self._ledger, mapping))
        return opened

    def open_due_full_runs(self, now: datetime) -> list[Run]:
        """Full runs whose time has come, each over the newest file of its feed."""
        opened = []
        for mapping in self._mappings_by_feed.values():
            if mapping.full is None:
                continue
            done = [run for run in self._ledger.list_runs(200, mapping.feed) if run.started is not None]
            last = next((run for run in done if run.kind == "full"), done[-1] if done else None)
            source = next((run for run in done if run.state in PROCESSED_STATES and archive.archived_file(run)), None)
            if last is None or source is None or last.started is None:
                continue
            if cron.is_due(mapping.full, last.started, now):
                opened.append(self.intake.reopen(mapping.feed, source, "full"))
        return opened
