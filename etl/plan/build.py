"""Everything that would happen to a file: pure, so that a preview is the plan and not a guess at it.

The same table, mapping, accepted state and limits give the same requests, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import replace

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
from etl.plan.inputs import PlanInputs, SendMode
from etl.plan.model import Plan
from etl.plan.rows import transform, validate
from etl.plan.rows.read_records import ReadResult, read_records
from etl.report import rejections


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
    accepted_records, pending_records = inputs.accepted_records, inputs.pending_records
    reference_values, selected_keys = inputs.reference_values, inputs.selected_keys
    everything = mode.sends_unchanged
    columns = validate.resolve_columns(reading.columns, mapping)
    layout = layout_builder.build_layout(mapping, columns.used)
    waits = _blocked_condition(reference_values)
    owed = pending_records[KEY] if pending_records is not None else pl.Series(dtype=pl.String)
    sifted = read_records(
        reading,
        columns,
        mapping,
        layout,
        accepted_records,
        send_all=everything,
        is_blocked=waits,
        pending_keys=owed,
        submit=submit,
    )
    _check_row_balance(reading, sifted)
    counts = Counts(rows=reading.rows, skipped=sifted.skipped)
    records, held = _split_blocked(pending.merge_pending(sifted.records, pending_records, layout), waits)
    waiting = held[next(iter(reference_values))].cast(pl.String) if reference_values else pl.Series(dtype=pl.String)
    counts = replace(counts, blocked=waiting.len())
    unsure = pl.concat([transform.possible_keys(reading.malformed), sifted.keys_of_rejected_rows, waiting.rename("v")])
    rejected = pl.concat([reading.malformed.frame, sifted.rejection_lines])
    was = sifted.accepted_records
    if mode is SendMode.SELECTED:
        records = selection.select_keys(records, selected_keys, mapping.feed)
        was = was.join(records.frame.select(KEY), on=KEY, how="semi", maintain_order="left")
        rejected = rejected.clear()
    plan = _assemble_plan(
        records,
        layout,
        mapping,
        was,
        inputs,
        rejected,
        counts,
        active=sifted.active,
        row_keys=sifted.row_keys,
        send_all=everything,
        keys_of_rejected_rows=unsure,
        selection_only=mode is SendMode.SELECTED,
    )
    counts = replace(plan.counts, unchanged=plan.counts.unchanged + sifted.unchanged_rows.len())
    plan = replace(plan, counts=counts, suppressed=plan.suppressed + sifted.suppressed)
    excel = mapping.source.dialect.format == "excel" and plan.rejections.frame.height > 0
    spoiled = rejections.rejected_cells(reading.frames(), plan.rejections.frame) if excel else None
    kept = held if mapping.source.content == "changes" else None
    return replace(
        plan,
        columns=columns.used,
        unused_columns=columns.unused,
        previous_file=inputs.previous_file,
        rejected_cells=spoiled,
        blocked_records=kept,
        flush_first=pending.must_flush_first(sifted.records, pending_records, layout),
    )


def empty_table(columns: Sequence[str]) -> Table:
    """A file with these columns and without rows: what is owed is all there is."""
    frame = pl.DataFrame(schema={ROW: pl.Int64, **dict.fromkeys(columns, pl.String)})
    return Table(frame, Rejections(pl.DataFrame(schema=REJECTION_SCHEMA)), 0)


def _blocked_condition(reference_values: Map[str, pl.Series]) -> pl.Expr:
    """Whether a record refers to what is not accepted yet.

    Connect ignores stock and prices of a product that it does not have, and does not say so
    (https://docs.norce.io/api-reference/connect/productservice/openapi/product/importonhands.md).
    """
    missing = pl.lit(False)
    for field, values in reference_values.items():
        missing = missing | (pl.col(field).is_not_null() & ~pl.col(field).cast(pl.String).is_in(values.implode()))
    return missing


def _split_blocked(records: Records, is_blocked: pl.Expr) -> tuple[Records, pl.DataFrame]:
    """Without the records that have to wait, and those."""
    return Records(records.frame.filter(~is_blocked), records.row_numbers), records.frame.filter(is_blocked)


def build_resend_plan(mapping: Mapping, columns: Sequence[str], inputs: PlanInputs) -> Plan:
    """Build the plan that sends what was accepted once more: the full feed of a source that only exports changes.

    Where keys are selected, only their records are sent again; what is pending goes along in any case, because it is
    remembered by the newest run alone.
    """
    accepted_records, pending_records = inputs.accepted_records.collect(), inputs.pending_records
    layout = layout_builder.build_layout(mapping, columns)
    alive = absence.find_missing(Records(accepted_records.clear(), pl.Series(dtype=pl.Int64)), accepted_records)
    names = dict.fromkeys(leaf.column for leaf in layout.leaves)
    kinds = transform.empty_records(mapping, layout).schema
    frame = alive.select(
        KEY,
        ITEM,
        pl.lit(None, dtype=pl.Int64).alias(ROW),
        *((pl.col(name) if name in alive.columns else pl.lit(None, dtype=kinds[name]).alias(name)) for name in names),
    )
    owed = pending_records if pending_records is not None else frame.clear()
    if inputs.selected_keys:
        found = selection.select_keys(
            Records(pl.concat([frame.select(KEY), owed.select(KEY)]), pl.Series(dtype=pl.Int64)),
            inputs.selected_keys,
            mapping.feed,
        )
        frame = frame.join(found.frame, on=KEY, how="semi", maintain_order="left")
        accepted_records = accepted_records.join(
            pl.concat([frame.select(KEY), owed.select(KEY)]), on=KEY, how="semi", maintain_order="left"
        )
    frame = frame.join(owed.select(KEY), on=KEY, how="anti", maintain_order="left")
    records = pending.merge_pending(Records(frame, pl.Series(dtype=pl.Int64)), pending_records, layout)
    nothing = pl.DataFrame(schema=REJECTION_SCHEMA)
    counts = Counts(rows=frame.height)
    return _assemble_plan(
        records,
        layout,
        mapping,
        accepted_records,
        inputs,
        nothing,
        counts,
        active=alive.height,
        send_all=True,
    )


def _assemble_plan(
    records: Records,
    layout: Layout,
    mapping: Mapping,
    accepted_records: pl.DataFrame,
    inputs: PlanInputs,
    rejection_lines: pl.DataFrame,
    counts: Counts,
    *,
    active: int,
    send_all: bool,
    row_keys: pl.DataFrame | None = None,
    keys_of_rejected_rows: pl.Series | None = None,
    selection_only: bool = False,
) -> Plan:
    request_limits = inputs.request_limits
    barred = ownership.find_owned_elsewhere(layout, inputs.owner_records)
    accepted_records = ownership.select_own_records(accepted_records, records.frame, barred)
    whole = mapping.source.content == "full" and not selection_only
    sharing = ownership.find_sharing_feeds(records.frame, scope_columns(layout), inputs.sibling_feeds)
    full_file = send_all and not selection_only and can_use_full_file(mapping) and not sharing
    deactivate = whole and mapping.gone == "deactivate" and not full_file
    changes = diff.compare(
        records,
        accepted_records,
        layout,
        deactivate=deactivate,
        send_all=send_all,
        keys_of_rejected_rows=keys_of_rejected_rows,
        owned_elsewhere=barred,
    )
    absent = absence.find_missing(records, accepted_records)
    left = absence.find_missing(records, accepted_records, layout, keys_of_rejected_rows)
    off = full_file or (deactivate and layout.deactivation_leaf is not None)
    lost = left if whole else left.clear()
    effect = impact_analysis.analyze_impact(
        changes, accepted_records, layout, lost, active=active, deactivate=off, price_threshold=mapping.guards.price_by
    )
    touched = pl.concat([changes.frame.select(KEY), *([left.select(KEY)] if full_file else [])])
    replaced = accepted_records.join(touched, on=KEY, how="semi", maintain_order="left")
    batches: list[Batch] = []
    if full_file:
        if absent.height > left.height:
            raise InvalidFileError(
                "full-with-rejections",
                f"{absent.height - left.height} records whose rows were rejected would be switched off",
                where=mapping.feed,
                hint="correct the rejected rows (see rejections.csv) and drop the file again before `etl full`",
            )
        scopes, changes = make_scope_batches(changes, layout, request_limits)
        for batch in scopes:
            if batch.records > request_limits.max_records:
                raise scope_too_large_error(
                    mapping, batch.records, 0, request_limits.max_records, request_limits.max_bytes
                )
        batches.extend(scopes)
    more, hopeless = batching.make_batches(changes, layout, request_limits)
    batches.extend(_delay_batches(more, 1) if batches else more)
    uneven = batching.reject_inconsistent_lists(hopeless, row_keys)
    found = Rejections(pl.concat([rejection_lines, uneven.frame]).sort("row", maintain_order=True, nulls_last=True))
    counts = replace(
        counts,
        rejected=found.rows,
        unchanged=changes.unchanged,
        new=changes.new - hopeless.filter(NEW).height,
        changed=changes.changed - hopeless.filter(~pl.col(NEW)).height,
        gone=left.height if whole else 0,
    )
    return Plan(
        mapping=mapping,
        layout=layout,
        request_limits=request_limits,
        account_id=inputs.account_id,
        counts=counts,
        rejections=found,
        batches=tuple(batches),
        missing_records=left,
        impact=effect,
        suppressed=changes.suppressed,
        cleared=changes.cleared,
        full_file=full_file,
        scope_shared_with=sharing if send_all else (),
        previous_records=replaced,
    )


def _delay_batches(batches: list[Batch], waves: int) -> list[Batch]:
    return [delay_batch(batch, waves) for batch in batches]


def _check_row_balance(reading: Reading, read_result: ReadResult) -> None:
    """Every row of the file is in a record, or rejected, or left out on purpose. Raises Defect."""
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
