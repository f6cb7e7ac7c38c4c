"""What other feeds of the same import have: left to them where this one yields, and scopes that are shared. Pure."""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence

import polars as pl

from etl.mapping.layout import Layout
from etl.model.columns import DEACTIVATED, KEY, OWNED_ELSEWHERE


def find_owned_elsewhere(layout: Layout, owner_records: Map[str, pl.DataFrame]) -> pl.DataFrame | None:
    """KEY and, for each column of the records, whether another feed has a value there; None where nobody has any."""
    fields = {leaf.column for leaf in layout.leaves if not leaf.key and not leaf.identifier}
    parts = []
    for frame in owner_records.values():
        names = [name for name in frame.columns if name in fields]
        alive = frame.filter(~pl.col(DEACTIVATED).fill_null(False))
        parts.append(alive.select(KEY, *(pl.col(name).is_not_null().alias(OWNED_ELSEWHERE + name) for name in names)))
    if not any(part.height for part in parts):
        return None
    together = pl.concat(parts, how="diagonal")
    return together.group_by(KEY, maintain_order=True).agg(pl.exclude(KEY).fill_null(False).any())


def select_own_records(
    accepted_records: pl.DataFrame, frame: pl.DataFrame, owned_elsewhere: pl.DataFrame | None
) -> pl.DataFrame:
    """*Accepted* without the records that others have and the file lacks: they are not gone for that."""
    if owned_elsewhere is None:
        return accepted_records
    theirs = pl.col(KEY).is_in(owned_elsewhere[KEY].implode())
    return accepted_records.filter(pl.col(KEY).is_in(frame[KEY].implode()) | ~theirs)


def find_sharing_feeds(
    frame: pl.DataFrame, scope: Sequence[str], sibling_feeds: Map[str, pl.DataFrame]
) -> tuple[str, ...]:
    """Feeds that have records in the scopes of these: FullFile=true would retire theirs."""
    found = []
    for feed, accepted in sibling_feeds.items():
        alive = accepted.filter(~pl.col(DEACTIVATED).fill_null(False))
        theirs = [name for name in scope if name in alive.columns]
        if alive.height and (not theirs or alive.join(frame.select(theirs), on=theirs, how="semi").height):
            found.append(feed)
    return tuple(found)
