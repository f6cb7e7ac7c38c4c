"""Takes a run back: plans the resending of the values that Norce had before it. Pure.

Only what Norce still has from that run is taken back; what a later run has changed since stays. Records that the run
created are switched off where the import can, those that it switched off are switched on again. What cannot be taken
back is named: a field that had no value before and that Connect cannot empty, a record that cannot be switched off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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

#: How the names of columns begin that hold no field of the record: key, place, bits of what was sent.
_INTERNAL_PREFIX = "_"

#: Prefixes of columns: what the run wrote, whether it did, what was before, what Norce has now.
_SENT, _WAS_SENT, _PREVIOUS, _CURRENT = f"{INTERNAL}wrote ", f"{INTERNAL}did ", f"{INTERNAL}before ", f"{INTERNAL}now "


def build_reverse_plan(mapping: Mapping, original_run: OriginalRun, inputs: PlanInputs) -> Plan:
    """Build the plan that takes back what Norce accepted of a run, as things stand now."""
    accepted_records, request_limits = inputs.accepted_records.collect(), inputs.request_limits
    layout = layout_builder.build_layout(mapping, original_run.columns)
    kinds = {
        name: kind
        for name, kind in transform.empty_records(mapping, layout).schema.items()
        if not name.startswith(_INTERNAL_PREFIX)
    }
    table = _join_states(original_run.sent_records, original_run.previous_records, accepted_records, kinds)
    fields = [_FieldState(name, kind, layout, table) for name, kind in kinds.items()]
    for field in fields:
        if field.element_place:
            field.vanishes = pl.all_horizontal(
                f.previous.is_null() for f in fields if f.element_place == field.element_place
            )
    stuck = [*_find_unmapped(table, kinds), *(found for field in fields for found in field.irreversible(table))]
    had, was_off, is_off = pl.col(f"{INTERNAL}had"), pl.col(_PREVIOUS + DEACTIVATED), pl.col(_CURRENT + DEACTIVATED)
    values = table.filter(had & ((~was_off & (pl.col(_SENT + DEACTIVATED) | ~is_off)) | (was_off & ~is_off)))
    off = table.filter(~is_off & (~had | was_off))
    desired, last = (
        values.select(
            KEY,
            pl.col(_CURRENT + ITEM).alias(ITEM),
            pl.lit(None, dtype=pl.Int64).alias(ROW),
            *(field.target_value(final=final).alias(field.name) for field in fields),
        )
        for final in (False, True)
    )
    clearing = values.select(pl.any_horizontal([pl.lit(False), *(field.sends_null for field in fields)]).alias("c"))[
        "c"
    ]
    emptied = _with_clearing_fields(layout, [field for field in fields if values.filter(field.sends_null).height])
    barred = ownership.find_owned_elsewhere(layout, inputs.owner_records)
    sets = [
        _compare_desired(desired.filter(~clearing), accepted_records, layout, barred),
        _compare_desired(desired.filter(clearing), accepted_records, emptied, barred),
        _compare_desired(last.filter(~values[_PREVIOUS + DEACTIVATED]), desired, layout, barred),
    ]
    changes = replace(sets[0], frame=pl.concat([each.frame for each in sets]))
    retired = accepted_records.join(off.select(KEY), on=KEY, how="semi", maintain_order="left")
    if layout.deactivation_leaf is not None:
        sets.append(diff.compare(_no_records(desired), retired, layout, missing_records=absence.select_active(retired)))
    elif retired.height:
        stuck.append(_irreversible_entry("", "the import cannot deactivate records", off.filter(~had)))
    stuck += [found for field in fields if (found := field.find_unsendable(values, sets)) is not None]
    batches, uneven = _make_sequential_batches(sets, [layout, emptied, layout, layout], request_limits)
    if uneven.rows:
        stuck.append(_unsendable_entry(uneven))
    gone = sets[-1].deactivated if layout.deactivation_leaf is not None else 0
    alive = absence.select_active(accepted_records).height
    return Plan(
        mapping=mapping,
        layout=layout,
        request_limits=request_limits,
        account_id=inputs.account_id,
        counts=Counts(new=sum(s.new for s in sets), changed=sum(s.changed for s in sets), gone=gone),
        rejections=Rejections(pl.DataFrame(schema=REJECTION_SCHEMA)),
        batches=batches,
        impact=impact_analysis.analyze_impact(
            changes,
            accepted_records,
            layout,
            MissingRecords(retired if gone else retired.clear(), deactivated=True),
            price_threshold=mapping.guards.price_by,
            active=alive,
        ),
        missing_records=retired.clear(),
        suppressed=0,
        cleared=sum(s.cleared for s in sets),
        columns=original_run.columns,
        previous_records=accepted_records.join(table.select(KEY), on=KEY, how="semi", maintain_order="left"),
        undoes=original_run.id,
        irreversible=tuple(stuck),
    )


def _join_states(
    sent_records: pl.DataFrame, previous_records: pl.DataFrame, accepted_records: pl.DataFrame, dtypes: dict[str, Any]
) -> pl.DataFrame:
    """One row for each record that Norce took and still has, with all that is known of it."""
    names = [name for name in sent_records.columns if not name.startswith(_INTERNAL_PREFIX)]

    def did(name: str) -> pl.Expr:
        place = names.index(name)
        return leaf_set.has_leaf("_m", place).fill_null(False)

    wrote = sent_records.group_by(KEY, maintain_order=True).agg(  # records of several passes
        pl.col(DEACTIVATED).fill_null(False).last().alias(_SENT + DEACTIVATED),
        *(pl.col(name).filter(did(name)).last().alias(_SENT + name) for name in names),
        *(did(name).any().alias(_WAS_SENT + name) for name in names),
    )
    old = with_deactivated_column(previous_records).select(
        KEY, pl.lit(True).alias(f"{INTERNAL}had"), pl.exclude(KEY, ITEM).name.prefix(_PREVIOUS)
    )
    now = with_deactivated_column(accepted_records).select(KEY, pl.exclude(KEY).name.prefix(_CURRENT))
    table = wrote.join(now, on=KEY, how="inner", maintain_order="left").join(
        old, on=KEY, how="left", maintain_order="left"
    )
    lacking = [
        pl.lit(None, dtype=kind).alias(prefix + name)
        for name, kind in dtypes.items()
        for prefix in (_SENT, _PREVIOUS, _CURRENT)
        if prefix + name not in table.columns
    ]
    lacking += [pl.lit(False).alias(_WAS_SENT + name) for name in dtypes if _WAS_SENT + name not in table.columns]
    return table.with_columns(
        pl.col(f"{INTERNAL}had").fill_null(False),
        pl.col(_PREVIOUS + DEACTIVATED, _CURRENT + DEACTIVATED).fill_null(False),
        *lacking,
    )


class _FieldState:
    """One column of the records: what it goes back to, and whether it can."""

    def __init__(self, name: str, dtype: Any, layout: Layout, table: pl.DataFrame) -> None:
        self.name = name
        self.dtype = dtype
        self.leaf = next(leaf for leaf in layout.leaves if leaf.column == name)
        self.off_value = _off_value(self.leaf, layout)
        self.clearable = _is_clearable(self.leaf)
        self.current, self.previous, wrote = (
            pl.col(prefix + name).cast(dtype, strict=False) for prefix in (_CURRENT, _PREVIOUS, _SENT)
        )
        switch = layout.operation.deactivation
        if self.leaf is layout.deactivation_leaf and switch is not None and switch.on_value is not None:
            self.previous = self.previous.fill_null(pl.lit(switch.on_value))  # nothing was said of it: it was on
        known = pl.col(f"{INTERNAL}had") & pl.col(_WAS_SENT + name)
        self.is_revertible = known & self.current.eq_missing(wrote) & self.current.ne_missing(self.previous)
        self.has_changed_since = (
            known & self.current.ne_missing(wrote) & ~pl.col(_PREVIOUS + DEACTIVATED) & ~pl.col(_CURRENT + DEACTIVATED)
        )
        self.becomes_empty = self.is_revertible & self.previous.is_null()
        self.sends_null = self.becomes_empty if self.clearable else pl.lit(False)
        #: tells an element of a list apart that Connect merges: another value is another element
        whole = self.leaf.parent.startswith(self.leaf.bundle + "[")
        self.element_place = (
            self.leaf.parent if whole else ""
        )  #: of a list that goes whole: without values it is left out
        self.vanishes = pl.lit(False)
        self.adds_element = (
            self.leaf.identifier and not self.leaf.constant and self.leaf.parent.endswith("]") and not whole
        )
        self.is_sent = pl.any_horizontal(_is_sent(leaf) for leaf in layout.leaves if leaf.column == name)

    def target_value(self, *, final: bool) -> pl.Expr:
        """The value to go back to: the one before where the run's is still there and can be replaced.

        What is to be switched off in the end is so only in the `final` step: Connect takes no price for what is off.
        """
        if self.leaf.synthetic:
            return pl.lit(None, dtype=self.dtype)
        back = (
            self.is_revertible if self.clearable else self.is_revertible & (self.previous.is_not_null() | self.vanishes)
        )
        if self.off_value is not None and not final:
            back = back & self.previous.ne_missing(self.off_value)
        return pl.when(back).then(self.previous).otherwise(self.current)

    def irreversible(self, table: pl.DataFrame) -> list[dict[str, Any]]:
        """What keeps the run's value, or a later one, and why."""
        found = []
        if self.adds_element:
            added = table.filter(self.is_revertible)
            if added.height:
                reason = (
                    "the run has added an element to the list, and Connect keeps elements that a request leaves out"
                )
                found.append(_irreversible_entry(self.leaf.parent, reason, added))
        if not self.leaf.synthetic and not self.clearable:
            left = table.filter(self.becomes_empty & ~self.vanishes)
            if left.height:
                found.append(
                    _irreversible_entry(self.name, "it had no value before, and Connect cannot empty it", left)
                )
        later = table.filter(self.has_changed_since)
        if later.height:
            found.append(_irreversible_entry(self.name, "a later run has changed it since", later))
        return found

    def find_unsendable(self, values: pl.DataFrame, change_sets: Sequence[ChangeSet]) -> dict[str, Any] | None:
        """Where the field was to go back and no request can carry it."""
        wanted = values.filter(
            self.target_value(final=True).ne_missing(self.current) & ~pl.col(_PREVIOUS + DEACTIVATED)
        )
        if self.leaf.synthetic or wanted.is_empty():
            return None
        carried = pl.concat([each.frame.filter(self.is_sent).select(KEY) for each in change_sets])
        left = wanted.join(carried, on=KEY, how="anti", maintain_order="left")
        return (
            _irreversible_entry(
                self.name, "Connect would not read it as the record is, or it is another feed's now", left
            )
            if left.height
            else None
        )


def _off_value(leaf: Leaf, layout: Layout) -> object | None:
    """The value that switches something off, for leaves that do: the record's switch, and what a price forces on."""
    if leaf is layout.deactivation_leaf and layout.operation.deactivation is not None:
        return layout.operation.deactivation.off_value
    for other in layout.leaves:
        forced = layout.operation.flag(other.flag_id).activates if other.flag_id else None
        if forced is not None and leaf.name == (f"{other.parent}.{forced}" if other.parent else forced):
            return False
    return None


def _is_clearable(leaf: Leaf) -> bool:
    """Whether null empties the field in Norce, and nothing else needs it."""
    must = leaf.field.required == "true" or leaf.key or leaf.identifier
    return leaf.field.clearable and not must and leaf.inner is None and leaf.value.own


def _is_sent(leaf: Leaf) -> pl.Expr:
    return leaf_set.has_leaf(leaf_set.TO_SEND, leaf.index)


def _irreversible_entry(field: str, reason: str, rows: pl.DataFrame) -> dict[str, Any]:
    keys = [display_key(key) for key in rows[KEY].head(impact.MAX_EXAMPLES)]
    return {"field": field, "reason": reason, "records": rows.height, "keys": keys}


def _unsendable_entry(rejections: Rejections) -> dict[str, Any]:
    keys = rejections.frame["value"].head(impact.MAX_EXAMPLES).to_list()
    reason = str(rejections.frame["message"][0])
    return {"field": "", "reason": reason, "records": rejections.frame.height, "keys": keys}


def _find_unmapped(table: pl.DataFrame, dtypes: dict[str, Any]) -> list[dict[str, Any]]:
    names = [name.removeprefix(_WAS_SENT) for name in table.columns if name.startswith(_WAS_SENT)]
    left = [name for name in names if name not in dtypes]
    rows = [(name, table.filter(pl.col(f"{INTERNAL}had") & pl.col(_WAS_SENT + name))) for name in left]
    return [_irreversible_entry(name, "the mapping no longer has it", found) for name, found in rows if found.height]


def _with_clearing_fields(layout: Layout, fields: Sequence[_FieldState]) -> Layout:
    """The layout under which a missing value of these fields empties them."""
    indexes = {field.leaf.index for field in fields}
    return replace(
        layout,
        leaves=tuple(
            replace(leaf, value=replace(leaf.value, empty="clear")) if leaf.index in indexes else leaf
            for leaf in layout.leaves
        ),
    )


def _compare_desired(
    desired: pl.DataFrame, accepted_records: pl.DataFrame, layout: Layout, owned_elsewhere: pl.DataFrame | None
) -> ChangeSet:
    known = accepted_records.join(desired.select(KEY), on=KEY, how="semi", maintain_order="left")
    return diff.compare(Records(desired, pl.Series(dtype=pl.Int64)), known, layout, owned_elsewhere=owned_elsewhere)


def _no_records(desired: pl.DataFrame) -> Records:
    return Records(desired.clear(), pl.Series(dtype=pl.Int64))


def _make_sequential_batches(
    change_sets: Sequence[ChangeSet], layouts: Sequence[Layout], limits: RequestLimits
) -> tuple[tuple[Batch, ...], Rejections]:
    """Each change set behind the jobs of the one before it: variants of one product may be in several."""
    batches: list[Batch] = []
    rejected = [pl.DataFrame(schema=REJECTION_SCHEMA)]
    for changes, layout in zip(change_sets, layouts, strict=False):
        waves = max((batch.wave for batch in batches), default=-1) + 1
        more, hopeless = batching.make_batches(changes, layout, limits)
        batches += [delay_batch(batch, waves) for batch in more]
        rejected.append(batching.reject_inconsistent_lists(hopeless).frame)
    return tuple(batches), Rejections(pl.concat(rejected))
