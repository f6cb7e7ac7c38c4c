"""Which groups of records share a header."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from etl.mapping.layout import Layout
from etl.mapping.layout_builder import build_layout as build
from etl.plan.batches import batching, flag_closure
from etl.plan.batches.packing import Group, Share, pack
from etl.plan.inputs import Packing
from tests.benchmarks import packing as packing_bench
from tests.support.builders import mapping

TEXTS = mapping(
    """
    feed: relations
    operation: Product/ImportRelations
    source: {files: "*.csv", content: full}
    record:
      PartNo: p
      RelatedPartNo: r
      RelationTypeCode: t
      DefaultName: a
      DefaultSubHeader: b
      DefaultSubDescription: c
      DefaultDescriptionHeader: d
      DefaultDescription: e
      Cultures:
        sv-SE: {Name: f, SubHeader: g, SubDescription: h, DescriptionHeader: i, Description: j}
        en-GB: {Name: k, SubHeader: l, SubDescription: m, DescriptionHeader: n, Description: o}
    """
)
LAYOUT = build(TEXTS, list("prtabcdefghijklmno"))
ABLE = sum(1 << leaf.index for leaf in LAYOUT.leaves if not leaf.synthetic)
FREE = [leaf.index for leaf in LAYOUT.leaves if not (leaf.key or leaf.identifier or leaf.synthetic)]
FLAT = FREE[:5]


def group(*fields: int, records: int = 1, able: int = ABLE, new: bool = False) -> Group:
    bits = flag_closure.closure(sum(1 << field for field in fields), able, LAYOUT)
    assert bits is not None
    return Group(bits, able, able, records, new)


def loads(shares: list[list[Share]]) -> Counter[int]:
    """Records by header."""
    found: Counter[int] = Counter()
    for its in shares:
        for share in its:
            found[share.bits] += share.records
    return found


def requests(shares: list[list[Share]], size: int) -> int:
    return sum(-(-records // size) for records in loads(shares).values())


def added(groups: list[Group], shares: list[list[Share]]) -> int:
    pairs = [(one, share) for one, its in zip(groups, shares, strict=True) for share in its]
    return sum((share.bits & ~one.bits).bit_count() * share.records for one, share in pairs)


def sound(groups: list[Group], shares: list[list[Share]]) -> None:
    """Every record goes once, with its own set at least and with nothing it cannot give."""
    for one, its in zip(groups, shares, strict=True):
        assert sum(share.records for share in its) == one.records
        for share in its:
            assert one.bits & ~share.bits == 0
            assert share.bits & ~one.sendable == 0
            assert share.bits == flag_closure.closure(share.bits, one.sendable, LAYOUT)


def skewed(layout: Layout, records: int, seed: int, most: int) -> list[Group]:
    """Some fields change often, most seldom; at most so many distinct sets."""
    chance = random.Random(seed)
    odds = [0.6 / (place + 1) ** 0.9 for place in range(15)]
    found: Counter[int] = Counter()
    while sum(found.values()) < records:
        changed = sum(1 << field for field, odd in zip(FREE, odds, strict=True) if chance.random() < odd)
        closed = flag_closure.closure(changed, ABLE, layout)
        if changed and closed is not None and (closed in found or len(found) < most):
            found[closed] += 1
    return [Group(bits, ABLE, ABLE, count, False) for bits, count in found.most_common()]


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [[items[0]], *rest]
        for place in range(len(rest)):
            yield [*rest[:place], [items[0], *rest[place]], *rest[place + 1 :]]


def optimum(groups: list[Group], size: int, allowed: int) -> int | None:
    """The fewest added values over all ways to put whole groups together."""
    best: int | None = None
    for blocks in partitions(list(range(len(groups)))):
        number = cost = 0
        for block in blocks:
            union = 0
            for place in block:
                union |= groups[place].bits
            number += -(-sum(groups[place].records for place in block) // size)
            cost += sum((union & ~groups[place].bits).bit_count() * groups[place].records for place in block)
        if number <= allowed and (best is None or cost < best):
            best = cost
    return best


def test_nothing_is_merged_while_the_minute_has_room() -> None:
    """Groups that fit into the minutes needed anyway keep their exact headers."""
    groups = [group(field, records=10) for field in FLAT]
    assert pack(groups, LAYOUT, 1000, 60) == [[Share(one.bits, 10)] for one in groups]


def test_no_groups() -> None:
    """Nothing to send is no request."""
    assert pack([], LAYOUT, 1000, 60) == []


def test_full_requests_keep_their_exact_header() -> None:
    """Only what is left over of a large group is sent with more than its own fields."""
    groups = [group(FLAT[0], records=25), group(FLAT[1], records=3)]
    shares = pack(groups, LAYOUT, 10, 1)
    assert shares[0][0] == Share(groups[0].bits, 20)
    assert requests(shares, 10) == 3
    sound(groups, shares)
    assert added(groups, shares) == 8


def test_the_cheapest_merge_comes_first() -> None:
    """Of three groups for two requests, the two whose union adds least go together."""
    groups = [
        group(FLAT[0], FLAT[1], records=5),
        group(FLAT[0], records=5),
        group(FLAT[3], FLAT[4], records=5),
    ]
    shares = pack(groups, LAYOUT, 10, 2)
    assert [its[0].bits for its in shares] == [groups[0].bits, groups[0].bits, groups[2].bits]


def test_no_pair_fits_so_one_group_is_spread() -> None:
    """Three groups of two thirds of a request go into two requests: one of them is cut over the others' room."""
    groups = [group(field, records=6) for field in FLAT[:3]]
    shares = pack(groups, LAYOUT, 9, 2)
    assert requests(shares, 9) == 2
    assert max(len(its) for its in shares) == 2
    sound(groups, shares)


def test_a_field_that_a_group_cannot_give_is_never_added() -> None:
    """Groups whose records lack each other's fields stay apart, whatever the budget says."""
    one = 1 << FLAT[0]
    two = 1 << FLAT[1]
    groups = [group(FLAT[0], able=ABLE & ~two), group(FLAT[1], able=ABLE & ~one), group(FLAT[2], able=ABLE & ~one)]
    shares = pack(groups, LAYOUT, 10, 1)
    sound(groups, shares)
    assert requests(shares, 10) == 2


def test_a_minute_more_is_not_filled_up() -> None:
    """Where the groups cannot share enough for one minute, none is merged that the second minute has room for."""
    groups = [group(field, able=ABLE & ~sum(1 << other for other in FLAT if other != field)) for field in FLAT[:3]]
    groups += [group(FLAT[3], able=ABLE & ~(1 << FLAT[0])), group(FLAT[4], able=ABLE & ~(1 << FLAT[0]))]
    shares = pack(groups, LAYOUT, 10, 2)
    assert requests(shares, 10) <= 4
    sound(groups, shares)


def test_new_records_keep_to_themselves() -> None:
    """A header for new records is never shared with changed ones."""
    groups = [group(FLAT[0]), group(FLAT[0], FLAT[1], new=True), group(FLAT[2])]
    shares = pack(groups, LAYOUT, 10, 1)
    assert shares[1] == [Share(groups[1].bits, 1)]
    assert shares[0][0].bits == shares[2][0].bits


def test_requests_as_the_budget() -> None:
    """Asked to save requests, it needs as few as the records do."""
    groups = [group(field, records=7) for field in FLAT]
    shares = pack(groups, LAYOUT, 10, 60, "strict")
    assert requests(shares, 10) == 4
    sound(groups, shares)


@pytest.mark.parametrize("seed", range(6))
def test_close_to_the_optimum(seed: int) -> None:
    """Small cases against all partitions: within the budget, and at most a tenth more values than the best of them."""
    chance = random.Random(seed)
    for _ in range(20):
        sets: set[int] = set()
        while len(sets) < chance.randint(2, 5):
            sets.add(sum(1 << field for field in FLAT if chance.random() < 0.4) or 1 << FLAT[0])
        groups = [Group(bits | LAYOUT.always_sent, ABLE, ABLE, chance.randint(1, 9), False) for bits in sorted(sets)]
        per_minute = chance.choice([1, 2, 3])
        fewest = -(-sum(one.records for one in groups) // 10)
        allowed = -(-fewest // per_minute) * per_minute
        shares = pack(groups, LAYOUT, 10, per_minute)
        sound(groups, shares)
        assert requests(shares, 10) <= allowed
        best = optimum(groups, 10, allowed)
        exact = sum(one.bits.bit_count() * one.records for one in groups)
        if best is not None:  # cutting groups, as we may, can do what whole groups cannot
            assert exact + added(groups, shares) <= 1.1 * (exact + best)


@pytest.mark.parametrize(("packing", "most"), [("budget", 60), ("strict", 21)])
def test_twenty_thousand_skewed_changes(packing: Packing, most: int) -> None:
    """About 950 distinct sets over 15 fields: one minute of requests instead of sixteen."""
    groups = skewed(LAYOUT, 20_000, seed=5, most=950)
    assert len(groups) == 950
    shares = pack(groups, LAYOUT, 1000, 60, packing)
    sound(groups, shares)
    assert requests(shares, 1000) <= most
    exact = sum(one.bits.bit_count() * one.records for one in groups)
    assert added(groups, shares) <= exact * (0.35 if packing == "budget" else 1)


def test_a_day_of_changes_takes_one_minute() -> None:
    """The real plan of 20,000 changed products: one minute of requests, where each set apart takes sixteen."""
    budget, strict = packing_bench.plans()
    assert math.ceil(batching.unmerged_request_count(budget.plan.batches, 1000) / 60) == 16
    assert len(budget.sent) <= 60
    assert len(strict.sent) <= 21
    exact = {sum(sent.request.changed_values for sent in outcome.sent) for outcome in (budget, strict)}
    assert len(exact) == 1
    assert exact.pop() < sum(sent.request.values for sent in budget.sent)
    assert all(sent.request.records <= 1000 for outcome in (budget, strict) for sent in outcome.sent)


def test_the_same_groups_pack_the_same() -> None:
    """No chance and no clock: equal input, equal output."""
    groups = skewed(LAYOUT, 3000, seed=2, most=200)
    assert pack(groups, LAYOUT, 100, 60) == pack(groups, LAYOUT, 100, 60)
