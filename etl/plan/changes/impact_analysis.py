"""Computes the impact of a run from a change set and the accepted records.

The contract says which fields are prices, costs, stock and texts (`role`). Counts are computed in columns; only a few
examples become values. The elements of a list made of rows are compared one by one with the accepted elements of the
same code; a count of records counts each record once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import polars as pl

from etl.mapping import leaf_set
from etl.mapping.layout import Layout, Leaf
from etl.model.columns import ACCEPTED_SUFFIX, DEACTIVATED, INTERNAL, KEY
from etl.model.keys import KEY_SEPARATOR, display_key
from etl.plan.changes.absence import MissingRecords
from etl.plan.changes.diff import ChangeSet
from etl.plan.changes.impact import (
    MAX_EXAMPLES,
    PRICE_CHANGE_BOUNDS,
    Example,
    FieldChange,
    Impact,
    Tally,
    display_value,
)
from etl.plan.rows import list_rules

_IS_ACCEPTED, _WAS_DEACTIVATED = f"{INTERNAL}seen", f"{INTERNAL}off"

#: Key of the record, where KEY is that of a list element.
_RECORD_KEY = f"{INTERNAL}record"


@dataclass(frozen=True, slots=True)
class _Part:
    """One row for each record, or for each element of one list; every leaf beside its accepted value."""

    frame: pl.DataFrame
    active: pl.DataFrame  #: the rows of accepted records that are not deactivated
    leaves: list[Leaf]


def analyze_impact(
    changes: ChangeSet,
    accepted_records: pl.DataFrame,
    layout: Layout,
    missing: MissingRecords,
    *,
    active: int,
    price_threshold: Decimal,
) -> Impact:
    """Work out the impact of a change set beside the accepted records that it may concern.

    `active` counts the accepted records that are not deactivated; a price move is large beyond `price_threshold`.
    """
    frame = _join_accepted(changes, accepted_records, layout)
    plain = _build_part(frame, _value_leaves(layout))
    parts = [plain, *_list_parts(frame, layout)]
    fields = tuple(
        change for part in parts for leaf in part.leaves if (change := _field_change(part.active, leaf)) is not None
    )
    deactivated_by_file, activated = _tally_switches(plain.active, layout)
    gone = _tally_missing(missing.frame, layout, deactivate=missing.deactivated)
    ranked = sorted((example for change in fields for example in change.examples), key=_example_rank, reverse=True)
    return Impact(
        active=active,
        new=int(frame.select((~pl.col(_IS_ACCEPTED)).sum()).item()),
        reappeared=int(frame.select(pl.col(_WAS_DEACTIVATED).sum()).item()),
        fields=fields,
        gone=gone,
        deactivated=Tally(
            gone.count + deactivated_by_file.count, (gone.examples + deactivated_by_file.examples)[:MAX_EXAMPLES]
        )
        if missing.deactivated
        else deactivated_by_file,
        activated=activated,
        price_moves=_tally_price_moves(parts, float(price_threshold) * 100),
        price_zero=_tally_price_zero(parts),
        below_cost=_tally_below_cost(parts),
        stock_zero=_tally_stock(parts, zero=True),
        stock_back=_tally_stock(parts, zero=False).count,
        largest=tuple(ranked[: 2 * MAX_EXAMPLES]),
    )


def _join_accepted(changes: ChangeSet, accepted_records: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Return the records that are sent, each column beside its accepted value."""
    columns = list(dict.fromkeys(leaf.column for leaf in layout.leaves if not leaf.key))
    names = [name for name in columns if name in accepted_records.columns]
    was_off = pl.col(DEACTIVATED).fill_null(False) if DEACTIVATED in accepted_records.columns else pl.lit(False)
    old = accepted_records.select(
        KEY,
        pl.lit(True).alias(_IS_ACCEPTED),
        was_off.alias(_WAS_DEACTIVATED),
        *(pl.col(name).alias(name + ACCEPTED_SUFFIX) for name in names),
    )
    frame = changes.frame.filter(~pl.col(DEACTIVATED)).join(old, on=KEY, how="left", maintain_order="left")
    return frame.with_columns(
        pl.col(KEY).alias(_RECORD_KEY),
        pl.col(_IS_ACCEPTED).fill_null(False),
        pl.col(_WAS_DEACTIVATED).fill_null(False),
        *(
            pl.lit(None, dtype=frame.schema[name]).alias(name + ACCEPTED_SUFFIX)
            for name in columns
            if name not in names
        ),
    )


def _build_part(frame: pl.DataFrame, leaves: list[Leaf]) -> _Part:
    return _Part(frame, frame.filter(pl.col(_IS_ACCEPTED) & ~pl.col(_WAS_DEACTIVATED)), leaves)


def _value_leaves(layout: Layout) -> list[Leaf]:
    """Return the leaves with a column of their own, without keys and identifiers."""
    return [leaf for leaf in layout.leaves if leaf.inner is None and not leaf.key and not leaf.identifier]


def _list_parts(frame: pl.DataFrame, layout: Layout) -> Iterator[_Part]:
    """Yield the elements of each list made of rows that has identifiers."""
    codes_by_list = list_rules.identifying_leaves(layout)
    for column in layout.lists:
        inside = [leaf for leaf in layout.leaves if leaf.column == column and leaf.inner is not None]
        (codes,) = codes_by_list.get(column, [[]])
        content = [leaf for leaf in inside if not leaf.identifier and leaf not in codes]
        if codes and content:
            columns = [replace(leaf, column=leaf.name, inner=None) for leaf in content]
            yield _build_part(_explode_elements(frame, column, codes, content), columns)


def _explode_elements(frame: pl.DataFrame, column: str, identifiers: list[Leaf], content: list[Leaf]) -> pl.DataFrame:
    """Return one row for each element that is sent, beside the accepted element with the same codes."""
    code_columns = [f"{_RECORD_KEY}{number}" for number in range(len(identifiers))]
    words = [name for name in frame.columns if name.startswith(leaf_set.TO_SEND)]
    displayed_key = pl.concat_str(
        [pl.col(KEY), *(pl.col(name).cast(pl.String) for name in code_columns)],
        separator=KEY_SEPARATOR,
        ignore_nulls=True,
    )
    sent = frame.select(_RECORD_KEY, KEY, _IS_ACCEPTED, _WAS_DEACTIVATED, *words, column).explode(column)
    sent = sent.filter(pl.col(column).is_not_null()).with_columns(
        *(_element_field(sent, column, code).alias(name) for code, name in zip(identifiers, code_columns, strict=True)),
        *(_element_field(sent, column, leaf).alias(leaf.name) for leaf in content),
    )
    accepted = frame.select(_RECORD_KEY, pl.col(column + ACCEPTED_SUFFIX).alias(column)).explode(column)
    accepted = accepted.filter(pl.col(column).is_not_null()).select(
        _RECORD_KEY,
        *(
            _element_field(accepted, column, code).cast(sent.schema[name]).alias(name)
            for code, name in zip(identifiers, code_columns, strict=True)
        ),
        *(_element_field(accepted, column, leaf).alias(leaf.name + ACCEPTED_SUFFIX) for leaf in content),
    )
    on = [_RECORD_KEY, *code_columns]
    joined = sent.join(accepted.unique(on, keep="first"), on=on, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(displayed_key.alias(KEY))


def _element_field(frame: pl.DataFrame, column: str, leaf: Leaf) -> pl.Expr:
    """Return a field of a list's elements; the accepted elements lack fields that the mapping has gained since."""
    kind = frame.schema[column]
    names = [field.name for field in kind.fields] if isinstance(kind, pl.Struct) else []
    return pl.col(column).struct.field(str(leaf.inner)) if leaf.inner in names else pl.lit(None)


def _is_sent(leaf: Leaf) -> pl.Expr:
    return leaf_set.has_leaf(leaf_set.TO_SEND, leaf.index)


def _is_changed(leaf: Leaf) -> pl.Expr:
    return _is_sent(leaf) & pl.col(leaf.column).ne_missing(pl.col(leaf.column + ACCEPTED_SUFFIX))


def _percent_change(leaf: Leaf) -> pl.Expr:
    """Return the change of a number in percent; null where the number before was 0 or missing."""
    before = pl.col(leaf.column + ACCEPTED_SUFFIX).cast(pl.Float64)
    after = pl.col(leaf.column).cast(pl.Float64)
    return pl.when(before != 0).then((after - before) / before.abs() * 100)


def _is_number(leaf: Leaf) -> bool:
    return leaf.field.type in ("number", "integer")


def _field_change(active: pl.DataFrame, leaf: Leaf) -> FieldChange | None:
    rows = active.filter(_is_changed(leaf)).select(KEY, leaf.column, leaf.column + ACCEPTED_SUFFIX)
    if rows.is_empty():
        return None
    filled = int(rows[leaf.column + ACCEPTED_SUFFIX].null_count())
    cleared = int(rows[leaf.column].null_count())
    if not _is_number(leaf):
        examples = _make_examples(rows.head(MAX_EXAMPLES), leaf)
        return FieldChange(leaf.name, leaf.field.role, rows.height, filled, cleared, examples)
    rows = rows.with_columns(_percent_change(leaf).alias("_p"))
    moved = rows["_p"].drop_nulls()
    up, down = moved.filter(moved > 0), moved.filter(moved < 0)
    classes: tuple[int, ...] = ()
    if leaf.field.role == "price":
        place = pl.Series("_k", PRICE_CHANGE_BOUNDS, dtype=pl.Float64).search_sorted(moved, side="left")
        counts = dict(place.value_counts().iter_rows()) if moved.len() else {}
        classes = tuple(int(counts.get(number, 0)) for number in range(len(PRICE_CHANGE_BOUNDS) + 1))
    return FieldChange(
        leaf.name,
        leaf.field.role,
        rows.height,
        filled,
        cleared,
        _make_examples(_largest_changes(rows), leaf),
        up=up.len(),
        down=down.len(),
        median_up=_round(up.median()),
        median_down=_round(down.median()),
        classes=classes,
    )


def _largest_changes(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with the largest changes `_p`, equal ones in their order; only few rows are sorted."""
    size = pl.col("_p").abs()
    least = rows.select(size.drop_nulls().top_k(MAX_EXAMPLES).min()).item()
    if rows.height - rows["_p"].null_count() >= MAX_EXAMPLES:
        rows = rows.filter(size >= least)
    return rows.sort(size, descending=True, nulls_last=True, maintain_order=True).head(MAX_EXAMPLES)


def _round(value: Any) -> float | None:
    return None if value is None else round(float(value), 1)


def _make_examples(rows: pl.DataFrame, leaf: Leaf) -> tuple[Example, ...]:
    """Return rows as examples; the column `_p`, if there is one, is the change in percent."""
    percents = rows["_p"].to_list() if "_p" in rows.columns else [None] * rows.height
    cells = rows.select(KEY, pl.col(leaf.column + ACCEPTED_SUFFIX), pl.col(leaf.column)).iter_rows()
    return tuple(
        Example(display_key(key), leaf.name, display_value(before, leaf), display_value(after, leaf), _round(percent))
        for (key, before, after), percent in zip(cells, percents, strict=True)
    )


def _example_rank(example: Example) -> tuple[bool, float]:
    return example.percent is not None, abs(example.percent or 0.0)


def _number_leaves(leaves: list[Leaf], role: str) -> list[Leaf]:
    return [leaf for leaf in leaves if leaf.field.role == role and _is_number(leaf)]


def _tally(parts: list[_Part], role: str, condition: Callable[[Leaf], pl.Expr], *, active_only: bool) -> Tally:
    """Tally the records in which a field of the role meets the condition; `active_only` leaves out new records."""
    keys: list[pl.Series] = []
    examples: list[Example] = []
    for part in parts:
        leaves, frame = _number_leaves(part.leaves, role), part.active if active_only else part.frame
        if not leaves or frame.is_empty():
            continue
        keys.append(frame.filter(pl.any_horizontal(condition(leaf) for leaf in leaves))[_RECORD_KEY])
        for leaf in leaves:
            examples += _make_examples(
                _largest_changes(frame.filter(condition(leaf)).with_columns(_percent_change(leaf).alias("_p"))), leaf
            )
    return Tally(_count_records(keys), tuple(sorted(examples, key=_example_rank, reverse=True)[:MAX_EXAMPLES]))


def _count_records(key_lists: list[pl.Series]) -> int:
    return pl.concat(key_lists).n_unique() if key_lists else 0


def _tally_price_moves(parts: list[_Part], percent: float) -> Tally:
    return _tally(
        parts, "price", lambda leaf: _is_changed(leaf) & (_percent_change(leaf).abs() > percent), active_only=True
    )


def _tally_price_zero(parts: list[_Part]) -> Tally:
    return _tally(parts, "price", lambda leaf: _is_changed(leaf) & (pl.col(leaf.column) <= 0), active_only=False)


def _tally_stock(parts: list[_Part], *, zero: bool) -> Tally:
    def wanted(leaf: Leaf) -> pl.Expr:
        before, after = pl.col(leaf.column + ACCEPTED_SUFFIX), pl.col(leaf.column)
        return _is_sent(leaf) & ((before > 0) & (after <= 0) if zero else (before <= 0) & (after > 0))

    return _tally(parts, "stock", wanted, active_only=True)


def _tally_below_cost(parts: list[_Part]) -> Tally:
    """Tally the prices below their cost that were not below it before the run."""
    keys: list[pl.Series] = []
    examples: list[Example] = []
    for part in parts:
        by_name = {leaf.name: leaf for leaf in part.leaves}
        for price in _number_leaves(part.leaves, "price"):
            for name in price.field.not_below:
                cost = by_name.get(price.name.removesuffix(price.field.name) + name)
                if cost is not None:
                    rows = _rows_below_cost(part.frame, price, cost)
                    keys.append(rows[_RECORD_KEY])
                    examples += _below_cost_examples(rows, price, cost)
    return Tally(_count_records(keys), tuple(examples[:MAX_EXAMPLES]))


def _rows_below_cost(frame: pl.DataFrame, price: Leaf, cost: Leaf) -> pl.DataFrame:
    before = (pl.col(price.column + ACCEPTED_SUFFIX) < pl.col(cost.column + ACCEPTED_SUFFIX)).fill_null(False)
    now = (_resulting_value(price) < _resulting_value(cost)).fill_null(False)
    short = _resulting_value(cost).cast(pl.Float64) - _resulting_value(price).cast(pl.Float64)
    return frame.filter(now & ~before & (_is_changed(price) | _is_changed(cost))).select(
        _RECORD_KEY,
        KEY,
        pl.col(price.column + ACCEPTED_SUFFIX).alias("before"),
        _resulting_value(price).alias("price"),
        _resulting_value(cost).alias("cost"),
        _percent_change(price).alias("percent"),
        (short / _resulting_value(cost).cast(pl.Float64)).alias("short"),
    )


def _below_cost_examples(rows: pl.DataFrame, price: Leaf, cost: Leaf) -> Iterator[Example]:
    """Yield the prices that are the most below their cost."""
    top = rows.sort("short", descending=True, maintain_order=True).head(MAX_EXAMPLES)
    for key, old, new, least, percent in top.select(KEY, "before", "price", "cost", "percent").iter_rows():
        after = f"{display_value(new, price)} (cost {display_value(least, cost)})"
        yield Example(display_key(key), price.name, display_value(old, price), after, _round(percent))


def _resulting_value(leaf: Leaf) -> pl.Expr:
    """Return the value after the run: the new one, or the accepted one where the file has none."""
    return pl.coalesce(leaf.column, leaf.column + ACCEPTED_SUFFIX)


def _tally_switches(active: pl.DataFrame, layout: Layout) -> tuple[Tally, int]:
    """Tally the records that the file itself deactivates, and count those that it activates."""
    leaf, deactivation = layout.deactivation_leaf, layout.operation.deactivation
    if leaf is None or deactivation is None or leaf.synthetic or leaf.inner is not None:
        return Tally(), 0
    before, after = pl.col(leaf.column + ACCEPTED_SUFFIX), pl.col(leaf.column)
    deactivated = active.filter(
        _is_sent(leaf) & (after == deactivation.off_value) & before.ne_missing(deactivation.off_value)
    )
    activated = active.filter(
        _is_sent(leaf) & (before == deactivation.off_value) & after.ne_missing(deactivation.off_value)
    )
    return Tally(deactivated.height, _make_examples(deactivated.head(MAX_EXAMPLES), leaf)), activated.height


def _tally_missing(missing_records: pl.DataFrame, layout: Layout, *, deactivate: bool) -> Tally:
    """Tally missing records; an example shows the record's stock, else a price, else a text."""
    after = "deactivated" if deactivate else "no longer in the file"
    leaf = next(
        (
            leaf
            for role in ("stock", "price", "text")
            for leaf in _value_leaves(layout)
            if leaf.field.role == role and leaf.column in missing_records.columns
        ),
        None,
    )
    if leaf is None:
        keys = missing_records[KEY].head(MAX_EXAMPLES).to_list()
        return Tally(missing_records.height, tuple(Example(display_key(key), "", None, after) for key in keys))
    rows = missing_records.select(KEY, leaf.column)
    if _is_number(leaf):
        rows = rows.sort(pl.col(leaf.column), descending=True, nulls_last=True, maintain_order=True)
    top = rows.head(MAX_EXAMPLES).iter_rows()
    return Tally(
        missing_records.height,
        tuple(Example(display_key(key), leaf.name, display_value(value, leaf), after) for key, value in top),
    )
