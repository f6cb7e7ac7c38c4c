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
from etl.model.columns import DEACTIVATED, INTERNAL, KEY, NEW, PARTIAL
from etl.parallel import Submit, run_inline
from etl.plan.rows import sendable
from etl.plan.rows.hash_locator import HashLocator

#: Of a row or record: the hash of its key, of its values, and (of a row) whether it has to be looked at anyway.
KEY_HASH, VALUE_HASH, ALWAYS_COMPARE = f"{INTERNAL}about", f"{INTERNAL}says", f"{INTERNAL}free"


class FingerprintIndex:
    """Fingerprints of all accepted records that are not switched off, and which of them a row has answered to."""

    def __init__(self, accepted_records: pl.LazyFrame, layout: Layout, salt: int, submit: Submit = run_inline) -> None:
        """They are read beside other work, if `start` can do that, and waited for when they are needed."""
        self._accepted_records = accepted_records
        masks = _sendable_masks(layout)
        self._partly_sendable = pl.any_horizontal(False, *(some & ~whole for some, whole in masks.values()))
        self._row_hashes = _hash_expressions(
            [pl.when(whole).then(pl.col(name)) for name, (_, whole) in masks.items()], salt
        )
        self._record_hashes = _hash_expressions([pl.col(name) for name in masks], salt)
        if PARTIAL in accepted_records.collect_schema():  # no row answers to such a record
            about, says = self._record_hashes
            self._record_hashes = about, pl.when(pl.col(PARTIAL)).then(~says).otherwise(says).alias(VALUE_HASH)
        self._await_fingerprints = submit(self._read_fingerprints)

    @functools.cached_property
    def _fingerprints(self) -> pl.DataFrame:
        return self._await_fingerprints()

    @functools.cached_property
    def _locator(self) -> HashLocator:
        return HashLocator(self._fingerprints[KEY_HASH])

    @functools.cached_property
    def _is_matched(self) -> pl.Series:
        return pl.repeat(False, self._fingerprints.height, dtype=pl.Boolean, eager=True)

    @property
    def active(self) -> int:
        """Accepted records that are not switched off."""
        return self._fingerprints.height

    def fingerprint_rows(self, rows: pl.DataFrame, always_compare: pl.Expr) -> pl.DataFrame:
        """Fingerprints of rows, and which of them have to be looked at anyway (`free`). Safe in any thread."""
        new = rows.lazy().with_columns(pl.lit(False).alias(NEW))
        return new.select(*self._row_hashes, (always_compare | self._partly_sendable).alias(ALWAYS_COMPARE)).collect()

    def match_unchanged(self, fingerprints: pl.DataFrame) -> pl.Series:
        """Which rows say what Norce has, by their fingerprints; found soonest when they come in the file's order."""
        places = self._locator.locate(fingerprints[KEY_HASH])
        same = self._fingerprints[VALUE_HASH].gather(places) == fingerprints[VALUE_HASH]
        held = (same & ~fingerprints[ALWAYS_COMPARE]).fill_null(False)
        self._is_matched.scatter(places.filter(held), True)
        return held

    def forget_matches(self) -> None:
        """Begin anew with the first row of the file: no accepted record is matched."""
        self._is_matched = pl.repeat(False, self._fingerprints.height, dtype=pl.Boolean, eager=True)

    def unmatched_records(self, keys: pl.Series) -> pl.DataFrame:
        """The accepted records that no row was held back for, and those of `keys` that were switched off."""
        unseen = self._fingerprints.filter(~self._is_matched)
        about, _ = self._record_hashes
        wanted = (
            pl.when(DEACTIVATED)
            .then(pl.col(KEY).is_in(keys.implode()))
            .otherwise(about.is_in(unseen[KEY_HASH].implode()))
        )
        found = self._accepted_records.filter(wanted).collect(engine="streaming").with_columns(self._record_hashes)
        meant = pl.col(DEACTIVATED) | _combined_hash().is_in(
            unseen.select(_combined_hash()).to_series().implode()
        )  # keys may share a hash
        return found.filter(meant).drop(KEY_HASH, VALUE_HASH)

    def _read_fingerprints(self) -> pl.DataFrame:
        alive = self._accepted_records.filter(~pl.col(DEACTIVATED)).select(self._record_hashes)
        return alive.collect(engine="streaming").rechunk()


def supports_fingerprints(layout: Layout, accepted_schema: pl.Schema, record_schema: pl.Schema) -> bool:
    """Whether records can be judged one by one, and values of both sides by their bits."""
    if any(not leaf.value.own and layout.bundles[leaf.bundle].bit_count() > 1 for leaf in layout.leaves):
        return False  # an element that is no longer there is sent by what is left of its list
    return all(accepted_schema.get(leaf.column) == record_schema[leaf.column] for leaf in compared_leaves(layout))


def is_row_per_record(layout: Layout) -> bool:
    """Whether each row is a record by itself, that need not be brought together with others first."""
    return not layout.lists and not layout.unit_list


def compared_leaves(layout: Layout) -> list[Leaf]:
    """The leaves in which a record that Norce has can be changed; only a record that comes back gives a silent one."""
    return [
        leaf
        for leaf in layout.leaves
        if sendable.counts_as_change(leaf, layout) and leaf.value.own and not leaf.synthetic
    ]


def _sendable_masks(layout: Layout) -> dict[str, tuple[pl.Expr, pl.Expr]]:
    """For each column whether a record can send something of it, and all of it: a list has several leaves."""
    able = sendable.sendable_leaves(layout)
    found: dict[str, list[pl.Expr]] = {}
    for leaf in compared_leaves(layout):
        found.setdefault(leaf.column, []).append(able[leaf.index])
    return {name: (pl.any_horizontal(its), pl.all_horizontal(its)) for name, its in found.items()}


def _hash_expressions(values: list[pl.Expr], salt: int) -> tuple[pl.Expr, pl.Expr]:
    says = pl.lit(salt, dtype=pl.UInt64)
    for place, value in enumerate(values, 1):
        says = says ^ value.hash(salt + place)
    return pl.col(KEY).hash(salt).alias(KEY_HASH), says.alias(VALUE_HASH)


def _combined_hash() -> pl.Expr:
    return pl.col(KEY_HASH).reinterpret(signed=True).cast(pl.Int128) * 2**64 + pl.col(VALUE_HASH).cast(pl.Int128)
