"""Requests with FullFile=true: one whole scope each."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from etl.errors import InvalidFileError
from etl.mapping.layout import WORD_BITS, Layout, unpack
from etl.mapping.model import Mapping
from etl.model.columns import ITEM, KEY
from etl.plan.batches import flag_closure
from etl.plan.batches.batch import Batch, BatchLimits
from etl.plan.changes.diff import ChangeSet


def make_scope_batches(changes: ChangeSet, layout: Layout, limits: BatchLimits) -> tuple[list[Batch], ChangeSet]:
    """For FullFile=true: each scope whole under one header of what all its records have, and what remains to send.

    Scopes share a request while there is room; a scope that has none alone is left whole, for the caller to refuse.
    """
    names = scope_columns(layout)
    send = [f"_c{word}" for word in range(changes.word_count)]
    able = [f"_v{word}" for word in range(changes.word_count)]
    frame = changes.frame
    parts = frame.partition_by(names, maintain_order=True) if names else [frame]
    made: dict[int, list[pl.DataFrame]] = {}
    for part in parts:
        if part.is_empty():
            continue
        common = unpack(part.select(pl.col(name).bitwise_and() for name in able).row(0))
        wanted = unpack(part.select(pl.col(name).bitwise_or() for name in send).row(0))
        if layout.deactivation_leaf is not None:
            wanted |= 1 << layout.deactivation_leaf.index
        bits = flag_closure.closure(wanted, common, layout)
        if bits is None:
            bits = flag_closure.closure(layout.always_sent, common, layout) or layout.always_sent
        made.setdefault(bits, []).append(part)
    batches: list[Batch] = []
    for bits, group in made.items():
        room: list[pl.DataFrame] = []
        count = 0
        for part in group:
            items = part[ITEM].n_unique()
            if room and count + items > limits.max_records:
                batches.append(Batch(0, bits, pl.concat(room), count, 1, full_file=True))
                room, count = [], 0
            room.append(part)
            count += items
        batches.append(Batch(0, bits, pl.concat(room), count, 1, full_file=True))
    if not batches:
        return [], changes
    done = pl.concat([b.frame.select(KEY).with_columns(_word_columns(b.bits, changes.word_count)) for b in batches])
    rest = frame.join(done, on=KEY, how="left", maintain_order="left").with_columns(
        (pl.col(f"_c{word}") & ~pl.col(f"_d{word}")).alias(f"_c{word}") for word in range(changes.word_count)
    )
    left = rest.filter(pl.any_horizontal(pl.col(name) != 0 for name in send)).select(frame.columns)
    return batches, replace(changes, frame=left)


def scope_columns(layout: Layout) -> list[str]:
    """Columns whose values name the scope of a FullFile request; none where everything is one scope."""
    full_file = layout.operation.full_file
    fields = full_file.scope if full_file.split == "scope" else ()
    return [layout.by_path[path].name for path in fields or ()]


def _word_columns(bits: int, word_count: int) -> list[pl.Expr]:
    return [
        pl.lit(bits >> word * WORD_BITS & (1 << WORD_BITS) - 1, dtype=pl.UInt64).alias(f"_d{word}")
        for word in range(word_count)
    ]


def can_use_full_file(mapping: Mapping) -> bool:
    """Whether `FullFile=true` may be used: the operation has it, the file is whole, and its scope is clear.

    Where the scope is not stated, or is the whole catalogue, the mapping's author has to say that it is meant.
    """
    full_file = mapping.operation.full_file
    if not full_file.is_supported or mapping.source.content != "full":
        return False
    return full_file.split == "scope" or mapping.destructive is not None


def scope_too_large_error(
    mapping: Mapping, records: int, size: int, max_records: int, max_bytes: int
) -> InvalidFileError:
    """A FullFile scope that one request does not hold; cut in two, each half would retire the other's rows."""
    what = f"{records} records" + (f" in {size} bytes" if size else "")
    return InvalidFileError(
        "full-scope-too-large",
        f"a full feed of {mapping.feed} needs a scope in one request, and one has {what}",
        where=f"limits.max_records = {max_records}, limits.max_bytes = {max_bytes}",
        hint="use `gone: deactivate` in the mapping and a normal run: it switches off what is gone, row by row",
    )
