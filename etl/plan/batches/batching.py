"""A change set into requests: which leaves under one header, which records, in which wave.

Connect takes one header per request and so many requests a minute; minutes are what is scarce. Records are
grouped by what changed; groups are merged into supersets, adding values already known, only where one group
each would take more minutes than the records need anyway.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator

import polars as pl

from etl.mapping.layout import OWN_SET, WORD_BITS, Layout, unpack
from etl.model.columns import ITEM, KEY, NEW, ORIGIN, ROW
from etl.model.keys import display_keys
from etl.model.tables import Rejections
from etl.plan.batches import flag_closure, layers
from etl.plan.batches.batch import CHANGED_COUNT, VALUE_COUNT, Batch, BatchLimits, _number_items
from etl.plan.batches.packing import Group, Share, fits_budget, pack
from etl.plan.changes.diff import ChangeSet


def make_batches(changes: ChangeSet, layout: Layout, limits: BatchLimits) -> tuple[list[Batch], pl.DataFrame]:
    """Batches by wave, then by size; every changed record is in as many batches as it needs passes.

    Records that no header can carry come back by themselves, see `uneven`.
    """
    frame, sets, hopeless = _assign_leaf_sets(changes, layout, limits)
    batches: list[Batch] = []
    waves = sorted(frame["_wave"].unique().to_list()) if frame.height else []
    for wave in waves:
        batches.extend(
            _batches_of_wave(frame.filter(pl.col("_wave") == wave), wave, sets, changes.word_count, layout, limits)
        )
    return batches, hopeless.select(KEY, ROW, NEW, *([ORIGIN] if ORIGIN in hopeless.columns else []))


def reject_inconsistent_lists(unsendable: pl.DataFrame, row_keys: pl.DataFrame | None = None) -> Rejections:
    """Why records that no header can carry do not go, for every row of them; `lines`: KEY and ROW of all rows.

    What an earlier file brought has no row in this one: the sentence names file and row.
    """
    if row_keys is not None:
        unsendable = unsendable.drop(ROW).join(row_keys, on=KEY, how="left", maintain_order="left")
    came = pl.lit(None, dtype=pl.String)
    if ORIGIN in unsendable.columns:
        place = pl.col(ORIGIN).struct
        came = pl.format(" ({}, row {})", place.field("file"), place.field("row"))
    return Rejections(
        unsendable.select(
            row=pl.col(ROW).cast(pl.Int64),
            column=pl.lit(""),
            code=pl.lit("uneven-list"),
            value=display_keys(pl.col(KEY)),
            message=pl.concat_str(
                pl.lit("a list that Connect replaces as a whole has elements with and without a value"),
                came.fill_null(""),
            ),
            hint=pl.lit("fill the cells, or give the field a `default` or `empty: clear`"),
        )
    )


def unmerged_request_count(batches: Iterable[Batch], max_records: int) -> int:
    """Requests that it would take if only records with the same changes shared one."""
    whole = 0
    found: dict[tuple[int, int, bool], int] = {}
    for batch in batches:
        if CHANGED_COUNT not in batch.frame.columns:
            whole += 1
            continue
        for number, new, items in batch.frame.group_by("_s", NEW).agg(pl.col(ITEM).n_unique()).iter_rows():
            key = batch.wave, number, new
            found[key] = found.get(key, 0) + items
    return whole + sum(-(-items // max_records) for items in found.values())


def _assign_leaf_sets(
    changes: ChangeSet, layout: Layout, limits: BatchLimits
) -> tuple[pl.DataFrame, list[int], pl.DataFrame]:
    """Each row with its set (`_s`) and wave; rows of several passes several times."""
    c = [f"_c{word}" for word in range(changes.word_count)]
    v = [f"_v{word}" for word in range(changes.word_count)]
    frame = changes.frame
    sets: list[int] = []
    index: dict[int, int] = {}
    able = v
    if layout.unit_list and frame[ITEM].n_unique() < frame.height:
        frame, able = _align_items(frame, c, v, layout), [f"_a{word}" for word in range(changes.word_count)]
    pairs = frame.select(*c, *able).unique(maintain_order=True)
    rows: list[tuple[int, int, int]] = []
    for number, pair in enumerate(pairs.iter_rows()):
        made = flag_closure.split_into_passes(unpack(pair[: len(c)]), unpack(pair[len(c) :]), layout)
        if made is None:
            rows.append((number, -1, 0))
        for order, bits in enumerate(made or ()):
            if bits not in index:
                index[bits] = len(sets)
                sets.append(bits)
            rows.append((number, index[bits], order))
    plan = pl.DataFrame(rows, schema={"_pair": pl.Int64, "_s": pl.Int64, "_pass": pl.Int64}, orient="row")
    numbered = pairs.with_row_index("_pair").cast({"_pair": pl.Int64})
    frame = frame.join(numbered, on=[*c, *able], how="left", maintain_order="left").select(
        *changes.frame.columns, "_pair"
    )
    frame = frame.join(plan, on="_pair", how="inner", maintain_order="left").drop("_pair")
    hopeless = frame.filter(pl.col("_s") < 0)
    frame = frame.filter(pl.col("_s") >= 0)
    # The rows of one item, and the passes of one row, share keys: their jobs must follow one another.
    if frame[ITEM].n_unique() == frame.height:
        return _spread_over_waves(frame, sets, layout, limits), sets, hopeless
    turn = pl.col("_pass") * (1 << 32) + pl.col("_s")
    wave = (turn.rank("dense").over(ITEM) - 1).cast(pl.Int64)
    return frame.with_columns(wave.alias("_wave")), sets, hopeless


def _spread_over_waves(frame: pl.DataFrame, leaf_sets: list[int], layout: Layout, limits: BatchLimits) -> pl.DataFrame:
    """One row per item and one pass per row: all in the first wave, but new records with gaps in layers."""
    flat = frame.with_columns(pl.lit(0, dtype=pl.Int64).alias("_wave"))
    counts = frame.filter(pl.col(NEW)).group_by("_s").len().sort("_s")
    by_set = {leaf_sets[number]: records for number, records in counts.iter_rows()}
    headers: dict[object, int] = {}
    for bits, records in by_set.items():
        key = layout.active_flags(bits), bits & layout.uniform_leaves
        headers[key] = headers.get(key, 0) + records
    size, minute = limits.max_records, limits.requests_per_minute
    enough = fits_budget(list(headers.values()), size, minute, limits.packing)
    made = {} if enough else layers.split_initial_load(by_set, layout, size, minute)
    if not made:
        return flat
    number_of = {bits: number for number, bits in enumerate(leaf_sets)}
    rows: list[tuple[int, int, int]] = []
    for bits, its in made.items():
        for layer in its:
            if layer.bits not in number_of:
                number_of[layer.bits] = len(leaf_sets)
                leaf_sets.append(layer.bits)
            rows.append((number_of[bits], number_of[layer.bits], layer.order))
    table = pl.DataFrame(rows, schema={"_s": pl.Int64, "_to": pl.Int64, "_w": pl.Int64}, orient="row")
    concerned = pl.col(NEW) & pl.col("_s").is_in(table["_s"].unique().implode())
    spread = flat.filter(concerned).join(table, on="_s", how="left", maintain_order="left")
    spread = spread.with_columns(pl.col("_to").alias("_s"), pl.col("_w").alias("_wave")).drop("_to", "_w")
    return pl.concat([flat.filter(~concerned), spread])


def _align_items(
    frame: pl.DataFrame, send_columns: list[str], sendable_columns: list[str], layout: Layout
) -> pl.DataFrame:
    """Give the rows of an item one common set where all of them can serve it: then it is one array element.

    `_a0…` are added: what a row could give of what it is asked for together with the others.
    """
    asked, shared, some = ([kind + name[2:] for name in sendable_columns] for kind in ("_u", "_a", "_o"))
    items = frame.group_by(ITEM).agg(
        *(pl.col(name).bitwise_or().alias(made) for name, made in zip(send_columns, asked, strict=True)),
        *(pl.col(name).bitwise_and().alias(made) for name, made in zip(sendable_columns, shared, strict=True)),
        *(pl.col(name).bitwise_or().alias(made) for name, made in zip(sendable_columns, some, strict=True)),
        pl.len().alias("_n"),
    )
    several = items.filter(pl.col("_n") > 1)
    kinds = several.select(*asked, *shared, *some).unique()
    fitting = []
    for kind in kinds.iter_rows():
        send, able, any_of = (
            unpack(kind[start : start + len(sendable_columns)]) for start in range(0, len(kind), len(sendable_columns))
        )
        made = flag_closure.split_into_passes(send, able, layout)
        # What goes as a whole has to be whole for each of them: the list of one row may have more than the other's.
        fitting.append(made is not None and len(made) == 1 and flag_closure.closure(made[0], any_of, layout) == made[0])
    good = kinds.filter(pl.Series(fitting, dtype=pl.Boolean))
    common = several.join(good, on=good.columns, how="semi").select(ITEM, *asked, *shared)
    return frame.join(common, on=ITEM, how="left", maintain_order="left").with_columns(
        *(pl.coalesce(made, name).alias(name) for name, made in zip(send_columns, asked, strict=True)),
        *(pl.coalesce(made, name).alias(made) for name, made in zip(sendable_columns, shared, strict=True)),
    )


def _batches_of_wave(
    frame: pl.DataFrame, wave: int, leaf_sets: list[int], word_count: int, layout: Layout, limits: BatchLimits
) -> Iterator[Batch]:
    able = [f"_v{word}" for word in range(word_count)]
    counts = [layout.count_values(bits) for bits in leaf_sets]
    frame = frame.with_columns(
        pl.col("_s").replace_strict(list(range(len(leaf_sets))), counts, return_dtype=pl.UInt32).alias(CHANGED_COUNT)
    )
    if layout.unit_list:  # a variant that is new does not tear its product apart
        frame = frame.with_columns(pl.col(NEW).any().over(ITEM))
    facts = (
        frame.group_by("_s", NEW)
        .agg(
            pl.col(ITEM).n_unique().alias("_n"),
            *(pl.col(name).bitwise_and() for name in able),
            *(pl.col(name).bitwise_or().alias("u" + name) for name in able),
        )
        .sort("_n", "_s", NEW, descending=[True, False, False])
    )
    groups = [
        Group(
            leaf_sets[row["_s"]],
            unpack(tuple(row[name] for name in able)),
            unpack(tuple(row["u" + name] for name in able)),
            row["_n"],
            row[NEW],
        )
        for row in facts.iter_rows(named=True)
    ]
    shares = _choose_shares(groups, layout, limits)
    targets = list(
        dict.fromkeys((share.bits, group.new) for group, its in zip(groups, shares, strict=True) for share in its)
    )
    by_id = {pair: number for number, pair in enumerate(targets)}
    merged = dict.fromkeys(targets, 0)
    routes: list[tuple[int, bool, int, int, int]] = []
    for row, group, its in zip(facts.select("_s", NEW).iter_rows(), groups, shares, strict=True):
        start = 0
        for share in its:
            target = share.bits, group.new
            routes.append((*row, start, start + share.records, by_id[target]))
            start += share.records
        for target in {(share.bits, group.new) for share in its}:
            merged[target] += 1
    table = pl.DataFrame(
        routes,
        schema={"_s": pl.Int64, NEW: pl.Boolean, "_from": pl.Int64, "_to": pl.Int64, "_t": pl.Int64},
        orient="row",
    )
    numbered = frame.with_columns(_number_items(frame))
    numbered = numbered.with_columns((pl.col("_i").rank("dense").over("_s", NEW) - 1).cast(pl.Int64))
    routed = numbered.join(table, on=["_s", NEW], how="left", maintain_order="left")
    routed = routed.filter((pl.col("_i") >= pl.col("_from")) & (pl.col("_i") < pl.col("_to"))).drop(
        "_i", "_from", "_to"
    )
    routed = routed.join(_target_table(targets, layout), on="_t", how="left", maintain_order="left")
    headers: dict[object, list[int]] = {}
    for number, (bits, new) in enumerate(targets):
        headers.setdefault((layout.active_flags(bits), bits & layout.uniform_leaves, new), []).append(number)
    for numbers in headers.values():
        part = routed.filter(pl.col("_t").is_in(numbers)).drop("_t")
        bits = functools.reduce(operator.or_, (targets[number][0] for number in numbers))
        yield from _slice_batches(
            part, bits, wave, sum(merged[targets[number]] for number in numbers), limits.max_records
        )


def _choose_shares(groups: list[Group], layout: Layout, limits: BatchLimits) -> list[list[Share]]:
    """Each group with its own set where that fits into the minutes: sets with the same header share requests anyway."""
    headers: dict[object, int] = {}
    for group in groups:
        key = layout.active_flags(group.bits), group.bits & layout.uniform_leaves, group.new
        headers[key] = headers.get(key, 0) + group.records
    if fits_budget(list(headers.values()), limits.max_records, limits.requests_per_minute, limits.packing):
        return [[Share(group.bits, group.records)] for group in groups]
    return pack(groups, layout, limits.max_records, limits.requests_per_minute, limits.packing)


def _target_table(targets: list[tuple[int, bool]], layout: Layout) -> pl.DataFrame:
    """Of each target its set as words, and how many values it sends."""
    words = range(-(-len(layout.leaves) // WORD_BITS) or 1)
    columns: dict[str, pl.Series] = {
        "_t": pl.Series(range(len(targets)), dtype=pl.Int64),
        VALUE_COUNT: pl.Series([layout.count_values(bits) for bits, _ in targets], dtype=pl.UInt32),
    }
    for word in words:
        part = [bits >> word * WORD_BITS & (1 << WORD_BITS) - 1 for bits, _ in targets]
        columns[f"{OWN_SET}{word}"] = pl.Series(part, dtype=pl.UInt64)
    return pl.DataFrame(columns)


def _slice_batches(
    frame: pl.DataFrame, bits: int, wave: int, change_set_count: int, max_records: int
) -> Iterator[Batch]:
    """Cut into requests between items, never inside one."""
    if frame[ITEM].n_unique() == frame.height:
        for start in range(0, frame.height, max_records):
            part = frame.slice(start, max_records)
            yield Batch(wave, bits, part, part.height, change_set_count)
        return
    numbered = frame.with_columns(_number_items(frame))
    for start in range(0, frame[ITEM].n_unique(), max_records):
        part = numbered.filter(pl.col("_i").is_between(start, start + max_records - 1)).drop("_i")
        yield Batch(wave, bits, part, part[ITEM].n_unique(), change_set_count)
