"""Where hashes stand in a long column of them: looked for where the last one was found, since files keep their order.

An export names its records mostly in the order in which it named them the day before. So a stretch of wanted hashes is
laid beside the column as a whole, from the place after the last hit, and only where that does not go on for long are
hashes searched one by one, in a sorted copy that is made when it is first needed.
"""

from __future__ import annotations

import polars as pl

_NEAR = 4096  #: places after the last hit that are looked at before all others
_LEAST = 1024  #: hashes that a stretch has to bring on average, or searching is faster


class Places:
    """A column of UInt64, and where the last wanted hash was found in it."""

    def __init__(self, known: pl.Series) -> None:
        self._known = known.rechunk()
        self._next = 0
        self._sorted: tuple[pl.Series, pl.Series] | None = None

    def of(self, wanted: pl.Series) -> pl.Series:
        """A place (UInt32) for each hash, null for those that are not there; of equal hashes the place of one."""
        wanted = wanted.rechunk()
        parts: list[pl.Series] = []
        at = tries = 0
        while at < wanted.len() and tries * _LEAST <= at + 4 * _LEAST:
            tries += 1
            length = self._stretch(wanted.slice(at))
            parts.append(pl.int_range(self._next, self._next + length, dtype=pl.UInt32, eager=True))
            at += length
            self._next += length
            if at < wanted.len():
                found = self._find(wanted[at])
                if found is None:
                    parts.append(pl.Series([None], dtype=pl.UInt32))
                    at += 1
                else:
                    self._next = found
        rest = self._search(wanted.slice(at))
        if (last := rest.drop_nulls().tail(1)).len():
            self._next = last[0] + 1
        return pl.concat([*parts, rest])

    def _stretch(self, wanted: pl.Series) -> int:
        """How many of the next ones are what is wanted."""
        beside = self._known.slice(self._next, wanted.len())
        other = (beside != wanted.head(beside.len())).index_of(True)
        return beside.len() if other is None else other

    def _find(self, hash: int) -> int | None:
        """A place of one of them, near the last one or anywhere."""
        near = self._known.slice(self._next, _NEAR).index_of(hash)
        return self._next + near if near is not None else self._known.index_of(hash)

    def _search(self, wanted: pl.Series) -> pl.Series:
        """The same for hashes in any order."""
        if wanted.is_empty() or self._known.is_empty():
            return pl.repeat(None, wanted.len(), dtype=pl.UInt32, eager=True)
        if self._sorted is None:
            order = self._known.arg_sort()
            self._sorted = self._known.gather(order), order
        known, order = self._sorted
        rows = wanted.alias("hash").to_frame().with_row_index("row").sort("hash")  # neighbours are near each other
        found = known.search_sorted(rows["hash"]).clip(0, known.len() - 1)
        hits = known.gather(found) == rows["hash"]
        places = pl.DataFrame({"row": rows["row"], "place": order.gather(found), "hit": hits})
        return places.sort("row").select(pl.when("hit").then("place").cast(pl.UInt32)).to_series()
