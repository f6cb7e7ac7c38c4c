"""Fewest minutes first: which groups of records share a header.

Input is one entry per distinct set of changed leaves, so the cost does not depend on the number of records.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from etl import coherence
from etl.layout import Layout


@dataclass(frozen=True, slots=True)
class Group:
    """Records that would go under the same header."""

    bits: int
    able: int  #: leaves that every record of the group could give
    records: int
    new: bool


def pack(groups: Sequence[Group], layout: Layout, size: int, per_minute: int) -> list[int]:
    """For each group the set of leaves to send it with: its own, or a superset shared with others.

    Requests may be as many as fit into the minutes that ceil(records / size) requests need; within that the
    fewest added values win. A leaf that a group cannot give is never added.
    """
    total = sum(group.records for group in groups)
    fewest = -(-total // size)
    budget = per_minute * max(1, -(-fewest // per_minute))
    targets = [group.bits for group in groups]
    members: dict[int, list[int]] = {number: [number] for number in range(len(groups))}
    records = {number: group.records for number, group in enumerate(groups)}
    able = {number: group.able for number, group in enumerate(groups)}
    bits = {number: group.bits for number, group in enumerate(groups)}

    def requests() -> int:
        return sum(-(-count // size) for count in records.values())

    needed = requests()
    if needed <= budget:
        return targets
    heap: list[tuple[int, int, int, int]] = []

    def offer(a: int, b: int) -> None:
        if groups[members[a][0]].new != groups[members[b][0]].new:
            return
        saved = -(-records[a] // size) + -(-records[b] // size) - -(-(records[a] + records[b]) // size)
        both = able[a] & able[b]
        union = bits[a] | bits[b]
        if saved <= 0 or union & ~both:
            return
        wide = coherence.close(union, both, layout) if union not in (bits[a], bits[b]) else union
        if wide is None:
            return
        added = (wide & ~bits[a]).bit_count() * records[a] + (wide & ~bits[b]).bit_count() * records[b]
        heapq.heappush(heap, (added, a, b, wide))

    alive = sorted(records)
    for i, a in enumerate(alive):
        for b in alive[i + 1 :]:
            offer(a, b)
    fresh = len(groups)
    while needed > budget and heap:
        _, a, b, wide = heapq.heappop(heap)
        if a not in records or b not in records:
            continue
        needed -= -(-records[a] // size) + -(-records[b] // size)
        records[fresh] = records.pop(a) + records.pop(b)
        members[fresh] = members.pop(a) + members.pop(b)
        able[fresh], bits[fresh] = able[a] & able[b], wide
        needed += -(-records[fresh] // size)
        for other in list(records):
            if other != fresh:
                offer(other, fresh)
        fresh += 1
    for number, inside in members.items():
        for group in inside:
            targets[group] = bits[number]
    return targets
