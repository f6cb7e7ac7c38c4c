"""What Connect takes as a whole: an object or a list under one flag, replaced by what is sent of it.

Left out of it is gone from it. So an empty cell that says nothing (`empty: leave`) is filled with what Norce has
accepted, and an element of which a row gives nothing is no element any more.
"""

from __future__ import annotations

from collections.abc import Mapping as Map

import polars as pl

from etl.mapping.layout import Layout, Leaf
from etl.plan.rows.sendable import elements_given


def fill_from_accepted(
    joined: pl.DataFrame, layout: Layout, has_value: Map[int, pl.Expr], accepted_columns: Map[str, str]
) -> pl.DataFrame:
    """`joined` with empty cells of such objects and elements as they were; `old`: columns of what was accepted."""
    made: dict[str, pl.Expr] = {}
    for leaf in layout.leaves:
        inside_list = leaf.inner is not None and leaf.bundle == leaf.column
        if leaf.column not in accepted_columns or inside_list or leaf.constant or leaf.value.empty == "clear":
            continue
        if layout.bundles[leaf.bundle].bit_count() > 1:
            same = [
                _has_same_identity(other, accepted_columns)
                for place in leaf.parents
                for other in layout.leaves_in(layout.identifiers.get(place, 0))
            ]
            there = pl.all_horizontal(pl.lit(True), *same, *elements_given(leaf, layout, has_value))
            value = pl.col(leaf.column)
            made[leaf.column] = (
                pl.when(there).then(pl.coalesce(value, pl.col(accepted_columns[leaf.column]))).otherwise(value)
            )
    return joined.with_columns(expr.alias(name) for name, expr in made.items())


def shrunk_lists(layout: Layout, has_value: Map[int, pl.Expr], accepted_columns: Map[str, str]) -> dict[str, pl.Expr]:
    """For each list that is sent whole, whether something that Norce has accepted is no longer in it."""
    lost: dict[str, list[pl.Expr]] = {}
    for leaf in layout.leaves:
        if leaf.column in accepted_columns and not leaf.constant and layout.bundles[leaf.bundle].bit_count() > 1:
            given = has_value[leaf.index] if leaf.inner is None else pl.col(leaf.column).is_not_null()
            lost.setdefault(leaf.bundle, []).append(pl.col(accepted_columns[leaf.column]).is_not_null() & ~given)
    return {bundle: pl.any_horizontal(gone) for bundle, gone in lost.items()}


def _has_same_identity(identifier: Leaf, accepted_columns: Map[str, str]) -> pl.Expr:
    """Whether what tells an object or element apart is what it was; else it is another one."""
    if identifier.constant or identifier.column not in accepted_columns:
        return pl.lit(True)
    return pl.col(identifier.column).eq_missing(pl.col(accepted_columns[identifier.column]))
