"""The open runs in the order in which they are to be worked, and those that newer files have overtaken.

The ledger is read once; after that whoever changes a run says so. What was begun comes first: only then is what Norce
has known, and no key can be in two unfinished jobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import dataclass

from etl.ingest import scan
from etl.mapping import file_order
from etl.mapping.file_order import FileTime
from etl.mapping.model import Mapping
from etl.model.runs import PROCESSED_STATES, Run, RunState
from etl.state.ledger.facade import Ledger

#: How many ended runs of a feed are looked at for the newest time in a file's name.
RUN_LOOKBACK = 200

#: A feed's place in the order of work.
Rank = tuple[int, int, str]


class RunQueue:
    """Every run that has not ended."""

    def __init__(self, ledger: Ledger, mappings: Map[str, Mapping], ranks: Map[str, Rank]) -> None:
        self._ledger = ledger
        self._mappings_by_feed = mappings
        self._ranks = ranks
        self._runs_by_feed: dict[str, dict[str, Run]] = defaultdict(dict)
        self._queue_entries: dict[str, QueueEntry] = {}
        self._newest_file_times: dict[str, tuple[file_order.FileTime, str] | None] = {}
        self._feed_queues: dict[str, tuple[list[Run], list[tuple[Run, str]]]] = {}
        for run in ledger.list_open_runs():
            self.update(run)

    def update(self, run: Run) -> None:
        """A run as it is now: new, changed or ended."""
        self._feed_queues.pop(run.feed, None)
        self._queue_entries.pop(run.id, None)
        if run.state in PROCESSED_STATES:
            self._newest_file_times.pop(run.feed, None)
        if run.state.is_final:
            self._runs_by_feed[run.feed].pop(run.id, None)
        else:
            self._runs_by_feed[run.feed][run.id] = run

    def ordered_runs(self) -> list[Run]:
        """What to work, in order."""
        found: list[tuple[tuple[bool, Rank, int], Run]] = []
        for feed in self._runs_by_feed:
            rank = self._ranks.get(feed, (0, 0, feed))
            work, _ = self._feed_queue(feed)
            found += [((not _has_started(run), rank, place), run) for place, run in enumerate(work)]
        return [run for _, run in sorted(found, key=lambda item: item[0])]

    def superseded_runs(self) -> list[tuple[Run, str]]:
        """What never to work, each with the reason."""
        return [found for feed in self._runs_by_feed for found in self._feed_queue(feed)[1]]

    def held_runs(self) -> list[Run]:
        """What waits for a person."""
        return [run for runs in self._runs_by_feed.values() for run in runs.values() if run.state is RunState.HELD]

    def _feed_queue(self, feed: str) -> tuple[list[Run], list[tuple[Run, str]]]:
        if feed not in self._feed_queues:
            runs = self._runs_by_feed[feed]
            mapping = self._mappings_by_feed.get(feed)
            if mapping is None:  # cannot be planned; whoever works it says so
                self._feed_queues[feed] = [run for run in runs.values() if run.state is not RunState.HELD], []
            else:
                ranked = order_runs(
                    [self._queue_entry(run, mapping) for run in runs.values()],
                    mapping.source.content == "full",
                    self._newest_file_time(mapping, runs),
                )
                work = [runs[run] for run in ranked.run_ids]
                self._feed_queues[feed] = work, [(runs[run], reason) for run, reason in ranked.superseded]
        return self._feed_queues[feed]

    def _queue_entry(self, run: Run, mapping: Mapping) -> QueueEntry:
        if run.id not in self._queue_entries:
            arrival = scan.modification_time(run.claimed) if run.claimed is not None else 0.0
            self._queue_entries[run.id] = QueueEntry(
                run_id=run.id,
                file_time=file_order.parse_file_time(mapping.source.order, run.file),
                arrival=(arrival, run.file),
                kind=run.kind,
                has_started=_has_started(run),
                is_held=run.state is RunState.HELD,
            )
        return self._queue_entries[run.id]

    def _newest_file_time(self, mapping: Mapping, runs: Map[str, Run]) -> tuple[file_order.FileTime, str] | None:
        """The newest file of the feed, by its name, that was worked or has been begun."""
        pattern = mapping.source.order
        if pattern is None:
            return None
        if mapping.feed not in self._newest_file_times:
            worked = self._ledger.list_runs(RUN_LOOKBACK, mapping.feed, *PROCESSED_STATES)
            self._newest_file_times[mapping.feed] = file_order.find_newest(
                (file_order.parse_file_time(pattern, run.file), run.file) for run in worked
            )
        begun = [
            (file_order.parse_file_time(pattern, run.file), run.file) for run in runs.values() if _has_started(run)
        ]
        known = self._newest_file_times[mapping.feed]
        return file_order.find_newest([*begun, *([known] if known is not None else [])])


def _has_started(run: Run) -> bool:
    return run.state in (RunState.PLANNED, RunState.SENDING)


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A run that waits, as far as order is concerned."""

    run_id: str
    file_time: FileTime | None  #: what its name says
    arrival: tuple[float, str]  #: modification time and name
    kind: str = "file"  #: "full" and "rerun" were asked for: never overtaken
    has_started: bool = False  #: planned or beyond: has to come to its end
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class FeedQueue:
    """What is to be done with a feed's open runs."""

    run_ids: tuple[str, ...]  #: runs in their order
    superseded: tuple[tuple[str, str], ...]  #: runs never to be worked, each with the reason as a sentence


def order_runs(entries: Sequence[QueueEntry], full_files: bool, newest_file: tuple[FileTime, str] | None) -> FeedQueue:
    """`whole`: the feed's files hold everything. `newest`: the highest time among files worked, and its file."""
    waiting = sorted(entries, key=_queue_key)
    overtaken: dict[str, str] = {}
    for candidate in waiting:
        if (
            _is_queued_file(candidate)
            and newest_file is not None
            and candidate.file_time is not None
            and candidate.file_time < newest_file[0]
        ):
            overtaken[candidate.run_id] = (
                f"older than {newest_file[1]}, which has been worked; `etl rerun` it to go back to it"
            )
    files = [one for one in waiting if one.kind == "file" and one.run_id not in overtaken]
    lead = max(files, key=_age_key) if full_files and files else None
    if lead is not None and lead.has_started:  # not before: should it be refused, the next newest is worked
        for one in waiting:
            if one is not lead and _age_key(one) < _age_key(lead) and (_is_queued_file(one) or one.is_held):
                overtaken[one.run_id] = f"overtaken by {lead.arrival[1]}, which holds everything and is newer"
    work: list[str] = []
    for candidate in waiting:
        if candidate.run_id in overtaken or (lead is not None and candidate is not lead and _is_queued_file(candidate)):
            continue
        if candidate.is_held:
            if not full_files:  # what comes after it would be overwritten once somebody says yes
                break
            continue
        work.append(candidate.run_id)
    return FeedQueue(tuple(work), tuple(overtaken.items()))


def _is_queued_file(entry: QueueEntry) -> bool:
    return entry.kind == "file" and not entry.has_started and not entry.is_held


def _age_key(entry: QueueEntry) -> tuple[bool, FileTime, tuple[float, str]]:
    return entry.file_time is not None, entry.file_time or (), entry.arrival


def _queue_key(entry: QueueEntry) -> tuple[bool, bool, bool, FileTime, tuple[float, str]]:
    return not entry.has_started, entry.kind == "file", *_age_key(entry)
