"""Runs all open runs of a state folder side by side: decides what is planned next, sent, and closed.

Planning and closing happen in the thread that calls `step`, one run at a time; requests are sent and jobs polled in
the meantime (`etl.apply.sender`). `etl.runs.admission` decides which runs may go side by side, `etl.runs.queue` their
order.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence, Set
from functools import partial

import polars as pl

from etl import defect_report, filesystem
from etl.apply.sender import Sender, SendResult
from etl.errors import EtlError, InternalError, OutcomeUndecidedError, RunParkedError, UnforeseenError
from etl.events import EventSink
from etl.model.runs import Run, RunState
from etl.runs import admission
from etl.runs.admission import Admission
from etl.runs.follow_ups import FollowUps
from etl.runs.lifecycle import RunLifecycle
from etl.runs.queue import RunQueue

#: Superseded runs that are closed in one step.
SUPERSEDED_PER_STEP = 100


class Coordinator:
    """Takes every open run to its end, or as far as possible."""

    def __init__(
        self,
        lifecycle: RunLifecycle,
        follow_ups: FollowUps,
        queue: RunQueue,
        sender: Sender,
        emit: EventSink,
        find_busy_key_spaces: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """Args: find_busy_key_spaces: finds the key spaces of running jobs that belong to no run."""
        self._lifecycle = lifecycle
        self._follow_ups = follow_ups
        self._queue = queue
        self._sender = sender
        self._emit = emit
        self._stall_errors: dict[str, EtlError] = {}
        self._find_busy_key_spaces = find_busy_key_spaces
        self._busy_key_spaces: frozenset[str] | None = None
        self._selected_run_ids: set[str] | None = None
        self._reported_drops: set[tuple[str, str]] = set()
        self._unprocessed_results: list[SendResult] = []
        self._results_by_run: dict[str, Run] = {}
        self._reported_errors: dict[str, str] = {}
        self.stalled_runs: list[tuple[Run, EtlError]] = []  #: runs that stay open, and why
        #: Connect has rejected our credentials or is unreachable: no run starts until `retry_stalled`.
        self.connect_unavailable = False

    @property
    def wake_event(self) -> threading.Event:
        """Set when the next step has something to do."""
        return self._sender.result_ready

    @property
    def is_busy(self) -> bool:
        """Whether requests or jobs of any run are under way."""
        return bool(self._active_run_ids())

    def add(self, runs: Iterable[Run]) -> None:
        """Take in runs that were opened, or changed by others."""
        for run in runs:
            self._queue.update(run)
            self.wake_event.set()

    def restrict_to(self, run: Run) -> None:
        """Handle from now on only this run, its follow-up runs, and begun runs that may hold the same keys."""
        self._selected_run_ids = {run.id}
        self.add([run])

    @property
    def parked_run_ids(self) -> Set[str]:
        """Runs that wait for a person because of a defect."""
        return self._queue.parked_run_ids

    def unpark(self, run: Run) -> None:
        """Take a parked run in again."""
        self._stall_errors.pop(run.id, None)
        self._queue.unpark(run)
        self.wake_event.set()

    def retry_stalled(self) -> None:
        """Let stalled runs, and Connect, be tried again."""
        if self._busy_key_spaces:
            self._busy_key_spaces = None
        if self._stall_errors or self.connect_unavailable:
            self._stall_errors.clear()
            self.connect_unavailable = False
            self.wake_event.set()

    def results(self) -> list[Run]:
        """Return the runs that have ended, are held or stalled, in that order, then those under way."""
        active_run_ids = self._active_run_ids()
        active_runs = [run for run in self._queue.ordered_runs() if run.id in active_run_ids]
        return list({run.id: run for run in [*self._results_by_run.values(), *active_runs]}.values())

    def clear_results(self) -> None:
        """Forget the results so far; an error of a run that was reported is not reported again."""
        self._results_by_run.clear()
        self.stalled_runs.clear()

    def step(self) -> bool:
        """Process results, send and close runs, and plan at most one. True when more may be possible at once."""
        superseded = self._queue.superseded_runs()
        closable = [(run, reason) for run, reason in superseded if run.id not in self._stall_errors]
        self._process_results(superseded)
        has_planned = not self.connect_unavailable and self._start_runs()
        for run, reason in closable[:SUPERSEDED_PER_STEP]:  # last: neither a running job nor a stop waits for it
            self._apply_transition(run, partial(self._lifecycle.supersede, run, reason))
        return bool(has_planned or closable)

    # -- inside -------------------------------------------------------------------------------------------------

    def _active_run_ids(self) -> frozenset[str]:
        return self._sender.active_runs().union(result.run_id for result in self._unprocessed_results)

    def _process_results(self, superseded: Sequence[tuple[Run, str]]) -> None:
        """Complete the runs whose requests have ended.

        A newer run stays open while older ones of its feed wait to be closed: its being open marks them as superseded.
        """
        stalled_feeds = {run.feed: self._stall_errors[run.id] for run, _ in superseded if run.id in self._stall_errors}
        waiting_feeds = {run.feed for run, _ in superseded if run.id not in self._stall_errors}
        results, self._unprocessed_results = [*self._unprocessed_results, *self._sender.take_finished()], []
        for result in results:
            run = self._queue.reload(result.run_id)
            if run.feed in waiting_feeds:
                self._unprocessed_results.append(result)
            elif run.feed in stalled_feeds:
                self._mark_stalled(run, stalled_feeds[run.feed])
            elif isinstance(result.error, OutcomeUndecidedError):
                self._apply_transition(run, partial(self._lifecycle.hold_unknown, run, result.error))
            elif isinstance(result.error, InternalError):
                self._park(run, result.error.cause if isinstance(result.error, UnforeseenError) else result.error)
            elif result.error is not None:
                self._mark_stalled(run, result.error)
                self.connect_unavailable = self.connect_unavailable or result.affects_all_runs
            else:
                self._apply_transition(run, partial(self._lifecycle.complete, run))

    def _start_runs(self) -> bool:
        """Send the runs that are admitted, and plan the first claimed one. True when one was planned."""
        if self._busy_key_spaces is None:
            self._busy_key_spaces = self._find_busy_key_spaces()
        runs = self._without_parked(self._candidate_runs())
        stalled_run_ids = {
            *self._stall_errors,
            *(run.id for run in runs if run.has_unknown_outcome or run.id in self._queue.parked_run_ids),
            *(run.id for run in runs if admission.key_space(run.operation) in self._busy_key_spaces),
        }
        admitted = admission.admit(runs, self._queue.feed_links, stalled_run_ids, self._sender.slow_runs())
        self._send_planned(admitted.runs)
        claimed = next((run for run in admitted.runs if run.state is RunState.CLAIMED), None)
        if claimed is None:
            return False
        self._report_dropped_dependencies(claimed, admitted)
        newer_run = next((run for run in runs if _is_newer_file(run, claimed) and run.id not in stalled_run_ids), None)
        self._apply_transition(claimed, partial(self._lifecycle.plan, claimed, newer_run))
        return True

    def _send_planned(self, runs: Iterable[Run]) -> None:
        active_run_ids = self._active_run_ids()
        for run in runs:
            if run.state is not RunState.CLAIMED and run.id not in active_run_ids:
                requests = self._sender.add(run.id, urgent=run.operation in admission.URGENT_OPERATIONS)
                self._emit("run_started", run=run.id, requests=requests)

    def _report_dropped_dependencies(self, claimed: Run, admitted: Admission) -> None:
        for run, earlier_run in admitted.dropped_dependencies:
            if run is claimed and (run.id, earlier_run.id) not in self._reported_drops:
                self._reported_drops.add((run.id, earlier_run.id))
                self._emit("dependency_dropped", run=run.id, earlier_run=earlier_run.id)

    def _candidate_runs(self) -> list[Run]:
        runs = self._queue.ordered_runs()
        if self._selected_run_ids is None:
            return runs
        key_spaces = {admission.key_space(run.operation) for run in runs if run.id in self._selected_run_ids}
        return [
            run
            for run in runs
            if run.id in self._selected_run_ids
            or (run.state is not RunState.CLAIMED and admission.key_space(run.operation) in key_spaces)
        ]

    def _apply_transition(self, run: Run, transition: Callable[[], Run]) -> None:
        """Change a run and open its follow-up runs; on an error the run stays open, and independent runs go on."""
        try:
            with filesystem.translate_os_errors(self._queue.state_folder):
                changed_run = transition()
                self._queue.update(changed_run)
                follow_up_runs = self._follow_ups.open_follow_ups(changed_run)
        except InternalError as error:
            self._park(run, error)
            return
        except EtlError as error:
            self._mark_stalled(run, error)
            # What cannot be opened now is opened by `open_unblocked` later.
            with contextlib.suppress(EtlError), filesystem.translate_os_errors(self._queue.state_folder):
                self.add(self._follow_ups.open_follow_ups(run))
            return
        except (Exception, pl.exceptions.PanicException) as error:
            self._park(run, error)
            return
        if self._selected_run_ids is not None:
            self._selected_run_ids |= {follow_up.id for follow_up in follow_up_runs}
        self.add(follow_up_runs)
        if changed_run.state.is_final or changed_run.state is RunState.HELD:
            self._results_by_run[changed_run.id] = changed_run
            self._reported_errors.pop(changed_run.id, None)

    def _without_parked(self, runs: list[Run]) -> list[Run]:
        """Leave out parked runs without a request under way, and the other runs of their feeds.

        A parked run that may have a job at Norce stays, because its keys are barred.
        """
        parked = [run for run in runs if run.id in self._queue.parked_run_ids]
        done = {run.feed for run in parked if not self._lifecycle.has_request_under_way(run)}
        return [run for run in runs if run.feed not in done]

    def _park(self, run: Run, error: BaseException) -> None:
        """Park a run because of an exception that no one foresaw; one that has ended all the same is reported only."""
        file = defect_report.write_traceback(error)
        parked_error = RunParkedError(run.id, type(error).__name__, str(file))
        current = self._queue.reload(run.id)
        if current.state.is_final:
            self._queue.update(current)
        else:
            self._lifecycle.park(current, f"{parked_error.message}; {parked_error.hint}; {file}")
            self._queue.park(current)
        self._mark_stalled(current, parked_error)

    def _mark_stalled(self, run: Run, error: EtlError) -> None:
        self._stall_errors[run.id] = error
        self._results_by_run[run.id] = run
        if self._reported_errors.get(run.id) != str(error):  # the service tries again and again: report once
            self._reported_errors[run.id] = str(error)
            self.stalled_runs.append((run, error))
            self._emit("run_stalled", run=run.id, code=error.code)


def _is_newer_file(run: Run, claimed: Run) -> bool:
    """Return whether a later run of the queue is a file of the same feed that waits to be planned."""
    return run is not claimed and run.feed == claimed.feed and run.state is RunState.CLAIMED and run.kind == "file"
