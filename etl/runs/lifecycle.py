"""What happens to one run before it is sent and after that: plan, finish, file away.

Order of writes, by the numbers of the crash table in docs/ARCHITECTURE.md: 1 and 2a are `etl.ingest.intake`'s; 2 the
plan is made: payloads, sent records and rejections are synced, then the chunks are in the ledger; 3-7 are
`etl.apply.sender`'s; 8 report written, a shared file named again, run closed; 9 file filed away. A start looks at what
there is and goes on from there; nothing is remembered anywhere else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl import filesystem, thread_pool
from etl.config.settings import Settings
from etl.errors import InvalidFileError, StateError
from etl.events import EventSink
from etl.ingest import claims, feedback, routing
from etl.mapping.model import Mapping
from etl.model.runs import PROCESSED_STATES, Run, RunState
from etl.parallel import Submit
from etl.report import run_report
from etl.runs import flush, freeze, plan_inputs
from etl.runs.follow_ups import FollowUps
from etl.runs.plan_inputs import load_owner_records, load_pending_records, load_reference_values, make_request_limits
from etl.runs.undo import build_undo_plan, open_undo_run
from etl.state import compaction
from etl.state.files import checksums, run_folder
from etl.state.files.archive import archive_folder
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    from etl.plan.inputs import PlanInputs
    from etl.plan.model import Plan


class RunLifecycle(FollowUps):
    """Carries files through. One per state folder at a time; see `etl.app`."""

    def __init__(
        self,
        settings: Settings,
        account_id: int,
        ledger: Ledger,
        mappings: Sequence[Mapping],
        emit: EventSink,
    ) -> None:
        super().__init__(settings, ledger, mappings, emit)
        self._settings = settings
        self._account_id = account_id
        self._emit = emit

    # -- what there is to do ------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Claimed files that a crash left without runs get them, and those of ended runs are filed away."""
        for run in self.intake.resume():
            if not self._link_shared_file(run):
                self._archive_file(run)

    def undo(self, run: Run) -> Run:
        """A new run that takes this one back. Raises UsageError, StateError."""
        return open_undo_run(self._ledger, self._state, run)

    def discard(self, run: Run) -> None:
        """File a held run away unsent."""
        self._close(run, RunState.DISCARDED, run_folder.load_plan_facts(self._state, run.id), None)

    # -- one run ------------------------------------------------------------------------------------------------

    def supersede(self, run: Run, reason: str) -> Run:
        """File away a run that a newer file has overtaken."""
        self._emit("run_superseded", run=run.id, reason=reason)
        self._close(run, RunState.SUPERSEDED, {}, reason)
        return self._reload(run)

    def plan(self, run: Run, newer_run: Run | None = None) -> Run:
        """Make the plan of a claimed run: planned, held, carried or refused then, or still claimed where something else
        has to be sent before it. `newer`: the next file of its feed, when one waits.

        Raises StateError when that cannot be done.
        """
        mapping = self._mappings_by_feed.get(run.feed)
        if mapping is None:
            raise StateError(
                "feed-unknown",
                f"run {run.id} waits for the feed {run.feed}, which has no usable mapping",
                where=str(self._settings.paths.mappings),
                hint="bring the mapping back, or correct it; see `etl check`",
            )
        try:
            if any(state in PROCESSED_STATES for _, state in self._ledger.uncompacted_runs(run.feed)):
                self._compact(run.feed)  # a crash has left it: what is owed is what the run before this one has left
            moves = self._ledger.revision(
                run.feed
            )  # before *accepted* is read: should it move meanwhile, the plan is old
            with thread_pool.thread_pool() as start:
                plan = self._build_plan(run, mapping, start)
                still = start(lambda: self.intake.check_unmodified(run))  # all of it has been read
                if self._must_wait_for_flush(run, plan):
                    return run
                if newer_run is not None and not flush.may_merge(self._ledger, run, plan, datetime.now(UTC)):
                    newer_run = None
                chunks = freeze.freeze_plan(self._state, run, plan, moves, newer_run, start)
                checksums.save_digests(self._ledger, run_folder.list_plan_files(self._state, run.id))
                still()
        except InvalidFileError as error:
            self._emit("run_invalid", run=run.id, code=error.code)
            self._close(run, RunState.INVALID, {}, str(error))
            return self._reload(run)
        if newer_run is not None:
            return self._close_as_merged(replace(run, counts=plan.counts), newer_run)
        counts = replace(
            plan.counts,
            requests=len(chunks),
            records_sent=sum(chunk.records for chunk in chunks),
            values_sent=sum(chunk.values for chunk in chunks),
        )
        state = RunState.HELD if plan.hold_reasons else RunState.PLANNED
        if state is RunState.HELD:
            held = replace(run, counts=counts, state=state)
            made = run_report.report_json(held, (), (), run_folder.load_plan_facts(self._state, run.id))
            self._write_html_report(made, run_folder.folder_path(self._state, run.id))
        self._ledger.save_plan(run.id, counts, chunks, state)
        self._emit(
            "plan_made",
            run=run.id,
            state=state.value,
            rows=counts.rows,
            rejected=counts.rejected,
            new=counts.new,
            changed=counts.changed,
            requests=len(chunks),
            suppressed=plan.suppressed,
            cleared=plan.cleared,
            change_sets_joined=plan.change_sets_joined,
        )
        return self._reload(run)

    def _must_wait_for_flush(self, run: Run, plan: Plan) -> bool:
        """Whether what earlier files have left to this one is to be sent before it: then each is judged by itself."""
        carried = self._ledger.runs_awaiting_merge(run.feed)
        if not carried or run.kind != "file" or not flush.needs_flush(self._ledger, plan.mapping):
            return False
        alike = set(self._read_planned_columns(carried[-1:])) == set(plan.columns)
        if not plan.hold_reasons and not plan.flush_first and alike:
            return False
        self._emit("plan_postponed", run=run.id, earlier_run=carried[-1].id)
        return True

    def _close_as_merged(self, run: Run, newer_run: Run) -> Run:
        """Close a planned run unsent: from here on its records are owed, and `newer` is planned with them."""
        self._close(run, RunState.MERGED, run_folder.load_plan_facts(self._state, run.id), None)
        self._compact(run.feed)
        self._emit("run_merged", run=run.id, into=newer_run.id, new=run.counts.new, changed=run.counts.changed)
        return self._reload(run)

    def _build_plan(self, run: Run, mapping: Mapping, submit: Submit) -> Plan:
        from etl import formats
        from etl.plan import build as plan
        from etl.plan.inputs import PlanInputs, SendMode

        if run.kind == "undo":
            inputs = PlanInputs(
                compaction.scan_accepted(self._ledger, self._state, run.feed),
                self._account_id,
                self.request_limits(mapping.operation.id),
                owner_records=load_owner_records(self._ledger, self._state, mapping),
            )
            return build_undo_plan(self._ledger, self._state, run, mapping, inputs)
        inputs = self._load_plan_inputs(run, mapping)
        if run.kind in ("full", "resend") and mapping.source.content == "changes":
            columns = self._read_planned_columns(self._ledger.list_runs(50, run.feed))
            return plan.build_resend_plan(mapping, columns, inputs)
        mode = SendMode.ALL if run.kind == "full" else SendMode.CHANGED
        if inputs.selected_keys:
            mode = SendMode.SELECTED
        with contextlib.ExitStack() as stack:
            if run.claimed is not None:
                dialect, member = mapping.source.dialect, routing.member_name(run)
                reading = stack.enter_context(formats.open_table(run.claimed, dialect, member=member))
            else:  # nothing new: what is owed is all there is
                reading = plan.empty_table(self._read_planned_columns(self._ledger.list_runs(50, run.feed)))
            return plan.build_plan(reading, mapping, inputs, mode, submit)

    def _load_plan_inputs(self, run: Run, mapping: Mapping) -> PlanInputs:
        """Gather what the plan of a file depends on besides it."""
        from etl.plan.inputs import PlanInputs

        selected_keys = self.intake.resend_keys(run)
        return PlanInputs(
            accepted_records=compaction.scan_accepted(self._ledger, self._state, run.feed),
            account_id=self._account_id,
            request_limits=self.request_limits(mapping.operation.id),
            reference_values=load_reference_values(self._ledger, self._state, mapping),
            previous_file=None
            if selected_keys or run.claimed is None
            else plan_inputs.load_previous_file(self._ledger, mapping, run.claimed),
            sibling_feeds=self._load_foreign_records(mapping, run),
            pending_records=load_pending_records(self._ledger, self._state, mapping),
            selected_keys=selected_keys,
            owner_records=load_owner_records(self._ledger, self._state, mapping),
        )

    def _load_foreign_records(self, mapping: Mapping, run: Run) -> dict[str, Any]:
        """What other feeds of the same import have had accepted; only a full feed needs to know."""
        others = [
            other
            for other in self._mappings_by_feed.values()
            if other.operation.id == mapping.operation.id and other.feed != mapping.feed and run.kind == "full"
        ]
        return {other.feed: compaction.read_accepted(self._ledger, self._state, other.feed) for other in others}

    def request_limits(self, operation: str) -> Any:
        """What plans depend on besides file, mapping and *accepted*."""
        return make_request_limits(self._settings, self._ledger.size_limit(operation))

    def _read_planned_columns(self, runs: Iterable[Run]) -> list[str]:
        """Source columns of the first of these runs that was planned."""
        for run in runs:
            if run.archive is not None:
                with contextlib.suppress(OSError, ValueError, KeyError):
                    made = json.loads((run.archive / "report.json").read_bytes())
                    return list(made["plan"]["columns"])
        return []

    def complete(self, run: Run) -> Run:
        """Close a run whose requests have all ended, and make what Norce took of it part of the feed's base."""
        chunks = self._ledger.list_chunks(run.id)
        refusals = self._ledger.list_record_errors(run.id)
        counts = run_report.final_counts(run.counts, chunks, refusals)
        self._close(
            replace(run, counts=counts), RunState.COMPLETED, run_folder.load_plan_facts(self._state, run.id), None
        )
        run = self._reload(run)
        self._compact(run.feed)
        self._emit(
            "run_completed",
            run=run.id,
            rows=counts.rows,
            rejected=counts.rejected,
            failed=counts.failed,
            unchanged=counts.unchanged,
            new=counts.new,
            changed=counts.changed,
            gone=counts.gone,
            requests=counts.requests,
        )
        return run

    def _close(self, run: Run, state: RunState, facts: dict[str, Any], error: str | None) -> None:
        """Report written, a shared file named again, run closed, any other file filed away, in this order."""
        day = (run.started or datetime.now(UTC)).date()
        archive = archive_folder(self._state, run.id, day)
        filesystem.make_folder(archive)
        for name in ("rejections.csv", "rejections.xlsx"):
            with contextlib.suppress(FileNotFoundError):
                filesystem.write_atomically(
                    archive / name, (run_folder.folder_path(self._state, run.id) / name).read_bytes()
                )
        if state is RunState.COMPLETED:
            run_folder.preserve_for_undo(self._state, run.id, archive)
        ended = replace(run, state=state, ended=datetime.now(UTC), error=error, archive=archive)
        made = run_report.report_json(
            ended, self._ledger.list_chunks(run.id), self._ledger.list_record_errors(run.id), facts
        )
        filesystem.write_atomically(archive / "report.json", json.dumps(made, ensure_ascii=False, indent=2).encode())
        self._write_html_report(made, archive)
        checksums.save_digests(self._ledger, run_folder.list_undo_files(archive))
        self._write_feedback(ended, archive)
        shared = self._link_shared_file(ended)  # while it is open: the last of the runs that share a file takes it away
        self._ledger.close_run(run.id, state, run.counts, error, archive)
        if not shared:
            self._archive_file(ended)
        if state not in PROCESSED_STATES:
            compaction.delete_run_folder(self._state, run.id)

    def _write_html_report(self, report_json: dict[str, Any], folder: Path) -> None:
        """The report as a page for people."""
        from etl.report import html

        filesystem.write_atomically(folder / "report.html", html.render(report_json).encode())

    def _write_feedback(self, run: Run, archive: Path) -> None:
        """A supplier's folder that cannot be written to is no reason to keep a run open."""
        mapping = self._mappings_by_feed.get(run.feed)
        if mapping is None or not mapping.feedback:
            return
        try:
            feedback.write_rejections(run, self._settings.paths.inbox, archive, run.error)
        except OSError as error:
            self._emit("feedback_failed", run=run.id, reason=error.strerror or str(error))

    def _link_shared_file(self, run: Run) -> bool:
        """Give the file a second name in the run's archive, if another open run needs it."""
        if run.claimed is None or run.archive is None or not self._ledger.shares_file(run):
            return False
        if run.claimed.exists():
            filesystem.hard_link(run.claimed, run.archive / run.claimed.name)
        return True

    def _archive_file(self, run: Run) -> None:
        """Move the file, which nobody else needs, into the run's archive."""
        if (
            run.claimed is None
            or run.archive is None
            or not run.claimed.exists()
            or self.intake.return_if_modified(run)
        ):
            return
        claims.archive_file(run.claimed, run.archive, self._state)

    def _compact(self, feed: str) -> None:
        mapping = self._mappings_by_feed.get(feed)
        changes = mapping is not None and mapping.source.content == "changes"
        compaction.compact_feed(self._ledger, self._state, feed, is_changes_feed=changes)

    def _reload(self, run: Run) -> Run:
        found = self._ledger.find_run(run.id)
        if found is None:
            raise StateError("run-lost", f"run {run.id} is no longer in the ledger", hint="restore the state folder")
        return found
