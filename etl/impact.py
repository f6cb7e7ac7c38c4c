"""What a change set does to a shop, in its own words: prices up and down, stock to zero, products gone, texts changed.

Which fields are prices, costs, stock and texts the contract says (`means`). Everything is counted in columns; only
the few examples that people look at become values. Prices inside a list made of rows are not looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl

from etl import contract as contracts
from etl.diff import GONE, ChangeSet
from etl.layout import BITS, Layout, Leaf
from etl.model import KEY

#: How many examples people are shown of a thing.
EXAMPLES = 10

#: Upper ends of the classes of price moves in percent; the last class has none.
CLASSES = (-50.0, -30.0, -20.0, -10.0, -5.0, 0.0, 5.0, 10.0, 20.0, 30.0, 50.0)

_OLD, _SEEN, _WAS_OFF = "\x1fbefore", "\x1fseen", "\x1foff"


#: Characters of a value that an example shows.
SHOWN = 80


@dataclass(frozen=True, slots=True)
class Example:
    """One record that something happens to: the texts people read, and by how many percent a number moves."""

    key: str
    field: str
    before: str | None
    after: str | None
    percent: float | None = None

    def shown(self) -> dict[str, Any]:
        """As JSON; a cell may be a whole description, or worse."""
        return {
            "key": shortened(self.key),
            "field": self.field,
            "before": shortened(self.before),
            "after": shortened(self.after),
            "percent": self.percent,
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """How many records something happens to, and the largest of them."""

    count: int = 0
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldChange:
    """What happens to one field of the records that Norce has already."""

    name: str
    means: str | None
    changed: int  #: records whose value differs, filled and cleared ones among them
    filled: int  #: had no value before
    cleared: int
    examples: tuple[Example, ...]
    up: int = 0
    down: int = 0
    median_up: float | None = None  #: percent
    median_down: float | None = None
    classes: tuple[int, ...] = ()  #: of prices: records for each of CLASSES and beyond


@dataclass(frozen=True, slots=True)
class Impact:
    """Everything about one run that a shop would want to know before it is sent."""

    alive: int = 0  #: records that Norce has and that are not switched off
    new: int = 0
    back: int = 0  #: had been switched off by us because they were gone
    fields: tuple[FieldChange, ...] = ()
    gone: Tally = Tally()  #: no longer in the file
    switched_off: Tally = Tally()  #: gone and switched off for it, or switched off by the file
    switched_on: int = 0
    price_moves: Tally = Tally()  #: by more than the mapping's `by`
    price_zero: Tally = Tally()
    below_cost: Tally = Tally()
    stock_zero: Tally = Tally()
    stock_back: int = 0
    largest: tuple[Example, ...] = field(default=())  #: of all fields, prices first


def of(
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
    leaves = _plain(layout)
    names = list(dict.fromkeys(leaf.column for leaf in leaves if leaf.column in accepted.columns))
    was_off = pl.col(GONE).fill_null(False) if GONE in accepted.columns else pl.lit(False)
    old = accepted.select(
        KEY, pl.lit(True).alias(_SEEN), was_off.alias(_WAS_OFF), *(pl.col(name).alias(name + _OLD) for name in names)
    )
    frame = changes.frame.filter(~pl.col(GONE)).join(old, on=KEY, how="left", maintain_order="left")
    frame = frame.with_columns(pl.col(_SEEN).fill_null(False), pl.col(_WAS_OFF).fill_null(False))
    frame = frame.with_columns(
        pl.lit(None, dtype=frame.schema[leaf.column]).alias(leaf.column + _OLD)
        for leaf in {leaf.column: leaf for leaf in leaves if leaf.column not in names}.values()
    )
    known = frame.filter(pl.col(_SEEN) & ~pl.col(_WAS_OFF))
    fields = tuple(change for leaf in leaves if (change := _change(known, leaf)) is not None)
    by_file, on = _switched(known, layout)
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
        price_moves=_price_moves(known, leaves, float(by) * 100),
        price_zero=_price_zero(frame, leaves),
        below_cost=_below_cost(frame, leaves),
        stock_zero=_stock(known, leaves, zero=True),
        stock_back=_stock(known, leaves, zero=False).count,
        largest=tuple(ranked[: 2 * EXAMPLES]),
    )


def _plain(layout: Layout) -> list[Leaf]:
    """Leaves with a column of their own that are more than identity."""
    return [leaf for leaf in layout.leaves if leaf.inner is None and not leaf.key and not leaf.anchor]


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


def _largest(frame: pl.DataFrame, found: list[tuple[Leaf, pl.DataFrame]], records: pl.Expr) -> Tally:
    """`found`: for each leaf its rows with `_p`; a record counts once, whatever number of its fields are concerned."""
    count = int(frame.select(records.fill_null(False).sum()).item()) if found else 0
    examples: list[Example] = []
    for leaf, rows in found:
        examples += _examples(_top(rows), leaf)
    return Tally(count, tuple(sorted(examples, key=_weight, reverse=True)[:EXAMPLES]))


def _tally(frame: pl.DataFrame, wanted: dict[int, pl.Expr], leaves: list[Leaf]) -> Tally:
    if not wanted or frame.is_empty():
        return Tally()
    concerned = [leaf for leaf in leaves if leaf.index in wanted]
    found = [(leaf, frame.filter(wanted[leaf.index]).with_columns(_percent(leaf).alias("_p"))) for leaf in concerned]
    return _largest(frame, found, pl.any_horizontal(wanted.values()))


def _price_moves(known: pl.DataFrame, leaves: list[Leaf], percent: float) -> Tally:
    wanted = {leaf.index: _differs(leaf) & (_percent(leaf).abs() > percent) for leaf in _meaning(leaves, "price")}
    return _tally(known, wanted, leaves)


def _price_zero(frame: pl.DataFrame, leaves: list[Leaf]) -> Tally:
    wanted = {leaf.index: _differs(leaf) & (pl.col(leaf.column) <= 0) for leaf in _meaning(leaves, "price")}
    return _tally(frame, wanted, leaves)


def _below_cost(frame: pl.DataFrame, leaves: list[Leaf]) -> Tally:
    """Prices below a cost beside them, where this run makes it so; what was so before is not news."""
    by_name = {leaf.name: leaf for leaf in leaves}
    wanted: list[pl.Expr] = []
    examples: list[Example] = []
    for price in _meaning(leaves, "price"):
        for name in price.field.not_below:
            cost = by_name.get(price.name.removesuffix(price.field.name) + name)
            if cost is None:
                continue
            before = (pl.col(price.column + _OLD) < pl.col(cost.column + _OLD)).fill_null(False)
            now = (_after(price) < _after(cost)).fill_null(False)
            wanted.append(now & ~before & (_differs(price) | _differs(cost)))
            short = _after(cost).cast(pl.Float64) - _after(price).cast(pl.Float64)
            rows = frame.filter(wanted[-1]).select(
                KEY,
                pl.col(price.column + _OLD),
                _after(price).alias("price"),
                _after(cost).alias("cost"),
                _percent(price).alias("_p"),
                (short / _after(cost).cast(pl.Float64)).alias("_short"),
            )
            top = rows.sort("_short", descending=True, maintain_order=True).head(EXAMPLES)
            for key, old, new, least, percent, _ in top.iter_rows():
                after = f"{text(new, price)} (cost {text(least, cost)})"
                examples.append(Example(shown_key(key), price.name, text(old, price), after, _rounded(percent)))
    if not wanted or frame.is_empty():
        return Tally()
    count = int(frame.select(pl.any_horizontal(wanted).sum()).item())
    return Tally(count, tuple(examples[:EXAMPLES]))


def _after(leaf: Leaf) -> pl.Expr:
    """What Norce has in the end: the new value, or the old one where the file says nothing."""
    return pl.coalesce(leaf.column, leaf.column + _OLD)


def _stock(known: pl.DataFrame, leaves: list[Leaf], *, zero: bool) -> Tally:
    wanted = {}
    for leaf in _meaning(leaves, "stock"):
        before, after = pl.col(leaf.column + _OLD), pl.col(leaf.column)
        wanted[leaf.index] = _lit(leaf) & ((before > 0) & (after <= 0) if zero else (before <= 0) & (after > 0))
    return _tally(known, wanted, leaves)


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


def shown_key(key: str) -> str:
    """A key for people's eyes."""
    return key.replace("\x1f", " / ")


def shortened(value: str | None) -> str | None:
    """The beginning of a text."""
    return value if value is None or len(value) <= SHOWN else value[:SHOWN] + "…"


def text(value: Any, leaf: Leaf) -> str | None:
    """A value as people write it; None stays None."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and leaf.field.type == "enum":
        names = {number: name for name, number in contracts.load().enums.get(str(leaf.field.of), {}).items()}
        return names.get(value, str(value))
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def summary(impact: Impact) -> dict[str, Any]:
    """The impact as JSON, for reports, screens and the page."""
    return {
        "known": impact.alive,
        "new": impact.new,
        "back": impact.back,
        "gone": impact.gone.count,
        "switched_off": impact.switched_off.count,
        "switched_on": impact.switched_on,
        "stock_zero": impact.stock_zero.count,
        "stock_back": impact.stock_back,
        "texts": sum(change.changed for change in impact.fields if change.means == "text"),
        "fields": [
            {
                "field": change.name,
                "means": change.means,
                "changed": change.changed,
                "filled": change.filled,
                "cleared": change.cleared,
                "up": change.up,
                "down": change.down,
                "median_up": change.median_up,
                "median_down": change.median_down,
                "classes": list(change.classes),
            }
            for change in impact.fields
        ],
        "largest": [example.shown() for example in impact.largest],
        "gone_examples": [example.shown() for example in impact.gone.examples],
    }
