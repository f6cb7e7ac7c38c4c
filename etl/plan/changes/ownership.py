"""Finds what other feeds of the same import own: values to which this feed yields, and shared scopes. Pure."""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence

import polars as pl

from etl.mapping.layout import Layout
from etl.model.columns import DEACTIVATED, KEY, OWNED_ELSEWHERE


def find_owned_elsewhere(layout: Layout, owner_records: Map[str, pl.DataFrame]) -> pl.DataFrame | None:
    """Return KEY and, for each column, whether another feed has a value in it; None where no feed has any."""
    fields = {leaf.column for leaf in layout.leaves if not leaf.key and not leaf.identifier}
    parts = []
    for frame in owner_records.values():
        names = [name for name in frame.columns if name in fields]
        active = frame.filter(~pl.col(DEACTIVATED).fill_null(False))
        parts.append(active.select(KEY, *(pl.col(name).is_not_null().alias(OWNED_ELSEWHERE + name) for name in names)))
    if not any(part.height for part in parts):
        return None
    owned = pl.concat(parts, how="diagonal")
    return owned.group_by(KEY, maintain_order=True).agg(pl.exclude(KEY).fill_null(False).any())


def select_own_records(
    accepted_records: pl.DataFrame, frame: pl.DataFrame, owned_elsewhere: pl.DataFrame | None
) -> pl.DataFrame:
    """Leave out accepted records that other feeds have and the file lacks: they are not missing."""
    if owned_elsewhere is None:
        return accepted_records
    is_owned_elsewhere = pl.col(KEY).is_in(owned_elsewhere[KEY].implode())
    return accepted_records.filter(pl.col(KEY).is_in(frame[KEY].implode()) | ~is_owned_elsewhere)


def find_sharing_feeds(
    frame: pl.DataFrame, scope: Sequence[str], sibling_feeds: Map[str, pl.DataFrame]
) -> tuple[str, ...]:
    """Find the feeds with records in the scopes of these records: FullFile=true would retire their records."""
    sharing = []
    for feed, accepted in sibling_feeds.items():
        active = accepted.filter(~pl.col(DEACTIVATED).fill_null(False))
        scope_names = [name for name in scope if name in active.columns]
        if active.height and (
            not scope_names or active.join(frame.select(scope_names), on=scope_names, how="semi").height
        ):
            sharing.append(feed)
    return tuple(sharing)
