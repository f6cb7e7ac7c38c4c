"""A request's two halves: the X-StormConnect-Header object and the JSON array of records.

Both follow from one set of leaves, so the header cannot name what the records lack.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import polars as pl

from etl.mapping.layout import BITS, Branch, Layout, Leaf, own_columns, unpack
from etl.model.columns import ITEM

#: Behind the name of a field that some elements lack; no name of Connect's has it, see `_strip`.
MARK = "\x1f"
_MARKED = "\\u001f"
_ESCAPED = re.escape(_MARKED)


def header(layout: Layout, bits: int, *, account_id: int, supplier: int | None, full_file: bool) -> dict[str, Any]:
    """The header for a set of leaves; flags as integers, because their spelling differs between pages.

    https://docs.norce.io/api-reference/connect/productservice/x-stormconnect-header-product
    """
    operation = layout.operation
    lit = layout.lit(bits, full_file=full_file)
    made: dict[str, Any] = {"AccountId": account_id}
    if operation.full_file.supported:
        made["FullFile"] = full_file
    if operation.key.header_fields and supplier is not None:
        made["SupplierId"] = supplier
    for name, array in operation.arrays.items():
        numbers = sorted(flag.number for flag in array.flags.values() if flag.id in lit)
        partner = array.together_with
        with_partner = partner is not None and any(
            flag in lit for flag in (f"{partner}.{n}" for n in operation.arrays[partner].flags)
        )
        if numbers or array.always or with_partner:
            made[name] = numbers
    return made


def payload(frame: pl.DataFrame, bits: int, layout: Layout) -> bytes:
    """The JSON array for these rows: exactly the leaves of the set, every record all of them.

    Where the rows share a header but not a set (`layout.OWN`), each has the leaves of its own.
    """
    wanted = _Wanted(frame, bits, layout)
    places = _uneven(layout.tree, wanted.leaves) | _optional(layout, wanted.leaves) | wanted.optional(layout.tree)
    tree = _marked(layout.tree, places | _namesakes([layout.tree], places))
    top = [
        (branch.name, expr)
        for branch in tree
        if branch.kind != "units" and (expr := _branch(branch, wanted, layout, _column)) is not None
    ]
    units = next((branch for branch in tree if branch.kind == "units"), None)
    if units is None:
        return _strip(frame.select(expr.alias(name) for name, expr in top).write_json())
    inside = pl.struct(
        expr.alias(child.name)
        for child in units.children
        if (expr := _branch(child, wanted, layout, _column)) is not None
    )
    order = [branch.name for branch in tree if branch.kind == "units" or branch.name in dict(top)]
    rows = frame.select(pl.col(ITEM), *(expr.alias(name) for name, expr in top), inside.alias(units.name))
    items = rows.group_by(ITEM, maintain_order=True).agg(*(pl.col(name).first() for name, _ in top), pl.col(units.name))
    return _strip(items.select(order).write_json())


def _optional(layout: Layout, wanted: set[int]) -> set[str]:
    """Places that some elements of a list made of rows may leave empty: no flag of their own asks for them."""
    inside = [leaf for leaf in layout.leaves if leaf.index in wanted and leaf.inner and not leaf.must]
    return {leaf.name for leaf in inside if leaf.value.empty != "clear" and not layout.speaks(leaf)}


def _uneven(branches: Iterable[Branch], wanted: set[int]) -> set[str]:
    """Places that some elements of a list have and others lack: polars fills these up with null."""
    found: set[str] = set()
    for branch in branches:
        if branch.kind == "elements":
            found |= _missing([element for element in branch.elements if _any(element, wanted)], wanted)
        else:
            found |= _uneven(branch.children, wanted)
    return found


def _missing(groups: list[tuple[Branch, ...]], wanted: set[int]) -> set[str]:
    """Of objects that become one type, the places that not all of them have."""
    by_name: dict[str, list[Branch]] = {}
    for branch in (branch for group in groups for branch in group if _any((branch,), wanted)):
        by_name.setdefault(branch.name, []).append(branch)
    found: set[str] = set()
    for same in by_name.values():
        if len(same) < len(groups):
            found.update(branch.place for branch in same)
        inner = [branch.children for branch in same if branch.children]
        found |= _missing(inner + [element for branch in same for element in branch.elements], wanted)
    return found


def _namesakes(groups: list[tuple[Branch, ...]], places: set[str]) -> set[str]:
    """What bears the same name in the elements of a list becomes one field, so all of it is marked or none."""
    by_name: dict[str, list[Branch]] = {}
    for branch in (branch for group in groups for branch in group):
        by_name.setdefault(branch.name, []).append(branch)
    found: set[str] = set()
    for same in by_name.values():
        if any(branch.place in places for branch in same):
            found.update(branch.place for branch in same)
        inner = [group for branch in same for group in (branch.children, *branch.elements) if group]
        found |= _namesakes(inner, places) if inner else set()
    return found


def _any(branches: Iterable[Branch], wanted: set[int]) -> bool:
    return any(
        branch.leaf in wanted or _any(branch.children, wanted) or any(_any(e, wanted) for e in branch.elements)
        for branch in branches
    )


def _marked(branches: tuple[Branch, ...], places: set[str]) -> tuple[Branch, ...]:
    """The tree with a mark on the names at these places: there a null is no value and is taken out again."""
    if not places:
        return branches
    return tuple(
        replace(
            branch,
            name=branch.name + MARK if branch.place in places else branch.name,
            children=_marked(branch.children, places),
            elements=tuple(_marked(element, places) for element in branch.elements),
        )
        for branch in branches
    )


def _strip(text: str) -> bytes:
    """Take marked nulls out of JSON, and the marks. Safe as text: inside a string every quote is escaped."""
    if _MARKED not in text:
        return text.encode()
    for name in sorted(set(re.findall(rf'"(\w+){_ESCAPED}":', text))):
        field = f'"{name}{_MARKED}":'
        text = text.replace(f",{field}null", "").replace(f"{{{field}null,", "{").replace(f"{{{field}null}}", "{}")
        text = text.replace(field, f'"{name}":')
    return text.encode()


def _column(leaf: Leaf) -> pl.Expr:
    return pl.col(leaf.name)


def _element(leaf: Leaf) -> pl.Expr:
    return pl.element().struct.field(str(leaf.inner))


class _Wanted:
    """Which leaves go, and for which rows where they share a header but not a set."""

    def __init__(self, frame: pl.DataFrame, bits: int, layout: Layout) -> None:
        self.layout = layout
        self.leaves = {leaf.index for leaf in layout.of(bits)}
        self.words = own_columns(frame)
        least = unpack(frame.select(pl.col(self.words).bitwise_and()).row(0)) if self.words else bits
        self.varying = bits & ~least

    def of(self, branch: Branch) -> int:
        """The leaves below a node that go for some rows."""
        if branch.kind == "leaf":
            return 1 << branch.leaf if branch.leaf in self.leaves else 0
        inner = (self.of(child) for group in (branch.children, *branch.elements) for child in group)
        return functools.reduce(operator.or_, inner, 0)

    def some(self, bits: int) -> bool:
        """Whether not every row has some of these leaves."""
        return bool(bits) and not bits & ~self.varying

    def only(self, bits: int, expr: pl.Expr) -> pl.Expr:
        """The expression for the rows that have some of these leaves, else null."""
        if not self.some(bits):
            return expr
        masks = ((name, bits >> number * BITS & (1 << BITS) - 1) for number, name in enumerate(self.words))
        given = [pl.col(name) & pl.lit(mask, dtype=pl.UInt64) != 0 for name, mask in masks if mask]
        return pl.when(pl.any_horizontal(given)).then(expr)

    def optional(self, branches: Iterable[Branch]) -> set[str]:
        """Places that some rows have and others lack; an element of a list is left out as such."""
        found: set[str] = set()
        for branch in branches:
            if branch.kind != "units" and self.some(self.of(branch)) and not self.asked(branch):
                found.add(branch.place)
            for group in (branch.children, *branch.elements):
                found |= self.optional(group)
        return found

    def asked(self, branch: Branch) -> bool:
        """Whether a leaf is in whatever it stands in: its flag, or its being the code, sees to that."""
        if branch.kind != "leaf":
            return False
        leaf = self.layout.leaves[branch.leaf]  # type: ignore[index]
        return leaf.must or leaf.key or self.layout.speaks(leaf)


def _branch(branch: Branch, wanted: _Wanted, layout: Layout, get: Callable[[Leaf], pl.Expr]) -> pl.Expr | None:
    """A node of the payload as an expression; None when nothing of it is wanted."""
    bits = wanted.of(branch)
    if not bits:
        return None
    if branch.kind == "leaf":
        leaf = layout.leaves[branch.leaf]  # type: ignore[index]
        made = _wire(get(leaf), leaf)
        return made if wanted.asked(branch) or leaf.inner is not None else wanted.only(bits, made)
    if branch.kind == "object":
        whole = _struct(branch.children, wanted, layout, get)
        return whole if whole is None or get is _element else wanted.only(bits, whole)
    if branch.kind == "elements":
        elements = [(_struct(each, wanted, layout, get, scalar=branch.scalar), each) for each in branch.elements]
        if get is _element or not bits & wanted.varying:
            sides = [expr for expr, _ in elements if expr is not None]
            alike = _alike(branch.elements, wanted.leaves, layout)
            return pl.concat_arr(sides) if alike else pl.concat_list(sides)
        inside = [(expr, functools.reduce(operator.or_, map(wanted.of, each), 0)) for expr, each in elements]
        given = [wanted.only(under, expr) for expr, under in inside if expr is not None]
        return wanted.only(bits, pl.concat_list(given).list.drop_nulls())
    template = _struct(branch.children, wanted, layout, _element, scalar=branch.scalar)
    return None if template is None else wanted.only(bits, pl.col(branch.place).list.eval(template))


def _alike(elements: tuple[tuple[Branch, ...], ...], wanted: set[int], layout: Layout) -> bool:
    """Whether the elements have one type and each has a column: then they can be put side by side, which is fast."""
    present = [element for element in elements if _any(element, wanted)]
    return len({_fields(element, wanted) for element in present}) == 1 and all(
        _has_column(element, wanted, layout) for element in present
    )


def _fields(branches: tuple[Branch, ...], wanted: set[int]) -> tuple[object, ...]:
    """The names in an element, in their order, and those within them."""
    return tuple(
        (branch.name, _fields(branch.children, wanted), tuple(_fields(element, wanted) for element in branch.elements))
        for branch in branches
        if _any((branch,), wanted)
    )


def _has_column(branches: tuple[Branch, ...], wanted: set[int], layout: Layout) -> bool:
    return any(
        (branch.leaf in wanted and not layout.leaves[branch.leaf].constant)
        if branch.leaf is not None
        else any(_has_column(group, wanted, layout) for group in (branch.children, *branch.elements))
        for branch in branches
    )


def _struct(
    children: tuple[Branch, ...],
    wanted: _Wanted,
    layout: Layout,
    get: Callable[[Leaf], pl.Expr],
    *,
    scalar: bool = False,
) -> pl.Expr | None:
    made = [(child.name, expr) for child in children if (expr := _branch(child, wanted, layout, get)) is not None]
    if not made:
        return None
    return made[0][1] if scalar else pl.struct(expr.alias(name) for name, expr in made)


def _wire(expr: pl.Expr, leaf: Leaf) -> pl.Expr:
    """Decimals as JSON numbers: with at most 15 digits a double's shortest text is the decimal itself."""
    return expr.cast(pl.Float64) if leaf.field.type == "number" else expr
