"""Orders the open runs, and finds those that newer files have superseded.

The ledger is read once; after that, whoever changes a run reports it with `update`. Runs that were begun come first:
only then are the accepted records known, and no key is in two unfinished jobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping as Map
from collections.abc import Sequence, Set
from pathlib import Path

from etl.ingest import scan
from etl.mapping import dependencies, file_times
from etl.mapping.file_times import FileTime
from etl.mapping.model import Mapping
from etl.model.runs import PROCESSED_STATES, Run, RunState
from etl.runs import alerts
from etl.runs.admission import FeedLinks
from etl.runs.file_order import QueueEntry, order_runs
from etl.state.ledger.facade import Ledger

#: Processed runs of a feed that are searched for the newest time in a file name.
RUN_LOOKBACK = 200

#: Position of a feed in the order of runs.
Rank = tuple[int, int, str]


class RunQueue:
    """Every run that has not ended."""

    def __init__(self, ledger: Ledger, mappings: Sequence[Mapping]) -> None:
        self._ledger = ledger
        self._mappings_by_feed = {mapping.feed: mapping for mapping in mappings}
        self.feed_links = FeedLinks(dependencies.prerequisites(mappings), dependencies.also_writes(mappings))
        self._ranks: Map[str, Rank] = dependencies.run_order(mappings)
        self._runs_by_feed: dict[str, dict[str, Run]] = defaultdict(dict)
        self._queue_entries: dict[str, QueueEntry] = {}
        self._newest_file_times: dict[str, tuple[FileTime, str] | None] = {}
        self._feed_queues: dict[str, tuple[list[Run], list[tuple[Run, str]]]] = {}
        self._parked_run_ids = set(alerts.list_parked(ledger))
        for run in ledger.runs.list_open():
            self.update(run)

    @property
    def state_folder(self) -> Path:
        """Folder whose runs these are."""
        return self._ledger.state_folder

    def update(self, run: Run) -> None:
        """Take in a run as it is now: new, changed or ended."""
        self._feed_queues.pop(run.feed, None)
        self._queue_entries.pop(run.id, None)
        if run.state in PROCESSED_STATES:
            self._newest_file_times.pop(run.feed, None)
        if run.state.is_final:
            self._runs_by_feed[run.feed].pop(run.id, None)
        else:
            self._runs_by_feed[run.feed][run.id] = run

    @property
    def parked_run_ids(self) -> Set[str]:
        """Runs that wait for a person because of a defect."""
        return self._parked_run_ids

    def park(self, run: Run) -> None:
        """Leave a run out until `unpark`."""
        self._parked_run_ids.add(run.id)
        self.update(run)

    def unpark(self, run: Run) -> None:
        """Take a parked run in again."""
        self._parked_run_ids.discard(run.id)
        self.update(run)

    def reload(self, run_id: str) -> Run:
        """Read a run from the ledger again, after its requests were sent."""
        run = self._ledger.runs.find(run_id)
        assert run is not None
        return run

    def ordered_runs(self) -> list[Run]:
        """Return the runs to continue or to plan, in order."""
        ranked: list[tuple[tuple[bool, Rank, int], Run]] = []
        for feed in self._runs_by_feed:
            rank = self._ranks.get(feed, (0, 0, feed))
            runs, _ = self._feed_queue(feed)
            ranked += [((not _has_started(run), rank, position), run) for position, run in enumerate(runs)]
        return [run for _, run in sorted(ranked, key=lambda item: item[0])]

    def superseded_runs(self) -> list[tuple[Run, str]]:
        """Return the runs that are never to be sent, each with the reason."""
        return [superseded for feed in self._runs_by_feed for superseded in self._feed_queue(feed)[1]]

    def _feed_queue(self, feed: str) -> tuple[list[Run], list[tuple[Run, str]]]:
        if feed not in self._feed_queues:
            runs = self._runs_by_feed[feed]
            mapping = self._mappings_by_feed.get(feed)
            if mapping is None:  # the lifecycle refuses to plan it, with the reason
                self._feed_queues[feed] = (
                    [run for run in runs.values() if run.state is not RunState.HELD or run.has_unknown_outcome],
                    [],
                )
            else:
                queue = order_runs(
                    [self._queue_entry(run, mapping) for run in runs.values()],
                    mapping.source.content == "full",
                    self._newest_file_time(mapping, runs),
                )
                superseded = [(runs[run_id], reason) for run_id, reason in queue.superseded]
                self._feed_queues[feed] = [runs[run_id] for run_id in queue.run_ids], superseded
        return self._feed_queues[feed]

    def _queue_entry(self, run: Run, mapping: Mapping) -> QueueEntry:
        if run.id not in self._queue_entries:
            arrival = scan.modification_time(run.claimed) if run.claimed is not None else 0.0
            self._queue_entries[run.id] = QueueEntry(
                run_id=run.id,
                file_time=file_times.parse_file_time(mapping.source.order, run.file),
                arrival=(arrival, run.file),
                kind=run.kind,
                has_started=_has_started(run),
                is_held=run.state is RunState.HELD and not run.has_unknown_outcome,
                is_parked=run.id in self._parked_run_ids and not _has_started(run),
            )
        return self._queue_entries[run.id]

    def _newest_file_time(self, mapping: Mapping, runs: Map[str, Run]) -> tuple[FileTime, str] | None:
        """Return the newest time in the names of the feed's processed and begun files, and that file."""
        pattern = mapping.source.order
        if pattern is None:
            return None
        if mapping.feed not in self._newest_file_times:
            processed_runs = self._ledger.runs.list_recent(RUN_LOOKBACK, mapping.feed, *PROCESSED_STATES)
            self._newest_file_times[mapping.feed] = file_times.find_newest(
                (file_times.parse_file_time(pattern, run.file), run.file) for run in processed_runs
            )
        begun = [
            (file_times.parse_file_time(pattern, run.file), run.file) for run in runs.values() if _has_started(run)
        ]
        processed = self._newest_file_times[mapping.feed]
        return file_times.find_newest([*begun, *([processed] if processed is not None else [])])


def _has_started(run: Run) -> bool:
    return run.state in (RunState.PLANNED, RunState.SENDING) or run.has_unknown_outcome
