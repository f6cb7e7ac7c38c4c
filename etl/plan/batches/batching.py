"""Turns a change set into batches: which leaves share a header, which records a request holds, and its wave.

Connect takes one header per request and a limited number of requests a minute, so minutes are the scarce resource.
Records with the same changes form a group. Groups are merged under supersets of their leaves, which adds unchanged
values, only where one group per request would take more minutes than the number of records needs anyway.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from etl.mapping import leaf_set
from etl.mapping.layout import Layout
from etl.model.columns import ITEM, KEY, NEW, ORIGIN, ROW
from etl.model.keys import display_keys
from etl.model.tables import Rejections
from etl.plan.batches import flag_closure, layers
from etl.plan.batches.batch import (
    CHANGED_COUNT,
    ITEM_NUMBER,
    LEAF_SET,
    VALUE_COUNT,
    Batch,
    number_items,
)
from etl.plan.batches.packing import Group, Share, fits_budget, pack
from etl.plan.changes.diff import ChangeSet
from etl.plan.inputs import RequestLimits

#: Columns of a row: the number of its pair (leaves to send, sendable leaves), its pass of several, its wave.
PAIR, PASS, WAVE = "_pair", "_pass", "_wave"

#: Columns of the route table: the items of a group from FIRST to before END go to TARGET.
TARGET, FIRST, END = "_target", "_first", "_end"

#: Columns of the layer table: the set of the layer, and its wave.
LAYER_SET, LAYER_WAVE = "_layer_set", "_layer_wave"

#: Column of counts: items of a group, or rows of an item.
COUNT = "_count"

#: Prefixes of word columns: the leaves that at least one row of a group could send; and of all rows of an item together
#: the leaves to send, those that each row could send, and those that at least one could.
SENDABLE_BY_ANY = "_any_sendable"
ITEM_TO_SEND, ITEM_SENDABLE, ITEM_SENDABLE_BY_ANY = "_item_to_send", "_item_sendable", "_item_any_sendable"


@dataclass(frozen=True, slots=True)
class Target:
    """The set of leaves that records are sent with, and whether these records are new in Norce."""

    bits: int
    new: bool


@dataclass(frozen=True, slots=True)
class Route:
    """Items of a group, by their numbers within it, that go to one target."""

    leaf_set: int  #: number of the group's set
    first: int
    end: int  #: exclusive
    target: Target


class LeafSets:
    """Distinct sets of leaves, numbered in the order in which they are added."""

    def __init__(self) -> None:
        self.bits: list[int] = []
        self._numbers: dict[int, int] = {}

    def number(self, bits: int) -> int:
        """Return the number of a set; a set that is not there yet is added."""
        if bits not in self._numbers:
            self._numbers[bits] = len(self.bits)
            self.bits.append(bits)
        return self._numbers[bits]


def make_batches(changes: ChangeSet, layout: Layout, limits: RequestLimits) -> tuple[list[Batch], pl.DataFrame]:
    """Return the batches, by wave and then by size, and the records that no header can carry.

    A changed record is in as many batches as it needs passes. See `reject_inconsistent_lists` for the second part.
    """
    frame, leaf_sets, unsendable = _assign_leaf_sets(changes, layout, limits)
    batches: list[Batch] = []
    waves = sorted(frame[WAVE].unique().to_list()) if frame.height else []
    for wave in waves:
        rows = _count_changed_values(frame.filter(pl.col(WAVE) == wave), leaf_sets, layout)
        batches.extend(_batches_of_wave(rows, wave, leaf_sets, layout, limits))
    return batches, unsendable.select(KEY, ROW, NEW, *([ORIGIN] if ORIGIN in unsendable.columns else []))


def reject_inconsistent_lists(unsendable: pl.DataFrame, row_keys: pl.DataFrame | None = None) -> Rejections:
    """Reject every row of the records that no header can carry.

    A record that an earlier file brought has no row in this file: its message names that file and its row.

    Args:
        unsendable: the records, as `make_batches` returns them.
        row_keys: KEY and ROW of all rows of the file; without it a record has the one row in `unsendable`.
    """
    if row_keys is not None:
        unsendable = unsendable.drop(ROW).join(row_keys, on=KEY, how="left", maintain_order="left")
    source = pl.lit(None, dtype=pl.String)
    if ORIGIN in unsendable.columns:
        origin = pl.col(ORIGIN).struct
        source = pl.format(" ({}, row {})", origin.field("file"), origin.field("row"))
    return Rejections(
        unsendable.select(
            row=pl.col(ROW).cast(pl.Int64),
            column=pl.lit(""),
            code=pl.lit("uneven-list"),
            value=display_keys(pl.col(KEY)),
            message=pl.concat_str(
                pl.lit("a list that Connect replaces as a whole has elements with and without a value"),
                source.fill_null(""),
            ),
            hint=pl.lit("fill the cells, or give the field a `default` or `empty: clear`"),
        )
    )


def unmerged_request_count(batches: Iterable[Batch], max_records: int) -> int:
    """Return the number of requests that it would take if only records with the same changes shared a request."""
    full_file_requests = 0
    item_counts: Counter[tuple[int, int, bool]] = Counter()
    for batch in batches:
        if CHANGED_COUNT not in batch.frame.columns:
            full_file_requests += 1
            continue
        for number, new, items in batch.frame.group_by(LEAF_SET, NEW).agg(pl.col(ITEM).n_unique()).iter_rows():
            item_counts[batch.wave, number, new] += items
    return full_file_requests + sum(-(-items // max_records) for items in item_counts.values())


def _assign_leaf_sets(
    changes: ChangeSet, layout: Layout, limits: RequestLimits
) -> tuple[pl.DataFrame, LeafSets, pl.DataFrame]:
    """Give each row its LEAF_SET and WAVE, a row of several passes several times; return unsendable rows apart."""
    to_send = leaf_set.word_columns(leaf_set.TO_SEND, changes.word_count)
    sendable = leaf_set.word_columns(leaf_set.SENDABLE, changes.word_count)
    frame = changes.frame
    if layout.unit_list and frame[ITEM].n_unique() < frame.height:
        frame = _align_items(frame, changes.word_count, layout)
        sendable = leaf_set.word_columns(ITEM_SENDABLE, changes.word_count)
    pairs = frame.select(*to_send, *sendable).unique(maintain_order=True)
    leaf_sets = LeafSets()
    passes = _pass_table(pairs, layout, leaf_sets)
    numbered = pairs.with_row_index(PAIR).cast({PAIR: pl.Int64})
    frame = frame.join(numbered, on=[*to_send, *sendable], how="left", maintain_order="left")
    frame = frame.select(*changes.frame.columns, PAIR)
    frame = frame.join(passes, on=PAIR, how="inner", maintain_order="left").drop(PAIR)
    unsendable = frame.filter(pl.col(LEAF_SET).is_null())
    frame = frame.filter(pl.col(LEAF_SET).is_not_null())
    if frame[ITEM].n_unique() == frame.height:
        return _spread_over_waves(frame, leaf_sets, layout, limits), leaf_sets, unsendable
    # The rows of one item, and the passes of one row, share a key: their jobs must run one after another.
    turn = pl.col(PASS) * (1 << 32) + pl.col(LEAF_SET)
    wave = (turn.rank("dense").over(ITEM) - 1).cast(pl.Int64)
    return frame.with_columns(wave.alias(WAVE)), leaf_sets, unsendable


def _pass_table(pairs: pl.DataFrame, layout: Layout, leaf_sets: LeafSets) -> pl.DataFrame:
    """Return PAIR, LEAF_SET and PASS: how each pair is sent, with a null set where no header can carry it.

    Args:
        pairs: the words of the leaves to send, then those of the sendable leaves.
        leaf_sets: gets the sets of all passes.
    """
    rows: list[tuple[int, int | None, int]] = []
    middle = len(pairs.columns) // 2
    for number, words in enumerate(pairs.iter_rows()):
        to_send, sendable = leaf_set.join_words(words[:middle]), leaf_set.join_words(words[middle:])
        passes = flag_closure.split_into_passes(to_send, sendable, layout)
        if passes is None:
            rows.append((number, None, 0))
        else:
            rows.extend((number, leaf_sets.number(bits), order) for order, bits in enumerate(passes))
    return pl.DataFrame(rows, schema={PAIR: pl.Int64, LEAF_SET: pl.Int64, PASS: pl.Int64}, orient="row")


def _spread_over_waves(frame: pl.DataFrame, leaf_sets: LeafSets, layout: Layout, limits: RequestLimits) -> pl.DataFrame:
    """Put rows, one per item, into the first wave; new records whose sets differ much follow layer by layer."""
    single_wave = frame.with_columns(pl.lit(0, dtype=pl.Int64).alias(WAVE))
    counts = frame.filter(pl.col(NEW)).group_by(LEAF_SET).len().sort(LEAF_SET)
    records_by_set = {leaf_sets.bits[number]: records for number, records in counts.iter_rows()}
    by_header: Counter[object] = Counter()
    for bits, records in records_by_set.items():
        by_header[_header_key(bits, layout)] += records
    size, minute = limits.max_records, limits.requests_per_minute
    if fits_budget(list(by_header.values()), size, minute, limits.packing):
        return single_wave
    layers_by_set = layers.split_initial_load(records_by_set, layout, size, minute)
    if not layers_by_set:
        return single_wave
    rows = [
        (leaf_sets.number(bits), leaf_sets.number(layer.bits), layer.order)
        for bits, set_layers in layers_by_set.items()
        for layer in set_layers
    ]
    schema = {LEAF_SET: pl.Int64, LAYER_SET: pl.Int64, LAYER_WAVE: pl.Int64}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    is_layered = pl.col(NEW) & pl.col(LEAF_SET).is_in(table[LEAF_SET].unique().implode())
    layered = single_wave.filter(is_layered).join(table, on=LEAF_SET, how="left", maintain_order="left")
    layered = layered.with_columns(pl.col(LAYER_SET).alias(LEAF_SET), pl.col(LAYER_WAVE).alias(WAVE))
    return pl.concat([single_wave.filter(~is_layered), layered.drop(LAYER_SET, LAYER_WAVE)])


def _align_items(frame: pl.DataFrame, word_count: int, layout: Layout) -> pl.DataFrame:
    """Give the rows of an item one common set to send where all of them can send it: then it is one array element.

    Adds the words ITEM_SENDABLE: what the row could send of it together with the item's other rows.
    """
    to_send, sendable, item_to_send, item_sendable, item_sendable_by_any = (
        leaf_set.word_columns(prefix, word_count)
        for prefix in (leaf_set.TO_SEND, leaf_set.SENDABLE, ITEM_TO_SEND, ITEM_SENDABLE, ITEM_SENDABLE_BY_ANY)
    )
    items = frame.group_by(ITEM).agg(
        *(pl.col(name).bitwise_or().alias(new) for name, new in zip(to_send, item_to_send, strict=True)),
        *(pl.col(name).bitwise_and().alias(new) for name, new in zip(sendable, item_sendable, strict=True)),
        *(pl.col(name).bitwise_or().alias(new) for name, new in zip(sendable, item_sendable_by_any, strict=True)),
        pl.len().alias(COUNT),
    )
    shared = items.filter(pl.col(COUNT) > 1)
    kinds = shared.select(*item_to_send, *item_sendable, *item_sendable_by_any).unique()
    alignable = kinds.filter(
        pl.Series([_is_alignable(words, word_count, layout) for words in kinds.iter_rows()], dtype=pl.Boolean)
    )
    aligned = shared.join(alignable, on=kinds.columns, how="semi").select(ITEM, *item_to_send, *item_sendable)
    return frame.join(aligned, on=ITEM, how="left", maintain_order="left").with_columns(
        *(pl.coalesce(new, name).alias(name) for name, new in zip(to_send, item_to_send, strict=True)),
        *(pl.coalesce(new, name).alias(new) for name, new in zip(sendable, item_sendable, strict=True)),
    )


def _is_alignable(words: Sequence[int], word_count: int, layout: Layout) -> bool:
    """Return whether one pass with one set serves all rows of an item.

    A list that Connect replaces as a whole must be whole for each row: one row's list may have more than another's.
    """
    to_send, sendable, sendable_by_any = (
        leaf_set.join_words(words[start : start + word_count]) for start in range(0, len(words), word_count)
    )
    passes = flag_closure.split_into_passes(to_send, sendable, layout)
    if passes is None or len(passes) != 1:
        return False
    return flag_closure.closure(passes[0], sendable_by_any, layout) == passes[0]


def _count_changed_values(frame: pl.DataFrame, leaf_sets: LeafSets, layout: Layout) -> pl.DataFrame:
    """Add CHANGED_COUNT, and take an item as new where one of its rows is: a new variant must not split its product."""
    counts = [layout.count_values(bits) for bits in leaf_sets.bits]
    numbers = list(range(len(counts)))
    frame = frame.with_columns(
        pl.col(LEAF_SET).replace_strict(numbers, counts, return_dtype=pl.UInt32).alias(CHANGED_COUNT)
    )
    return frame.with_columns(pl.col(NEW).any().over(ITEM)) if layout.unit_list else frame


def _batches_of_wave(
    frame: pl.DataFrame, wave: int, leaf_sets: LeafSets, layout: Layout, limits: RequestLimits
) -> Iterator[Batch]:
    """Yield the batches of one wave: one or more for each header."""
    groups = _group_rows(frame, leaf_sets, layout)
    routes = list(_plan_routes(groups, leaf_sets, _choose_shares(groups, layout, limits)))
    targets = list(dict.fromkeys(route.target for route in routes))
    group_counts = Counter(target for _, target in {(route.leaf_set, route.target) for route in routes})
    numbered = number_items(frame)
    numbered = numbered.with_columns((pl.col(ITEM_NUMBER).rank("dense").over(LEAF_SET, NEW) - 1).cast(pl.Int64))
    routed = numbered.join(_route_table(routes, targets), on=[LEAF_SET, NEW], how="left", maintain_order="left")
    routed = routed.filter(pl.col(ITEM_NUMBER).is_between(FIRST, END, closed="left")).drop(ITEM_NUMBER, FIRST, END)
    routed = routed.join(_target_table(targets, layout), on=TARGET, how="left", maintain_order="left")
    by_header: dict[object, list[int]] = {}
    for number, target in enumerate(targets):
        by_header.setdefault((_header_key(target.bits, layout), target.new), []).append(number)
    for numbers in by_header.values():
        part = routed.filter(pl.col(TARGET).is_in(numbers)).drop(TARGET)
        bits = functools.reduce(operator.or_, (targets[number].bits for number in numbers))
        change_set_count = sum(group_counts[targets[number]] for number in numbers)
        yield from _slice_batches(part, bits, wave, change_set_count, limits.max_records)


def _header_key(bits: int, layout: Layout) -> tuple[frozenset[str], int]:
    """Return what rows must agree in to share a request: the header's flags, and the leaves that cannot be left out."""
    return layout.active_flags(bits), bits & layout.uniform_leaves


def _group_rows(frame: pl.DataFrame, leaf_sets: LeafSets, layout: Layout) -> list[Group]:
    """Return the groups of rows with the same set, the largest first."""
    word_count = leaf_set.count_words(len(layout.leaves))
    sendable = leaf_set.word_columns(leaf_set.SENDABLE, word_count)
    sendable_by_any = leaf_set.word_columns(SENDABLE_BY_ANY, word_count)
    facts = frame.group_by(LEAF_SET, NEW).agg(
        pl.col(ITEM).n_unique().alias(COUNT),
        *(pl.col(name).bitwise_and() for name in sendable),
        *(pl.col(name).bitwise_or().alias(new) for name, new in zip(sendable, sendable_by_any, strict=True)),
    )
    return [
        Group(
            bits=leaf_sets.bits[row[LEAF_SET]],
            sendable=leaf_set.join_words(row[name] for name in sendable),
            sendable_by_any=leaf_set.join_words(row[name] for name in sendable_by_any),
            records=row[COUNT],
            new=row[NEW],
        )
        for row in facts.sort(COUNT, LEAF_SET, NEW, descending=[True, False, False]).iter_rows(named=True)
    ]


def _choose_shares(groups: Sequence[Group], layout: Layout, limits: RequestLimits) -> list[list[Share]]:
    """Return how each group is sent: with its own set where the minutes allow it, else packed with others."""
    by_header: Counter[object] = Counter()
    for group in groups:  # Sets with the same header share requests anyway.
        by_header[_header_key(group.bits, layout), group.new] += group.records
    if fits_budget(list(by_header.values()), limits.max_records, limits.requests_per_minute, limits.packing):
        return [[Share(group.bits, group.records)] for group in groups]
    return pack(groups, layout, limits.max_records, limits.requests_per_minute, limits.packing)


def _plan_routes(
    groups: Sequence[Group], leaf_sets: LeafSets, shares_by_group: Sequence[Sequence[Share]]
) -> Iterator[Route]:
    """Yield the routes of each group's items, one for each share."""
    for group, shares in zip(groups, shares_by_group, strict=True):
        first = 0
        for share in shares:
            end = first + share.records
            yield Route(leaf_sets.number(group.bits), first, end, Target(share.bits, group.new))
            first = end


def _route_table(routes: Iterable[Route], targets: Sequence[Target]) -> pl.DataFrame:
    """Return a row for each route, to join on LEAF_SET and NEW."""
    numbers = {target: number for number, target in enumerate(targets)}
    return pl.DataFrame(
        [(route.leaf_set, route.target.new, route.first, route.end, numbers[route.target]) for route in routes],
        schema={LEAF_SET: pl.Int64, NEW: pl.Boolean, FIRST: pl.Int64, END: pl.Int64, TARGET: pl.Int64},
        orient="row",
    )


def _target_table(targets: Sequence[Target], layout: Layout) -> pl.DataFrame:
    """Return a row for each target: its set as words, and the number of values that it sends."""
    word_count = leaf_set.count_words(len(layout.leaves))
    words = [leaf_set.split_words(target.bits, word_count) for target in targets]
    counts = [layout.count_values(target.bits) for target in targets]
    return pl.DataFrame(
        {
            TARGET: pl.Series(range(len(targets)), dtype=pl.Int64),
            VALUE_COUNT: pl.Series(counts, dtype=pl.UInt32),
            **{
                name: pl.Series([target_words[word] for target_words in words], dtype=pl.UInt64)
                for word, name in enumerate(leaf_set.word_columns(leaf_set.OWN_SET, word_count))
            },
        }
    )


def _slice_batches(
    frame: pl.DataFrame, bits: int, wave: int, change_set_count: int, max_records: int
) -> Iterator[Batch]:
    """Yield the rows in batches of at most `max_records` items; an item is never split."""
    item_count = frame[ITEM].n_unique()
    if item_count == frame.height:
        for start in range(0, frame.height, max_records):
            part = frame.slice(start, max_records)
            yield Batch(wave, bits, part, part.height, change_set_count)
        return
    numbered = number_items(frame)
    for start in range(0, item_count, max_records):
        in_slice = pl.col(ITEM_NUMBER).is_between(start, start + max_records - 1)
        part = numbered.filter(in_slice).drop(ITEM_NUMBER)
        yield Batch(wave, bits, part, part[ITEM].n_unique(), change_set_count)
