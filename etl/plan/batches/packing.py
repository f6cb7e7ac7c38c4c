"""Packs groups of records under shared headers to save minutes: greedy agglomerative bin packing.

There is one group per distinct set of changed leaves, so the cost does not depend on the number of records. The full
requests of a group keep their exact header; only the rest of each group is packed. Every rest starts as a bin of its
own; the two bins whose union adds the fewest unchanged values are joined, until the bins fit the budget.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from etl.mapping.layout import Layout
from etl.plan.batches import flag_closure
from etl.plan.inputs import Packing

#: Comparing all pairs of more bins than this takes too long; neighbours are joined first.
MAX_PAIRWISE_BINS = 300


@dataclass(frozen=True, slots=True)
class Group:
    """Records with the same set of changed leaves."""

    bits: int
    sendable: int  #: leaves that every record of the group could send
    sendable_by_any: int  #: leaves that at least one record of the group could send
    records: int
    new: bool


@dataclass(frozen=True, slots=True)
class Share:
    """Some records of a group, and the set of leaves to send them with."""

    bits: int
    records: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Rests of groups that share a request."""

    bits: int
    sendable: int
    sendable_by_any: int
    records: int
    new: bool
    parts: tuple[tuple[int, int], ...]  #: (number of the group, records of it)

    def added_values(self, bits: int) -> int:
        """Return how many unchanged values its records get when they are sent with a wider set."""
        return (bits & ~self.bits).bit_count() * self.records


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """Two bins to join, by their numbers, and the values that this adds; candidates sort by cost."""

    cost: int
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Records of a dissolved bin that another bin takes."""

    host: int  #: number of the bin that takes them
    joined: Bin  #: the host with all of the dissolved bin; only its sets of leaves count
    records: int


Closure = Callable[[int, int], int | None]


def pack(
    groups: Sequence[Group], layout: Layout, max_records: int, requests_per_minute: int, packing: Packing = "budget"
) -> list[list[Share]]:
    """Return for each group, in order, how its records are sent: with its own set, or with a shared superset.

    The number of requests may rise to what fits into the minutes that ceil(records / max_records) requests need; within
    that, the solution that adds the fewest values wins. A leaf that a record of the group cannot send is never added,
    nor a part of a list that Connect replaces as a whole: the record would lose the other elements.
    """
    shares: list[list[Share]] = [[] for _ in groups]
    bins: list[Bin] = []
    full_requests = 0
    for number, group in enumerate(groups):
        requests, rest = divmod(group.records, max_records)
        full_requests += requests
        if requests:
            shares[number].append(Share(group.bits, requests * max_records))
        if rest:
            parts = ((number, rest),)
            bins.append(Bin(group.bits, group.sendable, group.sendable_by_any, rest, group.new, parts))
    budget = _RequestBudget(max_records, requests_per_minute if packing == "budget" else 1)
    for packed in _pack_bins(bins, full_requests, budget.allowed(group.records for group in groups), layout, budget):
        for number, records in packed.parts:
            shares[number].append(Share(packed.bits, records))
    return shares


def fits_budget(group_sizes: Sequence[int], max_records: int, requests_per_minute: int, packing: Packing) -> bool:
    """Return whether groups of these sizes, each with requests of its own, stay within the allowed requests."""
    budget = _RequestBudget(max_records, requests_per_minute if packing == "budget" else 1)
    return sum(-(-records // max_records) for records in group_sizes) <= budget.allowed(group_sizes)


@dataclass(frozen=True, slots=True)
class _RequestBudget:
    """How many requests records may take: the fewest possible, rounded up to a multiple of `step`."""

    max_records: int
    step: int

    def allowed(self, group_sizes: Iterable[int]) -> int:
        return self.round_up(-(-sum(group_sizes) // self.max_records))

    def round_up(self, requests: int) -> int:
        return self.step * max(1, -(-requests // self.step))


def _pack_bins(bins: list[Bin], full_requests: int, allowed: int, layout: Layout, budget: _RequestBudget) -> list[Bin]:
    """Join bins until they and the full requests are no more than `allowed`, as far as bins can be joined."""
    if full_requests + len(bins) <= allowed:
        return bins
    closure = _make_cached_closure(layout)
    packed = _merge_bins(bins, allowed - full_requests, budget.max_records, closure)
    requests = full_requests + len(packed)
    reachable = budget.round_up(requests)
    if reachable > allowed and reachable > requests:
        # The bins need another minute in any case, so join only as many as that minute requires.
        packed = _merge_bins(bins, reachable - full_requests, budget.max_records, closure)
    return packed


def _make_cached_closure(layout: Layout) -> Closure:
    """Return `flag_closure.closure` with a cache: packing asks for the same unions many times."""
    cache: dict[tuple[int, int], int | None] = {}

    def closure(bits: int, sendable: int) -> int | None:
        if (bits, sendable) not in cache:
            cache[bits, sendable] = flag_closure.closure(bits, sendable, layout)
        return cache[bits, sendable]

    return closure


def _merge_bins(bins: Sequence[Bin], max_bins: int, max_records: int, closure: Closure) -> list[Bin]:
    """Join bins until there are at most `max_bins`, or none can be joined or dissolved."""
    if len(bins) > MAX_PAIRWISE_BINS:
        bins = _merge_neighbours(bins, max(max_bins, MAX_PAIRWISE_BINS), max_records, closure)
    open_bins = _OpenBins(bins, max_records, closure)
    open_bins.merge(max_bins)
    return list(open_bins.bins.values())


class _OpenBins:
    """Bins by number, and a queue with the cheapest partner of each.

    A candidate's cost is a lower bound until its union is closed. A candidate that proves dearer, or impossible, is
    noted with its exact cost, and its left bin is queued again.
    """

    def __init__(self, bins: Sequence[Bin], max_records: int, closure: Closure) -> None:
        self.bins = dict(enumerate(bins))
        self._max_records = max_records
        self._closure = closure
        self._next_number = len(bins)
        self._queue: list[Candidate] = []
        self._exact_costs: dict[tuple[int, int], int | None] = {}  #: None: the pair cannot be joined

    def merge(self, max_bins: int) -> None:
        """Join or dissolve bins until there are at most `max_bins`, or nothing can be done."""
        numbers = list(self.bins)
        for position, number in enumerate(numbers):
            self._queue_cheapest(number, numbers[:position])
        while len(self.bins) > max_bins:
            if self._queue:
                self._try_candidate(heapq.heappop(self._queue))
            elif not _dissolve_bin(self.bins, self._max_records, self._closure):
                return

    def _try_candidate(self, candidate: Candidate) -> None:
        """Join the two bins, or queue the next partner of the left one."""
        left, right = self.bins.get(candidate.left), self.bins.get(candidate.right)
        if left is None:
            return
        older = [number for number in self.bins if number < candidate.left]
        if right is None:
            self._queue_cheapest(candidate.left, older)
            return
        joined = _join_bins(left, right, self._closure)
        exact_cost = None if joined is None else left.added_values(joined.bits) + right.added_values(joined.bits)
        if joined is None or exact_cost != candidate.cost:
            self._exact_costs[candidate.left, candidate.right] = exact_cost
            self._queue_cheapest(candidate.left, older)
            return
        del self.bins[candidate.left], self.bins[candidate.right]
        number = self._next_number
        self._next_number += 1
        self.bins[number] = joined
        self._queue_cheapest(number, [other for other in self.bins if other != number])

    def _queue_cheapest(self, number: int, partners: Iterable[int]) -> None:
        """Queue the partner with which a bin adds the fewest values, if it has one."""
        best = self._cheapest_candidate(number, partners)
        if best is not None:
            heapq.heappush(self._queue, best)

    def _cheapest_candidate(self, number: int, partners: Iterable[int]) -> Candidate | None:
        """Return the cheapest candidate, the first of equals. This loop runs for every pair of bins."""
        source = self.bins[number]
        bits, sendable, records, new = source.bits, source.sendable, source.records, source.new
        cheapest: tuple[int, int] | None = None
        for partner in partners:
            other = self.bins[partner]
            if other.new is not new or records + other.records > self._max_records:
                continue
            if other.bits & ~sendable or bits & ~other.sendable:
                continue
            own_cost = (other.bits & ~bits).bit_count() * records
            cost: int | None = own_cost + (bits & ~other.bits).bit_count() * other.records
            if (number, partner) in self._exact_costs:
                cost = self._exact_costs[number, partner]
            if cost is not None and (cheapest is None or cost < cheapest[0]):
                cheapest = cost, partner
        return None if cheapest is None else Candidate(cheapest[0], number, cheapest[1])


def _join_bins(left: Bin, right: Bin, closure: Closure) -> Bin | None:
    """Return both bins under one header; None when no header suits both."""
    union = left.bits | right.bits
    sendable = left.sendable & right.sendable
    sendable_by_any = left.sendable_by_any | right.sendable_by_any
    if union & ~sendable or left.new is not right.new:
        return None
    bits = union if union in (left.bits, right.bits) else closure(union, sendable)
    if bits is None or closure(bits, sendable_by_any) != bits:
        return None
    return Bin(bits, sendable, sendable_by_any, left.records + right.records, left.new, left.parts + right.parts)


def _merge_neighbours(bins: Sequence[Bin], max_bins: int, max_records: int, closure: Closure) -> list[Bin]:
    """Sort bins so that sets with the same rare leaves stand together, and join neighbours, the cheapest first."""
    leaf_counts: Counter[int] = Counter()
    for each in bins:
        for index in _leaf_indexes(each.bits):
            leaf_counts[index] += each.records

    def rare_leaves_first(source: Bin) -> list[int]:
        return sorted(leaf_counts[index] << 16 | index for index in _leaf_indexes(source.bits))

    row: list[Bin] = sorted(bins, key=lambda source: (source.new, rare_leaves_first(source)))
    while len(row) > max_bins:
        joins = sorted(_neighbour_joins(row, max_records, closure), key=lambda join: join[0])
        chosen: dict[int, Bin] = {}
        for candidate, joined in joins[: max(1, (len(row) - max_bins + 1) // 2)]:
            if candidate.left - 1 not in chosen and candidate.right not in chosen:
                chosen[candidate.left] = joined
        if not chosen:
            break
        row = [chosen.get(place, source) for place, source in enumerate(row) if place - 1 not in chosen]
    return row


def _neighbour_joins(row: Sequence[Bin], max_records: int, closure: Closure) -> Iterator[tuple[Candidate, Bin]]:
    """Yield each pair of neighbours that can be joined, by their places in the row, with the joined bin."""
    for place, (left, right) in enumerate(pairwise(row)):
        if left.records + right.records > max_records:
            continue
        joined = _join_bins(left, right, closure)
        if joined is not None:
            cost = left.added_values(joined.bits) + right.added_values(joined.bits)
            yield Candidate(cost, place, place + 1), joined


def _leaf_indexes(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _dissolve_bin(open_bins: dict[int, Bin], max_records: int, closure: Closure) -> bool:
    """Spread the bin that is cheapest to spread over the free room of the others; return whether there was one."""
    cheapest: tuple[int, int, list[Transfer]] | None = None
    for number, source in open_bins.items():
        plan = _plan_transfers(number, source, open_bins, max_records, closure)
        if plan is not None and (cheapest is None or plan[0] < cheapest[0]):
            cheapest = plan[0], number, plan[1]
    if cheapest is None:
        return False
    _, number, transfers = cheapest
    parts = list(open_bins.pop(number).parts)
    for transfer in transfers:
        moved = _take_records(parts, transfer.records)
        host = open_bins[transfer.host]
        open_bins[transfer.host] = replace(
            transfer.joined, records=host.records + transfer.records, parts=host.parts + moved
        )
    return True


def _take_records(parts: list[tuple[int, int]], records: int) -> tuple[tuple[int, int], ...]:
    """Take this number of records from the end of `parts`; return the parts taken."""
    moved: list[tuple[int, int]] = []
    while records:
        group, available = parts.pop()
        count = min(available, records)
        moved.append((group, count))
        records -= count
        if available > count:
            parts.append((group, available - count))
    return tuple(moved)


def _plan_transfers(
    number: int, source: Bin, open_bins: dict[int, Bin], max_records: int, closure: Closure
) -> tuple[int, list[Transfer]] | None:
    """Return the cost of moving a bin's records into others with free room, and the transfers; None without room."""
    hosts = []
    for host_number, host in open_bins.items():
        free = max_records - host.records
        if host_number == number or free <= 0:
            continue
        joined = _join_bins(host, source, closure)
        if joined is not None:
            moved = min(free, source.records)
            hosts.append((_transfer_cost(host, source, joined, moved) / moved, host_number, joined, free))
    total, left = 0, source.records
    transfers: list[Transfer] = []
    for _, host_number, joined, free in sorted(hosts, key=lambda host: host[:2]):
        moved = min(free, left)
        total += _transfer_cost(open_bins[host_number], source, joined, moved)
        transfers.append(Transfer(host_number, joined, moved))
        left -= moved
        if not left:
            return total, transfers
    return None


def _transfer_cost(host: Bin, source: Bin, joined: Bin, records: int) -> int:
    """Return how many values a transfer adds to the host's records and to the moved ones."""
    return host.added_values(joined.bits) + (joined.bits & ~source.bits).bit_count() * records
