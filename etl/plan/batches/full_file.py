"""Requests with FullFile=true: one whole scope each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from etl.errors import InvalidFileError
from etl.mapping import leaf_set
from etl.mapping.layout import Layout
from etl.mapping.model import Mapping
from etl.model.columns import ITEM, KEY
from etl.plan.batches import flag_closure
from etl.plan.batches.batch import Batch
from etl.plan.changes.diff import ChangeSet
from etl.plan.inputs import RequestLimits

#: Prefix of word columns: the leaves that FullFile batches carry.
COVERED = "_covered"


def make_scope_batches(changes: ChangeSet, layout: Layout, limits: RequestLimits) -> tuple[list[Batch], ChangeSet]:
    """Return FullFile=true batches of whole scopes, and the changes that these do not carry.

    The header of a scope names the leaves that all its records have. Scopes share a request while there is room; a
    scope that is too large alone stays whole, and the caller rejects it.
    """
    names = scope_columns(layout)
    scopes = changes.frame.partition_by(names, maintain_order=True) if names else [changes.frame]
    scopes_by_set: dict[int, list[pl.DataFrame]] = {}
    for scope in scopes:
        if not scope.is_empty():
            scopes_by_set.setdefault(_scope_leaves(scope, changes.word_count, layout), []).append(scope)
    batches = [
        Batch(0, bits, frame, frame[ITEM].n_unique(), 1, full_file=True)
        for bits, same_set in scopes_by_set.items()
        for frame in _fill_requests(same_set, limits.max_records)
    ]
    return batches, _remaining_changes(changes, batches) if batches else changes


def _scope_leaves(scope: pl.DataFrame, word_count: int, layout: Layout) -> int:
    """Return the leaves that all records of a scope are sent with."""
    to_send, sendable = (leaf_set.word_columns(kind, word_count) for kind in (leaf_set.TO_SEND, leaf_set.SENDABLE))
    common = leaf_set.join_words(scope.select(pl.col(name).bitwise_and() for name in sendable).row(0))
    wanted = leaf_set.join_words(scope.select(pl.col(name).bitwise_or() for name in to_send).row(0))
    if layout.deactivation_leaf is not None:
        wanted |= 1 << layout.deactivation_leaf.index
    bits = flag_closure.closure(wanted, common, layout)
    if bits is None:
        bits = flag_closure.closure(layout.always_sent, common, layout) or layout.always_sent
    return bits


def _fill_requests(scopes: list[pl.DataFrame], max_records: int) -> Iterator[pl.DataFrame]:
    """Join scopes, in order, while they hold no more items than a request may."""
    pending: list[pl.DataFrame] = []
    item_count = 0
    for scope in scopes:
        items = scope[ITEM].n_unique()
        if pending and item_count + items > max_records:
            yield pl.concat(pending)
            pending, item_count = [], 0
        pending.append(scope)
        item_count += items
    yield pl.concat(pending)


def _remaining_changes(changes: ChangeSet, batches: list[Batch]) -> ChangeSet:
    """Return the changes without the leaves that the batches carry."""
    to_send, covered = (leaf_set.word_columns(kind, changes.word_count) for kind in (leaf_set.TO_SEND, COVERED))
    carried = pl.concat(
        batch.frame.select(
            KEY,
            *(
                pl.lit(word, dtype=pl.UInt64).alias(name)
                for name, word in zip(covered, leaf_set.split_words(batch.bits, changes.word_count), strict=True)
            ),
        )
        for batch in batches
    )
    frame = changes.frame.join(carried, on=KEY, how="left", maintain_order="left").with_columns(
        (pl.col(name) & ~pl.col(covered_name)).alias(name) for name, covered_name in zip(to_send, covered, strict=True)
    )
    left = frame.filter(pl.any_horizontal(pl.col(name) != 0 for name in to_send)).select(changes.frame.columns)
    return replace(changes, frame=left)


def scope_columns(layout: Layout) -> list[str]:
    """Return the columns whose values name the scope of a FullFile request; none where everything is one scope."""
    full_file = layout.operation.full_file
    fields = full_file.scope if full_file.split == "scope" else ()
    return [layout.by_path[path].name for path in fields or ()]


def can_use_full_file(mapping: Mapping) -> bool:
    """Return whether `FullFile=true` may be used: the operation has it, the file is full, and its scope is clear.

    Where the scope is not stated, or is the whole catalogue, the mapping must allow it with `destructive`.
    """
    full_file = mapping.operation.full_file
    if not full_file.is_supported or mapping.source.content != "full":
        return False
    return full_file.split == "scope" or mapping.destructive is not None


def scope_too_large_error(
    mapping: Mapping, records: int, size: int, max_records: int, max_bytes: int
) -> InvalidFileError:
    """Return the error for a FullFile scope that exceeds one request: each of two halves would retire the other."""
    what = f"{records} records" + (f" in {size} bytes" if size else "")
    return InvalidFileError(
        "full-scope-too-large",
        f"a full feed of {mapping.feed} needs a scope in one request, and one has {what}",
        where=f"limits.max_records = {max_records}, limits.max_bytes = {max_bytes}",
        hint="use `gone: deactivate` in the mapping and a normal run: it deactivates missing records one by one",
    )
