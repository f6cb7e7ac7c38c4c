"""Where hashes stand in a long column of them: looked for where the last one was found, since files keep their order.

An export names its records mostly in the order in which it named them the day before. So a stretch of wanted hashes is
laid beside the column as a whole, from the place after the last hit, and only where that does not go on for long are
hashes searched one by one, in a sorted copy that is made when it is first needed.
"""

from __future__ import annotations

import polars as pl

_NEAR_WINDOW = 4096  #: places after the last hit that are looked at before all others
_MIN_STRETCH = 1024  #: hashes that a stretch has to bring on average, or searching is faster


class HashLocator:
    """A column of UInt64, and where the last wanted hash was found in it."""

    def __init__(self, hashes: pl.Series) -> None:
        self._hashes = hashes.rechunk()
        self._next_position = 0
        self._sort_cache: tuple[pl.Series, pl.Series] | None = None

    def locate(self, wanted_hashes: pl.Series) -> pl.Series:
        """A place (UInt32) for each hash, null for those that are not there; of equal hashes the place of one."""
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
                found = self._find(wanted_hashes[at])
                if found is None:
                    parts.append(pl.Series([None], dtype=pl.UInt32))
                    at += 1
                else:
                    self._next_position = found
        rest = self._search_sorted(wanted_hashes.slice(at))
        if (last := rest.drop_nulls().tail(1)).len():
            self._next_position = last[0] + 1
        return pl.concat([*parts, rest])

    def _common_length(self, wanted_hashes: pl.Series) -> int:
        """How many of the next ones are what is wanted."""
        beside = self._hashes.slice(self._next_position, wanted_hashes.len())
        other = (beside != wanted_hashes.head(beside.len())).index_of(True)
        return beside.len() if other is None else other

    def _find(self, wanted_hash: int) -> int | None:
        """A place of one of them, near the last one or anywhere."""
        near = self._hashes.slice(self._next_position, _NEAR_WINDOW).index_of(wanted_hash)
        return self._next_position + near if near is not None else self._hashes.index_of(wanted_hash)

    def _search_sorted(self, wanted_hashes: pl.Series) -> pl.Series:
        """The same for hashes in any order."""
        if wanted_hashes.is_empty() or self._hashes.is_empty():
            return pl.repeat(None, wanted_hashes.len(), dtype=pl.UInt32, eager=True)
        if self._sort_cache is None:
            order = self._hashes.arg_sort()
            self._sort_cache = self._hashes.gather(order), order
        known, order = self._sort_cache
        rows = (
            wanted_hashes.alias("hash").to_frame().with_row_index("row").sort("hash")
        )  # neighbours are near each other
        found = known.search_sorted(rows["hash"]).clip(0, known.len() - 1)
        hits = known.gather(found) == rows["hash"]
        places = pl.DataFrame({"row": rows["row"], "place": order.gather(found), "hit": hits})
        return places.sort("row").select(pl.when("hit").then("place").cast(pl.UInt32)).to_series()
