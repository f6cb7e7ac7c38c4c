"""Takes one run through its states before and after it is sent: plan, complete, close.

Order of writes, by the numbers of the crash table in docs/ARCHITECTURE.md: 1 and 2a are `etl.ingest.intake`'s; 2 the
plan is made: payloads, sent records and rejections are synced, then the ledger gets the chunks; 3-7 are
`etl.apply.sender`'s; 8 the report is written, a shared file gets a second name, the run is closed; 9 the file is
archived. A start looks at what there is and continues from there; nothing is remembered anywhere else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etl import filesystem, formats, thread_pool
from etl.config.settings import Settings
from etl.errors import EtlError, InvalidFileError, StateError
from etl.events import EventSink
from etl.ingest import claims, feedback, routing
from etl.ingest.intake import Intake
from etl.mapping.model import Mapping
from etl.model.plan_facts import PlanFacts
from etl.model.runs import PROCESSED_STATES, ChunkState, Run, RunState
from etl.model.tables import Reading
from etl.parallel import Submit
from etl.plan import build
from etl.plan.inputs import SendMode
from etl.plan.model import Plan
from etl.report import html, run_report
from etl.runs import alerts, flush, freeze, plan_inputs, undo
from etl.runs.freeze import FrozenPlan
from etl.runs.plan_inputs import InputLoader
from etl.state import compaction
from etl.state.files import checksums, run_folder
from etl.state.files.archive import archive_folder, source_path
from etl.state.ledger.facade import Ledger

#: Files of a run's folder that its archive keeps.
_ARCHIVED_FILES = ("rejections.csv", "rejections.xlsx")


class RunLifecycle:
    """Plans and closes the runs of one state folder; one per folder at a time."""

    def __init__(
        self,
        settings: Settings,
        account_id: int,
        ledger: Ledger,
        mappings: Sequence[Mapping],
        intake: Intake,
        emit: EventSink,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._state = settings.paths.state
        self._mappings_by_feed = {mapping.feed: mapping for mapping in mappings}
        self._inputs = InputLoader(settings, account_id, ledger)
        self._intake = intake
        self._emit = emit

    def resume(self) -> None:
        """Finish what a crash interrupted: open runs for claimed files without any, archive files of ended runs.

        A file for which that fails stays claimed and raises an alert; the next start tries again.
        """
        ended, problems = self._intake.resume()
        for run in ended:
            try:
                if not self._link_shared_file(run):
                    self._archive_file(run)
            except Exception as error:  # one file costs itself only
                problems[run.file] = error
        alerts.update_claim_alerts(self._ledger, problems, datetime.now(UTC), self._emit)

    def plan(self, run: Run, newer_run: Run | None = None) -> Run:
        """Plan a claimed run and return it: planned, held, merged or invalid.

        The run stays claimed when the pending records of earlier files have to be sent before it.

        Args:
            newer_run: the next run of the feed that waits, if any; it may take this run's records along.

        Raises:
            StateError: the run cannot be planned now.
        """
        mapping = self._require_mapping(run)
        if run.operation != mapping.operation.id:  # edited since the claim: the run competes with other runs now
            return self._ledger.change_operation(run.id, mapping.operation.id)
        try:
            if any(state in PROCESSED_STATES for _, state in self._ledger.runs.list_uncompacted(run.feed)):
                self._compact(run.feed)  # after a crash: pending records are known only once ended runs are merged
            frozen_plan = self._freeze_plan(run, mapping, newer_run)
        except InvalidFileError as error:
            self._emit("run_invalid", run=run.id, code=error.code)
            return self._close(run, RunState.INVALID, None, str(error))
        if frozen_plan is None:
            return run
        run = replace(run, counts=frozen_plan.counts)
        if frozen_plan.merge_target is not None:
            return self._close_as_merged(run, frozen_plan)
        return self._save_plan(run, frozen_plan)

    def complete(self, run: Run) -> Run:
        """Close a run whose requests have all ended, and merge its accepted records into the feed's base."""
        chunks = self._ledger.chunks.list_by_run(run.id)
        counts = run_report.final_counts(run.counts, chunks, self._ledger.record_errors.list_by_run(run.id))
        facts = run_folder.load_plan_facts(self._state, run.id)
        run = self._close(replace(run, counts=counts), RunState.COMPLETED, facts)
        self._compact(run.feed)
        alerts.refresh_job_alerts(self._ledger, run, chunks, datetime.now(UTC), self._emit)
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

    def hold_unknown(self, run: Run, error: EtlError) -> Run:
        """Hold a run because a person has to decide on a request whose outcome is unknown."""
        return self._ledger.hold_unknown(run.id, str(error))

    def supersede(self, run: Run, reason: str) -> Run:
        """Close a run that a newer file makes needless."""
        self._emit("run_superseded", run=run.id, reason=reason)
        return self._close(run, RunState.SUPERSEDED, None, reason)

    def has_request_under_way(self, run: Run) -> bool:
        """Return whether a request of the run has left and its end is not known."""
        unfinished = self._ledger.chunks.list_by_run(run.id, unfinished=True)
        return any(chunk.state in (ChunkState.SENDING, ChunkState.SUBMITTED) for chunk in unfinished)

    def park(self, run: Run, message: str) -> None:
        """Park a run because of a defect: it waits for a person."""
        alerts.park(self._ledger, run, message, self._emit)

    def unpark(self, run: Run) -> bool:
        """Let a parked run go on; return whether it was parked."""
        return alerts.unpark(self._ledger, run, self._emit)

    def discard(self, run: Run) -> Run:
        """Close a held or parked run without sending it, or without sending the rest of it: that stays pending."""
        if run.state is RunState.CLAIMED:
            return self._close(run, RunState.DISCARDED, None, "discarded; a defect had parked it")
        if run.state is not RunState.HELD or run.has_unknown_outcome:
            for chunk in self._ledger.chunks.list_by_run(run.id, unfinished=True):
                self._ledger.fail(chunk, "discarded; the outcome of a request of the run is unknown")
            return self.complete(run)
        return self._close(run, RunState.DISCARDED, run_folder.load_plan_facts(self._state, run.id))

    # -- planning -----------------------------------------------------------------------------------------------

    def _require_mapping(self, run: Run) -> Mapping:
        mapping = self._mappings_by_feed.get(run.feed)
        if mapping is None:
            raise StateError(
                "feed-unknown",
                f"run {run.id} waits for the feed {run.feed}, which has no usable mapping",
                where=str(self._settings.paths.mappings),
                hint="bring the mapping back, or correct it; see `etl check`",
            )
        return mapping

    def _freeze_plan(self, run: Run, mapping: Mapping, newer_run: Run | None) -> FrozenPlan | None:
        """Build the plan and write it to the run's folder; None when a flush run has to go first.

        Raises InvalidFileError when the file cannot be used, or was written to in the meantime.
        """
        # Read the revision before the accepted records: should they change in between, the plan counts as outdated.
        revision = self._ledger.feeds.revision(run.feed)
        with thread_pool.thread_pool() as submit:
            plan = self._build_plan(run, mapping, submit)
            check_unmodified = submit(lambda: self._intake.check_unmodified(run))  # the plan has read all of the file
            if self._must_wait_for_flush(run, plan):
                return None
            if newer_run is not None and not flush.may_merge(self._ledger, run, plan, datetime.now(UTC)):
                newer_run = None
            frozen_plan = freeze.freeze_plan(self._state, run, plan, revision, newer_run, submit)
            checksums.save_digests(self._ledger, run_folder.list_plan_files(self._state, run.id))
            check_unmodified()
        return frozen_plan

    def _build_plan(self, run: Run, mapping: Mapping, submit: Submit) -> Plan:
        if run.kind == "undo":
            return undo.build_undo_plan(self._ledger, self._state, run, mapping, self._inputs.for_undo(mapping))
        selected_keys = self._intake.resend_keys(run)
        if run.kind in ("full", "resend") and mapping.source.content == "changes":
            columns = self._inputs.planned_columns(run.feed)
            return build.build_resend_plan(mapping, columns, self._inputs.for_accepted(mapping, selected_keys))
        mode = SendMode.ALL if run.kind == "full" else SendMode.CHANGED
        if selected_keys:
            mode = SendMode.SELECTED
        with self._open_table(run, mapping) as reading:
            inputs = self._inputs.for_run(run, mapping, selected_keys, self._mappings_by_feed.values())
            return build.build_plan(reading, mapping, inputs, mode, submit)

    def _open_table(self, run: Run, mapping: Mapping) -> contextlib.AbstractContextManager[Reading]:
        """Open the file of a run; a flush run has none, and an empty table in its place."""
        if run.claimed is None:
            return contextlib.nullcontext(build.empty_table(self._inputs.planned_columns(run.feed)))
        return formats.open_table(run.claimed, mapping.source.dialect, member=routing.member_name(run))

    def _must_wait_for_flush(self, run: Run, plan: Plan) -> bool:
        """Return whether the records merged into this run have to be sent before it, by a run of their own.

        They do when the two would not fit together, or when this run is held: a person judges each by itself.
        """
        merged_runs = self._ledger.runs.list_awaiting_merge(run.feed)
        if not merged_runs or run.kind != "file" or not flush.needs_flush(self._ledger, plan.mapping):
            return False
        has_same_columns = set(plan_inputs.read_planned_columns(merged_runs[-1:])) == set(plan.columns)
        if not plan.hold_reasons and not plan.flush_first and has_same_columns:
            return False
        self._emit("plan_postponed", run=run.id, earlier_run=merged_runs[-1].id)
        return True

    def _close_as_merged(self, run: Run, frozen_plan: FrozenPlan) -> Run:
        """Close a planned run unsent: its records are pending now, and the newer run is planned with them."""
        assert frozen_plan.merge_target is not None
        run = self._close(run, RunState.MERGED, frozen_plan.facts)
        self._compact(run.feed)
        counts = run.counts
        self._emit("run_merged", run=run.id, into=frozen_plan.merge_target.id, new=counts.new, changed=counts.changed)
        return run

    def _save_plan(self, run: Run, frozen_plan: FrozenPlan) -> Run:
        """Give a plan whose files are synced to the ledger."""
        facts, counts = frozen_plan.facts, run.counts
        state = RunState.HELD if facts.hold_reasons else RunState.PLANNED
        if state is RunState.HELD:
            report = run_report.report_json(replace(run, state=state), (), (), facts)
            _write_html_report(report, run_folder.folder_path(self._state, run.id))
        planned_run = self._ledger.save_plan(run.id, counts, frozen_plan.chunks, state)
        self._emit(
            "plan_made",
            run=run.id,
            state=state.value,
            rows=counts.rows,
            rejected=counts.rejected,
            new=counts.new,
            changed=counts.changed,
            requests=counts.requests,
            suppressed=facts.suppressed,
            cleared=facts.cleared,
            change_sets_joined=facts.change_sets_joined,
        )
        return planned_run

    # -- closing ------------------------------------------------------------------------------------------------

    def _close(self, run: Run, state: RunState, facts: PlanFacts | None, error: str | None = None) -> Run:
        """Write the report, link a shared file, close the run, archive any other file, in this order."""
        archive = archive_folder(self._state, run.id, (run.started or datetime.now(UTC)).date())
        filesystem.make_folder(archive)
        self._keep_files(run, archive)
        if state is RunState.COMPLETED:
            run_folder.preserve_for_undo(self._state, run.id, archive)
        ended_run = replace(run, state=state, ended=datetime.now(UTC), error=error, archive=archive)
        self._write_report(ended_run, facts, archive)
        self._write_feedback(ended_run, archive)
        is_shared = self._link_shared_file(ended_run)  # before closing: the last open run of a shared file archives it
        closed_run = self._ledger.close_run(run.id, state, run.counts, error, archive)
        if not is_shared:
            self._archive_file(ended_run)
        if state not in PROCESSED_STATES:
            compaction.delete_run_folder(self._state, run.id)
        return closed_run

    def _keep_files(self, run: Run, archive: Path) -> None:
        folder = run_folder.folder_path(self._state, run.id)
        for name in _ARCHIVED_FILES:
            with contextlib.suppress(FileNotFoundError):
                filesystem.write_atomically(archive / name, (folder / name).read_bytes())

    def _write_report(self, run: Run, facts: PlanFacts | None, archive: Path) -> None:
        chunks, record_errors = self._ledger.chunks.list_by_run(run.id), self._ledger.record_errors.list_by_run(run.id)
        report = run_report.report_json(run, chunks, record_errors, facts)
        filesystem.write_atomically(
            archive / run_folder.REPORT_FILE, json.dumps(report, ensure_ascii=False, indent=2).encode()
        )
        _write_html_report(report, archive)
        checksums.save_digests(self._ledger, run_folder.list_undo_files(archive))

    def _write_feedback(self, run: Run, archive: Path) -> None:
        """Write the rejections to the supplier's folder. A failure does not keep the run open."""
        mapping = self._mappings_by_feed.get(run.feed)
        if mapping is None or not mapping.feedback:
            return
        try:
            feedback.write_rejections(run, self._settings.paths.inbox, archive, run.error)
        except OSError as error:
            self._emit("feedback_failed", run=run.id, reason=error.strerror or str(error))

    def _link_shared_file(self, run: Run) -> bool:
        """Give the file a second name in the run's archive if another open run needs it; return whether one does."""
        if run.claimed is None or run.archive is None or not self._ledger.runs.shares_file(run):
            return False
        if run.claimed.exists():
            link = source_path(run.archive, run.claimed.name)
            filesystem.make_folder(link.parent)
            filesystem.hard_link(run.claimed, link)
        return True

    def _archive_file(self, run: Run) -> None:
        """Move the file, which no other run needs, into the run's archive."""
        if run.claimed is None or run.archive is None or not run.claimed.exists():
            return
        if not self._intake.return_if_modified(run):
            claims.archive_file(run.claimed, run.archive, self._state)

    def _compact(self, feed: str) -> None:
        compaction.compact_feed(self._ledger, self._state, feed)


def _write_html_report(report: dict[str, Any], folder: Path) -> None:
    filesystem.write_atomically(folder / run_folder.PAGE_FILE, html.render(report).encode())
