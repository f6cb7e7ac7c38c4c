"""A request's two halves: the X-StormConnect-Header object and the JSON array of records.

Both follow from one set of leaves, so the header cannot name what the records lack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

from etl.layout import Branch, Layout, Leaf
from etl.model import ITEM


def header(layout: Layout, bits: int, *, account_id: int, supplier: int | None, full_file: bool) -> dict[str, Any]:
    """The header for a set of leaves; flags as integers, because their spelling differs between pages.

    https://docs.norce.io/api-reference/connect/productservice/x-stormconnect-header-product
    """
    operation = layout.operation
    lit = set(layout.flags(bits))
    sent = {leaf.path.split("[]")[0].split(".")[0] for leaf in layout.of(bits)}
    sent |= {leaf.path for leaf in layout.of(bits)}
    for flag_id in layout.switches:
        flag = operation.flag(flag_id)
        gated = not flag.gates or any(gate in lit for gate in flag.gates)
        lists = {path for leaf in layout.of(bits) for path in _above(leaf.path)}
        about = not flag.affects or any(path in lists or path in sent for path in flag.affects)
        if flag.name == "FullfileResetInheritance":
            about = full_file
        if gated and about:
            lit.add(flag_id)
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


def _above(path: str) -> Iterable[str]:
    """The lists and objects that a path lies in: `A`, `A[].B` for `A[].B[].C`."""
    parts = path.split(".")
    for i in range(len(parts)):
        yield ".".join(parts[: i + 1]).removesuffix("[]")


def payload(frame: pl.DataFrame, bits: int, layout: Layout) -> bytes:
    """The JSON array for these rows: exactly the leaves of the set, every record all of them."""
    wanted = {leaf.index for leaf in layout.of(bits)}
    top = [
        (branch.name, expr)
        for branch in layout.tree
        if branch.kind != "units" and (expr := _branch(branch, wanted, layout, _column)) is not None
    ]
    units = next((branch for branch in layout.tree if branch.kind == "units"), None)
    padded = _padded(layout.tree, wanted)
    if units is None:
        return _strip(frame.select(expr.alias(name) for name, expr in top).write_json(), padded)
    inside = pl.struct(
        expr.alias(child.name)
        for child in units.children
        if (expr := _branch(child, wanted, layout, _column)) is not None
    )
    order = [branch.name for branch in layout.tree if branch.kind == "units" or branch.name in dict(top)]
    rows = frame.select(pl.col(ITEM), *(expr.alias(name) for name, expr in top), inside.alias(units.name))
    items = rows.group_by(ITEM, maintain_order=True).agg(*(pl.col(name).first() for name, _ in top), pl.col(units.name))
    return _strip(items.select(order).write_json(), padded)


def _padded(branches: Iterable[Branch], wanted: set[int]) -> set[str]:
    """Names that some elements of a list have and others lack: polars fills them up with null."""
    names: set[str] = set()
    for branch in branches:
        if branch.kind == "elements":
            shapes: list[set[tuple[str, ...]]] = [
                {parts for child in element for parts in _shape(child, wanted)} for element in branch.elements
            ]
            given = [shape for shape in shapes if shape]
            if given:
                uneven = {parts for shape in given for parts in shape if any(parts not in other for other in given)}
                names.update(part for parts in uneven for part in parts)
        for group in (branch.children, *branch.elements):
            names |= _padded(group, wanted)
    return names


def _shape(branch: Branch, wanted: set[int]) -> set[tuple[str, ...]]:
    if branch.kind == "leaf":
        return {(branch.name,)} if branch.leaf in wanted else set()
    inner = [child for group in (branch.children, *branch.elements) for child in group]
    return {(branch.name, *parts) for child in inner for parts in _shape(child, wanted)}


def _strip(text: str, names: set[str]) -> bytes:
    """Take the padding out of JSON. Safe as text: inside a string value every quote is escaped."""
    for name in sorted(names):
        text = text.replace(f',"{name}":null', "").replace(f'{{"{name}":null,', "{")
    return text.encode()


def _column(leaf: Leaf) -> pl.Expr:
    return pl.col(leaf.name)


def _element(leaf: Leaf) -> pl.Expr:
    return pl.element().struct.field(str(leaf.inner))


def _branch(branch: Branch, wanted: set[int], layout: Layout, get: Callable[[Leaf], pl.Expr]) -> pl.Expr | None:
    """A node of the payload as an expression; None when nothing of it is wanted."""
    if branch.kind == "leaf":
        assert branch.leaf is not None
        if branch.leaf not in wanted:
            return None
        return _wire(get(layout.leaves[branch.leaf]), layout.leaves[branch.leaf])
    if branch.kind == "object":
        return _struct(branch.children, wanted, layout, get)
    if branch.kind == "elements":
        made = [_struct(element, wanted, layout, get, scalar=branch.scalar) for element in branch.elements]
        given = [expr for expr in made if expr is not None]
        return pl.concat_list(given) if given else None
    inside = _struct(branch.children, wanted, layout, _element, scalar=branch.scalar)
    return None if inside is None else pl.col(branch.place).list.eval(inside)


def _struct(
    children: tuple[Branch, ...],
    wanted: set[int],
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
