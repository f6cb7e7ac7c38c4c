"""A change set into requests: which leaves under one header, which records, in which wave.

Connect takes one header per request and so many requests a minute; minutes are what is scarce. Records are
grouped by what changed; groups are merged into supersets, adding values already known, only where one group
each would take more minutes than the records need anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from etl import coherence
from etl.cells import REJECTIONS
from etl.diff import BITS, NEW, ChangeSet
from etl.layout import Layout
from etl.model import ITEM, KEY, ROW, Rejections
from etl.packing import Group, pack


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold and one minute may carry."""

    max_records: int = 1000
    requests_per_minute: int = 60


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that travel under one header; `frame` may still be cut for size."""

    wave: int
    bits: int
    frame: pl.DataFrame
    records: int  #: array elements
    merged: int  #: distinct change sets that were put together to save requests
    whole: bool = False  #: must not be cut: a FullFile scope


def split(changes: ChangeSet, layout: Layout, limits: Limits) -> tuple[list[Batch], Rejections]:
    """Batches by wave, then by size; every changed record is in as many batches as it needs passes.

    Records that no header can carry come back as rejections.
    """
    frame, sets, hopeless = _assign(changes, layout)
    rejections = _uneven(hopeless)
    batches: list[Batch] = []
    waves = sorted(frame["_wave"].unique().to_list()) if frame.height else []
    for wave in waves:
        batches.extend(_wave(frame.filter(pl.col("_wave") == wave), wave, sets, changes.words, layout, limits))
    return batches, rejections


def unpack(words: tuple[int, ...]) -> int:
    """Word columns of one row as one set."""
    bits = 0
    for number, word in enumerate(words):
        bits |= word << (number * BITS)
    return bits


def _assign(changes: ChangeSet, layout: Layout) -> tuple[pl.DataFrame, list[int], pl.DataFrame]:
    """Each row with its set (`_s`) and wave; rows of several passes several times."""
    c = [f"_c{word}" for word in range(changes.words)]
    v = [f"_v{word}" for word in range(changes.words)]
    frame = changes.frame
    sets: list[int] = []
    index: dict[int, int] = {}
    if layout.units and frame[ITEM].n_unique() < frame.height:
        frame = _agree(frame, c, v, layout)
    pairs = frame.select(*c, *v).unique(maintain_order=True)
    rows: list[tuple[int, int, int]] = []
    for number, pair in enumerate(pairs.iter_rows()):
        made = coherence.passes(unpack(pair[: len(c)]), unpack(pair[len(c) :]), layout)
        if made is None:
            rows.append((number, -1, 0))
        for order, bits in enumerate(made or ()):
            if bits not in index:
                index[bits] = len(sets)
                sets.append(bits)
            rows.append((number, index[bits], order))
    plan = pl.DataFrame(rows, schema={"_pair": pl.Int64, "_s": pl.Int64, "_pass": pl.Int64}, orient="row")
    numbered = pairs.with_row_index("_pair").cast({"_pair": pl.Int64})
    frame = frame.join(numbered, on=[*c, *v], how="left", maintain_order="left")
    frame = frame.join(plan, on="_pair", how="inner", maintain_order="left").drop("_pair")
    hopeless = frame.filter(pl.col("_s") < 0)
    frame = frame.filter(pl.col("_s") >= 0)
    # The rows of one item, and the passes of one row, share keys: their jobs must follow one another.
    order = pl.col("_pass") * (1 << 32) + pl.col("_s")
    if frame[ITEM].n_unique() == frame.height:
        return frame.with_columns(pl.lit(0, dtype=pl.Int64).alias("_wave")), sets, hopeless
    wave = (order.rank("dense").over(ITEM) - 1).cast(pl.Int64)
    return frame.with_columns(wave.alias("_wave")), sets, hopeless


def _agree(frame: pl.DataFrame, c: list[str], v: list[str], layout: Layout) -> pl.DataFrame:
    """Give the rows of an item one common set where all of them can serve it: then it is one array element."""
    items = frame.group_by(ITEM).agg(
        *(pl.col(name).bitwise_or().alias("u" + name) for name in c),
        *(pl.col(name).bitwise_and().alias("w" + name) for name in v),
        pl.len().alias("_n"),
    )
    several = items.filter(pl.col("_n") > 1)
    unions = ["u" + name for name in c]
    shared = ["w" + name for name in v]
    pairs = several.select(*unions, *shared).unique(maintain_order=True)
    fits = []
    for pair in pairs.iter_rows():
        send, able = unpack(pair[: len(c)]), unpack(pair[len(c) :])
        made = coherence.passes(send, able, layout) if not send & ~able else None
        fits.append(made is not None and len(made) == 1)
    good = pairs.with_columns(pl.Series("_fits", fits, dtype=pl.Boolean)).filter("_fits")
    common = several.join(good, on=[*unions, *shared], how="inner").select(ITEM, *unions, *shared)
    frame = frame.join(common, on=ITEM, how="left", maintain_order="left")
    return frame.with_columns(
        *(pl.coalesce("u" + name, name).alias(name) for name in c),
        *(pl.coalesce("w" + name, name).alias(name) for name in v),
    ).drop(unions + shared)


def _wave(
    frame: pl.DataFrame, wave: int, sets: list[int], words: int, layout: Layout, limits: Limits
) -> Iterator[Batch]:
    able = [f"_v{word}" for word in range(words)]
    facts = (
        frame.group_by("_s", NEW, maintain_order=True)
        .agg(pl.col(ITEM).n_unique().alias("_n"), *(pl.col(name).bitwise_and() for name in able))
        .sort(pl.col("_n"), pl.col("_s"), descending=[True, False])
    )
    groups = [
        Group(sets[row["_s"]], unpack(tuple(row[name] for name in able)), row["_n"], row[NEW])
        for row in facts.iter_rows(named=True)
    ]
    targets = pack(groups, layout, limits.max_records, limits.requests_per_minute)
    target_ids = list(dict.fromkeys((target, group.new) for target, group in zip(targets, groups, strict=True)))
    by_id = {pair: number for number, pair in enumerate(target_ids)}
    assigned = facts.select("_s", NEW).with_columns(
        pl.Series("_t", [by_id[target, group.new] for target, group in zip(targets, groups, strict=True)])
    )
    routed = frame.join(assigned, on=["_s", NEW], how="left", maintain_order="left")
    for number, (bits, new) in enumerate(target_ids):
        part = routed.filter(pl.col("_t") == number).drop("_t")
        merged = sum(1 for target, group in zip(targets, groups, strict=True) if (target, group.new) == (bits, new))
        yield from _slices(part, bits, wave, merged, limits.max_records)


def _slices(frame: pl.DataFrame, bits: int, wave: int, merged: int, size: int) -> Iterator[Batch]:
    """Cut into requests between items, never inside one."""
    if frame[ITEM].n_unique() == frame.height:
        for start in range(0, frame.height, size):
            part = frame.slice(start, size)
            yield Batch(wave, bits, part, part.height, merged)
        return
    numbered = frame.with_columns(_item_number(frame))
    for start in range(0, frame[ITEM].n_unique(), size):
        part = numbered.filter(pl.col("_i").is_between(start, start + size - 1)).drop("_i")
        yield Batch(wave, bits, part, part[ITEM].n_unique(), merged)


def _item_number(frame: pl.DataFrame) -> pl.Series:
    """Number of each row's item, in the order in which items appear."""
    order = frame.select(ITEM).unique(maintain_order=True).with_row_index("_i").cast({"_i": pl.Int64})
    return frame.select(ITEM).join(order, on=ITEM, how="left", maintain_order="left")["_i"]


def _uneven(hopeless: pl.DataFrame) -> Rejections:
    if hopeless.is_empty():
        return Rejections(pl.DataFrame(schema=REJECTIONS))
    return Rejections(
        hopeless.select(
            row=pl.col(ROW),
            column=pl.lit(""),
            code=pl.lit("uneven-list"),
            value=pl.col(KEY).str.replace_all("\x1f", " / ", literal=True),
            message=pl.lit("a list that Connect replaces as a whole has elements with and without a value"),
            hint=pl.lit("fill the cells, or give the field a `default` or `empty: clear`"),
        )
    )
