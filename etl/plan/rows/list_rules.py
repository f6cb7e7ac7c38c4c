"""Conditions that the elements of a list must meet before a record can be sent.

Connect identifies the elements of a list by their codes: of two elements with one code it would keep an arbitrary one.
A list of texts has each text once.
One flag counts for all elements: a field with a flag of its own needs a value in all of them, or in none.
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
    """Records that cannot be sent, and the reason."""

    condition: pl.Expr
    column: str
    code: str
    message: str
    hint: str


def violations(layout: Layout) -> Iterator[Violation]:
    """Yield the violations, as conditions over a frame of records, in the order in which to check them."""
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
        names = ", ".join(dict.fromkeys("text" if leaf.path.endswith("[]") else leaf.field.name for leaf in keys[0]))
        if place in layout.lists:
            identity = pl.struct(pl.element().struct.field(str(leaf.inner)) for leaf in keys[0])
            identities = pl.col(place).list.eval(identity)
        elif len(keys) > 1 and not all(leaf.constant for element in keys for leaf in element):
            identities = pl.concat_list(_element_identity(element, layout) for element in keys).list.drop_nulls()
        else:
            continue
        has_duplicates = (identities.list.n_unique() < identities.list.len()).fill_null(False)
        message = f"{place} has two elements with the same {names}"
        yield Violation(
            has_duplicates, place, "twin-elements", message, "Connect would keep one of them: correct the cells"
        )


def _element_identity(element: list[Leaf], layout: Layout) -> pl.Expr:
    """Return the identity of a named element as text; null where a record has no such element."""
    inside = [leaf for leaf in layout.leaves_in(layout.descendants[element[0].parent]) if not leaf.constant]
    is_present = pl.any_horizontal(pl.col(leaf.column).is_not_null() for leaf in inside) if inside else pl.lit(True)
    parts = [pl.col(leaf.name).cast(pl.String).fill_null("") for leaf in element]
    return pl.when(is_present).then(pl.concat_str(parts, separator=KEY_SEPARATOR))


def identifying_leaves(layout: Layout) -> dict[str, list[list[Leaf]]]:
    """Return by list, for each named element or for the one template, the leaves that identify it."""
    contract = spec.load_contract()
    by_element: dict[str, dict[str, list[Leaf]]] = {}
    for leaf in layout.leaves:
        contract_path = layout.contract_paths.get(leaf.parent, "")
        if not contract_path.endswith("[]") or (leaf.inner is not None and leaf.parent != leaf.column):
            continue
        is_text = leaf.path == contract_path  # the element is the value itself
        if is_text or leaf.field.name in contract.field(layout.operation, contract_path).row_key:
            place = leaf.column if leaf.inner is not None else leaf.parent.rpartition("[")[0]
            by_element.setdefault(place, {}).setdefault(leaf.parent, []).append(leaf)
    return {place: list(elements.values()) for place, elements in by_element.items()}
