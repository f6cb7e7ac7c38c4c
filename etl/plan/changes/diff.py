"""Records against *accepted*: which keys are new, changed and in which leaves, unchanged, or gone.

Per record two sets of leaves come out, as bits in one or more integer columns: what has to be sent, and what
could be sent (its value is known and ours to write). Everything after this works on those sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from etl.mapping.layout import BITS, Layout, Leaf
from etl.model.columns import _OLD, GONE, ITEM, KEY, NEW, ROW, THEIRS, UNSURE
from etl.model.tables import Records
from etl.plan.changes import replaced_lists as whole
from etl.plan.changes.absence import _with_gone, missing
from etl.plan.rows.sendable import _able, _filled, is_change, value, withheld


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """`frame` holds only records with something to send: KEY, ITEM, ROW, NEW, GONE, leaves, and the words."""

    frame: pl.DataFrame
    words: int  #: number of word columns `_c0…` (to send) and `_v0…` (could be sent)
    unchanged: int
    new: int
    changed: int
    gone: int
    withheld: int  #: values not sent because Connect would not do what the file says (see docs/mapping.md)
    cleared: int  #: values that will be emptied in Norce


def compare(
    records: Records,
    accepted: pl.DataFrame,
    layout: Layout,
    *,
    deactivate: bool = False,
    everything: bool = False,
    mentioned: pl.Series | None = None,
    barred: pl.DataFrame | None = None,
) -> ChangeSet:
    """`accepted` has KEY and, where known, GONE, ITEM and leaf columns. `everything` sends unchanged ones too.

    `deactivate` switches off what the records lack, except what rejected rows mention (see `missing`). `barred`: what
    other feeds own, see `etl.plan.changes.ownership`.
    """
    accepted = _with_gone(accepted)
    frame = records.frame
    known = {leaf.index: _is_known(leaf, accepted) for leaf in layout.leaves}
    columns = list(dict.fromkeys(leaf.column for leaf in layout.leaves if leaf.column in accepted.columns))
    unsure = pl.col(UNSURE) if UNSURE in accepted.columns else pl.lit(False).alias(UNSURE)
    old = accepted.select(KEY, GONE, unsure, *(pl.col(name).alias(name + _OLD) for name in columns))
    joined = frame.join(old, on=KEY, how="left", maintain_order="left").with_columns(
        pl.col(GONE).fill_null(True).alias(NEW), pl.col(GONE).fill_null(False).alias("_back")
    )
    joined = _revive(joined, layout)
    filled = {leaf.index: _filled(leaf, layout) for leaf in layout.leaves}
    before = {name: name + _OLD for name in columns}
    joined = whole.kept(joined, layout, filled, before)
    shrunk = whole.shrunk(layout, filled, before)
    can = _able(layout, filled)
    if barred is not None:
        joined = joined.join(barred, on=KEY, how="left", maintain_order="left")
        can = _without_theirs(can, layout, barred.columns)
    send: dict[int, pl.Expr] = {}
    for leaf in layout.leaves:
        if not is_change(leaf, layout):
            continue
        differs = pl.lit(True) if everything or not known[leaf.index] else _differs(leaf)
        differs = differs | shrunk.get(leaf.bundle, pl.lit(False)) | pl.col(UNSURE).fill_null(False)
        content = [can[other.index] for other in layout.leaves if other.is_content_of(leaf)]
        useful = pl.any_horizontal(content) if leaf.anchor and not leaf.key and content else pl.lit(True)
        send[leaf.index] = can[leaf.index] & useful & (pl.col(NEW) | differs)
    count = max(1, -(-len(layout.leaves) // BITS))
    joined = joined.with_columns(
        *(_word(send, word).alias(f"_c{word}") for word in range(count)),
        *(_word(can, word).alias(f"_v{word}") for word in range(count)),
    )
    touched = pl.any_horizontal(pl.col(f"_c{word}") != 0 for word in range(count))
    changed = joined.filter(touched).with_columns(pl.lit(False).alias(GONE))
    cleared = _cleared(changed, layout)
    words = [f"_{kind}{word}" for kind in "cv" for word in range(count)]
    keep = [*frame.columns, NEW, GONE, *words]
    parts = [changed.select(keep)]
    gone = 0
    if deactivate and layout.retiring is not None:
        left = missing(records, accepted, layout, mentioned)
        gone = left.height
        parts.append(_retired(left, frame, layout, count).select(keep))
    new = changed.filter(pl.col(NEW)).height
    return ChangeSet(
        frame=pl.concat(parts),
        words=count,
        unchanged=frame.height - changed.height,
        new=new,
        changed=changed.height - new,
        gone=gone,
        withheld=int(joined.select(withheld(layout).sum()).item()),
        cleared=cleared,
    )


def _is_known(leaf: Leaf, accepted: pl.DataFrame) -> bool:
    """Whether *accepted* has this leaf at all; a field that the mapping gained since is a change everywhere."""
    kind = accepted.schema.get(leaf.column)
    if leaf.inner is None or kind is None:
        return kind is not None
    struct = kind.inner if isinstance(kind, pl.List) else None
    return isinstance(struct, pl.Struct) and any(field.name == leaf.inner for field in struct.fields)


def _differs(leaf: Leaf) -> pl.Expr:
    return value(leaf).ne_missing(value(leaf, _OLD))


def _word(conditions: dict[int, pl.Expr], word: int) -> pl.Expr:
    bits = [
        pl.when(condition).then(pl.lit(1 << index % BITS, dtype=pl.UInt64)).otherwise(pl.lit(0, dtype=pl.UInt64))
        for index, condition in conditions.items()
        if index // BITS == word
    ]
    return pl.sum_horizontal(bits) if bits else pl.lit(0, dtype=pl.UInt64)


def _revive(joined: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """A record that we switched off and that is back has to be switched on in so many words."""
    leaf = layout.retiring
    if leaf is None or not leaf.silent:
        return joined
    on = layout.operation.deactivation.on if layout.operation.deactivation else None
    return joined.with_columns(pl.when(pl.col("_back")).then(pl.lit(on)).otherwise(pl.col(leaf.name)).alias(leaf.name))


def _without_theirs(can: dict[int, pl.Expr], layout: Layout, columns: Sequence[str]) -> dict[int, pl.Expr]:
    """What a record can send, without what another feed owns; what travels as a whole stays behind as a whole."""
    theirs = {
        name: pl.col(THEIRS + name).fill_null(False)
        for name in {leaf.column for leaf in layout.leaves}
        if THEIRS + name in columns
    }
    found = dict(can)
    for leaf in layout.leaves:
        if leaf.key or (leaf.anchor and leaf.bundle == leaf.name):
            continue
        bars = [theirs[o.column] for o in layout.leaves if o.bundle == leaf.bundle and o.column in theirs]
        if bars:
            found[leaf.index] = can[leaf.index] & ~pl.any_horizontal(bars)
    return found


def _retired(left: pl.DataFrame, frame: pl.DataFrame, layout: Layout, count: int) -> pl.DataFrame:
    """Records for what is gone: key and the switch, nothing else."""
    leaf = layout.retiring
    off = layout.operation.deactivation
    assert leaf is not None
    assert off is not None
    bit = {leaf.index: pl.lit(True)}
    always = {other.index: pl.lit(True) for other in layout.of(layout.always)} | bit
    for other in layout.leaves:
        if (other.anchor and other.parent in leaf.parents) or other.key:
            always[other.index] = pl.col(other.column).is_not_null()
    columns = []
    for name, kind in frame.schema.items():
        if name == leaf.column:
            columns.append(pl.lit(off.off, dtype=kind).alias(name))
        elif name == ITEM and ITEM not in left.columns:
            columns.append(pl.col(KEY).alias(ITEM))
        elif name == ROW or name not in left.columns:
            columns.append(pl.lit(None, dtype=kind).alias(name))
        else:
            columns.append(pl.col(name).cast(kind, strict=False))
    made = left.select(*columns, pl.lit(False).alias(NEW), pl.lit(True).alias(GONE))
    return made.with_columns(
        *(_word(bit, word).alias(f"_c{word}") for word in range(count)),
        *(_word(always, word).alias(f"_v{word}") for word in range(count)),
    )


def _count(frame: pl.DataFrame | pl.LazyFrame, conditions: list[pl.Expr]) -> int:
    if not conditions:
        return 0
    total = pl.sum_horizontal(c.cast(pl.UInt32).sum() for c in conditions)
    return int(frame.lazy().select(total).collect().item())


def _cleared(changed: pl.DataFrame, layout: Layout) -> int:
    conditions = []
    for leaf in layout.leaves:
        if leaf.value.empty == "clear":
            lit = pl.col(f"_c{leaf.index // BITS}") & pl.lit(1 << leaf.index % BITS, dtype=pl.UInt64)
            conditions.append((lit != 0) & pl.col(leaf.column).is_null())
    return _count(changed, conditions)
