"""Fewest minutes first: which groups of records share a header.

Input is one entry per distinct set of changed leaves, so the cost does not depend on the number of records.
Whole requests of one group keep their exact header; only what is left over is put together, cheapest first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from etl.mapping.layout import Layout
from etl.plan.batches import flag_closure as coherence

#: What to save: minutes at the rate limit ("budget"), or requests also within a minute ("strict").
Packing = Literal["budget", "strict"]

#: Above so many leftovers, comparing all pairs takes too long; neighbours are put together first.
MOST_COMPARED = 300


@dataclass(frozen=True, slots=True)
class Group:
    """Records that would go under the same header."""

    bits: int
    able: int  #: leaves that every record of the group could give
    some: int  #: leaves that at least one of them could
    records: int
    new: bool


@dataclass(frozen=True, slots=True)
class Share:
    """So many records of a group, and the set of leaves to send them with."""

    bits: int
    records: int


@dataclass(frozen=True, slots=True)
class _Load:
    """Leftovers that travel together: at most one request."""

    bits: int
    able: int
    some: int
    records: int
    new: bool
    parts: tuple[tuple[int, int], ...]  #: (group, records)


_Widen = Callable[[int, int], int | None]


def pack(
    groups: Sequence[Group], layout: Layout, size: int, per_minute: int, packing: Packing = "budget"
) -> list[list[Share]]:
    """For each group, in order, how its records are sent: with its own set, or with a superset shared with others.

    Requests may be as many as fit into the minutes that ceil(records / size) requests need; within that the
    fewest added values win. A leaf that a group cannot give is never added, nor one without what goes with it in a
    record of the group: of a list that is sent whole, the record would lose what the others do not have.
    """
    shares: list[list[Share]] = [[] for _ in groups]
    loads: list[_Load] = []
    whole = 0
    for number, group in enumerate(groups):
        requests, rest = divmod(group.records, size)
        whole += requests
        if requests:
            shares[number].append(Share(group.bits, requests * size))
        if rest:
            loads.append(_Load(group.bits, group.able, group.some, rest, group.new, ((number, rest),)))
    step = per_minute if packing == "budget" else 1
    allowed = _up(-(-sum(group.records for group in groups) // size), step)
    if whole + len(loads) > allowed:
        widen = _widener(layout)
        fewer = _merge(loads, allowed - whole, size, widen)
        reached = _up(whole + len(fewer), step)
        if reached > allowed and reached > whole + len(fewer):
            # Not all of them can share, so it takes another minute anyway: no need to fill up values for this one.
            fewer = _merge(loads, reached - whole, size, widen)
        loads = fewer
    for load in loads:
        for number, records in load.parts:
            shares[number].append(Share(load.bits, records))
    return shares


def fits(groups: Sequence[int], size: int, per_minute: int, packing: Packing) -> bool:
    """Whether groups of so many records need no more requests than may be made for them."""
    step = per_minute if packing == "budget" else 1
    return sum(-(-records // size) for records in groups) <= _up(-(-sum(groups) // size), step)


def _up(requests: int, step: int) -> int:
    return step * max(1, -(-requests // step))


def _widener(layout: Layout) -> _Widen:
    """`coherence.close`, remembering: the same unions come up again and again."""
    known: dict[tuple[int, int], int | None] = {}

    def widen(bits: int, able: int) -> int | None:
        if (bits, able) not in known:
            known[bits, able] = coherence.close(bits, able, layout)
        return known[bits, able]

    return widen


def _merge(loads: Sequence[_Load], room: int, size: int, widen: _Widen) -> list[_Load]:
    """Put loads together until they are no more than `room`, or until nothing fits any more."""
    if len(loads) > MOST_COMPARED:
        loads = _neighbours(loads, max(room, MOST_COMPARED), size, widen)
    alive = dict(enumerate(loads))
    refused: dict[tuple[int, int], int | None] = {}  #: what a pair really costs, where that is more than it seems
    queue: list[tuple[int, int, int]] = []

    def offer(a: int, others: Iterable[int]) -> None:
        best = _cheapest(a, others, alive, size, refused)
        if best is not None:
            heapq.heappush(queue, (best[0], a, best[1]))

    numbers = list(alive)
    for i, a in enumerate(numbers):
        offer(a, numbers[:i])
    fresh = len(loads)
    while len(alive) > room:
        if not queue:
            if not _dissolve(alive, size, widen):
                break
            continue
        cost, a, b = heapq.heappop(queue)
        if a not in alive:
            continue
        older = [number for number in alive if number < a]
        if b not in alive:
            offer(a, older)
            continue
        joined = _join(alive[a], alive[b], widen)
        true = None if joined is None else _added(alive[a], joined.bits) + _added(alive[b], joined.bits)
        if joined is None or true != cost:
            refused[a, b] = true
            offer(a, older)
            continue
        del alive[a], alive[b]
        alive[fresh] = joined
        offer(fresh, [number for number in alive if number != fresh])
        fresh += 1
    return list(alive.values())


def _cheapest(
    a: int, others: Iterable[int], alive: dict[int, _Load], size: int, refused: dict[tuple[int, int], int | None]
) -> tuple[int, int] | None:
    """The partner of `a` that adds the fewest values, (cost, number); a lower bound until the sets are closed."""
    mine = alive[a]
    bits, able, records, new = mine.bits, mine.able, mine.records, mine.new
    best: tuple[int, int] | None = None
    for b in others:
        load = alive[b]
        theirs = load.bits
        if load.new is not new or records + load.records > size or theirs & ~able or bits & ~load.able:
            continue
        cost: int | None = (theirs & ~bits).bit_count() * records + (bits & ~theirs).bit_count() * load.records
        if (a, b) in refused:
            cost = refused[a, b]
        if cost is not None and (best is None or cost < best[0]):
            best = cost, b
    return best


def _join(one: _Load, two: _Load, widen: _Widen) -> _Load | None:
    """Both under one header; None when there is none that suits them."""
    union, able, some = one.bits | two.bits, one.able & two.able, one.some | two.some
    if union & ~able or one.new is not two.new:
        return None
    wide = union if union in (one.bits, two.bits) else widen(union, able)
    if wide is None or widen(wide, some) != wide:
        return None
    return _Load(wide, able, some, one.records + two.records, one.new, one.parts + two.parts)


def _added(load: _Load, bits: int) -> int:
    return (bits & ~load.bits).bit_count() * load.records


def _neighbours(loads: Sequence[_Load], room: int, size: int, widen: _Widen) -> list[_Load]:
    """Sorted so that sets with the same rare leaves stand together, the smallest are joined with their neighbours."""
    counts: dict[int, int] = {}
    for load in loads:
        for bit in _bits(load.bits):
            counts[bit] = counts.get(bit, 0) + load.records

    def rare_first(load: _Load) -> list[int]:
        return sorted(counts[bit] << 16 | bit for bit in _bits(load.bits))

    row: list[_Load] = sorted(loads, key=lambda load: (load.new, rare_first(load)))
    while len(row) > room:
        costs = []
        for i in range(len(row) - 1):
            joined = _join(row[i], row[i + 1], widen) if row[i].records + row[i + 1].records <= size else None
            if joined is not None:
                costs.append((_added(row[i], joined.bits) + _added(row[i + 1], joined.bits), i, joined))
        taken: dict[int, _Load] = {}
        for _, i, joined in sorted(costs, key=lambda cost: cost[:2])[: max(1, (len(row) - room + 1) // 2)]:
            if i - 1 not in taken and i + 1 not in taken:
                taken[i] = joined
        if not taken:
            break
        row = [taken.get(i, load) for i, load in enumerate(row) if i - 1 not in taken]
    return row


def _bits(bits: int) -> Iterable[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _dissolve(alive: dict[int, _Load], size: int, widen: _Widen) -> bool:
    """No pair fits: spread the load that is cheapest to spread over the free room of the others."""
    best: tuple[int, int, list[tuple[int, _Load, int]]] | None = None
    for number, load in alive.items():
        plan = _spread(number, load, alive, size, widen)
        if plan is not None and (best is None or plan[0] < best[0]):
            best = plan[0], number, plan[1]
    if best is None:
        return False
    parts = list(alive.pop(best[1]).parts)
    for other, joined, records in best[2]:
        moved: list[tuple[int, int]] = []
        while records:
            group, held = parts.pop()
            take = min(held, records)
            moved.append((group, take))
            records -= take
            if held > take:
                parts.append((group, held - take))
        host = alive[other]
        alive[other] = _Load(
            joined.bits,
            joined.able,
            joined.some,
            host.records + sum(n for _, n in moved),
            host.new,
            host.parts + tuple(moved),
        )
    return True


def _spread(
    number: int, load: _Load, alive: dict[int, _Load], size: int, widen: _Widen
) -> tuple[int, list[tuple[int, _Load, int]]] | None:
    """What it costs to put a load's records where there is room, and where they go; None when there is too little."""
    hosts = []
    for other, host in alive.items():
        free = size - host.records
        if other != number and free > 0 and (joined := _join(host, load, widen)) is not None:
            moved = min(free, load.records)
            cost = _added(host, joined.bits) + (joined.bits & ~load.bits).bit_count() * moved
            hosts.append((cost / moved, other, joined, free))
    total, left, used = 0, load.records, []
    for _, other, joined, free in sorted(hosts, key=lambda host: host[:2]):
        moved = min(free, left)
        total += _added(alive[other], joined.bits) + (joined.bits & ~load.bits).bit_count() * moved
        used.append((other, joined, moved))
        left -= moved
        if not left:
            return total, used
    return None
