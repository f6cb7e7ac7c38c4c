"""Splits new records with different empty fields into layers: first the leaves that all have, then field by field.

A header must not name a field that a record of the request lacks, and the gap cannot be filled with an invented value.
A first load whose optional fields are empty in different records has nearly as many distinct sets of leaves as records;
a request for each set would take hours. Therefore the leaves that all records have share one header, and each field
that only some have follows under a header of its own. The layers of a record share its key, so each is its own wave.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    common = -1
    for bits in small:
        common &= bits
    core = flag_closure.closure(common, common, layout)
    if core is None:
        return {}
    layers_by_set: dict[int, tuple[Pass, ...]] = {}
    record_counts: dict[int, int] = {core: sum(small.values())}
    for bits in small:
        layers = [Pass(0, core)]
        for group in _bundle_sets(bits & ~core, layout):
            closed = flag_closure.closure(group, bits, layout)
            if closed is None:
                return {}
            layers.append(Pass(1 + (group & -group).bit_length(), closed))
            record_counts[closed] = record_counts.get(closed, 0) + small[bits]
        layers_by_set[bits] = tuple(layers)
    requests = sum(-(-records // max_records) for records in record_counts.values())
    return layers_by_set if requests < len(small) else {}


def _bundle_sets(bits: int, layout: Layout) -> list[int]:
    """Return the leaves of a set, bundle by bundle."""
    groups: dict[str, int] = {}
    for leaf in layout.leaves_in(bits):
        groups[leaf.bundle] = groups.get(leaf.bundle, 0) | 1 << leaf.index
    return list(groups.values())
