"""New records with gaps in ever other places, sent in layers: first what all of them have, then field by field.

A header must not name what a record lacks, and nothing may be made up to fill the gap. So a first load whose
optional fields are empty here and there has nearly as many distinct sets as records, and a request for each set
would take hours. What all of them have goes under one header; each field that only some have follows under its
own. The layers of one record share its key, so each is a wave of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from etl.mapping.layout import Layout
from etl.plan.batches import flag_closure


@dataclass(frozen=True, slots=True)
class Pass:
    """A set of leaves to send in the wave of this order."""

    order: int
    bits: int


def split_initial_load(
    records_by_set: Mapping[int, int], layout: Layout, max_records: int, requests_per_minute: int
) -> dict[int, tuple[Pass, ...]]:
    """`sets`: records per set of leaves, all of them new and in one pass. For the sets that are better sent in
    layers (small ones, and only where one request each takes more minutes than needed): their layers."""
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
    made: dict[int, tuple[Pass, ...]] = {}
    count: dict[int, int] = {core: sum(small.values())}
    for bits in small:
        layers = [Pass(0, core)]
        for group in _bundle_sets(bits & ~core, layout):
            closed = flag_closure.closure(group, bits, layout)
            if closed is None:
                return {}
            layers.append(Pass(1 + (group & -group).bit_length(), closed))
            count[closed] = count.get(closed, 0) + small[bits]
        made[bits] = tuple(layers)
    requests = sum(-(-records // max_records) for records in count.values())
    return made if requests < len(small) else {}


def _bundle_sets(bits: int, layout: Layout) -> list[int]:
    """What has to stay together, as sets: bundles."""
    groups: dict[str, int] = {}
    for leaf in layout.leaves_in(bits):
        groups[leaf.bundle] = groups.get(leaf.bundle, 0) | 1 << leaf.index
    return list(groups.values())
