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
from etl.mapping import file_order as order
from etl.mapping.file_order import Time
from etl.mapping.model import Mapping
from etl.model.runs import WORKED, Run, RunState
from etl.state.ledger.facade import Ledger

#: How many ended runs of a feed are looked at for the newest time in a file's name.
REMEMBERED = 200

#: A feed's place in the order of work.
Rank = tuple[int, int, str]


class Waiting:
    """Every run that has not ended."""

    def __init__(self, ledger: Ledger, mappings: Map[str, Mapping], ranks: Map[str, Rank]) -> None:
        self._ledger = ledger
        self._mappings = mappings
        self._ranks = ranks
        self._feeds: dict[str, dict[str, Run]] = defaultdict(dict)
        self._candidates: dict[str, Candidate] = {}
        self._newest: dict[str, tuple[order.Time, str] | None] = {}
        self._queues: dict[str, tuple[list[Run], list[tuple[Run, str]]]] = {}
        for run in ledger.open_runs():
            self.put(run)

    def put(self, run: Run) -> None:
        """A run as it is now: new, changed or ended."""
        self._queues.pop(run.feed, None)
        self._candidates.pop(run.id, None)
        if run.state in WORKED:
            self._newest.pop(run.feed, None)
        if run.state.is_final:
            self._feeds[run.feed].pop(run.id, None)
        else:
            self._feeds[run.feed][run.id] = run

    def work(self) -> list[Run]:
        """What to work, in order."""
        found: list[tuple[tuple[bool, Rank, int], Run]] = []
        for feed in self._feeds:
            rank = self._ranks.get(feed, (0, 0, feed))
            work, _ = self._queue(feed)
            found += [((not _begun(run), rank, place), run) for place, run in enumerate(work)]
        return [run for _, run in sorted(found, key=lambda item: item[0])]

    def overtaken(self) -> list[tuple[Run, str]]:
        """What never to work, each with the reason."""
        return [found for feed in self._feeds for found in self._queue(feed)[1]]

    def held(self) -> list[Run]:
        """What waits for a person."""
        return [run for runs in self._feeds.values() for run in runs.values() if run.state is RunState.HELD]

    def _queue(self, feed: str) -> tuple[list[Run], list[tuple[Run, str]]]:
        if feed not in self._queues:
            runs = self._feeds[feed]
            mapping = self._mappings.get(feed)
            if mapping is None:  # cannot be planned; whoever works it says so
                self._queues[feed] = [run for run in runs.values() if run.state is not RunState.HELD], []
            else:
                ranked = queue(
                    [self._candidate(run, mapping) for run in runs.values()],
                    mapping.source.content == "full",
                    self._newest_of(mapping, runs),
                )
                work = [runs[run] for run in ranked.work]
                self._queues[feed] = work, [(runs[run], reason) for run, reason in ranked.overtaken]
        return self._queues[feed]

    def _candidate(self, run: Run, mapping: Mapping) -> Candidate:
        if run.id not in self._candidates:
            arrival = scan.scan_time(run.claimed) if run.claimed is not None else 0.0
            self._candidates[run.id] = Candidate(
                run=run.id,
                time=order.time_of(mapping.source.order, run.file),
                arrival=(arrival, run.file),
                kind=run.kind,
                begun=_begun(run),
                held=run.state is RunState.HELD,
            )
        return self._candidates[run.id]

    def _newest_of(self, mapping: Mapping, runs: Map[str, Run]) -> tuple[order.Time, str] | None:
        """The newest file of the feed, by its name, that was worked or has been begun."""
        pattern = mapping.source.order
        if pattern is None:
            return None
        if mapping.feed not in self._newest:
            worked = self._ledger.runs(REMEMBERED, mapping.feed, *WORKED)
            self._newest[mapping.feed] = order.newest_of((order.time_of(pattern, run.file), run.file) for run in worked)
        begun = [(order.time_of(pattern, run.file), run.file) for run in runs.values() if _begun(run)]
        known = self._newest[mapping.feed]
        return order.newest_of([*begun, *([known] if known is not None else [])])


def _begun(run: Run) -> bool:
    return run.state in (RunState.PLANNED, RunState.SENDING)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that waits, as far as order is concerned."""

    run: str
    time: Time | None  #: what its name says
    arrival: tuple[float, str]  #: modification time and name
    kind: str = "file"  #: "full" and "rerun" were asked for: never overtaken
    begun: bool = False  #: planned or beyond: has to come to its end
    held: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """What is to be done with a feed's open runs."""

    work: tuple[str, ...]  #: runs in their order
    overtaken: tuple[tuple[str, str], ...]  #: runs never to be worked, each with the reason as a sentence


def queue(candidates: Sequence[Candidate], whole: bool, newest: tuple[Time, str] | None) -> Queue:
    """`whole`: the feed's files hold everything. `newest`: the highest time among files worked, and its file."""
    waiting = sorted(candidates, key=_place)
    overtaken: dict[str, str] = {}
    for candidate in waiting:
        if _may_go(candidate) and newest is not None and candidate.time is not None and candidate.time < newest[0]:
            overtaken[candidate.run] = f"older than {newest[1]}, which has been worked; `etl rerun` it to go back to it"
    files = [one for one in waiting if one.kind == "file" and one.run not in overtaken]
    lead = max(files, key=_age) if whole and files else None
    if lead is not None and lead.begun:  # not before: should it be refused, the next newest is worked
        for one in waiting:
            if one is not lead and _age(one) < _age(lead) and (_may_go(one) or one.held):
                overtaken[one.run] = f"overtaken by {lead.arrival[1]}, which holds everything and is newer"
    work: list[str] = []
    for candidate in waiting:
        if candidate.run in overtaken or (lead is not None and candidate is not lead and _may_go(candidate)):
            continue
        if candidate.held:
            if not whole:  # what comes after it would be overwritten once somebody says yes
                break
            continue
        work.append(candidate.run)
    return Queue(tuple(work), tuple(overtaken.items()))


def _may_go(candidate: Candidate) -> bool:
    return candidate.kind == "file" and not candidate.begun and not candidate.held


def _age(candidate: Candidate) -> tuple[bool, Time, tuple[float, str]]:
    return candidate.time is not None, candidate.time or (), candidate.arrival


def _place(candidate: Candidate) -> tuple[bool, bool, bool, Time, tuple[float, str]]:
    return not candidate.begun, candidate.kind == "file", *_age(candidate)
