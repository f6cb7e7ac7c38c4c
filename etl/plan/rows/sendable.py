"""Which leaves of a record can be sent, and how many of its values are suppressed."""

from __future__ import annotations

from collections.abc import Mapping as Map

import polars as pl

from etl.mapping.layout import Layout, Leaf
from etl.model.columns import NEW, REAPPEARED


def elements_given(leaf: Leaf, layout: Layout, has_value: Map[int, pl.Expr]) -> list[pl.Expr]:
    """Return for each list element around a leaf whether a row gives a value in it."""
    conditions = []
    for place in leaf.parents:
        values = (
            [has_value[o.index] for o in layout.leaves_in(layout.descendants[place]) if not o.constant]
            if place[-1] == "]"
            else []
        )
        if values:
            conditions.append(pl.any_horizontal(values))
    return conditions


def leaf_value(leaf: Leaf, suffix: str = "") -> pl.Expr:
    """Return a leaf's value; for a leaf inside a list made of rows, the list of its values."""
    column = pl.col(leaf.column + suffix)
    if leaf.inner is None:
        return column
    return column.list.eval(pl.element().struct.field(leaf.inner))


def counts_as_change(leaf: Leaf, layout: Layout) -> bool:
    """Return whether a leaf can be a change by itself: what is only sent with others is none."""
    goes_along = leaf.key and layout.operation.key.match == "all"
    return not (goes_along or (leaf.constant and leaf.identifier and not _has_only_identifiers(leaf, layout)))


def sendable_leaves(layout: Layout) -> dict[int, pl.Expr]:
    """Return for every leaf whether a record can send it: it has a value that is ours to write and that would be read.

    The expressions are over a frame of records with the columns NEW and REAPPEARED.
    """
    return conditions_to_send(layout, leaves_with_value(layout))


def leaves_with_value(layout: Layout) -> dict[int, pl.Expr]:
    """Return for every leaf whether a record has a value that Connect would take as one."""
    return {leaf.index: _has_value(leaf, layout) for leaf in layout.leaves}


def conditions_to_send(layout: Layout, has_value: Map[int, pl.Expr]) -> dict[int, pl.Expr]:
    """Return for every leaf whether a record can send it, from the conditions of `leaves_with_value`."""
    alone = {leaf.index: _can_send_alone(leaf, layout, has_value) for leaf in layout.leaves}
    sendable = dict(alone)
    for index, partners in layout.read_with.items():  # Connect reads the field only together with one of the others.
        has_partner = (alone[other.index] for other in layout.leaves_in(partners))
        sendable[index] = alone[index] & pl.any_horizontal(pl.lit(False), *has_partner)
    return sendable


def _can_send_alone(leaf: Leaf, layout: Layout, has_value: Map[int, pl.Expr]) -> pl.Expr:
    """Return whether a record can send a leaf, apart from fields that Connect reads only together with it."""
    conditions = [has_value[leaf.index], *elements_given(leaf, layout, has_value)]
    for place in leaf.parents:  # An object or element without its identifiers cannot be sent.
        identifiers = list(layout.leaves_in(layout.identifiers.get(place, 0)))
        required = [other for other in identifiers if other.required or other.identifies_list == place]
        conditions += [has_value[other.index] for other in required]
        if identifiers and not required:
            conditions.append(pl.any_horizontal(has_value[other.index] for other in identifiers))
    if not leaf.value.own:
        conditions.append(pl.col(NEW) & ~pl.col(REAPPEARED))  # Only a new record sends it.
    return pl.all_horizontal(conditions)


def _has_value(leaf: Leaf, layout: Layout) -> pl.Expr:
    """Return whether a record has a value that Connect would take as one."""
    filled = pl.col(leaf.column).is_not_null()
    if leaf.inner is not None:
        if leaf.value.empty == "clear":
            return filled
        holes = leaf_value(leaf).list.eval(pl.element().is_null())
        is_incomplete = holes.list.any() if leaf.required or layout.has_own_flag(leaf) else holes.list.all()
        return filled & ~is_incomplete
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
    """Return whether list elements hold nothing but their code: there the code is the content."""
    return all(
        other.identifier and other.parent == leaf.parent for other in layout.leaves if leaf.parent in other.parents
    )


def suppressed_count(layout: Layout) -> pl.Expr:
    """Count the values of a row that are not sent, because Connect would ignore them or do more than asked."""
    suppressible = [
        leaf
        for leaf in layout.leaves
        if leaf.inner is None and (leaf.field.null_effect == "ignored" or leaf.index in layout.overridden_by)
    ]
    conditions = [pl.col(leaf.column).is_not_null() & ~_has_value(leaf, layout) for leaf in suppressible]
    return pl.sum_horizontal(pl.lit(0, pl.UInt32), *(condition.cast(pl.UInt32) for condition in conditions))
