"""Builds the plan of a file: everything that would happen to it. Pure, so a preview shows the plan itself.

The same table, mapping and inputs give the same requests, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from etl.errors import InternalError, InvalidFileError
from etl.mapping import layout_builder
from etl.mapping.layout import Layout
from etl.mapping.model import Mapping
from etl.model.columns import ITEM, KEY, NEW, ROW
from etl.model.runs import Counts
from etl.model.schemas import REJECTION_SCHEMA
from etl.model.tables import Reading, Records, Rejections, Table
from etl.parallel import Submit, run_inline
from etl.plan.batches import batching
from etl.plan.batches.batch import Batch, delay_batch
from etl.plan.batches.full_file import can_use_full_file, make_scope_batches, scope_columns, scope_too_large_error
from etl.plan.changes import absence, diff, impact_analysis, ownership, pending, selection
from etl.plan.changes.absence import MissingRecords
from etl.plan.changes.diff import ChangeSet
from etl.plan.inputs import PlanInputs, SendMode
from etl.plan.model import Plan
from etl.plan.rows import transform, validate
from etl.plan.rows.read_records import ReadResult, RowComparison, read_records
from etl.plan.rows.validate import Columns
from etl.report import rejections


@dataclass(frozen=True, slots=True)
class _Draft:
    """What a plan is made of, whether it comes from a file or from the accepted records."""

    mapping: Mapping
    layout: Layout
    inputs: PlanInputs
    mode: SendMode
    records: Records
    accepted_records: pl.DataFrame  #: those that the records may differ from, or that may be missing
    active: int  #: accepted records that are not deactivated
    counts: Counts
    rejection_lines: pl.DataFrame
    columns: Columns
    unchanged: int = 0  #: records that equalled the accepted ones while reading
    suppressed: int = 0
    row_keys: pl.DataFrame | None = None
    keys_of_rejected_rows: pl.Series | None = None  #: of blocked records too
    blocked_records: pl.DataFrame | None = None
    flush_first: bool = False
    reading: Reading | None = None  #: none where the plan is of no file


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The records of a draft beside the accepted ones."""

    changes: ChangeSet
    accepted_records: pl.DataFrame  #: without records that belong to other feeds
    missing_records: pl.DataFrame
    mode: SendMode  #: with FULL_FILE where FullFile=true is used
    covers_feed: bool  #: what the file lacks is missing
    deactivates: bool  #: what is missing is deactivated
    sharing_feeds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Batches:
    """Batches, and the records that none of them can hold."""

    batches: tuple[Batch, ...]
    unsendable: pl.DataFrame


def build_plan(
    reading: Reading,
    mapping: Mapping,
    inputs: PlanInputs,
    mode: SendMode = SendMode.CHANGED,
    submit: Submit = run_inline,
) -> Plan:
    """Build the plan of a file; FullFile=true is used for SendMode.ALL where it may be.

    `submit` says how work on pieces of the file is begun (`etl.thread_pool`); the plan does not depend on it.
    Raises InvalidFileError for a file that lacks columns, or a scope that no request holds.
    """
    columns = validate.resolve_columns(reading.columns, mapping)
    layout = layout_builder.build_layout(mapping, columns.used)
    is_blocked = _blocked_condition(inputs.reference_values)
    comparison = RowComparison(
        inputs.accepted_records,
        always_compare=is_blocked | pl.col(KEY).is_in(_pending_keys(inputs).implode()),
        send_all=mode.sends_unchanged,
    )
    result = read_records(reading, columns, mapping, layout, comparison, submit)
    _check_row_balance(reading, result)
    merged = pending.merge_pending(result.records, inputs.pending_records, layout)
    records, blocked_records = _split_blocked(merged, is_blocked)
    blocked_keys = _keys_of_blocked_records(blocked_records, inputs)
    draft = _Draft(
        mapping=mapping,
        layout=layout,
        inputs=inputs,
        mode=mode,
        records=records,
        accepted_records=result.accepted_records,
        active=result.active,
        counts=Counts(rows=reading.rows, skipped=result.skipped, blocked=blocked_keys.len()),
        unchanged=result.unchanged_rows.len(),
        rejection_lines=pl.concat([reading.malformed.frame, result.rejection_lines]),
        columns=columns,
        suppressed=result.suppressed,
        row_keys=result.row_keys,
        keys_of_rejected_rows=_keys_not_missing(reading, result, blocked_keys),
        blocked_records=blocked_records if mapping.source.content == "changes" else None,
        flush_first=pending.must_flush_first(result.records, inputs.pending_records, layout),
        reading=reading,
    )
    return _finish_plan(_select_records(draft))


def build_resend_plan(mapping: Mapping, columns: Sequence[str], inputs: PlanInputs) -> Plan:
    """Build the plan that sends what was accepted once more: the full feed of a source that only exports changes.

    Where keys are selected, only their records are sent again; what is pending goes along in any case, because it is
    remembered by the newest run alone.
    """
    accepted_records = inputs.accepted_records.collect()
    layout = layout_builder.build_layout(mapping, columns)
    active = absence.select_active(accepted_records)
    frame = _as_records(active, mapping, layout)
    pending_records = inputs.pending_records if inputs.pending_records is not None else frame.clear()
    if inputs.selected_keys:
        keys = _records_of(pl.concat([frame.select(KEY), pending_records.select(KEY)]))
        selected = selection.select_keys(keys, inputs.selected_keys, mapping.feed).frame
        frame = frame.join(selected, on=KEY, how="semi", maintain_order="left")
        remaining = pl.concat([frame.select(KEY), pending_records.select(KEY)])
        accepted_records = accepted_records.join(remaining, on=KEY, how="semi", maintain_order="left")
    frame = frame.join(pending_records.select(KEY), on=KEY, how="anti", maintain_order="left")
    draft = _Draft(
        mapping=mapping,
        layout=layout,
        inputs=replace(inputs, previous_file=None),
        mode=SendMode.ALL,
        records=pending.merge_pending(_records_of(frame), inputs.pending_records, layout),
        accepted_records=accepted_records,
        active=active.height,
        counts=Counts(rows=frame.height),
        rejection_lines=pl.DataFrame(schema=REJECTION_SCHEMA),
        columns=Columns({}, tuple(columns), ()),
    )
    return _finish_plan(draft)


def empty_table(columns: Sequence[str]) -> Table:
    """Return a file with these columns and without rows: its plan sends what is pending."""
    frame = pl.DataFrame(schema={ROW: pl.Int64, **dict.fromkeys(columns, pl.String)})
    return Table(frame, Rejections(pl.DataFrame(schema=REJECTION_SCHEMA)), 0)


def _blocked_condition(reference_values: Map[str, pl.Series]) -> pl.Expr:
    """Return whether a record refers to one that is not accepted yet.

    Connect ignores stock and prices of a product that it does not have, and does not say so
    (https://docs.norce.io/api-reference/connect/productservice/openapi/product/importonhands.md).
    """
    missing = pl.lit(False)
    for field, values in reference_values.items():
        missing = missing | (pl.col(field).is_not_null() & ~pl.col(field).cast(pl.String).is_in(values.implode()))
    return missing


def _split_blocked(records: Records, is_blocked: pl.Expr) -> tuple[Records, pl.DataFrame]:
    """Split records into those that can be sent and the blocked ones."""
    return Records(records.frame.filter(~is_blocked), records.row_numbers), records.frame.filter(is_blocked)


def _pending_keys(inputs: PlanInputs) -> pl.Series:
    return pl.Series(dtype=pl.String) if inputs.pending_records is None else inputs.pending_records[KEY]


def _keys_of_blocked_records(blocked_records: pl.DataFrame, inputs: PlanInputs) -> pl.Series:
    """Return the values by which blocked records refer to what is not accepted yet."""
    if not inputs.reference_values:
        return pl.Series(dtype=pl.String)
    return blocked_records[next(iter(inputs.reference_values))].cast(pl.String)


def _keys_not_missing(reading: Reading, result: ReadResult, blocked_keys: pl.Series) -> pl.Series:
    """Return leading key values that the file has, although no record with them is sent."""
    malformed = transform.possible_keys(reading.malformed)
    return pl.concat([malformed, result.keys_of_rejected_rows, blocked_keys.rename("v")])


def _records_of(frame: pl.DataFrame) -> Records:
    """Return records that no row has brought."""
    return Records(frame, pl.Series(dtype=pl.Int64))


def _as_records(accepted_records: pl.DataFrame, mapping: Mapping, layout: Layout) -> pl.DataFrame:
    """Return accepted records in the shape of records; a field that the mapping gained since is empty."""
    types = transform.empty_records(mapping, layout).schema
    values = (
        pl.col(name) if name in accepted_records.columns else pl.lit(None, dtype=types[name]).alias(name)
        for name in dict.fromkeys(leaf.column for leaf in layout.leaves)
    )
    return accepted_records.select(KEY, ITEM, pl.lit(None, dtype=pl.Int64).alias(ROW), *values)


def _select_records(draft: _Draft) -> _Draft:
    """Leave only the records of the selected keys, for SendMode.SELECTED."""
    if draft.mode is not SendMode.SELECTED:
        return draft
    records = selection.select_keys(draft.records, draft.inputs.selected_keys, draft.mapping.feed)
    return replace(
        draft,
        records=records,
        accepted_records=draft.accepted_records.join(
            records.frame.select(KEY), on=KEY, how="semi", maintain_order="left"
        ),
        rejection_lines=draft.rejection_lines.clear(),
    )


def _finish_plan(draft: _Draft) -> Plan:
    """Compare and batch the records of a draft, and compute their impact: the one place that makes a file's plan."""
    comparison = _compare(draft)
    changes, missing = comparison.changes, comparison.missing_records
    batches = _make_batches(changes, draft, comparison.mode)
    unsendable = batching.reject_inconsistent_lists(batches.unsendable, draft.row_keys)
    lines = pl.concat([draft.rejection_lines, unsendable.frame])
    rejected = Rejections(lines.sort("row", maintain_order=True, nulls_last=True))
    return Plan(
        mapping=draft.mapping,
        layout=draft.layout,
        request_limits=draft.inputs.request_limits,
        account_id=draft.inputs.account_id,
        counts=_final_counts(draft, comparison, batches, rejected),
        rejections=rejected,
        batches=batches.batches,
        missing_records=missing,
        impact=impact_analysis.analyze_impact(
            changes,
            comparison.accepted_records,
            draft.layout,
            MissingRecords(missing if comparison.covers_feed else missing.clear(), comparison.deactivates),
            active=draft.active,
            price_threshold=draft.mapping.guards.price_by,
        ),
        suppressed=changes.suppressed + draft.suppressed,
        cleared=changes.cleared,
        full_file=comparison.mode is SendMode.FULL_FILE,
        scope_shared_with=comparison.sharing_feeds if draft.mode.sends_unchanged else (),
        columns=draft.columns.used,
        unused_columns=draft.columns.unused,
        previous_file=draft.inputs.previous_file,
        rejected_cells=_read_rejected_cells(draft, rejected),
        previous_records=_previous_records(comparison),
        blocked_records=draft.blocked_records,
        flush_first=draft.flush_first,
    )


def _compare(draft: _Draft) -> _Comparison:
    """Compare the records of a draft with the accepted ones. Raises InvalidFileError."""
    mapping, layout, records = draft.mapping, draft.layout, draft.records.frame
    owned_elsewhere = ownership.find_owned_elsewhere(layout, draft.inputs.owner_records)
    accepted_records = ownership.select_own_records(draft.accepted_records, records, owned_elsewhere)
    sharing = ownership.find_sharing_feeds(records, scope_columns(layout), draft.inputs.sibling_feeds)
    mode = _resolve_mode(draft.mode, mapping, sharing)
    missing = absence.find_missing(draft.records, accepted_records, layout, draft.keys_of_rejected_rows)
    covers_feed = mapping.source.content == "full" and mode is not SendMode.SELECTED
    by_rows = covers_feed and mapping.gone == "deactivate" and mode is not SendMode.FULL_FILE
    changes = diff.compare(
        draft.records,
        accepted_records,
        layout,
        send_all=mode.sends_unchanged,
        missing_records=missing if by_rows else None,
        owned_elsewhere=owned_elsewhere,
    )
    if mode is SendMode.FULL_FILE:
        _check_rejected_records(draft, accepted_records, missing)
    return _Comparison(
        changes=changes,
        accepted_records=accepted_records,
        missing_records=missing,
        mode=mode,
        covers_feed=covers_feed,
        deactivates=mode is SendMode.FULL_FILE or (by_rows and layout.deactivation_leaf is not None),
        sharing_feeds=sharing,
    )


def _resolve_mode(mode: SendMode, mapping: Mapping, sharing_feeds: Sequence[str]) -> SendMode:
    """Use FullFile=true to send all records where it may be used and no other feed has records in the same scopes."""
    if mode is SendMode.ALL and can_use_full_file(mapping) and not sharing_feeds:
        return SendMode.FULL_FILE
    return mode


def _check_rejected_records(draft: _Draft, accepted_records: pl.DataFrame, missing_records: pl.DataFrame) -> None:
    """Raise InvalidFileError where FullFile=true would deactivate records whose rows were rejected."""
    rejected = absence.find_missing(draft.records, accepted_records).height - missing_records.height
    if rejected:
        raise InvalidFileError(
            "full-with-rejections",
            f"{rejected} records whose rows were rejected would be deactivated",
            where=draft.mapping.feed,
            hint="correct the rejected rows (see rejections.csv) and drop the file again before `etl full`",
        )


def _make_batches(changes: ChangeSet, draft: _Draft, mode: SendMode) -> _Batches:
    """Make the batches of a change set; under FullFile=true the scopes come first. Raises InvalidFileError."""
    limits = draft.inputs.request_limits
    scopes: list[Batch] = []
    if mode is SendMode.FULL_FILE:
        scopes, changes = make_scope_batches(changes, draft.layout, limits)
        for batch in scopes:
            if batch.records > limits.max_records:
                raise scope_too_large_error(draft.mapping, batch.records, 0, limits.max_records, limits.max_bytes)
    others, unsendable = batching.make_batches(changes, draft.layout, limits)
    return _Batches((*scopes, *(delay_batch(batch, 1) if scopes else batch for batch in others)), unsendable)


def _final_counts(draft: _Draft, comparison: _Comparison, batches: _Batches, rejected: Rejections) -> Counts:
    """Add to the counts of the rows those of the records."""
    changes = comparison.changes
    return replace(
        draft.counts,
        rejected=rejected.rows,
        unchanged=draft.unchanged + changes.unchanged,
        new=changes.new - batches.unsendable.filter(NEW).height,
        changed=changes.changed - batches.unsendable.filter(~pl.col(NEW)).height,
        gone=comparison.missing_records.height if comparison.covers_feed else 0,
    )


def _previous_records(comparison: _Comparison) -> pl.DataFrame:
    """Return what Norce has of the records that the plan changes."""
    touched = comparison.changes.frame.select(KEY)
    if comparison.mode is SendMode.FULL_FILE:
        touched = pl.concat([touched, comparison.missing_records.select(KEY)])
    return comparison.accepted_records.join(touched, on=KEY, how="semi", maintain_order="left")


def _read_rejected_cells(draft: _Draft, rejected: Rejections) -> pl.DataFrame | None:
    """Read the rejected rows of a workbook once more, as they came; None for other files."""
    if draft.reading is None or draft.mapping.source.dialect.format != "excel" or rejected.frame.is_empty():
        return None
    return rejections.rejected_cells(draft.reading.frames(), rejected.frame)


def _check_row_balance(reading: Reading, read_result: ReadResult) -> None:
    """Check that every row of the file is in a record, or rejected, or skipped. Raises InternalError."""
    read = read_result.rows_read + reading.malformed.rows
    if read != reading.rows:
        raise InternalError(f"the file has {reading.rows} rows, of which {read} were read")
    good = read_result.rows_read - read_result.skipped - read_result.invalid
    if good != read_result.valid:
        raise InternalError(f"{good} rows passed the checks, {read_result.valid} went on")
    ended = pl.concat([read_result.records.row_numbers.cast(pl.UInt32), read_result.unchanged_rows])
    both = ended.filter(ended.is_in(read_result.rejected_rows.implode()))
    count = ended.n_unique() + read_result.rejected_rows.len() - both.n_unique()
    if count != good:
        raise InternalError(f"of {good} good rows {count} ended in a record or a rejection")
