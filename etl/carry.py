"""Values that a feed of changes still owes Norce, laid under the records of its next file. Pure.

A file of changes says a thing once. What Connect did not take of it is therefore kept (`etl.accepted`) and planned
again with every run of the feed, until it is accepted or a newer file says otherwise. Until then CAME says which line
of which file brought it.
"""

from __future__ import annotations

import polars as pl

from etl.layout import Layout
from etl.model import CAME, ITEM, KEY, ROW, Records

#: What CAME holds.
ORIGIN = pl.Struct({"run": pl.String, "file": pl.String, "row": pl.Int64})


def under(records: Records, pending: pl.DataFrame | None, layout: Layout) -> Records:
    """The records, completed by pending values: newer ones win, an empty cell that says nothing does not.

    Records only in `pending` come behind the others, without a source row, with where they CAME from. `pending`: KEY,
    ITEM, data columns, and CAME unless a version before it was kept has written them.
    """
    if pending is None or pending.is_empty():
        return records
    frame = records.frame
    kinds = frame.schema
    clears = {leaf.column for leaf in layout.leaves if leaf.value.empty == "clear"}
    columns = [name for name in frame.columns if name not in (KEY, ITEM, ROW)]
    kept = [name for name in columns if name in pending.columns and _fits(pending, name, kinds[name])]
    owed = pending.select(KEY, ITEM, *(pl.col(name).cast(kinds[name], strict=False) for name in kept))
    old = owed.select(KEY, *(pl.col(name).alias("\x1f" + name) for name in kept))
    completed = frame.join(old, on=KEY, how="left", maintain_order="left").select(
        *(
            pl.coalesce(name, "\x1f" + name).alias(name) if name in kept and name not in clears else pl.col(name)
            for name in frame.columns
        )
    )
    came = pending[CAME] if CAME in pending.columns else pl.Series(CAME, [None] * owed.height, dtype=ORIGIN)
    more = (
        owed.with_columns(came)
        .join(frame.select(KEY), on=KEY, how="anti", maintain_order="left")
        .select(
            *(
                pl.col(name) if name in (KEY, ITEM, *kept) else pl.lit(None, dtype=kinds[name]).alias(name)
                for name in kinds
            ),
            CAME,
        )
    )
    return Records(pl.concat([completed.with_columns(nowhere()), more]), records.rows)


def nowhere() -> pl.Expr:
    """CAME of records that no earlier file has brought."""
    return pl.lit(None, dtype=ORIGIN).alias(CAME)


def _fits(frame: pl.DataFrame, name: str, kind: pl.DataType) -> bool:
    """Whether old values can be read in the type that the mapping gives the field now."""
    try:
        frame.select(pl.col(name).cast(kind, strict=False))
    except pl.exceptions.PolarsError:
        return False
    return True
