"""Builds the plan of an undo run: it restores the values that Norce had before another run. Pure.

Only values that Norce still has from that run are restored; what a later run has changed stays. Records that the run
created are deactivated where the import can do that, and records that it deactivated are activated. The plan lists
what is irreversible: a field that had no value before and that Connect cannot empty, a record that cannot be
deactivated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from etl.mapping import layout_builder, leaf_set
from etl.mapping.layout import Layout, Leaf
from etl.mapping.model import Mapping
from etl.model.columns import DEACTIVATED, INTERNAL, ITEM, KEY, ROW
from etl.model.keys import display_key
from etl.model.runs import Counts
from etl.model.schemas import REJECTION_SCHEMA
from etl.model.tables import Records, Rejections
from etl.plan.batches import batching
from etl.plan.batches.batch import Batch, delay_batch
from etl.plan.changes import absence, diff, impact, impact_analysis, ownership
from etl.plan.changes.absence import MissingRecords, with_deactivated_column
from etl.plan.changes.diff import ChangeSet
from etl.plan.inputs import OriginalRun, PlanInputs, RequestLimits
from etl.plan.model import Plan
from etl.plan.rows import transform

#: Prefix of columns that hold no field of the record: key, row, bits of what was sent.
_INTERNAL_PREFIX = "_"

#: Prefixes of columns: the value that the run sent, whether it sent one, the value before, the value of today.
_SENT, _WAS_SENT, _PREVIOUS, _CURRENT = f"{INTERNAL}wrote ", f"{INTERNAL}did ", f"{INTERNAL}before ", f"{INTERNAL}now "
#: Whether Norce had the record before the run.
_EXISTED = f"{INTERNAL}had"


@dataclass(frozen=True, slots=True)
class _States:
    """The accepted records of the original run that Norce still has, and their columns."""

    table: pl.DataFrame  #: a row for each record, see `_join_states`
    fields: list[_FieldState]
    to_restore: pl.DataFrame  #: the records that go back to their values of before, activated where the run deactivated
    to_deactivate: pl.DataFrame  #: the active records that Norce did not have before the run, or not as active ones


@dataclass(frozen=True, slots=True)
class _Step:
    """A change set of the undo run; its requests wait for the jobs of the step before."""

    changes: ChangeSet
    layout: Layout
    deactivates: bool = False


def build_reverse_plan(mapping: Mapping, original_run: OriginalRun, inputs: PlanInputs) -> Plan:
    """Build the plan that restores what Norce had before it accepted the records of `original_run`."""
    accepted_records = inputs.accepted_records.collect()
    layout = layout_builder.build_layout(mapping, original_run.columns)
    states = _load_states(original_run, accepted_records, mapping, layout)
    steps = _make_steps(states, accepted_records, layout, ownership.find_owned_elsewhere(layout, inputs.owner_records))
    sets = [step.changes for step in steps]
    batches, unsendable = _make_sequential_batches(steps, inputs.request_limits)
    return Plan(
        mapping=mapping,
        layout=layout,
        request_limits=inputs.request_limits,
        account_id=inputs.account_id,
        counts=Counts(
            new=sum(changes.new for changes in sets),
            changed=sum(changes.changed for changes in sets),
            gone=sum(step.changes.deactivated for step in steps if step.deactivates),
        ),
        rejections=Rejections(pl.DataFrame(schema=REJECTION_SCHEMA)),
        batches=batches,
        impact=_analyze_impact(steps, states, accepted_records, mapping, layout),
        missing_records=accepted_records.clear(),
        suppressed=0,
        cleared=sum(changes.cleared for changes in sets),
        columns=original_run.columns,
        previous_records=_records_of(states.table, accepted_records),
        undoes=original_run.id,
        irreversible=(*_find_irreversible(states, sets, layout), *_describe_unsendable(unsendable)),
    )


def _load_states(
    original_run: OriginalRun, accepted_records: pl.DataFrame, mapping: Mapping, layout: Layout
) -> _States:
    schema = transform.empty_records(mapping, layout).schema
    dtypes = {name: dtype for name, dtype in schema.items() if not name.startswith(_INTERNAL_PREFIX)}
    fields = [_FieldState(name, dtype, layout) for name, dtype in dtypes.items()]
    for field in fields:
        if field.element_place:
            element = [other.previous.is_null() for other in fields if other.element_place == field.element_place]
            field.vanishes = pl.all_horizontal(element)
    table = _join_states(original_run, accepted_records, dtypes)
    existed, was_off, is_off = pl.col(_EXISTED), pl.col(_PREVIOUS + DEACTIVATED), pl.col(_CURRENT + DEACTIVATED)
    return _States(
        table,
        fields,
        to_restore=table.filter(existed & ((~was_off & (pl.col(_SENT + DEACTIVATED) | ~is_off)) | (was_off & ~is_off))),
        to_deactivate=table.filter(~is_off & (~existed | was_off)),
    )


def _join_states(original_run: OriginalRun, accepted_records: pl.DataFrame, dtypes: dict[str, Any]) -> pl.DataFrame:
    """Return one row for each record that Norce accepted and still has: KEY, and columns of all four prefixes."""
    sent_records = original_run.sent_records
    names = [name for name in sent_records.columns if not name.startswith(_INTERNAL_PREFIX)]
    was_sent = {name: leaf_set.has_leaf("_m", place).fill_null(False) for place, name in enumerate(names)}
    sent = sent_records.group_by(KEY, maintain_order=True).agg(  # A record of several passes has several rows.
        pl.col(DEACTIVATED).fill_null(False).last().alias(_SENT + DEACTIVATED),
        *(pl.col(name).filter(was_sent[name]).last().alias(_SENT + name) for name in names),
        *(was_sent[name].any().alias(_WAS_SENT + name) for name in names),
    )
    previous = with_deactivated_column(original_run.previous_records).select(
        KEY, pl.lit(True).alias(_EXISTED), pl.exclude(KEY, ITEM).name.prefix(_PREVIOUS)
    )
    current = with_deactivated_column(accepted_records).select(KEY, pl.exclude(KEY).name.prefix(_CURRENT))
    table = sent.join(current, on=KEY, how="inner", maintain_order="left").join(
        previous, on=KEY, how="left", maintain_order="left"
    )
    absent = [
        pl.lit(None, dtype=dtype).alias(prefix + name)
        for name, dtype in dtypes.items()
        for prefix in (_SENT, _PREVIOUS, _CURRENT)
        if prefix + name not in table.columns
    ]
    absent += [pl.lit(False).alias(_WAS_SENT + name) for name in dtypes if _WAS_SENT + name not in table.columns]
    return table.with_columns(
        pl.col(_EXISTED).fill_null(False),
        pl.col(_PREVIOUS + DEACTIVATED, _CURRENT + DEACTIVATED).fill_null(False),
        *absent,
    )


class _FieldState:
    """One column of the records: the value it goes back to, and whether it can."""

    def __init__(self, name: str, dtype: Any, layout: Layout) -> None:
        self.name = name
        self.dtype = dtype
        self.leaf = next(leaf for leaf in layout.leaves if leaf.column == name)
        self.off_value = _off_value(self.leaf, layout)
        self.clearable = _is_clearable(self.leaf)
        self.current, self.previous, sent = (
            pl.col(prefix + name).cast(dtype, strict=False) for prefix in (_CURRENT, _PREVIOUS, _SENT)
        )
        switch = layout.operation.deactivation
        if self.leaf is layout.deactivation_leaf and switch is not None and switch.on_value is not None:
            self.previous = self.previous.fill_null(pl.lit(switch.on_value))  # A record without a value was active.
        is_undone = pl.col(_EXISTED) & pl.col(_WAS_SENT + name)
        self.is_revertible = is_undone & self.current.eq_missing(sent) & self.current.ne_missing(self.previous)
        self.has_changed_since = (
            is_undone
            & self.current.ne_missing(sent)
            & ~pl.col(_PREVIOUS + DEACTIVATED)
            & ~pl.col(_CURRENT + DEACTIVATED)
        )
        self.becomes_empty = self.is_revertible & self.previous.is_null()
        self.sends_null = self.becomes_empty if self.clearable else pl.lit(False)
        in_replaced_list = self.leaf.parent.startswith(self.leaf.bundle + "[")
        #: The element that the field belongs to, in a list that is sent whole; else empty.
        self.element_place = self.leaf.parent if in_replaced_list else ""
        #: Whether that element had no value before: then it is left out.
        self.vanishes = pl.lit(False)
        #: Whether another value is another element, of a list that Connect merges.
        self.adds_element = (
            self.leaf.identifier and not self.leaf.constant and self.leaf.parent.endswith("]") and not in_replaced_list
        )
        self.is_sent = pl.any_horizontal(_is_sent(leaf) for leaf in layout.leaves if leaf.column == name)

    def target_value(self, *, final: bool) -> pl.Expr:
        """Return the value of before where Norce still has the run's value and can replace it, else that of today.

        Only the `final` step sends the value that switches a record off: Connect ignores prices of inactive records.
        """
        if self.leaf.synthetic:
            return pl.lit(None, dtype=self.dtype)
        reverts = self.is_revertible
        if not self.clearable:
            reverts = reverts & (self.previous.is_not_null() | self.vanishes)
        if self.off_value is not None and not final:
            reverts = reverts & self.previous.ne_missing(self.off_value)
        return pl.when(reverts).then(self.previous).otherwise(self.current)

    def find_irreversible(self, table: pl.DataFrame) -> Iterator[dict[str, Any]]:
        """Yield an entry for each reason why records keep the value of the run, or a later one."""
        if self.adds_element:
            reason = "the run has added an element to the list, and Connect keeps elements that a request leaves out"
            yield from _irreversible_entries(self.leaf.parent, reason, table.filter(self.is_revertible))
        if not self.leaf.synthetic and not self.clearable:
            reason = "it had no value before, and Connect cannot empty it"
            yield from _irreversible_entries(self.name, reason, table.filter(self.becomes_empty & ~self.vanishes))
        reason = "a later run has changed it since"
        yield from _irreversible_entries(self.name, reason, table.filter(self.has_changed_since))

    def find_unsendable(self, values: pl.DataFrame, change_sets: Sequence[ChangeSet]) -> Iterator[dict[str, Any]]:
        """Yield an entry for the records whose value should go back, but is in no request."""
        wanted = values.filter(
            self.target_value(final=True).ne_missing(self.current) & ~pl.col(_PREVIOUS + DEACTIVATED)
        )
        if self.leaf.synthetic or wanted.is_empty():
            return
        sent = pl.concat([changes.frame.filter(self.is_sent).select(KEY) for changes in change_sets])
        reason = "Connect would not read it as the record is, or it is another feed's now"
        unsent = wanted.join(sent, on=KEY, how="anti", maintain_order="left")
        yield from _irreversible_entries(self.name, reason, unsent)


def _off_value(leaf: Leaf, layout: Layout) -> object | None:
    """Return the value that switches something off: of the record's own switch, and of what a price activates."""
    if leaf is layout.deactivation_leaf and layout.operation.deactivation is not None:
        return layout.operation.deactivation.off_value
    for other in layout.leaves:
        activated = layout.operation.flag(other.flag_id).activates if other.flag_id else None
        if activated is not None and leaf.name == (f"{other.parent}.{activated}" if other.parent else activated):
            return False
    return None


def _is_clearable(leaf: Leaf) -> bool:
    """Whether null empties the field in Norce, and Connect does not need the field otherwise."""
    is_needed = leaf.field.required == "true" or leaf.key or leaf.identifier
    return leaf.field.clearable and not is_needed and leaf.inner is None and leaf.value.own


def _is_sent(leaf: Leaf) -> pl.Expr:
    return leaf_set.has_leaf(leaf_set.TO_SEND, leaf.index)


def _make_steps(
    states: _States, accepted_records: pl.DataFrame, layout: Layout, owned_elsewhere: pl.DataFrame | None
) -> list[_Step]:
    """Make the steps: plain values, records with cleared values, deactivating values, and missing records."""
    values = states.to_restore
    desired, final = (_desired_records(values, states.fields, final=final) for final in (False, True))
    clears = values.select(pl.any_horizontal([pl.lit(False), *(field.sends_null for field in states.fields)]))
    is_cleared = clears.to_series()
    clearing = _with_clearing_fields(
        layout, [field for field in states.fields if values.filter(field.sends_null).height]
    )
    stays_active = ~values[_PREVIOUS + DEACTIVATED]
    steps = [
        _Step(_compare_desired(records, reference, step_layout, owned_elsewhere), step_layout)
        for records, reference, step_layout in (
            (desired.filter(~is_cleared), accepted_records, layout),
            (desired.filter(is_cleared), accepted_records, clearing),
            (final.filter(stays_active), desired, layout),
        )
    ]
    if layout.deactivation_leaf is not None:
        to_deactivate = _records_of(states.to_deactivate, accepted_records)
        no_records = Records(desired.clear(), pl.Series(dtype=pl.Int64))
        missing = absence.select_active(to_deactivate)
        steps.append(_Step(diff.compare(no_records, to_deactivate, layout, missing_records=missing), layout, True))
    return steps


def _desired_records(values: pl.DataFrame, fields: Sequence[_FieldState], *, final: bool) -> pl.DataFrame:
    """Return the records with the values that they go back to."""
    return values.select(
        KEY,
        pl.col(_CURRENT + ITEM).alias(ITEM),
        pl.lit(None, dtype=pl.Int64).alias(ROW),
        *(field.target_value(final=final).alias(field.name) for field in fields),
    )


def _with_clearing_fields(layout: Layout, fields: Sequence[_FieldState]) -> Layout:
    """Return the layout under which a missing value of these fields empties them."""
    indexes = {field.leaf.index for field in fields}
    leaves = (
        replace(leaf, value=replace(leaf.value, empty="clear")) if leaf.index in indexes else leaf
        for leaf in layout.leaves
    )
    return replace(layout, leaves=tuple(leaves))


def _compare_desired(
    desired: pl.DataFrame, accepted_records: pl.DataFrame, layout: Layout, owned_elsewhere: pl.DataFrame | None
) -> ChangeSet:
    records = Records(desired, pl.Series(dtype=pl.Int64))
    return diff.compare(records, _records_of(desired, accepted_records), layout, owned_elsewhere=owned_elsewhere)


def _records_of(rows: pl.DataFrame, accepted_records: pl.DataFrame) -> pl.DataFrame:
    """Select the accepted records with the keys of `rows`."""
    return accepted_records.join(rows.select(KEY), on=KEY, how="semi", maintain_order="left")


def _make_sequential_batches(steps: Sequence[_Step], limits: RequestLimits) -> tuple[tuple[Batch, ...], Rejections]:
    """Make batches that are sent step by step, because variants of one product may be in several steps.

    The rejections are of the records that no request can hold.
    """
    batches: list[Batch] = []
    rejection_lines = [pl.DataFrame(schema=REJECTION_SCHEMA)]
    for step in steps:
        first_wave = max((batch.wave for batch in batches), default=-1) + 1
        step_batches, unsendable = batching.make_batches(step.changes, step.layout, limits)
        batches += [delay_batch(batch, first_wave) for batch in step_batches]
        rejection_lines.append(batching.reject_inconsistent_lists(unsendable).frame)
    return tuple(batches), Rejections(pl.concat(rejection_lines))


def _analyze_impact(
    steps: Sequence[_Step], states: _States, accepted_records: pl.DataFrame, mapping: Mapping, layout: Layout
) -> impact.Impact:
    restoring = [step.changes for step in steps if not step.deactivates]
    deactivated = accepted_records.clear()
    if any(step.deactivates and step.changes.deactivated for step in steps):
        deactivated = _records_of(states.to_deactivate, accepted_records)
    return impact_analysis.analyze_impact(
        replace(restoring[0], frame=pl.concat([changes.frame for changes in restoring])),
        accepted_records,
        layout,
        MissingRecords(deactivated, deactivated=True),
        price_threshold=mapping.guards.price_by,
        active=absence.select_active(accepted_records).height,
    )


def _find_irreversible(states: _States, change_sets: Sequence[ChangeSet], layout: Layout) -> Iterator[dict[str, Any]]:
    """Yield an entry for everything that the undo run does not restore: field, reason, number of records, keys."""
    yield from _find_unmapped(states)
    for field in states.fields:
        yield from field.find_irreversible(states.table)
    if layout.deactivation_leaf is None:
        yield from _irreversible_entries("", "the import cannot deactivate records", states.to_deactivate)
    values = states.to_restore
    for field in states.fields:
        yield from field.find_unsendable(values, change_sets)


def _find_unmapped(states: _States) -> Iterator[dict[str, Any]]:
    mapped = {field.name for field in states.fields}
    names = [name.removeprefix(_WAS_SENT) for name in states.table.columns if name.startswith(_WAS_SENT)]
    for name in names:
        if name not in mapped:
            rows = states.table.filter(pl.col(_EXISTED) & pl.col(_WAS_SENT + name))
            yield from _irreversible_entries(name, "the mapping no longer has it", rows)


def _irreversible_entries(field: str, reason: str, rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the entry of a field that does not go back, if there are such records."""
    if rows.height:
        keys = [display_key(key) for key in rows[KEY].head(impact.MAX_EXAMPLES)]
        yield {"field": field, "reason": reason, "records": rows.height, "keys": keys}


def _describe_unsendable(rejections: Rejections) -> Iterator[dict[str, Any]]:
    """Yield the entry of the records that no request can hold, if there are any."""
    if rejections.rows:
        keys = rejections.frame["value"].head(impact.MAX_EXAMPLES).to_list()
        reason = str(rejections.frame["message"][0])
        yield {"field": "", "reason": reason, "records": rejections.frame.height, "keys": keys}
