"""Records against *accepted*: which keys are new, changed and in which leaves, unchanged, or gone.

Per record two sets of leaves come out, as bits in one or more integer columns: what has to be sent, and what
could be sent (its value is known and ours to write). Everything after this works on those sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from etl.mapping import leaf_set
from etl.mapping.layout import Layout, Leaf
from etl.model.columns import _ACCEPTED_SUFFIX, DEACTIVATED, ITEM, KEY, NEW, OWNED_ELSEWHERE, PARTIAL, ROW
from etl.model.tables import Records
from etl.plan.changes import replaced_lists
from etl.plan.changes.absence import _ensure_deactivated_column, find_missing
from etl.plan.rows.sendable import _has_value, _sendable_leaves, counts_as_change, leaf_value, suppressed_count


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """`frame` holds only records with something to send: KEY, ITEM, ROW, NEW, GONE, leaves, and the words."""

    frame: pl.DataFrame
    word_count: int  #: number of word columns of each kind (`leaf_set.TO_SEND`, `leaf_set.SENDABLE`)
    unchanged: int
    new: int
    changed: int
    deactivated: int
    suppressed: int  #: values not sent because Connect would not do what the file says (see docs/mapping.md)
    cleared: int  #: values that will be emptied in Norce


def compare(
    records: Records,
    accepted_records: pl.DataFrame,
    layout: Layout,
    *,
    deactivate: bool = False,
    send_all: bool = False,
    keys_of_rejected_rows: pl.Series | None = None,
    owned_elsewhere: pl.DataFrame | None = None,
) -> ChangeSet:
    """`accepted` has KEY and, where known, GONE, ITEM and leaf columns. `everything` sends unchanged ones too.

    `deactivate` switches off what the records lack, except what rejected rows mention (see `missing`). `barred`: what
    other feeds own, see `etl.plan.changes.ownership`.
    """
    accepted_records = _ensure_deactivated_column(accepted_records)
    frame = records.frame
    known = {leaf.index: _has_accepted_leaf(leaf, accepted_records) for leaf in layout.leaves}
    columns = list(dict.fromkeys(leaf.column for leaf in layout.leaves if leaf.column in accepted_records.columns))
    unsure = pl.col(PARTIAL) if PARTIAL in accepted_records.columns else pl.lit(False).alias(PARTIAL)
    old = accepted_records.select(
        KEY, DEACTIVATED, unsure, *(pl.col(name).alias(name + _ACCEPTED_SUFFIX) for name in columns)
    )
    joined = frame.join(old, on=KEY, how="left", maintain_order="left").with_columns(
        pl.col(DEACTIVATED).fill_null(True).alias(NEW), pl.col(DEACTIVATED).fill_null(False).alias("_back")
    )
    joined = _activate_reappeared(joined, layout)
    filled = {leaf.index: _has_value(leaf, layout) for leaf in layout.leaves}
    before = {name: name + _ACCEPTED_SUFFIX for name in columns}
    joined = replaced_lists.fill_from_accepted(joined, layout, filled, before)
    shrunk = replaced_lists.shrunk_lists(layout, filled, before)
    can = _sendable_leaves(layout, filled)
    if owned_elsewhere is not None:
        joined = joined.join(owned_elsewhere, on=KEY, how="left", maintain_order="left")
        can = _exclude_owned_elsewhere(can, layout, owned_elsewhere.columns)
    send: dict[int, pl.Expr] = {}
    for leaf in layout.leaves:
        if not counts_as_change(leaf, layout):
            continue
        differs = pl.lit(True) if send_all or not known[leaf.index] else _differs(leaf)
        differs = differs | shrunk.get(leaf.bundle, pl.lit(False)) | pl.col(PARTIAL).fill_null(False)
        content = [can[other.index] for other in layout.leaves if other.is_content_of(leaf)]
        useful = pl.any_horizontal(content) if leaf.identifier and not leaf.key and content else pl.lit(True)
        send[leaf.index] = can[leaf.index] & useful & (pl.col(NEW) | differs)
    count = leaf_set.count_words(len(layout.leaves))
    joined = joined.with_columns(
        *leaf_set.pack_conditions(leaf_set.TO_SEND, send, count),
        *leaf_set.pack_conditions(leaf_set.SENDABLE, can, count),
    )
    touched = pl.any_horizontal(pl.col(name) != 0 for name in leaf_set.word_columns(leaf_set.TO_SEND, count))
    changed = joined.filter(touched).with_columns(pl.lit(False).alias(DEACTIVATED))
    cleared = _count_cleared(changed, layout)
    words = [name for kind in (leaf_set.TO_SEND, leaf_set.SENDABLE) for name in leaf_set.word_columns(kind, count)]
    keep = [*frame.columns, NEW, DEACTIVATED, *words]
    parts = [changed.select(keep)]
    gone = 0
    if deactivate and layout.deactivation_leaf is not None:
        left = find_missing(records, accepted_records, layout, keys_of_rejected_rows)
        gone = left.height
        parts.append(_deactivation_rows(left, frame, layout, count).select(keep))
    new = changed.filter(pl.col(NEW)).height
    return ChangeSet(
        frame=pl.concat(parts),
        word_count=count,
        unchanged=frame.height - changed.height,
        new=new,
        changed=changed.height - new,
        deactivated=gone,
        suppressed=int(joined.select(suppressed_count(layout).sum()).item()),
        cleared=cleared,
    )


def _has_accepted_leaf(leaf: Leaf, accepted_records: pl.DataFrame) -> bool:
    """Whether *accepted* has this leaf at all; a field that the mapping gained since is a change everywhere."""
    kind = accepted_records.schema.get(leaf.column)
    if leaf.inner is None or kind is None:
        return kind is not None
    struct = kind.inner if isinstance(kind, pl.List) else None
    return isinstance(struct, pl.Struct) and any(field.name == leaf.inner for field in struct.fields)


def _differs(leaf: Leaf) -> pl.Expr:
    return leaf_value(leaf).ne_missing(leaf_value(leaf, _ACCEPTED_SUFFIX))


def _activate_reappeared(joined: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """A record that we switched off and that is back has to be switched on in so many words."""
    leaf = layout.deactivation_leaf
    if leaf is None or not leaf.synthetic:
        return joined
    on = layout.operation.deactivation.on_value if layout.operation.deactivation else None
    return joined.with_columns(pl.when(pl.col("_back")).then(pl.lit(on)).otherwise(pl.col(leaf.name)).alias(leaf.name))


def _exclude_owned_elsewhere(
    sendable: dict[int, pl.Expr], layout: Layout, columns: Sequence[str]
) -> dict[int, pl.Expr]:
    """What a record can send, without what another feed owns; what travels as a whole stays behind as a whole."""
    theirs = {
        name: pl.col(OWNED_ELSEWHERE + name).fill_null(False)
        for name in {leaf.column for leaf in layout.leaves}
        if OWNED_ELSEWHERE + name in columns
    }
    found = dict(sendable)
    for leaf in layout.leaves:
        if leaf.key or (leaf.identifier and leaf.bundle == leaf.name):
            continue
        bars = [theirs[o.column] for o in layout.leaves if o.bundle == leaf.bundle and o.column in theirs]
        if bars:
            found[leaf.index] = sendable[leaf.index] & ~pl.any_horizontal(bars)
    return found


def _deactivation_rows(
    missing_records: pl.DataFrame, frame: pl.DataFrame, layout: Layout, word_count: int
) -> pl.DataFrame:
    """Records for what is gone: key and the switch, nothing else."""
    leaf = layout.deactivation_leaf
    off = layout.operation.deactivation
    assert leaf is not None
    assert off is not None
    bit = {leaf.index: pl.lit(True)}
    always = {other.index: pl.lit(True) for other in layout.leaves_in(layout.always_sent)} | bit
    for other in layout.leaves:
        if (other.identifier and other.parent in leaf.parents) or other.key:
            always[other.index] = pl.col(other.column).is_not_null()
    columns = []
    for name, kind in frame.schema.items():
        if name == leaf.column:
            columns.append(pl.lit(off.off_value, dtype=kind).alias(name))
        elif name == ITEM and ITEM not in missing_records.columns:
            columns.append(pl.col(KEY).alias(ITEM))
        elif name == ROW or name not in missing_records.columns:
            columns.append(pl.lit(None, dtype=kind).alias(name))
        else:
            columns.append(pl.col(name).cast(kind, strict=False))
    made = missing_records.select(*columns, pl.lit(False).alias(NEW), pl.lit(True).alias(DEACTIVATED))
    return made.with_columns(
        *leaf_set.pack_conditions(leaf_set.TO_SEND, bit, word_count),
        *leaf_set.pack_conditions(leaf_set.SENDABLE, always, word_count),
    )


def _count_true(frame: pl.DataFrame | pl.LazyFrame, conditions: list[pl.Expr]) -> int:
    if not conditions:
        return 0
    total = pl.sum_horizontal(c.cast(pl.UInt32).sum() for c in conditions)
    return int(frame.lazy().select(total).collect().item())


def _count_cleared(changed: pl.DataFrame, layout: Layout) -> int:
    conditions = [
        leaf_set.has_leaf(leaf_set.TO_SEND, leaf.index) & pl.col(leaf.column).is_null()
        for leaf in layout.leaves
        if leaf.value.empty == "clear"
    ]
    return _count_true(changed, conditions)
