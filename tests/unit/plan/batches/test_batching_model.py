"""Batches of any change set: nothing is lost, nothing is made up, and no header speaks for what it should not."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

import polars as pl
import pytest

from etl.mapping.layout import Layout
from etl.mapping.leaf_set import join_words, own_set_columns
from etl.model.columns import DEACTIVATED, ITEM, KEY, NEW, ROW
from etl.plan.batches import batching, flag_closure
from etl.plan.batches.batch import LEAF_SET, VALUE_COUNT, Batch
from etl.plan.changes import absence, diff
from etl.plan.changes.diff import ChangeSet
from etl.plan.inputs import RequestLimits
from tests.support.builders import mapping, records, table
from tests.support.strategies import FEEDS, Case

WIDE = RequestLimits(max_records=100, requests_per_minute=1000)
TIGHT = RequestLimits(max_records=7, requests_per_minute=2)
STRICT = RequestLimits(max_records=7, requests_per_minute=60, packing="strict")
FEW = RequestLimits(max_records=100, requests_per_minute=1)
LIMITS = {"wide": WIDE, "tight": TIGHT, "strict": STRICT, "few": FEW}


@dataclass(frozen=True)
class Going:
    """A record in a batch."""

    wave: int
    bits: int  #: what it is sent with
    set: int  #: number of the set that it came with


def wanted(changes: ChangeSet, layout: Layout) -> dict[str, tuple[int, ...] | None]:
    """For each key the sets in which its changes can be sent, one after the other; the rows of an item share one if
    all of them can."""
    rows = list(changes.frame.iter_rows(named=True))
    bits = {
        kind: {row[KEY]: join_words(tuple(row[f"_{kind}{word}"] for word in range(changes.word_count))) for row in rows}
        for kind in "cv"
    }
    items: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        items[row[ITEM]].append(row[KEY])
    found: dict[str, tuple[int, ...] | None] = {}
    for keys in items.values():
        send, able = reduce(or_, (bits["c"][key] for key in keys)), reduce(and_, (bits["v"][key] for key in keys))
        together = flag_closure.split_into_passes(send, able, layout)
        for key in keys:
            shared = together is not None and len(together) == 1
            found[key] = together if shared else flag_closure.split_into_passes(bits["c"][key], bits["v"][key], layout)
    return {row[KEY]: found[row[KEY]] for row in rows}


def going(batches: list[Batch]) -> dict[str, list[Going]]:
    """Each key with what it goes in, by wave."""
    found: dict[str, list[Going]] = defaultdict(list)
    for batch in batches:
        words = own_set_columns(batch.frame)
        for key, number, *own in batch.frame.select(KEY, LEAF_SET, *words).iter_rows():
            found[key].append(Going(batch.wave, join_words(tuple(own)), number))
    return {key: sorted(its, key=lambda one: one.wave) for key, its in found.items()}


def check(changes: ChangeSet, layout: Layout, limits: RequestLimits) -> list[Batch]:
    """Everything that holds of batches whatever the limits are."""
    file = {key: place for place, key in enumerate(changes.frame[KEY])}
    batches, unable = batching.make_batches(changes, layout, limits)
    sets, went = wanted(changes, layout), going(batches)
    able = {
        row[KEY]: join_words(tuple(row[f"_v{word}"] for word in range(changes.word_count)))
        for row in changes.frame.iter_rows(named=True)
    }
    assert unable[KEY].to_list() == [key for key, its in sets.items() if its is None]
    assert set(went) == {key for key, its in sets.items() if its}
    known = {key for key, new in changes.frame.select(KEY, NEW).iter_rows() if not new}
    for key, its in went.items():
        asked = sets[key]
        assert asked
        if key in known:  # only what is new may come in more parts than it has to
            assert len(its) == len(asked)
            assert all(bits & ~one.bits == 0 for bits, one in zip(asked, its, strict=True))
            assert all(flag_closure.closure(one.bits, able[key], layout) == one.bits for one in its)
        assert reduce(or_, asked) & ~reduce(or_, (one.bits for one in its)) == 0
        assert all(one.bits & ~able[key] == 0 for one in its)
        for whole in layout.bundles.values():  # what goes as a whole is whole in the end
            last = next((one.bits for one in reversed(its) if one.bits & whole), 0)
            assert not last or able[key] & whole & ~last == 0
    assert [batch.wave for batch in batches] == sorted(batch.wave for batch in batches)
    twice = Counter((batch.wave, item) for batch in batches for item in batch.frame[ITEM].unique())
    assert set(twice.values()) <= {1}
    merged: dict[object, set[tuple[int, int]]] = defaultdict(set)
    for batch in batches:
        frame = batch.frame
        own = [join_words(tuple(row)) for row in frame.select(own_set_columns(frame)).iter_rows()]
        assert {(layout.active_flags(bits), bits & layout.uniform_leaves) for bits in own} == {
            (layout.active_flags(batch.bits), batch.bits & layout.uniform_leaves)
        }
        assert all(bits & ~batch.bits == 0 for bits in own)
        assert frame[VALUE_COUNT].to_list() == [layout.count_values(bits) for bits in own]
        assert frame[NEW].n_unique() == 1
        assert batch.records == frame[ITEM].n_unique() <= limits.max_records
        assert not batch.full_file
        places = [file[key] for key in frame[KEY]]
        assert places == sorted(places) or layout.unit_list
        merged[header(batch)] |= set(zip(frame[LEAF_SET], own, strict=True))
    assert all(batch.change_set_count == len(merged[header(batch)]) for batch in batches)
    return batches


def assert_in_turn(batches: list[Batch], sets: dict[str, tuple[int, ...] | None]) -> None:
    """The parts of an item go one after the other: first the first passes of its rows, as the file has them."""
    went = going(batches)
    items: dict[str, set[tuple[int, int, int]]] = defaultdict(set)
    numbers: dict[int, int] = {}
    item_of = dict(pair for batch in batches for pair in batch.frame.select(KEY, ITEM).iter_rows())
    for key, its in went.items():
        for place, (one, bits) in enumerate(zip(its, sets[key] or (), strict=True)):
            items[item_of[key]].add((place, one.set, one.wave))
            assert numbers.setdefault(one.set, bits) == bits
    for turns in items.values():
        assert [wave for _, _, wave in sorted(turns)] == list(range(len(turns)))
    numbered = list(dict.fromkeys(one.set for key in sets for one in went.get(key, ())))
    assert numbered == sorted(numbered)


def header(batch: Batch) -> object:
    return batch.wave, batch.bits, batch.frame[NEW][0]


each_feed = pytest.mark.parametrize("name", FEEDS)
each_limit = pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)


@each_feed
@each_limit
def test_changes_go_as_they_have_to(name: str, limits: RequestLimits) -> None:
    """Each record goes with all that changed and with nothing that it lacks, once in a wave, in the file's order."""
    case = Case(name, 7)
    changes = diff.compare(
        case.records,
        case.accepted,
        case.layout,
        missing_records=absence.find_missing(case.records, case.accepted),
    )
    batches = check(changes, case.layout, limits)
    if limits is WIDE:  # nothing is put together, so nothing is sent that has not changed
        went = {key: tuple(one.bits for one in its) for key, its in going(batches).items()}
        assert went == {key: its for key, its in wanted(changes, case.layout).items() if its}
        assert_in_turn(batches, wanted(changes, case.layout))
        assert {batch.wave for batch in batches} == set(range(max(batch.wave for batch in batches) + 1))


@each_feed
@each_limit
def test_a_first_load_goes_as_it_has_to(name: str, limits: RequestLimits) -> None:
    """The same where everything is new."""
    case = Case(name, 8)
    check(diff.compare(case.records, case.accepted.clear(), case.layout), case.layout, limits)


def test_many_different_gaps_in_a_first_load_go_in_layers() -> None:
    """Each new record has other texts: one request for what all have, and one for each text after it.

    A record that Norce has goes at once, though what is sent of it is the same.
    """
    names = [
        "DefaultName",
        "DefaultSubHeader",
        "DefaultSubDescription",
        "DefaultDescriptionHeader",
        "DefaultDescription",
    ]
    feed = mapping(
        "feed: gaps\noperation: Product/ImportRelations\nsource: {files: '*.csv', content: full}\nrecord:\n"
        "  PartNo: p\n  RelatedPartNo: {value: R}\n  RelationTypeCode: {value: T}\n  SortOrder: {value: 1}\n"
        + "".join(f"  {name}: {name}\n" for name in names)
    )
    rows = [[name if row & 1 << place else "" for place, name in enumerate(names)] for row in range(32)]
    lines = (",".join([f"P{row}", *its]) for row, its in enumerate(rows))
    made, layout = records(feed, table("\n".join([",".join(["p", *names]), *lines])))
    known = made.frame.drop(ROW).gather_every(2).with_columns(pl.lit(False).alias(DEACTIVATED))
    batches = check(diff.compare(made, known.clear(), layout), layout, FEW)
    assert [batch.records for batch in batches] == [32, *[16] * 5]
    assert [batch.wave for batch in batches] == sorted({batch.wave for batch in batches})
    check(diff.compare(made, known, layout, send_all=True), layout, FEW)
