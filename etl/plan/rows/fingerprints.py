"""Finds rows that equal an accepted record by fingerprints, so that only the others are compared field by field.

A fingerprint is two hashes of 64 bits: of the key, and of the values that the row would send. A changed row is taken
for an unchanged one only where both hashes collide, once in 2^64 changed rows; the hashes are salted with the first
rows of the file, so that the next file would not repeat it. The remaining rows are compared exactly
(`etl.plan.changes.diff`): a row that is not recognized as unchanged costs only time.

Both sides are hashed for each file: hashes of polars differ between its versions.
"""

from __future__ import annotations

import functools

import polars as pl

from etl.mapping.layout import Layout, Leaf
from etl.model.columns import DEACTIVATED, INTERNAL, KEY, NEW, PARTIAL
from etl.parallel import Submit, run_inline
from etl.plan.rows import sendable
from etl.plan.rows.hash_locator import HashLocator

#: Of a row or record: the hash of its key, of its values, and (of a row) whether it is compared in any case.
KEY_HASH, VALUE_HASH, ALWAYS_COMPARE = f"{INTERNAL}about", f"{INTERNAL}says", f"{INTERNAL}free"


class FingerprintIndex:
    """Fingerprints of all active accepted records, and which of them a row has matched."""

    def __init__(self, accepted_records: pl.LazyFrame, layout: Layout, salt: int, submit: Submit = run_inline) -> None:
        """Begin to read the fingerprints with `submit`; the first use waits for them."""
        self._accepted_records = accepted_records
        masks = _sendable_masks(layout)
        self._partly_sendable = pl.any_horizontal(False, *(some & ~whole for some, whole in masks.values()))
        self._row_hashes = _hash_expressions(
            [pl.when(whole).then(pl.col(name)) for name, (_, whole) in masks.items()], salt
        )
        self._record_hashes = _hash_expressions([pl.col(name) for name in masks], salt)
        if PARTIAL in accepted_records.collect_schema():  # No row equals such a record.
            key_hash, value_hash = self._record_hashes
            self._record_hashes = (
                key_hash,
                pl.when(pl.col(PARTIAL)).then(~value_hash).otherwise(value_hash).alias(VALUE_HASH),
            )
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
        """The number of accepted records that are not deactivated."""
        return self._fingerprints.height

    def fingerprint_rows(self, rows: pl.DataFrame, always_compare: pl.Expr) -> pl.DataFrame:
        """Return KEY_HASH, VALUE_HASH and ALWAYS_COMPARE of rows. Safe in any thread."""
        new = rows.lazy().with_columns(pl.lit(False).alias(NEW))
        return new.select(*self._row_hashes, (always_compare | self._partly_sendable).alias(ALWAYS_COMPARE)).collect()

    def match_unchanged(self, fingerprints: pl.DataFrame) -> pl.Series:
        """Return which rows equal an accepted record. Fastest where rows keep the order of the accepted records."""
        places = self._locator.locate(fingerprints[KEY_HASH])
        same = self._fingerprints[VALUE_HASH].gather(places) == fingerprints[VALUE_HASH]
        is_unchanged = (same & ~fingerprints[ALWAYS_COMPARE]).fill_null(False)
        self._is_matched.scatter(places.filter(is_unchanged), True)
        return is_unchanged

    def forget_matches(self) -> None:
        """Begin anew with the first row of the file: no accepted record is matched."""
        self._is_matched = pl.repeat(False, self._fingerprints.height, dtype=pl.Boolean, eager=True)

    def unmatched_records(self, keys: pl.Series) -> pl.DataFrame:
        """Return the active accepted records that no row has matched, and the deactivated ones of `keys`."""
        unmatched = self._fingerprints.filter(~self._is_matched)
        key_hash, _ = self._record_hashes
        wanted = (
            pl.when(DEACTIVATED)
            .then(pl.col(KEY).is_in(keys.implode()))
            .otherwise(key_hash.is_in(unmatched[KEY_HASH].implode()))
        )
        candidates = self._accepted_records.filter(wanted).collect(engine="streaming").with_columns(self._record_hashes)
        # Two keys may have the same hash, so the hash of the values counts too.
        hashes = unmatched.select(_combined_hash()).to_series()
        is_unmatched = pl.col(DEACTIVATED) | _combined_hash().is_in(hashes.implode())
        return candidates.filter(is_unmatched).drop(KEY_HASH, VALUE_HASH)

    def _read_fingerprints(self) -> pl.DataFrame:
        active = self._accepted_records.filter(~pl.col(DEACTIVATED)).select(self._record_hashes)
        return active.collect(engine="streaming").rechunk()


def supports_fingerprints(layout: Layout, accepted_schema: pl.Schema, record_schema: pl.Schema) -> bool:
    """Whether each record can be compared by itself, and values of both sides have the same types."""
    if any(not leaf.value.own and layout.bundles[leaf.bundle].bit_count() > 1 for leaf in layout.leaves):
        return False  # A lost element changes the list that is sent.
    return all(accepted_schema.get(leaf.column) == record_schema[leaf.column] for leaf in compared_leaves(layout))


def is_row_per_record(layout: Layout) -> bool:
    """Whether each row is a record by itself."""
    return not layout.lists and not layout.unit_list


def compared_leaves(layout: Layout) -> list[Leaf]:
    """Return the leaves in which an existing record can change; synthetic ones only change when it reappears."""
    return [
        leaf
        for leaf in layout.leaves
        if sendable.counts_as_change(leaf, layout) and leaf.value.own and not leaf.synthetic
    ]


def _sendable_masks(layout: Layout) -> dict[str, tuple[pl.Expr, pl.Expr]]:
    """Return for each column whether a record can send some of leaves leaves, and all: a list has several."""
    sendable_by_leaf = sendable.sendable_leaves(layout)
    conditions: dict[str, list[pl.Expr]] = {}
    for leaf in compared_leaves(layout):
        conditions.setdefault(leaf.column, []).append(sendable_by_leaf[leaf.index])
    return {name: (pl.any_horizontal(leaves), pl.all_horizontal(leaves)) for name, leaves in conditions.items()}


def _hash_expressions(values: list[pl.Expr], salt: int) -> tuple[pl.Expr, pl.Expr]:
    value_hash = pl.lit(salt, dtype=pl.UInt64)
    for place, value in enumerate(values, 1):
        value_hash = value_hash ^ value.hash(salt + place)
    return pl.col(KEY).hash(salt).alias(KEY_HASH), value_hash.alias(VALUE_HASH)


def _combined_hash() -> pl.Expr:
    return pl.col(KEY_HASH).reinterpret(signed=True).cast(pl.Int128) * 2**64 + pl.col(VALUE_HASH).cast(pl.Int128)
