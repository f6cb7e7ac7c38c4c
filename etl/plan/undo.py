"""Takes a run back: plans the resending of the values that Norce had before it. Pure.

Only what Norce still has from that run is taken back; what a later run has changed since stays. Records that the run
created are switched off where the import can, those that it switched off are switched on again. What cannot be taken
back is named: a field that had no value before and that Connect cannot empty, a record that cannot be switched off.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from etl.mapping import layout_builder as arrange
from etl.mapping.layout import BITS, Layout, Leaf
from etl.mapping.model import Mapping
from etl.model.columns import GONE, ITEM, KEY, ROW
from etl.model.runs import Counts
from etl.model.schemas import REJECTIONS
from etl.model.tables import Records, Rejections
from etl.plan.batches import batch as batch_module
from etl.plan.batches import batching as chunk
from etl.plan.batches.batch import Batch
from etl.plan.changes import absence, diff, impact
from etl.plan.changes import impact_analysis as weigh
from etl.plan.changes import ownership as owners
from etl.plan.changes.diff import ChangeSet
from etl.plan.model import Plan, Terms
from etl.plan.rows import transform

#: How the names of columns begin that hold no field of the record: key, place, bits of what was sent.
_OURS = "_"

#: Prefixes of columns: what the run wrote, whether it did, what was before, what Norce has now.
_WROTE, _DID, _BEFORE, _NOW = "\x1fwrote ", "\x1fdid ", "\x1fbefore ", "\x1fnow "


def make(
    mapping: Mapping,
    columns: Sequence[str],
    went: pl.DataFrame,
    before: pl.DataFrame,
    accepted: pl.DataFrame,
    terms: Terms,
    run: str,
    owned: Map[str, pl.DataFrame] | None = None,
) -> Plan:
    """`went`: what Norce took of the run, as it was sent; `before`: what it had of those records when the run was
    planned; `columns`: the source columns that the run used; `owned`: what feeds that this one yields to have had."""
    layout = arrange.layout(mapping, columns)
    kinds = {name: kind for name, kind in transform.empty(mapping, layout).schema.items() if not name.startswith(_OURS)}
    table = _table(went, before, accepted, kinds)
    fields = [_Field(name, kind, layout, table) for name, kind in kinds.items()]
    for field in fields:
        if field.element:
            field.vanishes = pl.all_horizontal(f.old.is_null() for f in fields if f.element == field.element)
    stuck = [*_no_longer_mapped(table, kinds), *(found for field in fields for found in field.stuck(table))]
    had, was_off, is_off = pl.col("\x1fhad"), pl.col(_BEFORE + GONE), pl.col(_NOW + GONE)
    values = table.filter(had & ((~was_off & (pl.col(_WROTE + GONE) | ~is_off)) | (was_off & ~is_off)))
    off = table.filter(~is_off & (~had | was_off))
    desired, last = (
        values.select(
            KEY,
            pl.col(_NOW + ITEM).alias(ITEM),
            pl.lit(None, dtype=pl.Int64).alias(ROW),
            *(field.target(final=final).alias(field.name) for field in fields),
        )
        for final in (False, True)
    )
    clearing = values.select(pl.any_horizontal([pl.lit(False), *(field.clears for field in fields)]).alias("c"))["c"]
    emptied = _emptying(layout, [field for field in fields if values.filter(field.clears).height])
    barred = owners.barred(layout, owned or {})
    sets = [
        _compared(desired.filter(~clearing), accepted, layout, barred),
        _compared(desired.filter(clearing), accepted, emptied, barred),
        _compared(last.filter(~values[_BEFORE + GONE]), desired, layout, barred),
    ]
    changes = replace(sets[0], frame=pl.concat([each.frame for each in sets]))
    retired = accepted.join(off.select(KEY), on=KEY, how="semi", maintain_order="left")
    if layout.retiring is not None:
        sets.append(diff.compare(_none(desired), retired, layout, deactivate=True))
    elif retired.height:
        stuck.append(_stuck("", "the import cannot switch records off", off.filter(~had)))
    stuck += [found for field in fields if (found := field.unsent(values, sets)) is not None]
    limits = batch_module.Limits(terms.max_records, terms.requests_per_minute, terms.packing)
    batches, uneven = _in_turn(sets, [layout, emptied, layout, layout], limits)
    if uneven.rows:
        stuck.append(_uneven(uneven))
    gone = sets[-1].gone if layout.retiring is not None else 0
    alive = absence.missing(_none(desired), accepted).height
    return Plan(
        mapping=mapping,
        layout=layout,
        terms=terms,
        counts=Counts(new=sum(s.new for s in sets), changed=sum(s.changed for s in sets), gone=gone),
        rejections=Rejections(pl.DataFrame(schema=REJECTIONS)),
        batches=batches,
        impact=weigh.weigh(
            changes,
            accepted,
            layout,
            retired if gone else retired.clear(),
            off=True,
            by=mapping.guards.price_by,
            alive=alive,
        ),
        retired=retired.clear(),
        withheld=0,
        cleared=sum(s.cleared for s in sets),
        columns=tuple(columns),
        replaced=accepted.join(table.select(KEY), on=KEY, how="semi", maintain_order="left"),
        undoes=run,
        stuck=tuple(stuck),
    )


def _table(went: pl.DataFrame, before: pl.DataFrame, accepted: pl.DataFrame, kinds: dict[str, Any]) -> pl.DataFrame:
    """One row for each record that Norce took and still has, with all that is known of it."""
    names = [name for name in went.columns if not name.startswith(_OURS)]

    def did(name: str) -> pl.Expr:
        place = names.index(name)
        return (pl.col(f"_m{place // BITS}") & pl.lit(1 << place % BITS, dtype=pl.UInt64) != 0).fill_null(False)

    wrote = went.group_by(KEY, maintain_order=True).agg(  # records of several passes
        pl.col(GONE).fill_null(False).last().alias(_WROTE + GONE),
        *(pl.col(name).filter(did(name)).last().alias(_WROTE + name) for name in names),
        *(did(name).any().alias(_DID + name) for name in names),
    )
    old = _with_gone(before).select(KEY, pl.lit(True).alias("\x1fhad"), pl.exclude(KEY, ITEM).name.prefix(_BEFORE))
    now = _with_gone(accepted).select(KEY, pl.exclude(KEY).name.prefix(_NOW))
    table = wrote.join(now, on=KEY, how="inner", maintain_order="left").join(
        old, on=KEY, how="left", maintain_order="left"
    )
    lacking = [
        pl.lit(None, dtype=kind).alias(prefix + name)
        for name, kind in kinds.items()
        for prefix in (_WROTE, _BEFORE, _NOW)
        if prefix + name not in table.columns
    ]
    lacking += [pl.lit(False).alias(_DID + name) for name in kinds if _DID + name not in table.columns]
    return table.with_columns(
        pl.col("\x1fhad").fill_null(False), pl.col(_BEFORE + GONE, _NOW + GONE).fill_null(False), *lacking
    )


def _with_gone(frame: pl.DataFrame) -> pl.DataFrame:
    return frame if GONE in frame.columns else frame.with_columns(pl.lit(False).alias(GONE))


class _Field:
    """One column of the records: what it goes back to, and whether it can."""

    def __init__(self, name: str, kind: Any, layout: Layout, table: pl.DataFrame) -> None:
        self.name = name
        self.kind = kind
        self.leaf = next(leaf for leaf in layout.leaves if leaf.column == name)
        self.off = _off(self.leaf, layout)
        self.clearable = _clearable(self.leaf)
        self.now, self.old, wrote = (
            pl.col(prefix + name).cast(kind, strict=False) for prefix in (_NOW, _BEFORE, _WROTE)
        )
        switch = layout.operation.deactivation
        if self.leaf is layout.retiring and switch is not None and switch.on is not None:
            self.old = self.old.fill_null(pl.lit(switch.on))  # nothing was said of it: it was on
        known = pl.col("\x1fhad") & pl.col(_DID + name)
        self.ours = known & self.now.eq_missing(wrote) & self.now.ne_missing(self.old)
        self.moved = known & self.now.ne_missing(wrote) & ~pl.col(_BEFORE + GONE) & ~pl.col(_NOW + GONE)
        self.empties = self.ours & self.old.is_null()
        self.clears = self.empties if self.clearable else pl.lit(False)
        #: tells an element of a list apart that Connect merges: another value is another element
        whole = self.leaf.parent.startswith(self.leaf.bundle + "[")
        self.element = self.leaf.parent if whole else ""  #: of a list that goes whole: without values it is left out
        self.vanishes = pl.lit(False)
        self.adds = self.leaf.anchor and not self.leaf.constant and self.leaf.parent.endswith("]") and not whole
        self.lit = pl.any_horizontal(_lit(leaf) for leaf in layout.leaves if leaf.column == name)

    def target(self, *, final: bool) -> pl.Expr:
        """The value to go back to: the one before where the run's is still there and can be replaced.

        What is to be switched off in the end is so only in the `final` step: Connect takes no price for what is off.
        """
        if self.leaf.silent:
            return pl.lit(None, dtype=self.kind)
        back = self.ours if self.clearable else self.ours & (self.old.is_not_null() | self.vanishes)
        if self.off is not None and not final:
            back = back & self.old.ne_missing(self.off)
        return pl.when(back).then(self.old).otherwise(self.now)

    def stuck(self, table: pl.DataFrame) -> list[dict[str, Any]]:
        """What keeps the run's value, or a later one, and why."""
        found = []
        if self.adds:
            added = table.filter(self.ours)
            if added.height:
                reason = "the run has added an element to the list, and Connect keeps what is left out"
                found.append(_stuck(self.leaf.parent, reason, added))
        if not self.leaf.silent and not self.clearable:
            left = table.filter(self.empties & ~self.vanishes)
            if left.height:
                found.append(_stuck(self.name, "it had no value before, and Connect cannot empty it", left))
        later = table.filter(self.moved)
        if later.height:
            found.append(_stuck(self.name, "a later run has changed it since", later))
        return found

    def unsent(self, values: pl.DataFrame, sets: Sequence[ChangeSet]) -> dict[str, Any] | None:
        """Where the field was to go back and no request can carry it."""
        wanted = values.filter(self.target(final=True).ne_missing(self.now) & ~pl.col(_BEFORE + GONE))
        if self.leaf.silent or wanted.is_empty():
            return None
        carried = pl.concat([each.frame.filter(self.lit).select(KEY) for each in sets])
        left = wanted.join(carried, on=KEY, how="anti", maintain_order="left")
        return (
            _stuck(self.name, "Connect would not read it as the record is, or it is another feed's now", left)
            if left.height
            else None
        )


def _off(leaf: Leaf, layout: Layout) -> object | None:
    """The value that switches something off, for leaves that do: the record's switch, and what a price forces on."""
    if leaf is layout.retiring and layout.operation.deactivation is not None:
        return layout.operation.deactivation.off
    for other in layout.leaves:
        forced = layout.operation.flag(other.flag).forces if other.flag else None
        if forced is not None and leaf.name == (f"{other.parent}.{forced}" if other.parent else forced):
            return False
    return None


def _clearable(leaf: Leaf) -> bool:
    """Whether null empties the field in Norce, and nothing else needs it."""
    must = leaf.field.required == "true" or leaf.key or leaf.anchor
    return leaf.field.clearable and not must and leaf.inner is None and leaf.value.own


def _lit(leaf: Leaf) -> pl.Expr:
    return pl.col(f"_c{leaf.index // BITS}") & pl.lit(1 << leaf.index % BITS, dtype=pl.UInt64) != 0


def _stuck(field: str, reason: str, rows: pl.DataFrame) -> dict[str, Any]:
    keys = [impact.shown_key(key) for key in rows[KEY].head(impact.EXAMPLES)]
    return {"field": field, "reason": reason, "records": rows.height, "keys": keys}


def _uneven(found: Rejections) -> dict[str, Any]:
    keys = found.frame["value"].head(impact.EXAMPLES).to_list()
    reason = str(found.frame["message"][0])
    return {"field": "", "reason": reason, "records": found.frame.height, "keys": keys}


def _no_longer_mapped(table: pl.DataFrame, kinds: dict[str, Any]) -> list[dict[str, Any]]:
    names = [name.removeprefix(_DID) for name in table.columns if name.startswith(_DID)]
    left = [name for name in names if name not in kinds]
    rows = [(name, table.filter(pl.col("\x1fhad") & pl.col(_DID + name))) for name in left]
    return [_stuck(name, "the mapping no longer has it", found) for name, found in rows if found.height]


def _emptying(layout: Layout, fields: Sequence[_Field]) -> Layout:
    """The layout under which a missing value of these fields empties them."""
    indexes = {field.leaf.index for field in fields}
    return replace(
        layout,
        leaves=tuple(
            replace(leaf, value=replace(leaf.value, empty="clear")) if leaf.index in indexes else leaf
            for leaf in layout.leaves
        ),
    )


def _compared(desired: pl.DataFrame, accepted: pl.DataFrame, layout: Layout, barred: pl.DataFrame | None) -> ChangeSet:
    known = accepted.join(desired.select(KEY), on=KEY, how="semi", maintain_order="left")
    return diff.compare(Records(desired, pl.Series(dtype=pl.Int64)), known, layout, barred=barred)


def _none(desired: pl.DataFrame) -> Records:
    return Records(desired.clear(), pl.Series(dtype=pl.Int64))


def _in_turn(
    sets: Sequence[ChangeSet], layouts: Sequence[Layout], limits: batch_module.Limits
) -> tuple[tuple[Batch, ...], Rejections]:
    """Each change set behind the jobs of the one before it: variants of one product may be in several."""
    batches: list[Batch] = []
    rejected = [pl.DataFrame(schema=REJECTIONS)]
    for changes, layout in zip(sets, layouts, strict=False):
        waves = max((batch.wave for batch in batches), default=-1) + 1
        more, hopeless = chunk.split(changes, layout, limits)
        batches += [batch_module.delayed(batch, waves) for batch in more]
        rejected.append(chunk.uneven(hopeless).frame)
    return tuple(batches), Rejections(pl.concat(rejected))
