"""What happens to one run before it is sent and after that: plan, finish, file away.

Order of writes, by the numbers of the crash table in docs/ARCHITECTURE.md: 1 and 2a are `etl.ingest.intake`'s; 2 the
plan is made: payloads, sent records and rejections are synced, then the chunks are in the ledger; 3-7 are
`etl.apply.sender`'s; 8 report written, a shared file named again, run closed; 9 file filed away. A start looks at what
there is and goes on from there; nothing is remembered anywhere else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl import filesystem as durable
from etl import thread_pool as abreast
from etl.config.settings import Settings
from etl.errors import FileRefused, StateError
from etl.ingest import claims as inbox
from etl.ingest import feedback, routing
from etl.mapping.model import Mapping
from etl.model.runs import WORKED, Run, RunState
from etl.parallel import Start
from etl.report import run_report as report
from etl.runs import flush as owed
from etl.runs import freeze, plan_inputs
from etl.runs import undo as takeback
from etl.runs.follow_ups import Due
from etl.runs.plan_inputs import known_values, owned_by, pending_of, terms
from etl.state import compaction as compact
from etl.state.files import archive as archive_module
from etl.state.files import checksums as witness
from etl.state.files import run_folder
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    from etl.plan.model import Plan


class Pipeline(Due):
    """Carries files through. One per state folder at a time; see `etl.app`."""

    def __init__(
        self,
        settings: Settings,
        account_id: int,
        ledger: Ledger,
        mappings: Sequence[Mapping],
        tell: Callable[..., None],
    ) -> None:
        super().__init__(settings, ledger, mappings, tell)
        self._settings = settings
        self._account_id = account_id
        self._tell = tell

    # -- what there is to do ------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Claimed files that a crash left without runs get them, and those of ended runs are filed away."""
        for run in self.intake.resume():
            if not self._name_again(run):
                self._file_away(run)

    def undo(self, run: Run) -> Run:
        """A new run that takes this one back. Raises UsageError, StateError."""
        return takeback.opened(self._ledger, self._state, run)

    def discard(self, run: Run) -> None:
        """File a held run away unsent."""
        self._end(run, RunState.DISCARDED, run_folder.facts(self._state, run.id), None)

    # -- one run ------------------------------------------------------------------------------------------------

    def supersede(self, run: Run, reason: str) -> Run:
        """File away a run that a newer file has overtaken."""
        self._tell("run_superseded", run=run.id, reason=reason)
        self._end(run, RunState.SUPERSEDED, {}, reason)
        return self._again(run)

    def plan(self, run: Run, newer: Run | None = None) -> Run:
        """Make the plan of a claimed run: planned, held, carried or refused then, or still claimed where something else
        has to be sent before it. `newer`: the next file of its feed, when one waits.

        Raises StateError when that cannot be done.
        """
        mapping = self._mappings.get(run.feed)
        if mapping is None:
            raise StateError(
                "feed-unknown",
                f"run {run.id} waits for the feed {run.feed}, which has no usable mapping",
                where=str(self._settings.paths.mappings),
                hint="bring the mapping back, or correct it; see `etl check`",
            )
        try:
            if any(state in WORKED for _, state in self._ledger.unmerged(run.feed)):
                self._compact(run.feed)  # a crash has left it: what is owed is what the run before this one has left
            moves = self._ledger.moves(run.feed)  # before *accepted* is read: should it move meanwhile, the plan is old
            with abreast.threads() as start:
                plan = self._made(run, mapping, start)
                still = start(lambda: self.intake.check_still(run))  # all of it has been read
                if self._comes_later(run, plan):
                    return run
                if newer is not None and not owed.may_be_carried(self._ledger, run, plan, datetime.now(UTC)):
                    newer = None
                chunks, facts = freeze.store(self._state, run, plan, moves, newer, start)
                witness.note(self._ledger, run_folder.files(self._state, run.id))
                still()
        except FileRefused as error:
            self._tell("run_refused", run=run.id, code=error.code)
            self._end(run, RunState.REFUSED, {}, str(error))
            return self._again(run)
        if newer is not None:
            return self._carry(replace(run, counts=plan.counts), newer)
        counts = replace(
            plan.counts,
            requests=len(chunks),
            records_sent=sum(chunk.records for chunk in chunks),
            values_sent=sum(chunk.values for chunk in chunks),
        )
        state = RunState.HELD if plan.doubts else RunState.PLANNED
        if state is RunState.HELD:
            held = replace(run, counts=counts, state=state)
            made = report.report_json(held, (), (), run_folder.facts(self._state, run.id))
            self._show(made, run_folder.path(self._state, run.id))
        self._ledger.planned(run.id, counts, chunks, state)
        self._tell(
            "plan_made",
            run=run.id,
            state=state.value,
            rows=counts.rows,
            rejected=counts.rejected,
            new=counts.new,
            changed=counts.changed,
            requests=len(chunks),
            **facts,
        )
        return self._again(run)

    def _comes_later(self, run: Run, plan: Plan) -> bool:
        """Whether what earlier files have left to this one is to be sent before it: then each is judged by itself."""
        carried = self._ledger.carried(run.feed)
        if not carried or run.kind != "file" or not owed.is_due(self._ledger, plan.mapping):
            return False
        alike = set(self._columns_of(carried[-1:])) == set(plan.columns)
        if not plan.doubts and not plan.apart and alike:
            return False
        self._tell("plan_put_off", run=run.id, before=carried[-1].id)
        return True

    def _carry(self, run: Run, newer: Run) -> Run:
        """Close a planned run unsent: from here on its records are owed, and `newer` is planned with them."""
        self._end(run, RunState.CARRIED, run_folder.facts(self._state, run.id), None)
        self._compact(run.feed)
        self._tell("run_carried", run=run.id, into=newer.id, new=run.counts.new, changed=run.counts.changed)
        return self._again(run)

    def _made(self, run: Run, mapping: Mapping, start: Start) -> Plan:
        from etl import formats
        from etl.plan import build as plan

        terms = self.terms(mapping.operation.id)
        if run.kind == "undo":
            owned = owned_by(self._ledger, self._state, mapping)
            return takeback.plan(self._ledger, self._state, run, mapping, terms, owned)
        accepted = compact.scan_accepted(self._ledger, self._state, run.feed)
        only = self.intake.keys_of(run)
        if run.kind in ("full", "resend") and mapping.source.content == "changes":
            columns = self._columns_of(self._ledger.runs(50, run.feed))
            pending = pending_of(self._ledger, self._state, mapping)
            owned = owned_by(self._ledger, self._state, mapping)
            return plan.again(mapping, columns, accepted.collect(), terms, pending, only, owned)
        with contextlib.ExitStack() as stack:
            if run.claimed is not None:
                dialect, member = mapping.source.dialect, routing.member_of(run)
                reading = stack.enter_context(formats.reading(run.claimed, dialect, member=member))
            else:  # nothing new: what is owed is all there is
                reading = plan.nothing(self._columns_of(self._ledger.runs(50, run.feed)))
            return plan.make(
                reading,
                mapping,
                accepted,
                terms,
                full=run.kind == "full",
                known=known_values(self._ledger, self._state, mapping),
                before=None
                if only or run.claimed is None
                else plan_inputs.file_before(self._ledger, mapping, run.claimed),
                foreign=self._foreign(mapping, run),
                pending=pending_of(self._ledger, self._state, mapping),
                only=only,
                owned=owned_by(self._ledger, self._state, mapping),
                start=start,
            )

    def _foreign(self, mapping: Mapping, run: Run) -> dict[str, Any]:
        """What other feeds of the same import have had accepted; only a full feed needs to know."""
        others = [
            other
            for other in self._mappings.values()
            if other.operation.id == mapping.operation.id and other.feed != mapping.feed and run.kind == "full"
        ]
        return {other.feed: compact.read_accepted(self._ledger, self._state, other.feed) for other in others}

    def terms(self, operation: str) -> Any:
        """What plans depend on besides file, mapping and *accepted*."""
        return terms(self._settings, self._account_id, self._ledger.size_limit(operation))

    def _columns_of(self, runs: Iterable[Run]) -> list[str]:
        """Source columns of the first of these runs that was planned."""
        for run in runs:
            if run.archive is not None:
                with contextlib.suppress(OSError, ValueError, KeyError):
                    made = json.loads((run.archive / "report.json").read_bytes())
                    return list(made["plan"]["columns"])
        return []

    def finish(self, run: Run) -> Run:
        """Close a run whose requests have all ended, and make what Norce took of it part of the feed's base."""
        chunks = self._ledger.chunks(run.id)
        refusals = self._ledger.refusals(run.id)
        counts = report.totals(run.counts, chunks, refusals)
        self._end(replace(run, counts=counts), RunState.DONE, run_folder.facts(self._state, run.id), None)
        run = self._again(run)
        self._compact(run.feed)
        self._tell(
            "run_finished",
            run=run.id,
            rows=counts.rows,
            rejected=counts.rejected,
            refused=counts.refused,
            unchanged=counts.unchanged,
            new=counts.new,
            changed=counts.changed,
            gone=counts.gone,
            requests=counts.requests,
        )
        return run

    def _end(self, run: Run, state: RunState, facts: dict[str, Any], error: str | None) -> None:
        """Report written, a shared file named again, run closed, any other file filed away, in this order."""
        day = (run.started or datetime.now(UTC)).date()
        archive = archive_module.archive_folder(self._state, run.id, day)
        durable.make_folder(archive)
        for name in ("rejections.csv", "rejections.xlsx"):
            with contextlib.suppress(FileNotFoundError):
                durable.write(archive / name, (run_folder.path(self._state, run.id) / name).read_bytes())
        if state is RunState.DONE:
            run_folder.keep(self._state, run.id, archive)
        ended = replace(run, state=state, ended=datetime.now(UTC), error=error, archive=archive)
        made = report.report_json(ended, self._ledger.chunks(run.id), self._ledger.refusals(run.id), facts)
        durable.write(archive / "report.json", json.dumps(made, ensure_ascii=False, indent=2).encode())
        self._show(made, archive)
        witness.note(self._ledger, run_folder.archived(archive))
        self._feed_back(ended, archive)
        shared = self._name_again(ended)  # while it is open: the last of the runs that share a file takes it away
        self._ledger.close(run.id, state, run.counts, error, archive)
        if not shared:
            self._file_away(ended)
        if state not in WORKED:
            compact.forget(self._state, run.id)

    def _show(self, made: dict[str, Any], folder: Path) -> None:
        """The report as a page for people."""
        from etl.report import html as page

        durable.write(folder / "report.html", page.html(made).encode())

    def _feed_back(self, run: Run, archive: Path) -> None:
        """A supplier's folder that cannot be written to is no reason to keep a run open."""
        mapping = self._mappings.get(run.feed)
        if mapping is None or not mapping.feedback:
            return
        try:
            feedback.give(run, self._settings.paths.inbox, archive, run.error)
        except OSError as error:
            self._tell("feedback_failed", run=run.id, reason=error.strerror or str(error))

    def _name_again(self, run: Run) -> bool:
        """Give the file a second name in the run's archive, if another open run needs it."""
        if run.claimed is None or run.archive is None or not self._ledger.shares_file(run):
            return False
        if run.claimed.exists():
            durable.second_name(run.claimed, run.archive / run.claimed.name)
        return True

    def _file_away(self, run: Run) -> None:
        """Move the file, which nobody else needs, into the run's archive."""
        if run.claimed is None or run.archive is None or not run.claimed.exists() or self.intake.gone_on(run):
            return
        inbox.archive(run.claimed, run.archive, self._state)

    def _compact(self, feed: str) -> None:
        mapping = self._mappings.get(feed)
        changes = mapping is not None and mapping.source.content == "changes"
        compact.runs_of(self._ledger, self._state, feed, changes=changes)

    def _again(self, run: Run) -> Run:
        found = self._ledger.run(run.id)
        if found is None:
            raise StateError("run-lost", f"run {run.id} is no longer in the ledger", hint="restore the state folder")
        return found
