"""Compares records with the accepted records: which are new, changed and in which leaves, or unchanged.

Each record gets two sets of leaves, as bits in word columns: what has to be sent, and what could be sent (it has a
value that is ours to write). Everything after this works on those sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from etl.mapping import leaf_set
from etl.mapping.layout import Layout, Leaf
from etl.model.columns import (
    ACCEPTED_SUFFIX,
    DEACTIVATED,
    INTERNAL,
    ITEM,
    KEY,
    NEW,
    OWNED_ELSEWHERE,
    PARTIAL,
    REAPPEARED,
    ROW,
)
from etl.model.tables import Records
from etl.plan.changes import replaced_lists
from etl.plan.changes.absence import with_deactivated_column
from etl.plan.rows.sendable import conditions_to_send, counts_as_change, leaf_value, leaves_with_value, suppressed_count

#: Before the index of a leaf: whether the record can send it.
_CAN_SEND = f"{INTERNAL}can_send "


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Records with something to send: KEY, ITEM, ROW, NEW, DEACTIVATED, leaves, and the word columns."""

    frame: pl.DataFrame
    word_count: int  #: number of word columns of each kind (`leaf_set.TO_SEND`, `leaf_set.SENDABLE`)
    unchanged: int
    new: int
    changed: int
    deactivated: int
    suppressed: int  #: values not sent because Connect would not do what the file says (see docs/mapping.md)
    cleared: int  #: values that will be emptied in Norce


@dataclass(frozen=True, slots=True)
class Sendability:
    """Records beside their accepted values, and what they can send."""

    frame: pl.DataFrame
    can_send: dict[int, pl.Expr]  #: by index of the leaf
    shrunk: dict[str, pl.Expr]  #: by bundle: whether a list that is sent whole has lost something

    @classmethod
    def build(
        cls, joined: pl.DataFrame, layout: Layout, accepted_columns: Sequence[str], owned_elsewhere: pl.DataFrame | None
    ) -> Sendability:
        """Write what each record can send into columns: the words are made of them, and each is evaluated once."""
        has_value = leaves_with_value(layout)
        accepted = {name: name + ACCEPTED_SUFFIX for name in accepted_columns}
        joined = replaced_lists.fill_from_accepted(joined, layout, has_value, accepted)
        can_send = conditions_to_send(layout, has_value)
        if owned_elsewhere is not None:
            joined = joined.join(owned_elsewhere, on=KEY, how="left", maintain_order="left")
            can_send = _exclude_owned_elsewhere(can_send, layout, owned_elsewhere.columns)
        joined = joined.with_columns(condition.alias(f"{_CAN_SEND}{index}") for index, condition in can_send.items())
        columns = {index: pl.col(f"{_CAN_SEND}{index}") for index in can_send}
        return cls(joined, columns, replaced_lists.shrunk_lists(layout, has_value, accepted))


def compare(
    records: Records,
    accepted_records: pl.DataFrame,
    layout: Layout,
    *,
    send_all: bool = False,
    missing_records: pl.DataFrame | None = None,
    owned_elsewhere: pl.DataFrame | None = None,
) -> ChangeSet:
    """Compare records with the accepted ones, which have KEY and, where known, DEACTIVATED, ITEM and leaf columns.

    `send_all` sends unchanged records too. `missing_records` are deactivated, where the import can do that.
    `owned_elsewhere` says what other feeds own, see `etl.plan.changes.ownership`.
    """
    joined = _join_accepted(records.frame, with_deactivated_column(accepted_records), layout)
    columns = [name for name in _leaf_columns(layout) if name in accepted_records.columns]
    sendability = Sendability.build(joined, layout, columns, owned_elsewhere)
    new_leaves = {leaf.index for leaf in layout.leaves if not _has_accepted_leaf(leaf, accepted_records)}
    to_send = _leaves_to_send(sendability, layout, {leaf.index for leaf in layout.leaves} if send_all else new_leaves)
    count = leaf_set.count_words(len(layout.leaves))
    words = sendability.frame.with_columns(
        *leaf_set.pack_conditions(leaf_set.TO_SEND, to_send, count),
        *leaf_set.pack_conditions(leaf_set.SENDABLE, sendability.can_send, count),
    )
    touched = pl.any_horizontal(pl.col(name) != 0 for name in leaf_set.word_columns(leaf_set.TO_SEND, count))
    changed = words.filter(touched).with_columns(pl.lit(False).alias(DEACTIVATED))
    columns_of_change_set = [*records.frame.columns, NEW, DEACTIVATED, *_word_names(count)]
    parts = [changed.select(columns_of_change_set)]
    if missing_records is not None and layout.deactivation_leaf is not None:
        rows = _deactivation_rows(missing_records, records.frame, layout, count)
        parts.append(rows.select(columns_of_change_set))
    new = changed.filter(pl.col(NEW)).height
    return ChangeSet(
        frame=pl.concat(parts),
        word_count=count,
        unchanged=records.frame.height - changed.height,
        new=new,
        changed=changed.height - new,
        deactivated=sum(part.height for part in parts[1:]),
        suppressed=int(sendability.frame.select(suppressed_count(layout).sum()).item()),
        cleared=_count_cleared(changed, layout),
    )


def _word_names(word_count: int) -> list[str]:
    return [name for kind in (leaf_set.TO_SEND, leaf_set.SENDABLE) for name in leaf_set.word_columns(kind, word_count)]


def _leaf_columns(layout: Layout) -> list[str]:
    return list(dict.fromkeys(leaf.column for leaf in layout.leaves))


def _join_accepted(frame: pl.DataFrame, accepted_records: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Join each record with its accepted values, and say whether it is NEW and whether it has REAPPEARED."""
    partial = pl.col(PARTIAL) if PARTIAL in accepted_records.columns else pl.lit(False).alias(PARTIAL)
    columns = [name for name in _leaf_columns(layout) if name in accepted_records.columns]
    accepted = accepted_records.select(
        KEY, DEACTIVATED, partial, *(pl.col(name).alias(name + ACCEPTED_SUFFIX) for name in columns)
    )
    joined = frame.join(accepted, on=KEY, how="left", maintain_order="left").with_columns(
        pl.col(DEACTIVATED).fill_null(True).alias(NEW), pl.col(DEACTIVATED).fill_null(False).alias(REAPPEARED)
    )
    return _activate_reappeared(joined, layout)


def _leaves_to_send(sendability: Sendability, layout: Layout, always_differ: set[int]) -> dict[int, pl.Expr]:
    """Return for each leaf that can be a change whether the record has to send it."""
    can_send = sendability.can_send
    to_send: dict[int, pl.Expr] = {}
    for leaf in layout.leaves:
        if not counts_as_change(leaf, layout):
            continue
        differs = pl.lit(True) if leaf.index in always_differ else _differs(leaf)
        differs = differs | sendability.shrunk.get(leaf.bundle, pl.lit(False)) | pl.col(PARTIAL).fill_null(False)
        content = [can_send[other.index] for other in layout.leaves if other.is_content_of(leaf)]
        useful = pl.any_horizontal(content) if leaf.identifier and not leaf.key and content else pl.lit(True)
        to_send[leaf.index] = can_send[leaf.index] & useful & (pl.col(NEW) | differs)
    return to_send


def _has_accepted_leaf(leaf: Leaf, accepted_records: pl.DataFrame) -> bool:
    """Return whether the accepted records have this leaf; a field that the mapping gained since changes everywhere."""
    kind = accepted_records.schema.get(leaf.column)
    if leaf.inner is None or kind is None:
        return kind is not None
    struct = kind.inner if isinstance(kind, pl.List) else None
    return isinstance(struct, pl.Struct) and any(field.name == leaf.inner for field in struct.fields)


def _differs(leaf: Leaf) -> pl.Expr:
    return leaf_value(leaf).ne_missing(leaf_value(leaf, ACCEPTED_SUFFIX))


def _activate_reappeared(joined: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Give a record that was deactivated and has reappeared the value that activates it."""
    leaf = layout.deactivation_leaf
    if leaf is None or not leaf.synthetic:
        return joined
    on = layout.operation.deactivation.on_value if layout.operation.deactivation else None
    return joined.with_columns(
        pl.when(pl.col(REAPPEARED)).then(pl.lit(on)).otherwise(pl.col(leaf.name)).alias(leaf.name)
    )


def _exclude_owned_elsewhere(
    sendable: dict[int, pl.Expr], layout: Layout, columns: Sequence[str]
) -> dict[int, pl.Expr]:
    """Leave out what another feed owns; of a bundle, which is sent whole, nothing is sent then."""
    owned = {
        name: pl.col(OWNED_ELSEWHERE + name).fill_null(False)
        for name in {leaf.column for leaf in layout.leaves}
        if OWNED_ELSEWHERE + name in columns
    }
    remaining = dict(sendable)
    for leaf in layout.leaves:
        if leaf.key or (leaf.identifier and leaf.bundle == leaf.name):
            continue
        owned_fields = [owned[o.column] for o in layout.leaves if o.bundle == leaf.bundle and o.column in owned]
        if owned_fields:
            remaining[leaf.index] = sendable[leaf.index] & ~pl.any_horizontal(owned_fields)
    return remaining


def _deactivation_rows(
    missing_records: pl.DataFrame, frame: pl.DataFrame, layout: Layout, word_count: int
) -> pl.DataFrame:
    """Build records that deactivate what is missing: key and the deactivating value, nothing else."""
    leaf = layout.deactivation_leaf
    deactivation = layout.operation.deactivation
    assert leaf is not None
    assert deactivation is not None
    to_send = {leaf.index: pl.lit(True)}
    sendable = {other.index: pl.lit(True) for other in layout.leaves_in(layout.always_sent)} | to_send
    for other in layout.leaves:
        if (other.identifier and other.parent in leaf.parents) or other.key:
            sendable[other.index] = pl.col(other.column).is_not_null()
    columns = []
    for name, kind in frame.schema.items():
        if name == leaf.column:
            columns.append(pl.lit(deactivation.off_value, dtype=kind).alias(name))
        elif name == ITEM and ITEM not in missing_records.columns:
            columns.append(pl.col(KEY).alias(ITEM))
        elif name == ROW or name not in missing_records.columns:
            columns.append(pl.lit(None, dtype=kind).alias(name))
        else:
            columns.append(pl.col(name).cast(kind, strict=False))
    rows = missing_records.select(*columns, pl.lit(False).alias(NEW), pl.lit(True).alias(DEACTIVATED))
    return rows.with_columns(
        *leaf_set.pack_conditions(leaf_set.TO_SEND, to_send, word_count),
        *leaf_set.pack_conditions(leaf_set.SENDABLE, sendable, word_count),
    )


def _count_cleared(changed: pl.DataFrame, layout: Layout) -> int:
    conditions = [
        leaf_set.has_leaf(leaf_set.TO_SEND, leaf.index) & pl.col(leaf.column).is_null()
        for leaf in layout.leaves
        if leaf.value.empty == "clear"
    ]
    if not conditions:
        return 0
    total = pl.sum_horizontal(condition.cast(pl.UInt32).sum() for condition in conditions)
    return int(changed.lazy().select(total).collect().item())
