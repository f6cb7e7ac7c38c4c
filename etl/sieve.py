"""Holds back the rows that are as Norce has them, so that only what may differ is compared field by field.

A row and an accepted record are told apart by 128 bits: a hash of the key beside a hash of the values that the row
would send. A changed row passes for an unchanged one only when both hashes of the same record agree, once in 2^64
changed rows; and because the hashes are salted with the file's own first rows, the next file would show it. What is
let through is compared exactly (`etl.diff`), so a row that is let through for nothing costs nothing but time.

Both sides are hashed anew each time: a hash of polars means nothing to another version of it.
"""

from __future__ import annotations

import polars as pl

from etl import diff
from etl.diff import GONE, NEW
from etl.layout import Layout, Leaf
from etl.model import KEY

_PRINT = "\x1fprint"


class Sieve:
    """Fingerprints of all accepted records that are not switched off, and which of them a row has answered to."""

    def __init__(self, accepted: pl.LazyFrame, layout: Layout, salt: int) -> None:
        self._accepted = accepted
        self._salt = salt
        self._leaves = compared(layout)
        able = diff.able(layout)
        values = {leaf.column: pl.when(able[leaf.index]).then(pl.col(leaf.column)) for leaf in self._leaves}
        self._of_row = _fingerprint(list(values.values()), salt)
        self._of_record = _fingerprint([pl.col(name) for name in values], salt)
        alive = accepted.filter(~pl.col(GONE)).select(self._of_record)
        self._prints = alive.collect(engine="streaming").to_series().sort()
        self._seen = pl.repeat(False, self._prints.len(), dtype=pl.Boolean, eager=True)

    @property
    def alive(self) -> int:
        """Accepted records that are not switched off."""
        return self._prints.len()

    def hold(self, rows: pl.DataFrame, free: pl.Expr) -> pl.Series:
        """Which rows say what Norce has, but for those that have to be looked at anyway (`free`)."""
        held = pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
        if not self.alive:
            return held
        made = rows.lazy().with_columns(pl.lit(False).alias(NEW)).select(self._of_row, free.alias("free")).collect()
        made = made.with_row_index("at").sort(_PRINT)
        places = self._prints.search_sorted(made[_PRINT]).clip(0, self.alive - 1)
        hits = (self._prints.gather(places) == made[_PRINT]) & ~made["free"]
        self._seen.scatter(places.filter(hits), True)
        return held.scatter(made["at"].filter(hits), True)

    def rest(self, keys: pl.Series) -> pl.DataFrame:
        """The accepted records that no row was held back for, and those of `keys` that were switched off."""
        unseen = self._prints.filter(~self._seen)
        wanted = (
            pl.when(GONE).then(pl.col(KEY).is_in(keys.implode())).otherwise(self._of_record.is_in(unseen.implode()))
        )
        return self._accepted.filter(wanted).collect(engine="streaming")


def fits(layout: Layout, accepted: pl.Schema, records: pl.Schema) -> bool:
    """Whether rows can be judged one by one, and values of both sides by their bits."""
    if layout.lists or layout.units:
        return False
    if any(not leaf.value.own and layout.bundles[leaf.bundle].bit_count() > 1 for leaf in layout.leaves):
        return False  # an element that is no longer there is sent by what is left of its list
    return all(accepted.get(leaf.column) == records[leaf.column] for leaf in compared(layout))


def compared(layout: Layout) -> list[Leaf]:
    """The leaves in which a record that Norce has can be changed; only a record that comes back gives a silent one."""
    return [leaf for leaf in layout.leaves if diff.is_change(leaf, layout) and leaf.value.own and not leaf.silent]


def _fingerprint(values: list[pl.Expr], salt: int) -> pl.Expr:
    high = pl.col(KEY).hash(salt).reinterpret(signed=True).cast(pl.Int128) * 2**64
    low = pl.lit(salt, dtype=pl.UInt64)
    for place, value in enumerate(values, 1):
        low = low ^ value.hash(salt + place)
    return (high + low.cast(pl.Int128)).alias(_PRINT)
