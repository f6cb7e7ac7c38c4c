"""What a plan depends on besides the file: gathered from the ledger and the accepted records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.config.settings import Settings
from etl.mapping.model import Mapping
from etl.model.runs import PROCESSED_STATES
from etl.plan.changes.previous_file import PreviousFile
from etl.state import compaction
from etl.state.files.archive import archived_file
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    from etl.plan.inputs import RequestLimits


def make_request_limits(settings: Settings, size_limit: int | None = None) -> RequestLimits:
    """Take the limits of requests from the settings; `size_limit` is the largest body that a 413 left worth trying."""
    from etl.plan.inputs import RequestLimits

    limits = settings.limits
    return RequestLimits(
        max_records=limits.max_records,
        max_bytes=min(limits.max_bytes, size_limit or limits.max_bytes),
        requests_per_minute=max(1, int(limits.requests * 60 / limits.per_seconds)),
        packing=limits.packing,
    )


def load_pending_records(ledger: Ledger, state: Path, mapping: Mapping) -> Any:
    """What a feed of changes still owes Norce; a file that holds everything brings it again anyway."""
    return compaction.read_pending(ledger, state, mapping.feed) if mapping.source.content == "changes" else None


def load_owner_records(ledger: Ledger, state: Path, mapping: Mapping) -> dict[str, Any]:
    """What the feeds that this one yields to have had accepted."""
    return {feed: compaction.read_accepted(ledger, state, feed) for feed in mapping.yields}


def load_reference_values(ledger: Ledger, state: Path, mapping: Mapping) -> dict[str, Any]:
    """For each field with a reference: the values that are accepted in the feed it refers to, as text."""
    import polars as pl

    from etl.model.columns import DEACTIVATED

    known: dict[str, pl.Series] = {}
    for field, (feed, target) in mapping.references.items():
        records = compaction.scan_accepted(ledger, state, feed)
        columns = [name for name in records.collect_schema().names() if name.rpartition(".")[2] == target]
        alive = records.filter(~pl.col(DEACTIVATED).fill_null(False)).select(columns).collect(engine="streaming")
        parts = [alive[name].drop_nulls().cast(pl.String).rename("v") for name in columns]
        known[field] = pl.concat(parts) if parts else pl.Series("v", dtype=pl.String)
    return known


def load_previous_file(ledger: Ledger, mapping: Mapping, path: Path) -> PreviousFile | None:
    """The newest file of the feed that went through. Sizes are compared where they are those of the text."""
    worked = ledger.list_runs(200, mapping.feed, *PROCESSED_STATES)
    newest = next((run for run in worked if run.is_comparison), None)
    if newest is None:
        return None
    kept = archived_file(newest)
    if kept is None or mapping.source.dialect.format == "excel" or {kept.suffix, path.suffix} & {".zip", ".gz"}:
        return PreviousFile(newest.id, newest.counts.rows, gone=newest.counts.gone)
    sizes = kept.stat().st_size, path.stat().st_size
    return PreviousFile(newest.id, newest.counts.rows, *sizes, gone=newest.counts.gone)
