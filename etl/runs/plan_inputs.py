"""Gathers what a plan depends on besides its file, from the settings, the ledger and the accepted records."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from etl.config.settings import Settings
from etl.errors import StateError
from etl.mapping.model import Mapping
from etl.model import plan_facts
from etl.model.columns import DEACTIVATED
from etl.model.runs import PROCESSED_STATES, Run
from etl.plan.changes.previous_file import PreviousFile
from etl.plan.inputs import PlanInputs, RequestLimits
from etl.state import compaction
from etl.state.files import run_folder
from etl.state.files.archive import archived_file
from etl.state.ledger.facade import Ledger

#: Runs of a feed that are searched for its newest processed file, and for the columns of its newest plan.
_FILE_LOOKBACK, _COLUMNS_LOOKBACK = 200, 50

#: Endings of compressed files: their sizes say little about the size of the text.
_COMPRESSED = {".zip", ".gz"}


@dataclass(frozen=True, slots=True)
class InputLoader:
    """Loads the inputs of plans from one state folder."""

    settings: Settings
    account_id: int  #: the system account that writes are attributed to
    ledger: Ledger

    def for_run(
        self, run: Run, mapping: Mapping, selected_keys: Sequence[str], mappings: Iterable[Mapping]
    ) -> PlanInputs:
        """Load the inputs of a run over a file, or over pending records alone."""
        inputs = self.for_file(mapping, None if selected_keys else run.claimed)
        siblings = [
            other
            for other in mappings
            if run.kind == "full" and other.operation.id == mapping.operation.id and other.feed != mapping.feed
        ]
        return replace(
            inputs,
            sibling_feeds={other.feed: self._read_accepted(other.feed) for other in siblings},
            selected_keys=selected_keys,
        )

    def for_file(self, mapping: Mapping, path: Path | None) -> PlanInputs:
        """Load the inputs of a file that is compared with the accepted records, and with the previous file if `path`
        is given."""
        return replace(
            self.for_accepted(mapping),
            reference_values=self._reference_values(mapping),
            previous_file=self._previous_file(mapping, path) if path is not None else None,
        )

    def for_accepted(self, mapping: Mapping, selected_keys: Sequence[str] = ()) -> PlanInputs:
        """Load the inputs of a plan that sends accepted records again, without a file."""
        is_changes_feed = mapping.source.content == "changes"
        return replace(
            self.for_undo(mapping),
            pending_records=compaction.read_pending(self.ledger, self._state, mapping.feed)
            if is_changes_feed
            else None,
            selected_keys=selected_keys,
        )

    def for_undo(self, mapping: Mapping) -> PlanInputs:
        """Load the inputs of a plan that restores earlier values: no pending records belong to it."""
        self._check_operation(mapping)
        return PlanInputs(
            accepted_records=compaction.scan_accepted(self.ledger, self._state, mapping.feed),
            account_id=self.account_id,
            request_limits=make_request_limits(self.settings, self.ledger.meta.size_limit(mapping.operation.id)),
            owner_records={feed: self._read_accepted(feed) for feed in mapping.yields},
        )

    def planned_columns(self, feed: str) -> list[str]:
        """Return the source columns of the feed's newest plan."""
        return read_planned_columns(self.ledger.runs.list_recent(_COLUMNS_LOOKBACK, feed))

    @property
    def _state(self) -> Path:
        return self.settings.paths.state

    def _check_operation(self, mapping: Mapping) -> None:
        """Raise StateError when the accepted records of the feed are those of another import."""
        ledger, feed = self.ledger, mapping.feed
        newest = next(iter(ledger.runs.list_recent(1, feed, *PROCESSED_STATES)), None)
        if newest is None or newest.operation == mapping.operation.id:
            return
        if ledger.feeds.generation(feed) or ledger.feeds.overlays(feed):
            raise StateError(
                "feed-operation-changed",
                f"the accepted records of {feed} are those of {newest.operation}, and its mapping is for "
                f"{mapping.operation.id}",
                where=str(mapping.path),
                hint=f"give the mapping another feed name, or begin anew with `etl state rebuild {feed} --forget`",
            )

    def _read_accepted(self, feed: str) -> pl.DataFrame:
        return compaction.read_accepted(self.ledger, self._state, feed)

    def _reference_values(self, mapping: Mapping) -> dict[str, pl.Series]:
        """Load for each field with a reference the values that are accepted in the feed it refers to, as text."""
        values_by_field: dict[str, pl.Series] = {}
        for field, (feed, target) in mapping.references.items():
            records = compaction.scan_accepted(self.ledger, self._state, feed)
            columns = [name for name in records.collect_schema().names() if name.rpartition(".")[2] == target]
            active = records.filter(~pl.col(DEACTIVATED).fill_null(False)).select(columns).collect(engine="streaming")
            parts = [active[name].drop_nulls().cast(pl.String).rename("v") for name in columns]
            values_by_field[field] = pl.concat(parts) if parts else pl.Series("v", dtype=pl.String)
        return values_by_field

    def _previous_file(self, mapping: Mapping, path: Path) -> PreviousFile | None:
        """Describe the newest processed file of the feed, with both sizes where they are those of the text."""
        runs = self.ledger.runs.list_recent(_FILE_LOOKBACK, mapping.feed, *PROCESSED_STATES)
        newest = next((run for run in runs if run.is_comparison), None)
        if newest is None:
            return None
        archived_path = archived_file(newest)
        if (
            archived_path is None
            or mapping.source.dialect.format == "excel"
            or {archived_path.suffix, path.suffix} & _COMPRESSED
        ):
            return PreviousFile(newest.id, newest.counts.rows, gone=newest.counts.gone)
        sizes = archived_path.stat().st_size, path.stat().st_size
        return PreviousFile(newest.id, newest.counts.rows, *sizes, gone=newest.counts.gone)


def make_request_limits(settings: Settings, size_limit: int | None = None) -> RequestLimits:
    """Take the limits of requests from the settings; `size_limit` is the largest body that a 413 left worth trying."""
    limits = settings.limits
    return RequestLimits(
        max_records=limits.max_records,
        max_bytes=min(limits.max_bytes, size_limit or limits.max_bytes),
        requests_per_minute=max(1, int(limits.requests * 60 / limits.per_seconds)),
        packing=limits.packing,
    )


def read_planned_columns(runs: Iterable[Run]) -> list[str]:
    """Return the source columns of the first of these runs whose report has a plan."""
    for run in runs:
        if run.archive is not None:
            with contextlib.suppress(OSError, ValueError):
                facts = plan_facts.facts_of_report(json.loads((run.archive / run_folder.REPORT_FILE).read_bytes()))
                if facts is not None:
                    return facts.columns
    return []
