"""Which leaves of a record can be sent, and how many of its values are suppressed."""

from __future__ import annotations

from collections.abc import Mapping as Map

import polars as pl

from etl.mapping.layout import Layout, Leaf
from etl.model.columns import NEW


def elements_given(leaf: Leaf, layout: Layout, has_value: Map[int, pl.Expr]) -> list[pl.Expr]:
    """For each list element around a leaf, whether a row gives anything of it."""
    found = []
    for place in leaf.parents:
        given = (
            [has_value[o.index] for o in layout.leaves_in(layout.descendants[place]) if not o.constant]
            if place[-1] == "]"
            else []
        )
        if given:
            found.append(pl.any_horizontal(given))
    return found


def leaf_value(leaf: Leaf, suffix: str = "") -> pl.Expr:
    """A leaf's value; for a leaf inside a list made of rows, the list of its values."""
    column = pl.col(leaf.column + suffix)
    if leaf.inner is None:
        return column
    return column.list.eval(pl.element().struct.field(leaf.inner))


def counts_as_change(leaf: Leaf, layout: Layout) -> bool:
    """Whether a leaf can be a change of its own: what only goes along is none."""
    goes_along = leaf.key and layout.operation.key.match == "all"
    return not (goes_along or (leaf.constant and leaf.identifier and not _has_only_identifiers(leaf, layout)))


def sendable_leaves(layout: Layout) -> dict[int, pl.Expr]:
    """For every leaf whether a record can send it: there is a value, it is ours to write, and it would be read.

    Expressions over a frame of records with the column NEW.
    """
    return _sendable_leaves(layout, {leaf.index: _has_value(leaf, layout) for leaf in layout.leaves})


def _sendable_leaves(layout: Layout, has_value: Map[int, pl.Expr]) -> dict[int, pl.Expr]:
    found: dict[int, pl.Expr] = {}
    for leaf in layout.leaves:
        conditions = [has_value[leaf.index], *elements_given(leaf, layout, has_value)]
        for place in leaf.parents:  # an object or element without what tells it apart cannot be sent
            anchors = list(layout.leaves_in(layout.identifiers.get(place, 0)))
            musts = [other for other in anchors if other.required or other.identifies_list == place]
            conditions += [has_value[other.index] for other in musts if not other.constant]
            if anchors and not musts and not any(other.constant for other in anchors):
                conditions.append(pl.any_horizontal(has_value[other.index] for other in anchors))
        if leaf.index in layout.read_with:  # read with another field, which the row has to give
            partners = (has_value[other.index] for other in layout.leaves_in(layout.read_with[leaf.index]))
            conditions.append(pl.any_horizontal(pl.lit(False), *partners))
        if not leaf.value.own:
            conditions.append(pl.col(NEW) & ~pl.col("_back"))  # once, at its creation
        found[leaf.index] = pl.all_horizontal(conditions)
    return found


def _has_value(leaf: Leaf, layout: Layout) -> pl.Expr:
    """Whether a record has a value that Connect would take as one."""
    filled = pl.col(leaf.column).is_not_null()
    if leaf.inner is not None:
        if leaf.value.empty == "clear":
            return filled
        holes = leaf_value(leaf).list.eval(pl.element().is_null())
        lacking = holes.list.any() if leaf.required or layout.has_own_flag(leaf) else holes.list.all()
        return filled & ~lacking
    if leaf.value.empty == "clear":
        filled = pl.lit(True)
    elif leaf.field.null_effect == "ignored":
        filled = filled & (pl.col(leaf.column) != 0)
    switch = layout.activates.get(leaf.index)
    if switch is not None:
        filled = filled & pl.col(switch.column).fill_null(True)
    if leaf.index in layout.overridden_by:
        filled = filled & ~_has_value(layout.overridden_by[leaf.index], layout)
    return filled


def _has_only_identifiers(leaf: Leaf, layout: Layout) -> bool:
    """A list whose elements are nothing but their code: there the code is the content."""
    return all(
        other.identifier and other.parent == leaf.parent for other in layout.leaves if leaf.parent in other.parents
    )


def suppressed_count(layout: Layout) -> pl.Expr:
    """How many values a row gives that are not sent, because Connect would ignore them or do more than asked."""
    kept_back = [
        leaf
        for leaf in layout.leaves
        if leaf.inner is None
        and (
            leaf.field.null_effect == "ignored" or leaf.index in layout.overridden_by or leaf.index in layout.activates
        )
    ]
    conditions = [pl.col(leaf.column).is_not_null() & ~_has_value(leaf, layout) for leaf in kept_back]
    return pl.sum_horizontal(pl.lit(0, pl.UInt32), *(condition.cast(pl.UInt32) for condition in conditions))
