"""The open runs in the order in which they are to be worked, and those that newer files have overtaken.

Runs are worked one after the other, over all feeds. What was begun comes first: only then is what Norce has known,
and no key can be in two unfinished jobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping as Map

from etl import inbox, order
from etl.ledger import Ledger
from etl.mapping import Mapping
from etl.model import Run, RunState

#: How many ended runs of a feed are looked at for the newest time in a file's name.
REMEMBERED = 200


def runs(
    ledger: Ledger, mappings: Map[str, Mapping], ranks: Map[str, tuple[int, int, str]]
) -> tuple[list[Run], list[tuple[Run, str]]]:
    """What to work, in order, and what never to work, each with the reason."""
    feeds: dict[str, list[Run]] = defaultdict(list)
    for run in ledger.open_runs():
        feeds[run.feed].append(run)
    found: list[tuple[tuple[bool, tuple[int, int, str], int], Run]] = []
    overtaken: list[tuple[Run, str]] = []
    for feed, waiting in feeds.items():
        mapping = mappings.get(feed)
        if mapping is None:  # cannot be planned; whoever works it says so
            work = [run for run in waiting if run.state is not RunState.HELD]
        else:
            by_id = {run.id: run for run in waiting}
            queue = order.queue(
                [_candidate(run, mapping) for run in waiting],
                mapping.source.content == "full",
                _newest(ledger, mapping, waiting),
            )
            work = [by_id[run] for run in queue.work]
            overtaken += [(by_id[run], reason) for run, reason in queue.overtaken]
        rank = ranks.get(feed, (0, 0, feed))
        found += [((not _begun(run), rank, place), run) for place, run in enumerate(work)]
    return [run for _, run in sorted(found, key=lambda item: item[0])], overtaken


def _begun(run: Run) -> bool:
    return run.state in (RunState.PLANNED, RunState.SENDING)


def _candidate(run: Run, mapping: Mapping) -> order.Candidate:
    arrival = inbox.scan_time(run.claimed) if run.claimed is not None else 0.0
    return order.Candidate(
        run=run.id,
        time=order.time_of(mapping.source.order, run.file),
        arrival=(arrival, run.file),
        kind=run.kind,
        begun=_begun(run),
        held=run.state is RunState.HELD,
    )


def _newest(ledger: Ledger, mapping: Mapping, waiting: list[Run]) -> tuple[order.Time, str] | None:
    """The newest file of the feed, by its name, that was worked or has been begun."""
    pattern = mapping.source.order
    if pattern is None:
        return None
    worked = [*ledger.runs(REMEMBERED, mapping.feed, RunState.DONE), *(run for run in waiting if _begun(run))]
    return order.newest_of((order.time_of(pattern, run.file), run.file) for run in worked)
