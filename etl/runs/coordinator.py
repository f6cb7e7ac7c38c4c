"""All open runs of a state folder, side by side: what is planned next, what goes, and what comes of it.

Planning and filing happen in the thread that calls `step`, one thing at a time; sending and asking go on in the
meantime (`upload`). Which runs may go beside each other is decided in `lanes`, which files count in `waiting`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence

from etl import filesystem
from etl.apply.sender import Sender, SendResult
from etl.errors import EtlError
from etl.events import EventSink
from etl.mapping import dependencies
from etl.mapping.model import Mapping
from etl.model.runs import Run, RunState
from etl.runs import admission
from etl.runs.lifecycle import RunLifecycle
from etl.runs.queue import RunQueue
from etl.state.ledger.facade import Ledger

#: Overtaken runs that are filed away in one step.
SUPERSEDED_PER_STEP = 100


class Coordinator:
    """Carries every open run to its end, or as far as it goes."""

    def __init__(
        self,
        lifecycle: RunLifecycle,
        ledger: Ledger,
        sender: Sender,
        mappings: Sequence[Mapping],
        emit: EventSink,
        find_busy_key_spaces: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """`barred`: key spaces in which a job runs that belongs to no run."""
        self._lifecycle = lifecycle
        self._ledger = ledger
        self._sender = sender
        self._emit = emit
        self._prerequisites = dependencies.prerequisites(mappings)
        self._also_writes = dependencies.also_writes(mappings)
        self._queue = RunQueue(ledger, {m.feed: m for m in mappings}, dependencies.run_order(mappings))
        self._stall_errors: dict[str, EtlError] = {}
        self._find_busy_key_spaces = find_busy_key_spaces
        self._busy_key_spaces: frozenset[str] | None = None
        self._selected_run_ids: set[str] | None = None
        self._reported_drops: set[tuple[str, str]] = set()
        self._unprocessed_results: list[SendResult] = []
        self._results_by_run: dict[str, Run] = {}
        self._reported_errors: dict[str, str] = {}
        self.stalled_runs: list[tuple[Run, EtlError]] = []  #: runs that stay open, and why
        self.connect_unavailable = (
            False  #: Connect takes nothing from us, or does not answer: nothing is begun before `retry`
        )

    @property
    def wake_event(self) -> threading.Event:
        """Set when a step has something to do again."""
        return self._sender.result_ready

    @property
    def is_busy(self) -> bool:
        """Whether runs are under way."""
        return bool(self._active_run_ids())

    def add(self, runs: Iterable[Run]) -> None:
        """Runs that have just been opened, or changed by others."""
        for run in runs:
            self._queue.update(run)
            self.wake_event.set()

    def restrict_to(self, run: Run) -> None:
        """From now on this run, what follows from it, and begun runs that may hold the same keys."""
        self._selected_run_ids = {run.id}
        self.add([run])

    def retry_stalled(self) -> None:
        """Try again what was in trouble."""
        if self._busy_key_spaces:
            self._busy_key_spaces = None
        if self._stall_errors or self.connect_unavailable:
            self._stall_errors.clear()
            self.connect_unavailable = False
            self.wake_event.set()

    def results(self) -> list[Run]:
        """Runs that have ended or come to a stop, in that order, and those that are under way."""
        flying = self._active_run_ids()
        under_way = [run for run in self._queue.ordered_runs() if run.id in flying]
        return list({run.id: run for run in [*self._results_by_run.values(), *under_way]}.values())

    def clear_results(self) -> None:
        """Results and troubles so far are no longer asked for; the same trouble of a run is not told twice."""
        self._results_by_run.clear()
        self.stalled_runs.clear()

    def step(self) -> bool:
        """Do what is to be done, at most one plan of it. True when there may be more to do at once."""
        found = self._queue.superseded_runs()
        overtaken = [one for one in found if one[0].id not in self._stall_errors]
        behind = {run.feed for run, _ in overtaken}
        stuck = {run.feed: self._stall_errors[run.id] for run, _ in found if run.id in self._stall_errors}
        arrived, self._unprocessed_results = [*self._unprocessed_results, *self._sender.take_finished()], []
        for landing in arrived:
            run = self._ledger.find_run(landing.run_id)
            assert run is not None
            if run.feed in behind:  # once it has ended, nothing would say that the others are older
                self._unprocessed_results.append(landing)
            elif run.feed in stuck:
                self._mark_stalled(run, stuck[run.feed])
            else:
                self._process_result(run, landing)
        began = not self.connect_unavailable and self._start_runs()
        for run, reason in overtaken[:SUPERSEDED_PER_STEP]:  # nothing that goes has to wait for it, nor a stop
            self._apply_transition(run, lambda run=run, reason=reason: self._lifecycle.supersede(run, reason))  # type: ignore[misc]
        return bool(began or overtaken)

    # -- inside -------------------------------------------------------------------------------------------------

    def _active_run_ids(self) -> frozenset[str]:
        return self._sender.active_runs().union(landing.run_id for landing in self._unprocessed_results)

    def _start_runs(self) -> bool:
        """Send what may go, and plan what comes next."""
        if self._busy_key_spaces is None:
            self._busy_key_spaces = self._find_busy_key_spaces()
        runs = self._candidate_runs()
        blocked = {
            *self._stall_errors,
            *(run.id for run in runs if admission.key_space(run.operation) in self._busy_key_spaces),
        }
        opened = admission.admit(runs, self._prerequisites, blocked, self._sender.slow_runs(), self._also_writes)
        under_way = self._active_run_ids()
        for run in opened.runs:
            if run.state is not RunState.CLAIMED and run.id not in under_way:
                requests = self._sender.add(run.id, urgent=run.operation in admission.URGENT_OPERATIONS)
                self._emit("run_started", run=run.id, requests=requests)
        claimed = next((run for run in opened.runs if run.state is RunState.CLAIMED), None)
        if claimed is None:
            return False
        for run, other in opened.dropped_dependencies:
            if run is claimed and (run.id, other.id) not in self._reported_drops:
                self._reported_drops.add((run.id, other.id))
                self._emit("dependency_dropped", run=run.id, earlier_run=other.id)
        feed = (
            run for run in runs if run.feed == claimed.feed and run.state is RunState.CLAIMED and run is not claimed
        )
        newer = next((run for run in feed if run.kind == "file" and run.id not in blocked), None)
        self._apply_transition(claimed, lambda: self._lifecycle.plan(claimed, newer))
        return True

    def _candidate_runs(self) -> list[Run]:
        runs = self._queue.ordered_runs()
        if self._selected_run_ids is None:
            return runs
        asked = {admission.key_space(run.operation) for run in runs if run.id in self._selected_run_ids}
        return [
            run
            for run in runs
            if run.id in self._selected_run_ids
            or (run.state is not RunState.CLAIMED and admission.key_space(run.operation) in asked)
        ]

    def _process_result(self, run: Run, result: SendResult) -> None:
        if result.error is not None:
            self._mark_stalled(run, result.error)
            self.connect_unavailable = self.connect_unavailable or result.affects_all_runs
            return
        self._apply_transition(run, lambda: self._lifecycle.complete(run))

    def _apply_transition(self, run: Run, transition: Callable[[], Run]) -> None:
        """What comes of a run; when it cannot go on, it stays open and everything that it does not hold up goes on."""
        try:
            with filesystem.translate_os_errors(self._ledger.state_folder):
                found = transition()
                self._queue.update(found)
                followers = self._lifecycle.open_follow_ups(found)
        except EtlError as error:
            self._mark_stalled(run, error)
            with (
                contextlib.suppress(EtlError),
                filesystem.translate_os_errors(self._ledger.state_folder),
            ):  # found again at the next look
                self.add(self._lifecycle.open_follow_ups(run))
            return
        if self._selected_run_ids is not None:
            self._selected_run_ids |= {follower.id for follower in followers}
        self.add(followers)
        if found.state.is_final or found.state is RunState.HELD:
            self._results_by_run[found.id] = found
            self._reported_errors.pop(found.id, None)

    def _mark_stalled(self, run: Run, error: EtlError) -> None:
        self._stall_errors[run.id] = error
        self._results_by_run[run.id] = run
        if self._reported_errors.get(run.id) != str(error):  # a service tries again and again
            self._reported_errors[run.id] = str(error)
            self.stalled_runs.append((run, error))
            self._emit("run_stalled", run=run.id, code=error.code)
