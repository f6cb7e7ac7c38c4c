"""What has to be true of the elements of a list before a record can be sent.

Connect finds the rows of a list by what tells them apart, so two of a kind would be one of them, nobody knows which;
and one flag speaks for all of them, so a field that has a flag of its own is given by all or by none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from etl.contract import spec
from etl.mapping.layout import Layout, Leaf
from etl.model.keys import KEY_SEPARATOR


@dataclass(frozen=True, slots=True)
class Violation:
    """Records that cannot go, and why."""

    condition: pl.Expr
    column: str
    code: str
    message: str
    hint: str


def violations(layout: Layout) -> Iterator[Violation]:
    """Conditions over a frame of records, in the order in which they are to be asked."""
    yield from _inconsistent_elements(layout)
    yield from _duplicate_elements(layout)


def _inconsistent_elements(layout: Layout) -> Iterator[Violation]:
    for leaf in layout.leaves:
        branch = layout.lists.get(leaf.column)
        if branch is None or branch.node is None or leaf.inner is None or leaf.value.empty == "clear":
            continue
        split = branch.node.kind == "split"
        holes = pl.col(branch.place).list.eval(pl.element().struct.field(leaf.inner).is_null())
        if leaf.required or split:
            uneven = holes.list.any()
        elif layout.has_own_flag(leaf):
            uneven = holes.list.any() & ~holes.list.all()
        else:
            continue
        if split:
            message = f"a part of the cell gives no {leaf.field.name}"
            hint = "correct the part, or add it to the field's `map`"
        else:
            message = f"{leaf.field.name} is given for some elements of {branch.name} only"
            hint = "fill the cells, or give the field a `default` or `empty: clear`"
        yield Violation(uneven.fill_null(False), leaf.name, "uneven-list", message, hint)


def _duplicate_elements(layout: Layout) -> Iterator[Violation]:
    for place, keys in identifying_leaves(layout).items():
        names = ", ".join(dict.fromkeys(leaf.field.name for leaf in keys[0]))
        if place in layout.lists:
            told = pl.struct(pl.element().struct.field(str(leaf.inner)) for leaf in keys[0])
            seen = pl.col(place).list.eval(told)
        elif len(keys) > 1 and not all(leaf.constant for element in keys for leaf in element):
            seen = pl.concat_list(_element_identity(element, layout) for element in keys).list.drop_nulls()
        else:
            continue
        twice = (seen.list.n_unique() < seen.list.len()).fill_null(False)
        message = f"{place} has two elements with the same {names}"
        yield Violation(twice, place, "twin-elements", message, "Connect would keep one of them: correct the cells")


def _element_identity(element: list[Leaf], layout: Layout) -> pl.Expr:
    """What tells a named element apart, as text; null where a record has no such element."""
    inside = [leaf for leaf in layout.leaves_in(layout.descendants[element[0].parent]) if not leaf.constant]
    there = pl.any_horizontal(pl.col(leaf.column).is_not_null() for leaf in inside) if inside else pl.lit(True)
    parts = [pl.col(leaf.name).cast(pl.String).fill_null("") for leaf in element]
    return pl.when(there).then(pl.concat_str(parts, separator=KEY_SEPARATOR))


def identifying_leaves(layout: Layout) -> dict[str, list[list[Leaf]]]:
    """By list: for each named element, or for the one template, the leaves that tell it apart."""
    contract = spec.load_contract()
    found: dict[str, dict[str, list[Leaf]]] = {}
    for leaf in layout.leaves:
        whole = layout.contract_paths.get(leaf.parent, "")
        if not whole.endswith("[]") or (leaf.inner is not None and leaf.parent != leaf.column):
            continue
        if leaf.field.name in contract.field(layout.operation, whole).row_key:
            place = leaf.column if leaf.inner is not None else leaf.parent.rpartition("[")[0]
            found.setdefault(place, {}).setdefault(leaf.parent, []).append(leaf)
    return {place: list(elements.values()) for place, elements in found.items()}
