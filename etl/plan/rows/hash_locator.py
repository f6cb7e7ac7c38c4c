"""Finds hashes in a long column of them; tries the order of the column first, because exports keep their order.

Most exports list their records in the order of the day before. Therefore the wanted hashes are compared with the column
as a whole, from the position after the last hit. Where such stretches are short, hashes are searched one by one in a
sorted copy, which is made when it is first needed.
"""

from __future__ import annotations

import polars as pl

_NEAR_WINDOW = 4096  #: positions after the last hit that are searched first
_MIN_STRETCH = 1024  #: least average length of a stretch; below it searching is faster


class HashLocator:
    """A column of UInt64, and the position after the last hit."""

    def __init__(self, hashes: pl.Series) -> None:
        self._hashes = hashes.rechunk()
        self._next_position = 0
        self._sort_cache: tuple[pl.Series, pl.Series] | None = None

    def locate(self, wanted_hashes: pl.Series) -> pl.Series:
        """Return a position (UInt32) for each hash, null where it is absent; of equal hashes that of any one."""
        wanted_hashes = wanted_hashes.rechunk()
        parts: list[pl.Series] = []
        at = tries = 0
        while at < wanted_hashes.len() and tries * _MIN_STRETCH <= at + 4 * _MIN_STRETCH:
            tries += 1
            length = self._common_length(wanted_hashes.slice(at))
            parts.append(pl.int_range(self._next_position, self._next_position + length, dtype=pl.UInt32, eager=True))
            at += length
            self._next_position += length
            if at < wanted_hashes.len():
                position = self._find(wanted_hashes[at])
                if position is None:
                    parts.append(pl.Series([None], dtype=pl.UInt32))
                    at += 1
                else:
                    self._next_position = position
        rest = self._search_sorted(wanted_hashes.slice(at))
        if (last := rest.drop_nulls().tail(1)).len():
            self._next_position = last[0] + 1
        return pl.concat([*parts, rest])

    def _common_length(self, wanted_hashes: pl.Series) -> int:
        """Count the hashes at the next positions that equal the wanted ones."""
        beside = self._hashes.slice(self._next_position, wanted_hashes.len())
        other = (beside != wanted_hashes.head(beside.len())).index_of(True)
        return beside.len() if other is None else other

    def _find(self, wanted_hash: int) -> int | None:
        """Return a position of a hash, near the last hit or anywhere."""
        near = self._hashes.slice(self._next_position, _NEAR_WINDOW).index_of(wanted_hash)
        return self._next_position + near if near is not None else self._hashes.index_of(wanted_hash)

    def _search_sorted(self, wanted_hashes: pl.Series) -> pl.Series:
        """Do the same as `locate` for hashes in any order."""
        if wanted_hashes.is_empty() or self._hashes.is_empty():
            return pl.repeat(None, wanted_hashes.len(), dtype=pl.UInt32, eager=True)
        if self._sort_cache is None:
            order = self._hashes.arg_sort()
            self._sort_cache = self._hashes.gather(order), order
        hashes, order = self._sort_cache
        rows = (
            wanted_hashes.alias("hash").to_frame().with_row_index("row").sort("hash")
        )  # neighbours are near each other
        positions = hashes.search_sorted(rows["hash"]).clip(0, hashes.len() - 1)
        hits = hashes.gather(positions) == rows["hash"]
        located = pl.DataFrame({"row": rows["row"], "place": order.gather(positions), "hit": hits})
        return located.sort("row").select(pl.when("hit").then("place").cast(pl.UInt32)).to_series()
