"""Holds back the rows that are as Norce has them, so that only what may differ is compared field by field.

A row and an accepted record are told apart by two hashes of 64 bits: one of the key, one of the values that the row
would send. A changed row passes for an unchanged one only when both hashes of the same record agree, once in 2^64
changed rows; and because the hashes are salted with the file's own first rows, the next file would show it. What is
let through is compared exactly (`etl.plan.changes.diff`), so a row that is let through for nothing costs nothing but
time.

Both sides are hashed anew each time: a hash of polars means nothing to another version of it.
"""

from __future__ import annotations

import functools

import polars as pl

from etl.mapping.layout import Layout, Leaf
from etl.model.columns import GONE, KEY, NEW, UNSURE
from etl.parallel import Start, in_turn
from etl.plan.rows import sendable
from etl.plan.rows.hash_locator import Places

#: Of a row or record: the hash of its key, of its values, and (of a row) whether it has to be looked at anyway.
ABOUT, SAYS, FREE = "\x1fabout", "\x1fsays", "\x1ffree"


class Sieve:
    """Fingerprints of all accepted records that are not switched off, and which of them a row has answered to."""

    def __init__(self, accepted: pl.LazyFrame, layout: Layout, salt: int, start: Start = in_turn) -> None:
        """They are read beside other work, if `start` can do that, and waited for when they are needed."""
        self._accepted = accepted
        masks = _masks(layout)
        self._half = pl.any_horizontal(False, *(some & ~whole for some, whole in masks.values()))
        self._of_row = _prints([pl.when(whole).then(pl.col(name)) for name, (_, whole) in masks.items()], salt)
        self._of_record = _prints([pl.col(name) for name in masks], salt)
        if UNSURE in accepted.collect_schema():  # no row answers to such a record
            about, says = self._of_record
            self._of_record = about, pl.when(pl.col(UNSURE)).then(~says).otherwise(says).alias(SAYS)
        self._known = start(self._read)

    @functools.cached_property
    def _prints(self) -> pl.DataFrame:
        return self._known()

    @functools.cached_property
    def _places(self) -> Places:
        return Places(self._prints[ABOUT])

    @functools.cached_property
    def _seen(self) -> pl.Series:
        return pl.repeat(False, self._prints.height, dtype=pl.Boolean, eager=True)

    @property
    def alive(self) -> int:
        """Accepted records that are not switched off."""
        return self._prints.height

    def prints(self, rows: pl.DataFrame, free: pl.Expr) -> pl.DataFrame:
        """Fingerprints of rows, and which of them have to be looked at anyway (`free`). Safe in any thread."""
        new = rows.lazy().with_columns(pl.lit(False).alias(NEW))
        return new.select(*self._of_row, (free | self._half).alias(FREE)).collect()

    def hold(self, prints: pl.DataFrame) -> pl.Series:
        """Which rows say what Norce has, by their fingerprints; found soonest when they come in the file's order."""
        places = self._places.of(prints[ABOUT])
        same = self._prints[SAYS].gather(places) == prints[SAYS]
        held = (same & ~prints[FREE]).fill_null(False)
        self._seen.scatter(places.filter(held), True)
        return held

    def rest(self, keys: pl.Series) -> pl.DataFrame:
        """The accepted records that no row was held back for, and those of `keys` that were switched off."""
        unseen = self._prints.filter(~self._seen)
        about, _ = self._of_record
        wanted = pl.when(GONE).then(pl.col(KEY).is_in(keys.implode())).otherwise(about.is_in(unseen[ABOUT].implode()))
        found = self._accepted.filter(wanted).collect(engine="streaming").with_columns(self._of_record)
        meant = pl.col(GONE) | _both().is_in(unseen.select(_both()).to_series().implode())  # keys may share a hash
        return found.filter(meant).drop(ABOUT, SAYS)

    def _read(self) -> pl.DataFrame:
        alive = self._accepted.filter(~pl.col(GONE)).select(self._of_record)
        return alive.collect(engine="streaming").rechunk()


def fits(layout: Layout, accepted: pl.Schema, records: pl.Schema) -> bool:
    """Whether records can be judged one by one, and values of both sides by their bits."""
    if any(not leaf.value.own and layout.bundles[leaf.bundle].bit_count() > 1 for leaf in layout.leaves):
        return False  # an element that is no longer there is sent by what is left of its list
    return all(accepted.get(leaf.column) == records[leaf.column] for leaf in compared(layout))


def by_row(layout: Layout) -> bool:
    """Whether each row is a record by itself, that need not be brought together with others first."""
    return not layout.lists and not layout.units


def compared(layout: Layout) -> list[Leaf]:
    """The leaves in which a record that Norce has can be changed; only a record that comes back gives a silent one."""
    return [leaf for leaf in layout.leaves if sendable.is_change(leaf, layout) and leaf.value.own and not leaf.silent]


def _masks(layout: Layout) -> dict[str, tuple[pl.Expr, pl.Expr]]:
    """For each column whether a record can send something of it, and all of it: a list has several leaves."""
    able = sendable.able(layout)
    found: dict[str, list[pl.Expr]] = {}
    for leaf in compared(layout):
        found.setdefault(leaf.column, []).append(able[leaf.index])
    return {name: (pl.any_horizontal(its), pl.all_horizontal(its)) for name, its in found.items()}


def _prints(values: list[pl.Expr], salt: int) -> tuple[pl.Expr, pl.Expr]:
    says = pl.lit(salt, dtype=pl.UInt64)
    for place, value in enumerate(values, 1):
        says = says ^ value.hash(salt + place)
    return pl.col(KEY).hash(salt).alias(ABOUT), says.alias(SAYS)


def _both() -> pl.Expr:
    return pl.col(ABOUT).reinterpret(signed=True).cast(pl.Int128) * 2**64 + pl.col(SAYS).cast(pl.Int128)
