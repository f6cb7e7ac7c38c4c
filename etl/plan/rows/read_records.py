"""Reads a file piece by piece: rows are checked, converted and keyed, and those that say what Norce has laid aside.

Only what may have to be sent stays in memory, so that a file of millions of rows needs little more than its changes.
What is a matter of several rows, a key or a text that stands twice, shows at the end; then the file is read once more,
and the rows concerned stay and are judged together.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Map
from dataclasses import dataclass, field, replace

import polars as pl

from etl.mapping.layout import Layout
from etl.mapping.model import Mapping
from etl.model.columns import GONE, KEY, ROW
from etl.model.schemas import REJECTIONS
from etl.model.tables import Reading, Records
from etl.parallel import Start, in_order, in_turn
from etl.plan.rows import list_rules as elements
from etl.plan.rows import sendable, transform, validate
from etl.plan.rows.fingerprints import Sieve, by_row, fits
from etl.plan.rows.validate import Checked, Columns

_SLICE = 20_000  #: records that are hashed at a time

#: Of a row: the hash of its key without upper case, and how many of its values are not sent.
_FOLDED, _WITHHELD = "\x1ffolded", "\x1fwithheld"


@dataclass(frozen=True, slots=True)
class Sifted:
    """What a file comes to, and what it has to be compared with."""

    records: Records  #: all that may differ from what Norce has
    lines: pl.DataFrame  #: KEY and ROW of every row that went into them
    accepted: pl.DataFrame  #: the accepted records that these may differ from, or that may be gone
    alive: int  #: accepted records that are not switched off
    rejected: pl.DataFrame
    mentioned: pl.Series  #: leading key values of rejected rows
    refused: pl.Series  #: numbers of good rows of which no record could be made
    held: pl.Series  #: numbers of the rows that say what Norce has, one for each record
    read: int  #: rows
    skipped: int
    unfit: int  #: rows that did not pass the checks
    good: int  #: rows that did
    withheld: int  #: values of held rows that are not sent


@dataclass(slots=True)
class _Heap:
    """What gathers on the way through the file."""

    parts: dict[int, list[pl.DataFrame]] = field(default_factory=dict)  #: by column of `per`
    rejected: list[pl.DataFrame] = field(default_factory=list)
    refused: list[pl.Series] = field(default_factory=list)
    mentioned: list[pl.Series] = field(default_factory=list)
    held: list[pl.Series] = field(default_factory=list)
    keys: list[pl.Series] = field(default_factory=list)  #: hashes, for what differs in upper and lower case only too
    texts: dict[str, list[pl.Series]] = field(default_factory=dict)
    read: int = 0
    skipped: int = 0
    unfit: int = 0
    good: int = 0
    withheld: int = 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """What can be said of some rows of the file without the others."""

    rows: int
    checked: Checked
    parts: list[pl.DataFrame]  #: by column of `per`
    marks: list[pl.DataFrame]  #: for each part, when there is a sieve: fingerprints, _FOLDED and _WITHHELD
    refused: pl.DataFrame
    mentioned: pl.Series


@dataclass(frozen=True, slots=True)
class _Twice:
    """What a file has more than once."""

    keys: pl.Series
    texts: Map[str, pl.Series]

    def __bool__(self) -> bool:
        return bool(self.keys.len() or any(found.len() for found in self.texts.values()))


@dataclass(frozen=True, slots=True)
class _Judge:
    """Everything that what is said of a row depends on; called in any thread, for pieces in any order."""

    columns: Columns
    mapping: Mapping
    layout: Layout
    sieve: Sieve | None
    free: pl.Expr  #: whether a row has to be looked at whatever Norce has
    twice: _Twice

    def __call__(self, frame: pl.DataFrame) -> _Piece:
        checked = validate.check(frame, self.columns, self.mapping, self.twice.texts)
        parts, refused = transform.rows(checked.frame, self.mapping, self.layout)
        bad = checked.refused
        if refused.frame.height:
            bad = pl.concat([bad, checked.frame.filter(pl.col(ROW).is_in(refused.frame["row"].implode()))])
        return _Piece(
            rows=frame.height,
            checked=checked,
            parts=parts,
            marks=[self._marks(part, self.sieve) for part in parts] if self.sieve is not None else [],
            refused=refused.frame,
            mentioned=transform.mentioned(bad, self.mapping, self.layout),
        )

    @property
    def withheld(self) -> pl.Expr:
        """How many values of a row are not sent."""
        return sendable.withheld(self.layout).alias(_WITHHELD)

    def _marks(self, rows: pl.DataFrame, sieve: Sieve) -> pl.DataFrame:
        told = rows.select(pl.col(KEY).str.to_lowercase().hash(0).alias(_FOLDED), self.withheld)
        free = self.free
        if self.twice.keys.len():
            free = free | pl.lit(told[_FOLDED].is_in(self.twice.keys.implode()))
        return sieve.prints(rows, free).hstack(told)


def sift(
    reading: Reading,
    columns: Columns,
    mapping: Mapping,
    layout: Layout,
    accepted: pl.LazyFrame,
    *,
    everything: bool,
    waits: pl.Expr,
    pending: pl.Series,
    start: Start = in_turn,
) -> Sifted:
    """`waits`: whether a row has to wait for what it refers to; `pending`: keys with values that are still owed.

    `start`: how work on several pieces is begun; the result does not depend on it.
    """
    whole = mapping.source.content == "full"
    frames, salt = _salted(reading.frames(start))
    sieve = None
    if whole and not everything and fits(layout, accepted.collect_schema(), transform.empty(mapping, layout).schema):
        sieve = Sieve(accepted, layout, salt, start)
    free = waits | pl.col(KEY).is_in(pending.implode())
    for flaw in elements.flaws(layout):
        free = free | flaw.where
    nothing = _Twice(pl.Series(dtype=pl.UInt64), {})
    judge = _Judge(columns, mapping, layout, sieve if by_row(layout) else None, free, nothing)
    heap = _pass(frames, judge, start)
    twice = _twice(heap)
    if twice:
        if judge.sieve is not None:
            sieve = Sieve(accepted, layout, salt, start)
        heap = _pass(reading.frames(start), replace(judge, sieve=judge.sieve and sieve, twice=twice), start)
    rows = pl.concat([pl.concat(parts) for parts in heap.parts.values()])
    records, late = transform.records(rows, layout)
    if late.frame.height and layout.lead is not None:
        bad = rows.filter(pl.col(ROW).is_in(late.frame["row"].implode()))
        heap.mentioned.append(bad[layout.lead.column].cast(pl.String).drop_nulls().rename("v"))
    if sieve is not None and judge.sieve is None:
        records = _held(records, judge, sieve, heap, start)
    known, alive = _known(accepted, sieve, rows[KEY], everything=whole or everything)
    return Sifted(
        records=records,
        lines=rows.select(KEY, ROW),
        accepted=known,
        alive=alive,
        rejected=pl.concat([pl.DataFrame(schema=REJECTIONS), *heap.rejected, late.frame]),
        mentioned=pl.concat([pl.Series("v", dtype=pl.String), *heap.mentioned]),
        refused=pl.concat([*heap.refused, late.frame["row"].cast(pl.UInt32)]).unique(),
        held=pl.concat([pl.Series(ROW, dtype=pl.UInt32), *heap.held]),
        read=heap.read,
        skipped=heap.skipped,
        unfit=heap.unfit,
        good=heap.good,
        withheld=heap.withheld,
    )


def _pass(frames: Iterable[pl.DataFrame], judge: _Judge, start: Start) -> _Heap:
    """Once through the file."""
    heap = _Heap()
    for piece in in_order((functools.partial(judge, frame) for frame in frames), start):
        checked = piece.checked
        heap.read += piece.rows
        heap.skipped += checked.skipped
        heap.unfit += checked.rejections.rows
        heap.good += checked.frame.height
        heap.refused.append(piece.refused["row"].cast(pl.UInt32))
        heap.rejected += [checked.rejections.frame, piece.refused]
        heap.mentioned.append(piece.mentioned)
        for name, texts in checked.texts.items():
            heap.texts.setdefault(name, []).append(texts)
        for place, part in enumerate(piece.parts):
            if judge.sieve is not None:
                part = _sieved(part, piece.marks[place], judge.sieve, heap)
            heap.parts.setdefault(place, []).append(part)
    return heap


def _sieved(rows: pl.DataFrame, marks: pl.DataFrame, sieve: Sieve, heap: _Heap) -> pl.DataFrame:
    """Without the rows that say what Norce has."""
    heap.keys.append(marks[_FOLDED])
    held = sieve.hold(marks)
    heap.held.append(rows[ROW].filter(held).cast(pl.UInt32))
    heap.withheld += int(marks[_WITHHELD].filter(held).sum())
    return rows.filter(~held)


def _held(records: Records, judge: _Judge, sieve: Sieve, heap: _Heap, start: Start) -> Records:
    """Without the records that say what Norce has, where rows had to be brought together first."""
    pieces = list(records.frame.iter_slices(_SLICE))
    begun = [start(functools.partial(sieve.prints, piece, judge.free)) for piece in pieces]
    held = pl.concat([pl.Series(dtype=pl.Boolean), *(sieve.hold(prints()) for prints in begun)])
    heap.held.append(records.frame[ROW].filter(held).cast(pl.UInt32))
    heap.withheld += int(records.frame.filter(held).select(judge.withheld.sum()).item())
    return Records(records.frame.filter(~held), records.rows)


def _twice(heap: _Heap) -> _Twice:
    keys = pl.concat(heap.keys) if heap.keys else pl.Series(dtype=pl.UInt64)
    texts = {name: pl.concat(parts).drop_nulls() for name, parts in heap.texts.items()}
    return _Twice(_repeated(keys), {name: _repeated(found) for name, found in texts.items()})


def _repeated(values: pl.Series) -> pl.Series:
    return values.clear() if values.n_unique() == values.len() else values.filter(values.is_duplicated()).unique()


def _known(
    accepted: pl.LazyFrame, sieve: Sieve | None, keys: pl.Series, *, everything: bool
) -> tuple[pl.DataFrame, int]:
    """The accepted records that the comparison needs, and how many are not switched off."""
    if sieve is not None:
        return sieve.rest(keys), sieve.alive
    alive = int(accepted.select((~pl.col(GONE)).sum()).collect(engine="streaming").item())
    needed = accepted if everything else accepted.filter(pl.col(KEY).is_in(keys.implode()))
    return needed.collect(engine="streaming"), alive


def _salted(frames: Iterator[pl.DataFrame]) -> tuple[Iterator[pl.DataFrame], int]:
    """The frames, and a number out of the first rows."""
    first = next(frames)
    salt = int(first.head(100).hash_rows().sum() or 0) % (1 << 62)
    return itertools.chain(iter([first]), frames), salt
