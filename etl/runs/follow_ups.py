"""Opens the runs that no dropped file starts: blocked records, pending records, and scheduled full runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from etl import cron
from etl.errors import StateError
from etl.ingest.intake import Intake
from etl.mapping.model import Mapping
from etl.model.runs import PROCESSED_STATES, Run, RunState
from etl.runs import flush
from etl.state import compaction
from etl.state.files import archive
from etl.state.ledger.alerts import Alert, AlertStore
from etl.state.ledger.facade import Ledger

#: Runs of a feed that are searched for its last full run and its newest file.
_FULL_RUN_LOOKBACK = 200

#: Completed runs of a feed that are searched for one that sent records.
_ACCEPTED_LOOKBACK = 20


class FollowUps:
    """Opens follow-up runs for the feeds of one state folder."""

    def __init__(self, ledger: Ledger, mappings: Sequence[Mapping], intake: Intake) -> None:
        self._ledger = ledger
        self._mappings_by_feed = {mapping.feed: mapping for mapping in mappings}
        self._intake = intake

    def open_follow_ups(self, run: Run) -> list[Run]:
        """Open the runs that the end of this one calls for.

        A completed run unblocks the feeds that refer to it. A run that was not planned, or whose file is invalid, does
        not take the merged records of earlier files along: a flush run sends them.
        """
        if run.state in (RunState.CLAIMED, RunState.INVALID):
            return self.flush_awaiting_merge([run.feed], only_if_idle=run.state is RunState.INVALID)
        if run.state is not RunState.COMPLETED or not run.counts.records_sent:
            return []
        return [
            retry_run
            for mapping in self._mappings_by_feed.values()
            if any(feed == run.feed for feed, _ in mapping.references.values())
            and (blocked_run := self._newest_blocked_run(mapping)) is not None
            for retry_run in self._retry_blocked(mapping, blocked_run)
        ]

    def open_unblocked(self) -> list[Run]:
        """Open the runs that `open_follow_ups` missed because of a stop in between, or of a missing mapping."""
        busy_feeds = self._busy_feeds()
        opened = self.flush_awaiting_merge(feed for feed in self._mappings_by_feed if feed not in busy_feeds)
        busy_feeds |= {run.feed for run in opened}
        for mapping in self._mappings_by_feed.values():
            if not mapping.references or mapping.feed in busy_feeds:
                continue
            blocked_run = self._newest_blocked_run(mapping)
            if blocked_run is not None and any(
                self._has_accepted_since(blocked_run, feed) for feed, _ in mapping.references.values()
            ):
                opened += self._retry_blocked(mapping, blocked_run)
        return opened

    def flush_awaiting_merge(self, feeds: Iterable[str], *, only_if_idle: bool = False) -> list[Run]:
        """Open flush runs for merged records that no other run sends.

        Args:
            only_if_idle: skip a feed that has any open run, even one that waits to be planned.
        """
        mappings = [self._mappings_by_feed[feed] for feed in feeds if feed in self._mappings_by_feed]
        return [
            flush.open_flush_run(self._ledger, mapping)
            for mapping in mappings
            if flush.needs_flush(self._ledger, mapping, only_if_idle=only_if_idle)
        ]

    def flush_feed(self, feed: str) -> list[Run]:
        """Open a flush run for the merged records of a feed, if it has any."""
        if not self._ledger.runs.list_awaiting_merge(feed):
            return []
        return [flush.open_flush_run(self._ledger, self._mappings_by_feed[feed])]

    def flush_pending(self, excluded_feeds: Collection[str]) -> list[Run]:
        """Open flush runs for the pending records of every change feed that is idle and not excluded."""
        busy_feeds = self._busy_feeds()
        return [
            flush.open_flush_run(self._ledger, mapping)
            for feed, mapping in self._mappings_by_feed.items()
            if mapping.source.content == "changes"
            and feed not in excluded_feeds
            and feed not in busy_feeds
            and compaction.has_pending(self._ledger, self._ledger.state_folder, feed)
        ]

    def open_due_full_runs(self, now: datetime) -> list[Run]:
        """Open the full runs that are due by their schedule, each over the newest file of its feed."""
        opened = []
        for mapping in self._mappings_by_feed.values():
            if mapping.full is None:
                continue
            runs = [
                run
                for run in self._ledger.runs.list_recent(_FULL_RUN_LOOKBACK, mapping.feed)
                if run.started is not None
            ]
            last_run = next((run for run in runs if run.kind == "full"), runs[-1] if runs else None)
            source_run = next((r for r in runs if r.state in PROCESSED_STATES and archive.archived_file(r)), None)
            if last_run is None or source_run is None or last_run.started is None:
                continue
            if cron.is_due(mapping.full, last_run.started, now):
                opened += self._reopen(mapping.feed, source_run, "full")
        return opened

    def _busy_feeds(self) -> set[str]:
        return {run.feed for run in self._ledger.runs.list_open()}

    def _newest_blocked_run(self, mapping: Mapping) -> Run | None:
        """Return the newest run of a feed when it is completed and left records blocked."""
        newest = next(iter(self._ledger.runs.list_recent(1, mapping.feed)), None)
        if newest is None or newest.state is not RunState.COMPLETED or not newest.counts.blocked:
            return None
        return newest

    def _retry_blocked(self, mapping: Mapping, blocked_run: Run) -> list[Run]:
        """Open a run for the blocked records: they are pending in a change feed, and in the file of a full feed."""
        if mapping.source.content == "changes":
            return [flush.open_flush_run(self._ledger, mapping)]
        return self._reopen(mapping.feed, blocked_run, "rerun")

    def _reopen(self, feed: str, source_run: Run, kind: Literal["full", "rerun"]) -> list[Run]:
        """Open a run over an archived file; one that was changed or removed blocks its feed only."""
        board, name = AlertStore(self._ledger.database), f"archive:{feed}"
        try:
            run = self._intake.reopen(feed, source_run, kind)
        except StateError as error:
            board.raise_alert(Alert(name, f"{feed}: {error.message}; {error.hint}", datetime.now(UTC)))
            return []
        board.resolve_alert(name)
        return [run]

    def _has_accepted_since(self, run: Run, feed: str) -> bool:
        """Return whether Norce has accepted records of a feed since the run was opened."""
        completed = self._ledger.runs.list_recent(_ACCEPTED_LOOKBACK, feed, RunState.COMPLETED)
        ended = next((other.ended for other in completed if other.counts.records_sent), None)
        return ended is not None and run.started is not None and ended > run.started
