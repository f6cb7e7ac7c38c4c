"""Fewest minutes first: which groups of records share a header.

Input is one entry per distinct set of changed leaves, so the cost does not depend on the number of records.
Whole requests of one group keep their exact header; only what is left over is put together, cheapest first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from etl.mapping.layout import Layout
from etl.plan.batches import flag_closure
from etl.plan.inputs import Packing

#: Above so many leftovers, comparing all pairs takes too long; neighbours are put together first.
MAX_PAIRWISE_BINS = 300


@dataclass(frozen=True, slots=True)
class Group:
    """Records that would go under the same header."""

    bits: int
    sendable: int  #: leaves that every record of the group could give
    sendable_by_any: int  #: leaves that at least one of them could
    records: int
    new: bool


@dataclass(frozen=True, slots=True)
class Share:
    """So many records of a group, and the set of leaves to send them with."""

    bits: int
    records: int


@dataclass(frozen=True, slots=True)
class _Bin:
    """Leftovers that travel together: at most one request."""

    bits: int
    sendable: int
    sendable_by_any: int
    records: int
    new: bool
    parts: tuple[tuple[int, int], ...]  #: (group, records)


_Closure = Callable[[int, int], int | None]


def pack(
    groups: Sequence[Group], layout: Layout, max_records: int, requests_per_minute: int, packing: Packing = "budget"
) -> list[list[Share]]:
    """For each group, in order, how its records are sent: with its own set, or with a superset shared with others.

    Requests may be as many as fit into the minutes that ceil(records / size) requests need; within that the
    fewest added values win. A leaf that a group cannot give is never added, nor one without what goes with it in a
    record of the group: of a list that is sent whole, the record would lose what the others do not have.
    """
    shares: list[list[Share]] = [[] for _ in groups]
    loads: list[_Bin] = []
    whole = 0
    for number, group in enumerate(groups):
        requests, rest = divmod(group.records, max_records)
        whole += requests
        if requests:
            shares[number].append(Share(group.bits, requests * max_records))
        if rest:
            loads.append(_Bin(group.bits, group.sendable, group.sendable_by_any, rest, group.new, ((number, rest),)))
    step = requests_per_minute if packing == "budget" else 1
    allowed = _round_up(-(-sum(group.records for group in groups) // max_records), step)
    if whole + len(loads) > allowed:
        widen = _make_cached_closure(layout)
        fewer = _merge_bins(loads, allowed - whole, max_records, widen)
        reached = _round_up(whole + len(fewer), step)
        if reached > allowed and reached > whole + len(fewer):
            # Not all of them can share, so it takes another minute anyway: no need to fill up values for this one.
            fewer = _merge_bins(loads, reached - whole, max_records, widen)
        loads = fewer
    for load in loads:
        for number, records in load.parts:
            shares[number].append(Share(load.bits, records))
    return shares


def fits_budget(group_sizes: Sequence[int], max_records: int, requests_per_minute: int, packing: Packing) -> bool:
    """Whether groups of so many records need no more requests than may be made for them."""
    step = requests_per_minute if packing == "budget" else 1
    return sum(-(-records // max_records) for records in group_sizes) <= _round_up(
        -(-sum(group_sizes) // max_records), step
    )


def _round_up(requests: int, step: int) -> int:
    return step * max(1, -(-requests // step))


def _make_cached_closure(layout: Layout) -> _Closure:
    """`coherence.close`, remembering: the same unions come up again and again."""
    known: dict[tuple[int, int], int | None] = {}

    def widen(bits: int, able: int) -> int | None:
        if (bits, able) not in known:
            known[bits, able] = flag_closure.closure(bits, able, layout)
        return known[bits, able]

    return widen


def _merge_bins(bins: Sequence[_Bin], max_bins: int, max_records: int, closure: _Closure) -> list[_Bin]:
    """Put loads together until they are no more than `room`, or until nothing fits any more."""
    if len(bins) > MAX_PAIRWISE_BINS:
        bins = _merge_neighbours(bins, max(max_bins, MAX_PAIRWISE_BINS), max_records, closure)
    alive = dict(enumerate(bins))
    refused: dict[tuple[int, int], int | None] = {}  #: what a pair really costs, where that is more than it seems
    queue: list[tuple[int, int, int]] = []

    def offer(a: int, others: Iterable[int]) -> None:
        best = _cheapest_partner(a, others, alive, max_records, refused)
        if best is not None:
            heapq.heappush(queue, (best[0], a, best[1]))

    numbers = list(alive)
    for i, a in enumerate(numbers):
        offer(a, numbers[:i])
    fresh = len(bins)
    while len(alive) > max_bins:
        if not queue:
            if not _dissolve_bin(alive, max_records, closure):
                break
            continue
        cost, a, b = heapq.heappop(queue)
        if a not in alive:
            continue
        older = [number for number in alive if number < a]
        if b not in alive:
            offer(a, older)
            continue
        joined = _join_bins(alive[a], alive[b], closure)
        true = None if joined is None else _added_values(alive[a], joined.bits) + _added_values(alive[b], joined.bits)
        if joined is None or true != cost:
            refused[a, b] = true
            offer(a, older)
            continue
        del alive[a], alive[b]
        alive[fresh] = joined
        offer(fresh, [number for number in alive if number != fresh])
        fresh += 1
    return list(alive.values())


def _cheapest_partner(
    number: int,
    others: Iterable[int],
    open_bins: dict[int, _Bin],
    max_records: int,
    exact_costs: dict[tuple[int, int], int | None],
) -> tuple[int, int] | None:
    """The partner of `a` that adds the fewest values, (cost, number); a lower bound until the sets are closed."""
    mine = open_bins[number]
    bits, able, records, new = mine.bits, mine.sendable, mine.records, mine.new
    best: tuple[int, int] | None = None
    for b in others:
        load = open_bins[b]
        theirs = load.bits
        if load.new is not new or records + load.records > max_records or theirs & ~able or bits & ~load.sendable:
            continue
        cost: int | None = (theirs & ~bits).bit_count() * records + (bits & ~theirs).bit_count() * load.records
        if (number, b) in exact_costs:
            cost = exact_costs[number, b]
        if cost is not None and (best is None or cost < best[0]):
            best = cost, b
    return best


def _join_bins(left: _Bin, right: _Bin, closure: _Closure) -> _Bin | None:
    """Both under one header; None when there is none that suits them."""
    union, able, some = (
        left.bits | right.bits,
        left.sendable & right.sendable,
        left.sendable_by_any | right.sendable_by_any,
    )
    if union & ~able or left.new is not right.new:
        return None
    wide = union if union in (left.bits, right.bits) else closure(union, able)
    if wide is None or closure(wide, some) != wide:
        return None
    return _Bin(wide, able, some, left.records + right.records, left.new, left.parts + right.parts)


def _added_values(source: _Bin, bits: int) -> int:
    return (bits & ~source.bits).bit_count() * source.records


def _merge_neighbours(bins: Sequence[_Bin], max_bins: int, max_records: int, closure: _Closure) -> list[_Bin]:
    """Sorted so that sets with the same rare leaves stand together, the smallest are joined with their neighbours."""
    counts: dict[int, int] = {}
    for load in bins:
        for bit in _bit_indexes(load.bits):
            counts[bit] = counts.get(bit, 0) + load.records

    def rare_first(load: _Bin) -> list[int]:
        return sorted(counts[bit] << 16 | bit for bit in _bit_indexes(load.bits))

    row: list[_Bin] = sorted(bins, key=lambda load: (load.new, rare_first(load)))
    while len(row) > max_bins:
        costs = []
        for i in range(len(row) - 1):
            joined = (
                _join_bins(row[i], row[i + 1], closure) if row[i].records + row[i + 1].records <= max_records else None
            )
            if joined is not None:
                costs.append((_added_values(row[i], joined.bits) + _added_values(row[i + 1], joined.bits), i, joined))
        taken: dict[int, _Bin] = {}
        for _, i, joined in sorted(costs, key=lambda cost: cost[:2])[: max(1, (len(row) - max_bins + 1) // 2)]:
            if i - 1 not in taken and i + 1 not in taken:
                taken[i] = joined
        if not taken:
            break
        row = [taken.get(i, load) for i, load in enumerate(row) if i - 1 not in taken]
    return row


def _bit_indexes(bits: int) -> Iterable[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _dissolve_bin(open_bins: dict[int, _Bin], max_records: int, closure: _Closure) -> bool:
    """No pair fits: spread the load that is cheapest to spread over the free room of the others."""
    best: tuple[int, int, list[tuple[int, _Bin, int]]] | None = None
    for number, load in open_bins.items():
        plan = _plan_spread(number, load, open_bins, max_records, closure)
        if plan is not None and (best is None or plan[0] < best[0]):
            best = plan[0], number, plan[1]
    if best is None:
        return False
    parts = list(open_bins.pop(best[1]).parts)
    for other, joined, records in best[2]:
        moved: list[tuple[int, int]] = []
        while records:
            group, held = parts.pop()
            take = min(held, records)
            moved.append((group, take))
            records -= take
            if held > take:
                parts.append((group, held - take))
        host = open_bins[other]
        open_bins[other] = _Bin(
            joined.bits,
            joined.sendable,
            joined.sendable_by_any,
            host.records + sum(n for _, n in moved),
            host.new,
            host.parts + tuple(moved),
        )
    return True


def _plan_spread(
    number: int, source: _Bin, open_bins: dict[int, _Bin], max_records: int, closure: _Closure
) -> tuple[int, list[tuple[int, _Bin, int]]] | None:
    """What it costs to put a load's records where there is room, and where they go; None when there is too little."""
    hosts = []
    for other, host in open_bins.items():
        free = max_records - host.records
        if other != number and free > 0 and (joined := _join_bins(host, source, closure)) is not None:
            moved = min(free, source.records)
            cost = _added_values(host, joined.bits) + (joined.bits & ~source.bits).bit_count() * moved
            hosts.append((cost / moved, other, joined, free))
    total, left, used = 0, source.records, []
    for _, other, joined, free in sorted(hosts, key=lambda host: host[:2]):
        moved = min(free, left)
        total += _added_values(open_bins[other], joined.bits) + (joined.bits & ~source.bits).bit_count() * moved
        used.append((other, joined, moved))
        left -= moved
        if not left:
            return total, used
    return None
