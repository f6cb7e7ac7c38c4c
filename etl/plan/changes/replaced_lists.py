"""Completes objects and lists that Connect replaces as a whole, because a value left out of them is removed.

An empty cell (with `empty: leave`) gets the accepted value; a list element without any value in the row is removed.
"""

from __future__ import annotations

from collections.abc import Mapping as Map

import polars as pl

from etl.mapping.layout import Layout, Leaf
from etl.plan.rows.sendable import elements_given


def fill_from_accepted(
    joined: pl.DataFrame, layout: Layout, has_value: Map[int, pl.Expr], accepted_columns: Map[str, str]
) -> pl.DataFrame:
    """Fill empty cells of such objects and elements; `accepted_columns` gives the column of the accepted value."""
    filled: dict[str, pl.Expr] = {}
    for leaf in layout.leaves:
        inside_list = leaf.inner is not None and leaf.bundle == leaf.column
        if leaf.column not in accepted_columns or inside_list or leaf.constant or leaf.value.empty == "clear":
            continue
        if layout.bundles[leaf.bundle].bit_count() > 1:
            same_identity = [
                _has_same_identity(other, accepted_columns)
                for place in leaf.parents
                for other in layout.leaves_in(layout.identifiers.get(place, 0))
            ]
            is_same_element = pl.all_horizontal(pl.lit(True), *same_identity, *elements_given(leaf, layout, has_value))
            value = pl.col(leaf.column)
            filled[leaf.column] = (
                pl.when(is_same_element)
                .then(pl.coalesce(value, pl.col(accepted_columns[leaf.column])))
                .otherwise(value)
            )
    return joined.with_columns(expr.alias(name) for name, expr in filled.items())


def shrunk_lists(layout: Layout, has_value: Map[int, pl.Expr], accepted_columns: Map[str, str]) -> dict[str, pl.Expr]:
    """Return for each list that is sent whole whether it lacks an accepted value."""
    lost_values: dict[str, list[pl.Expr]] = {}
    for leaf in layout.leaves:
        if leaf.column in accepted_columns and not leaf.constant and layout.bundles[leaf.bundle].bit_count() > 1:
            has_value_now = has_value[leaf.index] if leaf.inner is None else pl.col(leaf.column).is_not_null()
            lost_values.setdefault(leaf.bundle, []).append(
                pl.col(accepted_columns[leaf.column]).is_not_null() & ~has_value_now
            )
    return {bundle: pl.any_horizontal(conditions) for bundle, conditions in lost_values.items()}


def _has_same_identity(identifier: Leaf, accepted_columns: Map[str, str]) -> pl.Expr:
    """Whether an identifier has its accepted value; with another one it is another object or element."""
    if identifier.constant or identifier.column not in accepted_columns:
        return pl.lit(True)
    return pl.col(identifier.column).eq_missing(pl.col(accepted_columns[identifier.column]))
