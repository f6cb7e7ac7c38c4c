"""Encodes a request: the X-StormConnect-Header object and the JSON array of records.

Both are made from one set of leaves, so that the header never names a field that the records lack.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import polars as pl

from etl.mapping import leaf_set
from etl.mapping.layout import Branch, Layout, Leaf
from etl.model.columns import ITEM

#: Suffix of a field's name that some elements lack; no name of Connect has it, see `_remove_marks`.
OPTIONAL_MARK = "\x1f"
_MARK_IN_JSON = "\\u001f"
_MARK_PATTERN = re.escape(_MARK_IN_JSON)


def encode_header(
    layout: Layout, bits: int, *, account_id: int, supplier: int | None, full_file: bool
) -> dict[str, Any]:
    """Build the header for a set of leaves; flags are numbers, because their spelling differs between pages.

    https://docs.norce.io/api-reference/connect/productservice/x-stormconnect-header-product
    """
    operation = layout.operation
    active = layout.active_flags(bits, full_file=full_file)
    header: dict[str, Any] = {"AccountId": account_id}
    if operation.full_file.is_supported:
        header["FullFile"] = full_file
    if operation.key.header_fields and supplier is not None:
        header["SupplierId"] = supplier
    for name, array in operation.arrays.items():
        numbers = sorted(flag.number for flag in array.flags.values() if flag.id in active)
        partner = array.sent_with
        with_partner = partner is not None and any(
            flag in active for flag in (f"{partner}.{n}" for n in operation.arrays[partner].flags)
        )
        if numbers or array.always_sent or with_partner:
            header[name] = numbers
    return header


def encode_payload(frame: pl.DataFrame, bits: int, layout: Layout) -> bytes:
    """Build the JSON array for these rows: every record has exactly the leaves of the set.

    Where the rows share a header but not a set (`leaf_set.OWN_SET`), each has the leaves of its own set.
    """
    selection = _Selection(frame, bits, layout)
    places = (
        _partial_places(layout.tree, selection.leaves)
        | _optional_places(layout, selection.leaves)
        | selection.optional_places(layout.tree)
    )
    tree = _mark_places(layout.tree, places | _same_name_places([layout.tree], places))
    top_fields = [
        (branch.name, expr)
        for branch in tree
        if branch.kind != "units" and (expr := _branch_expression(branch, selection, layout, _column_value)) is not None
    ]
    units = next((branch for branch in tree if branch.kind == "units"), None)
    if units is None:
        return _remove_marks(frame.select(expr.alias(name) for name, expr in top_fields).write_json())
    inside = pl.struct(
        expr.alias(child.name)
        for child in units.children
        if (expr := _branch_expression(child, selection, layout, _column_value)) is not None
    )
    order = [branch.name for branch in tree if branch.kind == "units" or branch.name in dict(top_fields)]
    rows = frame.select(pl.col(ITEM), *(expr.alias(name) for name, expr in top_fields), inside.alias(units.name))
    items = rows.group_by(ITEM, maintain_order=True).agg(
        *(pl.col(name).first() for name, _ in top_fields), pl.col(units.name)
    )
    return _remove_marks(items.select(order).write_json())


def _optional_places(layout: Layout, selected_leaves: set[int]) -> set[str]:
    """Return the places that elements of a list made of rows may leave empty: they have no flag of their own."""
    inside = [leaf for leaf in layout.leaves if leaf.index in selected_leaves and leaf.inner and not leaf.required]
    return {leaf.name for leaf in inside if leaf.value.empty != "clear" and not layout.has_own_flag(leaf)}


def _partial_places(branches: Iterable[Branch], selected_leaves: set[int]) -> set[str]:
    """Return the places that only some elements of a list have: polars fills the others with null."""
    places: set[str] = set()
    for branch in branches:
        if branch.kind == "elements":
            places |= _places_not_in_all(
                [element for element in branch.elements if _has_selected(element, selected_leaves)], selected_leaves
            )
        else:
            places |= _partial_places(branch.children, selected_leaves)
    return places


def _places_not_in_all(groups: list[tuple[Branch, ...]], selected_leaves: set[int]) -> set[str]:
    """Return the places that only some of the objects have, which become one type."""
    by_name: dict[str, list[Branch]] = {}
    for branch in (branch for group in groups for branch in group if _has_selected((branch,), selected_leaves)):
        by_name.setdefault(branch.name, []).append(branch)
    places: set[str] = set()
    for same in by_name.values():
        if len(same) < len(groups):
            places.update(branch.place for branch in same)
        inner = [branch.children for branch in same if branch.children]
        places |= _places_not_in_all(
            inner + [element for branch in same for element in branch.elements], selected_leaves
        )
    return places


def _same_name_places(groups: list[tuple[Branch, ...]], places: set[str]) -> set[str]:
    """Return the places of fields with the same name as a marked one: in the elements of a list they are one field."""
    by_name: dict[str, list[Branch]] = {}
    for branch in (branch for group in groups for branch in group):
        by_name.setdefault(branch.name, []).append(branch)
    same_name_places: set[str] = set()
    for same in by_name.values():
        if any(branch.place in places for branch in same):
            same_name_places.update(branch.place for branch in same)
        inner = [group for branch in same for group in (branch.children, *branch.elements) if group]
        same_name_places |= _same_name_places(inner, places) if inner else set()
    return same_name_places


def _has_selected(branches: Iterable[Branch], selected_leaves: set[int]) -> bool:
    return any(
        branch.leaf in selected_leaves
        or _has_selected(branch.children, selected_leaves)
        or any(_has_selected(e, selected_leaves) for e in branch.elements)
        for branch in branches
    )


def _mark_places(branches: tuple[Branch, ...], places: set[str]) -> tuple[Branch, ...]:
    """Mark the names at these places: a null there is no value, and is removed from the JSON."""
    if not places:
        return branches
    return tuple(
        replace(
            branch,
            name=branch.name + OPTIONAL_MARK if branch.place in places else branch.name,
            children=_mark_places(branch.children, places),
            elements=tuple(_mark_places(element, places) for element in branch.elements),
        )
        for branch in branches
    )


def _remove_marks(text: str) -> bytes:
    """Remove marked nulls, and the marks, from JSON. Safe on text: inside a string every quote is escaped."""
    if _MARK_IN_JSON not in text:
        return text.encode()
    for name in sorted(set(re.findall(rf'"(\w+){_MARK_PATTERN}":', text))):
        field = f'"{name}{_MARK_IN_JSON}":'
        text = text.replace(f",{field}null", "").replace(f"{{{field}null,", "{").replace(f"{{{field}null}}", "{}")
        text = text.replace(field, f'"{name}":')
    return text.encode()


def _column_value(leaf: Leaf) -> pl.Expr:
    return pl.col(leaf.name)


def _element_value(leaf: Leaf) -> pl.Expr:
    return pl.element().struct.field(str(leaf.inner))


class _Selection:
    """The leaves that are sent, and for which rows, where rows share a header but not a set."""

    def __init__(self, frame: pl.DataFrame, bits: int, layout: Layout) -> None:
        self.layout = layout
        self.leaves = {leaf.index for leaf in layout.leaves_in(bits)}
        self.word_columns = leaf_set.own_set_columns(frame)
        in_all = bits
        if self.word_columns:
            in_all = leaf_set.join_words(frame.select(pl.col(self.word_columns).bitwise_and()).row(0))
        self.varying = bits & ~in_all

    def bits_of(self, branch: Branch) -> int:
        """Return the leaves below a node that some rows send, as bits."""
        if branch.kind == "leaf":
            return 1 << branch.leaf if branch.leaf in self.leaves else 0
        inner = (self.bits_of(child) for group in (branch.children, *branch.elements) for child in group)
        return functools.reduce(operator.or_, inner, 0)

    def is_partial(self, bits: int) -> bool:
        """Whether some rows send none of these leaves."""
        return bool(bits) and not bits & ~self.varying

    def where_selected(self, bits: int, expr: pl.Expr) -> pl.Expr:
        """Return the expression for the rows that send some of these leaves, else null."""
        if not self.is_partial(bits):
            return expr
        masks = zip(self.word_columns, leaf_set.split_words(bits, len(self.word_columns)), strict=True)
        is_selected = [pl.col(name) & pl.lit(mask, dtype=pl.UInt64) != 0 for name, mask in masks if mask]
        return pl.when(pl.any_horizontal(is_selected)).then(expr)

    def optional_places(self, branches: Iterable[Branch]) -> set[str]:
        """Return the places that only some rows send; list elements are left out as elements."""
        places: set[str] = set()
        for branch in branches:
            if branch.kind != "units" and self.is_partial(self.bits_of(branch)) and not self.is_always_present(branch):
                places.add(branch.place)
            for group in (branch.children, *branch.elements):
                places |= self.optional_places(group)
        return places

    def is_always_present(self, branch: Branch) -> bool:
        """Whether a leaf is in every object or element around it: it is required, a key, or has its own flag."""
        if branch.kind != "leaf":
            return False
        leaf = self.layout.leaves[branch.leaf]  # type: ignore[index]
        return leaf.required or leaf.key or self.layout.has_own_flag(leaf)


def _branch_expression(
    branch: Branch, selection: _Selection, layout: Layout, value_of: Callable[[Leaf], pl.Expr]
) -> pl.Expr | None:
    """Return a node of the payload as an expression; None where no leaf of it is sent."""
    bits = selection.bits_of(branch)
    if not bits:
        return None
    if branch.kind == "leaf":
        leaf = layout.leaves[branch.leaf]  # type: ignore[index]
        value = _json_number(value_of(leaf), leaf)
        return (
            value
            if selection.is_always_present(branch) or leaf.inner is not None
            else selection.where_selected(bits, value)
        )
    if branch.kind == "object":
        struct = _struct_expression(branch.children, selection, layout, value_of)
        return struct if struct is None or value_of is _element_value else selection.where_selected(bits, struct)
    if branch.kind == "elements":
        elements = [
            (_struct_expression(each, selection, layout, value_of, scalar=branch.scalar), each)
            for each in branch.elements
        ]
        if value_of is _element_value or not bits & selection.varying:
            expressions = [expr for expr, _ in elements if expr is not None]
            have_same_type = _have_same_type(branch.elements, selection.leaves, layout)
            return pl.concat_arr(expressions) if have_same_type else pl.concat_list(expressions)
        inside = [(expr, functools.reduce(operator.or_, map(selection.bits_of, each), 0)) for expr, each in elements]
        selected = [selection.where_selected(element_bits, expr) for expr, element_bits in inside if expr is not None]
        return selection.where_selected(bits, pl.concat_list(selected).list.drop_nulls())
    template = _struct_expression(branch.children, selection, layout, _element_value, scalar=branch.scalar)
    return None if template is None else selection.where_selected(bits, pl.col(branch.place).list.eval(template))


def _have_same_type(elements: tuple[tuple[Branch, ...], ...], selected_leaves: set[int], layout: Layout) -> bool:
    """Whether the elements have one type and each has a column: then they are concatenated fast."""
    present = [element for element in elements if _has_selected(element, selected_leaves)]
    return len({_field_names(element, selected_leaves) for element in present}) == 1 and all(
        _has_column(element, selected_leaves, layout) for element in present
    )


def _field_names(branches: tuple[Branch, ...], selected_leaves: set[int]) -> tuple[object, ...]:
    """Return the names in an element, in order, each with the names inside it."""
    return tuple(
        (
            branch.name,
            _field_names(branch.children, selected_leaves),
            tuple(_field_names(element, selected_leaves) for element in branch.elements),
        )
        for branch in branches
        if _has_selected((branch,), selected_leaves)
    )


def _has_column(branches: tuple[Branch, ...], selected_leaves: set[int], layout: Layout) -> bool:
    return any(
        (branch.leaf in selected_leaves and not layout.leaves[branch.leaf].constant)
        if branch.leaf is not None
        else any(_has_column(group, selected_leaves, layout) for group in (branch.children, *branch.elements))
        for branch in branches
    )


def _struct_expression(
    children: tuple[Branch, ...],
    selection: _Selection,
    layout: Layout,
    value_of: Callable[[Leaf], pl.Expr],
    *,
    scalar: bool = False,
) -> pl.Expr | None:
    fields = [
        (child.name, expr)
        for child in children
        if (expr := _branch_expression(child, selection, layout, value_of)) is not None
    ]
    if not fields:
        return None
    return fields[0][1] if scalar else pl.struct(expr.alias(name) for name, expr in fields)


def _json_number(expr: pl.Expr, leaf: Leaf) -> pl.Expr:
    """Return decimals as JSON numbers: with at most 15 digits, the shortest text of a double is the decimal."""
    return expr.cast(pl.Float64) if leaf.field.type == "number" else expr
