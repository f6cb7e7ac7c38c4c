"""Which leaves of a record can be sent, and how many of its values are suppressed."""

from __future__ import annotations

from collections.abc import Mapping as Map

import polars as pl

from etl.mapping.layout import Layout, Leaf
from etl.model.columns import NEW


def present(leaf: Leaf, layout: Layout, filled: Map[int, pl.Expr]) -> list[pl.Expr]:
    """For each list element around a leaf, whether a row gives anything of it."""
    found = []
    for place in leaf.parents:
        given = [filled[o.index] for o in layout.of(layout.under[place]) if not o.constant] if place[-1] == "]" else []
        if given:
            found.append(pl.any_horizontal(given))
    return found


def value(leaf: Leaf, suffix: str = "") -> pl.Expr:
    """A leaf's value; for a leaf inside a list made of rows, the list of its values."""
    column = pl.col(leaf.column + suffix)
    if leaf.inner is None:
        return column
    return column.list.eval(pl.element().struct.field(leaf.inner))


def is_change(leaf: Leaf, layout: Layout) -> bool:
    """Whether a leaf can be a change of its own: what only goes along is none."""
    goes_along = leaf.key and layout.operation.key.match == "all"
    return not (goes_along or (leaf.constant and leaf.anchor and not _only_anchors(leaf, layout)))


def able(layout: Layout) -> dict[int, pl.Expr]:
    """For every leaf whether a record can send it: there is a value, it is ours to write, and it would be read.

    Expressions over a frame of records with the column NEW.
    """
    return _able(layout, {leaf.index: _filled(leaf, layout) for leaf in layout.leaves})


def _able(layout: Layout, filled: Map[int, pl.Expr]) -> dict[int, pl.Expr]:
    found: dict[int, pl.Expr] = {}
    for leaf in layout.leaves:
        conditions = [filled[leaf.index], *present(leaf, layout, filled)]
        for place in leaf.parents:  # an object or element without what tells it apart cannot be sent
            anchors = list(layout.of(layout.anchors.get(place, 0)))
            musts = [other for other in anchors if other.must or other.tells == place]
            conditions += [filled[other.index] for other in musts if not other.constant]
            if anchors and not musts and not any(other.constant for other in anchors):
                conditions.append(pl.any_horizontal(filled[other.index] for other in anchors))
        if leaf.index in layout.companions:  # read with another field, which the row has to give
            partners = (filled[other.index] for other in layout.of(layout.companions[leaf.index]))
            conditions.append(pl.any_horizontal(pl.lit(False), *partners))
        if not leaf.value.own:
            conditions.append(pl.col(NEW) & ~pl.col("_back"))  # once, at its creation
        found[leaf.index] = pl.all_horizontal(conditions)
    return found


def _filled(leaf: Leaf, layout: Layout) -> pl.Expr:
    """Whether a record has a value that Connect would take as one."""
    filled = pl.col(leaf.column).is_not_null()
    if leaf.inner is not None:
        if leaf.value.empty == "clear":
            return filled
        holes = value(leaf).list.eval(pl.element().is_null())
        lacking = holes.list.any() if leaf.must or layout.speaks(leaf) else holes.list.all()
        return filled & ~lacking
    if leaf.value.empty == "clear":
        filled = pl.lit(True)
    elif leaf.field.empty == "ignored":
        filled = filled & (pl.col(leaf.column) != 0)
    switch = layout.forced.get(leaf.index)
    if switch is not None:
        filled = filled & pl.col(switch.column).fill_null(True)
    if leaf.index in layout.overruled:
        filled = filled & ~_filled(layout.overruled[leaf.index], layout)
    return filled


def _only_anchors(leaf: Leaf, layout: Layout) -> bool:
    """A list whose elements are nothing but their code: there the code is the content."""
    return all(other.anchor and other.parent == leaf.parent for other in layout.leaves if leaf.parent in other.parents)


def withheld(layout: Layout) -> pl.Expr:
    """How many values a row gives that are not sent, because Connect would ignore them or do more than asked."""
    kept_back = [
        leaf
        for leaf in layout.leaves
        if leaf.inner is None
        and (leaf.field.empty == "ignored" or leaf.index in layout.overruled or leaf.index in layout.forced)
    ]
    conditions = [pl.col(leaf.column).is_not_null() & ~_filled(leaf, layout) for leaf in kept_back]
    return pl.sum_horizontal(pl.lit(0, pl.UInt32), *(condition.cast(pl.UInt32) for condition in conditions))
