"""All open runs of a state folder, side by side: what is planned next, what goes, and what comes of it.

Planning and filing happen in the thread that calls `step`, one thing at a time; sending and asking go on in the
meantime (`upload`). Which runs may go beside each other is decided in `lanes`, which files count in `waiting`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence

from etl import filesystem as durable
from etl.apply.sender import Flight, Landing
from etl.errors import EtlError
from etl.mapping import dependencies as mapping_links
from etl.mapping.model import Mapping
from etl.model.runs import Run, RunState
from etl.runs import admission as lanes
from etl.runs.lifecycle import Pipeline
from etl.runs.queue import Waiting
from etl.state.ledger.facade import Ledger

#: Overtaken runs that are filed away in one step.
AT_ONCE = 100


class Traffic:
    """Carries every open run to its end, or as far as it goes."""

    def __init__(
        self,
        pipeline: Pipeline,
        ledger: Ledger,
        flight: Flight,
        mappings: Sequence[Mapping],
        tell: Callable[..., None],
        barred: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """`barred`: key spaces in which a job runs that belongs to no run."""
        self._pipeline = pipeline
        self._ledger = ledger
        self._flight = flight
        self._tell = tell
        self._needs = mapping_links.needs(mappings)
        self._beside = mapping_links.writes_beside(mappings)
        self._waiting = Waiting(ledger, {m.feed: m for m in mappings}, mapping_links.ranks(mappings))
        self._blocked: dict[str, EtlError] = {}
        self._ask_barred = barred
        self._barred: frozenset[str] | None = None
        self._only: set[str] | None = None
        self._given_up: set[tuple[str, str]] = set()
        self._arrived: list[Landing] = []
        self._ended: dict[str, Run] = {}
        self._said: dict[str, str] = {}
        self.trouble: list[tuple[Run, EtlError]] = []  #: runs that stay open, and why
        self.closed = False  #: Connect takes nothing from us, or does not answer: nothing is begun before `retry`

    @property
    def news(self) -> threading.Event:
        """Set when a step has something to do again."""
        return self._flight.news

    @property
    def busy(self) -> bool:
        """Whether runs are under way."""
        return bool(self._under_way())

    def add(self, runs: Iterable[Run]) -> None:
        """Runs that have just been opened, or changed by others."""
        for run in runs:
            self._waiting.put(run)
            self.news.set()

    def only(self, run: Run) -> None:
        """From now on this run, what follows from it, and begun runs that may hold the same keys."""
        self._only = {run.id}
        self.add([run])

    def retry(self) -> None:
        """Try again what was in trouble."""
        if self._barred:
            self._barred = None
        if self._blocked or self.closed:
            self._blocked.clear()
            self.closed = False
            self.news.set()

    def results(self) -> list[Run]:
        """Runs that have ended or come to a stop, in that order, and those that are under way."""
        flying = self._under_way()
        under_way = [run for run in self._waiting.work() if run.id in flying]
        return list({run.id: run for run in [*self._ended.values(), *under_way]}.values())

    def forget(self) -> None:
        """Results and troubles so far are no longer asked for; the same trouble of a run is not told twice."""
        self._ended.clear()
        self.trouble.clear()

    def step(self) -> bool:
        """Do what is to be done, at most one plan of it. True when there may be more to do at once."""
        found = self._waiting.overtaken()
        overtaken = [one for one in found if one[0].id not in self._blocked]
        behind = {run.feed for run, _ in overtaken}
        stuck = {run.feed: self._blocked[run.id] for run, _ in found if run.id in self._blocked}
        arrived, self._arrived = [*self._arrived, *self._flight.landed()], []
        for landing in arrived:
            run = self._ledger.run(landing.run)
            assert run is not None
            if run.feed in behind:  # once it has ended, nothing would say that the others are older
                self._arrived.append(landing)
            elif run.feed in stuck:
                self._block(run, stuck[run.feed])
            else:
                self._landed(run, landing)
        began = not self.closed and self._begin()
        for run, reason in overtaken[:AT_ONCE]:  # nothing that goes has to wait for it, nor a stop
            self._guarded(run, lambda run=run, reason=reason: self._pipeline.supersede(run, reason))  # type: ignore[misc]
        return bool(began or overtaken)

    # -- inside -------------------------------------------------------------------------------------------------

    def _under_way(self) -> frozenset[str]:
        return self._flight.under_way().union(landing.run for landing in self._arrived)

    def _begin(self) -> bool:
        """Send what may go, and plan what comes next."""
        if self._barred is None:
            self._barred = self._ask_barred()
        runs = self._open()
        blocked = {*self._blocked, *(run.id for run in runs if lanes.space(run.operation) in self._barred)}
        opened = lanes.open_up(runs, self._needs, blocked, self._flight.slow(), self._beside)
        under_way = self._under_way()
        for run in opened.free:
            if run.state is not RunState.CLAIMED and run.id not in under_way:
                requests = self._flight.add(run.id, urgent=run.operation in lanes.URGENT)
                self._tell("run_started", run=run.id, requests=requests)
        claimed = next((run for run in opened.free if run.state is RunState.CLAIMED), None)
        if claimed is None:
            return False
        for run, other in opened.given_up:
            if run is claimed and (run.id, other.id) not in self._given_up:
                self._given_up.add((run.id, other.id))
                self._tell("order_given_up", run=run.id, before=other.id)
        feed = (
            run for run in runs if run.feed == claimed.feed and run.state is RunState.CLAIMED and run is not claimed
        )
        newer = next((run for run in feed if run.kind == "file" and run.id not in blocked), None)
        self._guarded(claimed, lambda: self._pipeline.plan(claimed, newer))
        return True

    def _open(self) -> list[Run]:
        runs = self._waiting.work()
        if self._only is None:
            return runs
        asked = {lanes.space(run.operation) for run in runs if run.id in self._only}
        return [
            run
            for run in runs
            if run.id in self._only or (run.state is not RunState.CLAIMED and lanes.space(run.operation) in asked)
        ]

    def _landed(self, run: Run, landing: Landing) -> None:
        if landing.error is not None:
            self._block(run, landing.error)
            self.closed = self.closed or landing.everybody
            return
        self._guarded(run, lambda: self._pipeline.finish(run))

    def _guarded(self, run: Run, act: Callable[[], Run]) -> None:
        """What comes of a run; when it cannot go on, it stays open and everything that it does not hold up goes on."""
        try:
            with durable.translated(self._ledger.state):
                found = act()
                self._waiting.put(found)
                followers = self._pipeline.followers(found)
        except EtlError as error:
            self._block(run, error)
            with contextlib.suppress(EtlError), durable.translated(self._ledger.state):  # found again at the next look
                self.add(self._pipeline.followers(run))
            return
        if self._only is not None:
            self._only |= {follower.id for follower in followers}
        self.add(followers)
        if found.state.is_final or found.state is RunState.HELD:
            self._ended[found.id] = found
            self._said.pop(found.id, None)

    def _block(self, run: Run, error: EtlError) -> None:
        self._blocked[run.id] = error
        self._ended[run.id] = run
        if self._said.get(run.id) != str(error):  # a service tries again and again
            self._said[run.id] = str(error)
            self.trouble.append((run, error))
            self._tell("run_blocked", run=run.id, code=error.code)
