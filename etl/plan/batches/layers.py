"""Splits new records with different empty fields into layers: first the leaves that all have, then field by field.

A header must not name a field that a record of the request lacks, and the gap cannot be filled with an invented value.
A first load whose optional fields are empty in different records has nearly as many distinct sets of leaves as records;
a request for each set would take hours. Therefore the leaves that all records have share one header, and each field
that only some have follows under a header of its own. The layers of a record share its key, so each is its own wave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from etl.mapping.layout import Layout
from etl.plan.batches import flag_closure


@dataclass(frozen=True, slots=True)
class Pass:
    """A set of leaves, sent in the wave with this number."""

    order: int
    bits: int


def split_initial_load(
    records_by_set: Mapping[int, int], layout: Layout, max_records: int, requests_per_minute: int
) -> dict[int, tuple[Pass, ...]]:
    """Return the layers of each set that is better sent in layers; empty where one request per set is as good.

    These are sets with fewer records than a request holds, if one request each takes more minutes than needed.

    Args:
        records_by_set: number of records per set of leaves, all of them new and in one pass.
    """
    exact = sum(-(-records // max_records) for records in records_by_set.values())
    fewest = -(-sum(records_by_set.values()) // max_records)
    if exact <= requests_per_minute * max(1, -(-fewest // requests_per_minute)):
        return {}
    small = {bits: records for bits, records in records_by_set.items() if records < max_records}
    if len(small) < 2:
        return {}
    layers_by_set: dict[int, tuple[Pass, ...]] = {}
    for sets in _group_by_key(small, layout):
        core = _common_core(sets, layout)
        for bits in sets:
            layers = None if core is None else _split_set(bits, core, layout)
            if layers is None:
                return {}
            layers_by_set[bits] = layers
    record_counts: dict[int, int] = {}
    for bits, layers in layers_by_set.items():
        for layer in layers:
            record_counts[layer.bits] = record_counts.get(layer.bits, 0) + small[bits]
    requests = sum(-(-records // max_records) for records in record_counts.values())
    return layers_by_set if requests < len(small) else {}


def _group_by_key(sets: Iterable[int], layout: Layout) -> list[list[int]]:
    """Return the sets in groups of one key field each: all layers of a record must name it by the same key."""
    groups: dict[int, list[int]] = {}
    for bits in sets:
        groups.setdefault(layout.deciding_key(bits), []).append(bits)
    return list(groups.values())


def _common_core(sets: Iterable[int], layout: Layout) -> int | None:
    """Return the closed set of leaves that all sets can share; None where it cannot be closed.

    A leaf is in it when everything that a header with its flag asks of any of the records is in all sets. A list of
    which records have different elements is therefore sent by the layers that follow, each time as a whole.
    """
    common, union = -1, 0
    for bits in sets:
        common &= bits
        union |= bits
    core = 0
    for leaf in layout.leaves_in(common):
        closed = flag_closure.closure(1 << leaf.index, union, layout)
        if closed is not None and not closed & ~common:
            core |= closed
    return flag_closure.closure(core, common, layout)


def _split_set(bits: int, core: int, layout: Layout) -> tuple[Pass, ...] | None:
    """Return the layers of one set, the core first if it says more than the key; None where one cannot be closed."""
    layers: list[Pass] = []
    for group in _bundle_sets(bits & ~core, layout):
        closed = flag_closure.closure(group, bits, layout)
        if closed is None:
            return None
        layers.append(Pass(1 + (group & -group).bit_length(), closed))
    if not layers or core != flag_closure.closure(0, core, layout):
        layers.insert(0, Pass(0, core))
    widest: list[Pass] = []
    for layer in sorted(layers, key=lambda layer: -layer.bits.bit_count()):
        if all(layer.bits & ~wider.bits for wider in widest):  # what a wider layer sends needs no request of its own
            widest.append(layer)
    return tuple(sorted(widest, key=lambda layer: layer.order))


def _bundle_sets(bits: int, layout: Layout) -> list[int]:
    """Return the leaves of a set, bundle by bundle."""
    groups: dict[str, int] = {}
    for leaf in layout.leaves_in(bits):
        groups[leaf.bundle] = groups.get(leaf.bundle, 0) | 1 << leaf.index
    return list(groups.values())
