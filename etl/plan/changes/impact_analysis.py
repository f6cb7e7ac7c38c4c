"""Weighs a change set: makes the impact of a run from what would be sent and what Norce has.

Which fields are prices, costs, stock and texts the contract says (`means`). Everything is counted in columns; only
the few examples that people look at become values. The elements of a list made of rows are weighed one by one, each
beside the element of the same code that Norce has; where records are counted, a record counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import polars as pl

from etl.mapping.layout import BITS, Layout, Leaf
from etl.model.columns import GONE, KEY
from etl.plan.changes.diff import ChangeSet
from etl.plan.changes.impact import CLASSES, EXAMPLES, Example, FieldChange, Impact, Tally, shown_key, text
from etl.plan.rows import list_rules as elements

_OLD, _SEEN, _WAS_OFF = "\x1fbefore", "\x1fseen", "\x1foff"

#: Key of the record, where KEY tells a list element.
_RECORD = "\x1frecord"


@dataclass(frozen=True, slots=True)
class _Part:
    """One row for each record, or for each element of one of their lists; every leaf beside what it was before."""

    frame: pl.DataFrame
    known: pl.DataFrame  #: those of records that Norce has and that are not switched off
    leaves: list[Leaf]


def weigh(
    changes: ChangeSet,
    accepted: pl.DataFrame,
    layout: Layout,
    gone: pl.DataFrame,
    *,
    alive: int,
    off: bool,
    by: Decimal,
) -> Impact:
    """`accepted`: the records that the changes are about, of `alive` that are not switched off; `gone`: those of them
    that the file lacks; `off`: they are switched off for it; `by`: a large price move."""
    frame = _beside(changes, accepted, layout)
    plain = _part(frame, _plain(layout))
    parts = [plain, *_lists(frame, layout)]
    fields = tuple(
        change for part in parts for leaf in part.leaves if (change := _change(part.known, leaf)) is not None
    )
    by_file, on = _switched(plain.known, layout)
    left = _gone(gone, layout, off=off)
    ranked = sorted((one for change in fields for one in change.examples), key=_weight, reverse=True)
    return Impact(
        alive=alive,
        new=int(frame.select((~pl.col(_SEEN)).sum()).item()),
        back=int(frame.select(pl.col(_WAS_OFF).sum()).item()),
        fields=fields,
        gone=left,
        switched_off=Tally(left.count + by_file.count, (left.examples + by_file.examples)[:EXAMPLES])
        if off
        else by_file,
        switched_on=on,
        price_moves=_price_moves(parts, float(by) * 100),
        price_zero=_price_zero(parts),
        below_cost=_below_cost(parts),
        stock_zero=_stock(parts, zero=True),
        stock_back=_stock(parts, zero=False).count,
        largest=tuple(ranked[: 2 * EXAMPLES]),
    )


def _beside(changes: ChangeSet, accepted: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """The records that are sent, each column beside what it was before."""
    columns = list(dict.fromkeys(leaf.column for leaf in layout.leaves if not leaf.key))
    names = [name for name in columns if name in accepted.columns]
    was_off = pl.col(GONE).fill_null(False) if GONE in accepted.columns else pl.lit(False)
    old = accepted.select(
        KEY, pl.lit(True).alias(_SEEN), was_off.alias(_WAS_OFF), *(pl.col(name).alias(name + _OLD) for name in names)
    )
    frame = changes.frame.filter(~pl.col(GONE)).join(old, on=KEY, how="left", maintain_order="left")
    return frame.with_columns(
        pl.col(KEY).alias(_RECORD),
        pl.col(_SEEN).fill_null(False),
        pl.col(_WAS_OFF).fill_null(False),
        *(pl.lit(None, dtype=frame.schema[name]).alias(name + _OLD) for name in columns if name not in names),
    )


def _part(frame: pl.DataFrame, leaves: list[Leaf]) -> _Part:
    return _Part(frame, frame.filter(pl.col(_SEEN) & ~pl.col(_WAS_OFF)), leaves)


def _plain(layout: Layout) -> list[Leaf]:
    """Leaves with a column of their own that are more than identity."""
    return [leaf for leaf in layout.leaves if leaf.inner is None and not leaf.key and not leaf.anchor]


def _lists(frame: pl.DataFrame, layout: Layout) -> Iterator[_Part]:
    """The elements of lists made of rows, where something tells them apart."""
    told = elements.codes(layout)
    for column in layout.lists:
        inside = [leaf for leaf in layout.leaves if leaf.column == column and leaf.inner is not None]
        (codes,) = told.get(column, [[]])
        content = [leaf for leaf in inside if not leaf.anchor]
        if codes and content:
            apart = [replace(leaf, column=leaf.name, inner=None) for leaf in content]
            yield _part(_one_by_one(frame, column, codes, content), apart)


def _one_by_one(frame: pl.DataFrame, column: str, codes: list[Leaf], content: list[Leaf]) -> pl.DataFrame:
    """One row for each element that is sent, beside the one with the same codes that Norce has."""
    told = [f"{_RECORD}{number}" for number in range(len(codes))]
    words = [name for name in frame.columns if name.startswith("_c")]
    shown = pl.concat_str(
        [pl.col(KEY), *(pl.col(name).cast(pl.String) for name in told)], separator="\x1f", ignore_nulls=True
    )
    sent = frame.select(_RECORD, KEY, _SEEN, _WAS_OFF, *words, column).explode(column)
    sent = sent.filter(pl.col(column).is_not_null()).with_columns(
        *(_inner(sent, column, code).alias(name) for code, name in zip(codes, told, strict=True)),
        *(_inner(sent, column, leaf).alias(leaf.name) for leaf in content),
    )
    had = frame.select(_RECORD, pl.col(column + _OLD).alias(column)).explode(column)
    had = had.filter(pl.col(column).is_not_null()).select(
        _RECORD,
        *(_inner(had, column, code).alias(name) for code, name in zip(codes, told, strict=True)),
        *(_inner(had, column, leaf).alias(leaf.name + _OLD) for leaf in content),
    )
    on = [_RECORD, *told]
    joined = sent.join(had.unique(on, keep="first"), on=on, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(shown.alias(KEY))


def _inner(frame: pl.DataFrame, column: str, leaf: Leaf) -> pl.Expr:
    """A field of a list's elements; *accepted* lacks what the mapping has gained since."""
    kind = frame.schema[column]
    names = [field.name for field in kind.fields] if isinstance(kind, pl.Struct) else []
    return pl.col(column).struct.field(str(leaf.inner)) if leaf.inner in names else pl.lit(None)


def _lit(leaf: Leaf) -> pl.Expr:
    return pl.col(f"_c{leaf.index // BITS}") & pl.lit(1 << leaf.index % BITS, dtype=pl.UInt64) != 0


def _differs(leaf: Leaf) -> pl.Expr:
    return _lit(leaf) & pl.col(leaf.column).ne_missing(pl.col(leaf.column + _OLD))


def _percent(leaf: Leaf) -> pl.Expr:
    """By how many percent a number moves; null where there was none or nought."""
    before = pl.col(leaf.column + _OLD).cast(pl.Float64)
    after = pl.col(leaf.column).cast(pl.Float64)
    return pl.when(before != 0).then((after - before) / before.abs() * 100)


def _is_number(leaf: Leaf) -> bool:
    return leaf.field.type in ("number", "integer")


def _change(known: pl.DataFrame, leaf: Leaf) -> FieldChange | None:
    rows = known.filter(_differs(leaf)).select(KEY, leaf.column, leaf.column + _OLD)
    if rows.is_empty():
        return None
    filled = int(rows[leaf.column + _OLD].null_count())
    cleared = int(rows[leaf.column].null_count())
    if not _is_number(leaf):
        found = _examples(rows.head(EXAMPLES), leaf)
        return FieldChange(leaf.name, leaf.field.means, rows.height, filled, cleared, found)
    rows = rows.with_columns(_percent(leaf).alias("_p"))
    moved = rows["_p"].drop_nulls()
    up, down = moved.filter(moved > 0), moved.filter(moved < 0)
    classes: tuple[int, ...] = ()
    if leaf.field.means == "price":
        place = pl.Series("_k", CLASSES, dtype=pl.Float64).search_sorted(moved, side="left")
        counted = dict(place.value_counts().iter_rows()) if moved.len() else {}
        classes = tuple(int(counted.get(number, 0)) for number in range(len(CLASSES) + 1))
    return FieldChange(
        leaf.name,
        leaf.field.means,
        rows.height,
        filled,
        cleared,
        _examples(_top(rows), leaf),
        up=up.len(),
        down=down.len(),
        median_up=_rounded(up.median()),
        median_down=_rounded(down.median()),
        classes=classes,
    )


def _top(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the largest moves `_p`, first come first; only few of very many are ever sorted."""
    size = pl.col("_p").abs()
    least = rows.select(size.drop_nulls().top_k(EXAMPLES).min()).item()
    if rows.height - rows["_p"].null_count() >= EXAMPLES:
        rows = rows.filter(size >= least)
    return rows.sort(size, descending=True, nulls_last=True, maintain_order=True).head(EXAMPLES)


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 1)


def _examples(rows: pl.DataFrame, leaf: Leaf) -> tuple[Example, ...]:
    """A few rows as values; `_p` is the move in percent where there is one."""
    percents = rows["_p"].to_list() if "_p" in rows.columns else [None] * rows.height
    cells = rows.select(KEY, pl.col(leaf.column + _OLD), pl.col(leaf.column)).iter_rows()
    return tuple(
        Example(shown_key(key), leaf.name, text(before, leaf), text(after, leaf), _rounded(percent))
        for (key, before, after), percent in zip(cells, percents, strict=True)
    )


def _weight(example: Example) -> tuple[bool, float]:
    return example.percent is not None, abs(example.percent or 0.0)


def _meaning(leaves: list[Leaf], means: str) -> list[Leaf]:
    return [leaf for leaf in leaves if leaf.field.means == means and _is_number(leaf)]


def _tally(parts: list[_Part], means: str, wanted: Callable[[Leaf], pl.Expr], *, known: bool) -> Tally:
    """Records in which a field of that meaning is as wanted, and their largest moves; `known`: without new records."""
    found: list[pl.Series] = []
    examples: list[Example] = []
    for part in parts:
        leaves, frame = _meaning(part.leaves, means), part.known if known else part.frame
        if not leaves or frame.is_empty():
            continue
        found.append(frame.filter(pl.any_horizontal(wanted(leaf) for leaf in leaves))[_RECORD])
        for leaf in leaves:
            examples += _examples(_top(frame.filter(wanted(leaf)).with_columns(_percent(leaf).alias("_p"))), leaf)
    return Tally(_records(found), tuple(sorted(examples, key=_weight, reverse=True)[:EXAMPLES]))


def _records(found: list[pl.Series]) -> int:
    return pl.concat(found).n_unique() if found else 0


def _price_moves(parts: list[_Part], percent: float) -> Tally:
    return _tally(parts, "price", lambda leaf: _differs(leaf) & (_percent(leaf).abs() > percent), known=True)


def _price_zero(parts: list[_Part]) -> Tally:
    return _tally(parts, "price", lambda leaf: _differs(leaf) & (pl.col(leaf.column) <= 0), known=False)


def _stock(parts: list[_Part], *, zero: bool) -> Tally:
    def wanted(leaf: Leaf) -> pl.Expr:
        before, after = pl.col(leaf.column + _OLD), pl.col(leaf.column)
        return _lit(leaf) & ((before > 0) & (after <= 0) if zero else (before <= 0) & (after > 0))

    return _tally(parts, "stock", wanted, known=True)


def _below_cost(parts: list[_Part]) -> Tally:
    """Prices below a cost beside them, where this run makes it so; what was so before is not news."""
    found: list[pl.Series] = []
    examples: list[Example] = []
    for part in parts:
        by_name = {leaf.name: leaf for leaf in part.leaves}
        for price in _meaning(part.leaves, "price"):
            for name in price.field.not_below:
                cost = by_name.get(price.name.removesuffix(price.field.name) + name)
                if cost is not None:
                    rows = _sold_below(part.frame, price, cost)
                    found.append(rows[_RECORD])
                    examples += _below(rows, price, cost)
    return Tally(_records(found), tuple(examples[:EXAMPLES]))


def _sold_below(frame: pl.DataFrame, price: Leaf, cost: Leaf) -> pl.DataFrame:
    before = (pl.col(price.column + _OLD) < pl.col(cost.column + _OLD)).fill_null(False)
    now = (_after(price) < _after(cost)).fill_null(False)
    short = _after(cost).cast(pl.Float64) - _after(price).cast(pl.Float64)
    return frame.filter(now & ~before & (_differs(price) | _differs(cost))).select(
        _RECORD,
        KEY,
        pl.col(price.column + _OLD).alias("before"),
        _after(price).alias("price"),
        _after(cost).alias("cost"),
        _percent(price).alias("percent"),
        (short / _after(cost).cast(pl.Float64)).alias("short"),
    )


def _below(rows: pl.DataFrame, price: Leaf, cost: Leaf) -> Iterator[Example]:
    """Those that lose most, with their cost."""
    top = rows.sort("short", descending=True, maintain_order=True).head(EXAMPLES)
    for key, old, new, least, percent in top.select(KEY, "before", "price", "cost", "percent").iter_rows():
        after = f"{text(new, price)} (cost {text(least, cost)})"
        yield Example(shown_key(key), price.name, text(old, price), after, _rounded(percent))


def _after(leaf: Leaf) -> pl.Expr:
    """What Norce has in the end: the new value, or the old one where the file says nothing."""
    return pl.coalesce(leaf.column, leaf.column + _OLD)


def _switched(known: pl.DataFrame, layout: Layout) -> tuple[Tally, int]:
    """Records that the file itself switches off, and on."""
    leaf, off = layout.retiring, layout.operation.deactivation
    if leaf is None or off is None or leaf.silent or leaf.inner is not None:
        return Tally(), 0
    before, after = pl.col(leaf.column + _OLD), pl.col(leaf.column)
    going = known.filter(_lit(leaf) & (after == off.off) & before.ne_missing(off.off))
    coming = known.filter(_lit(leaf) & (before == off.off) & after.ne_missing(off.off))
    return Tally(going.height, _examples(going.head(EXAMPLES), leaf)), coming.height


def _gone(gone: pl.DataFrame, layout: Layout, *, off: bool) -> Tally:
    """The most telling value of what is gone is shown: stock, a price, or a text."""
    after = "switched off" if off else "no longer in the file"
    leaf = next(
        (
            leaf
            for means in ("stock", "price", "text")
            for leaf in _plain(layout)
            if leaf.field.means == means and leaf.column in gone.columns
        ),
        None,
    )
    if leaf is None:
        keys = gone[KEY].head(EXAMPLES).to_list()
        return Tally(gone.height, tuple(Example(shown_key(key), "", None, after) for key in keys))
    rows = gone.select(KEY, leaf.column)
    if _is_number(leaf):
        rows = rows.sort(pl.col(leaf.column), descending=True, nulls_last=True, maintain_order=True)
    found = rows.head(EXAMPLES).iter_rows()
    return Tally(gone.height, tuple(Example(shown_key(key), leaf.name, text(was, leaf), after) for key, was in found))
