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
from etl.model.columns import DEACTIVATED, INTERNAL, KEY, ROW
from etl.model.schemas import REJECTION_SCHEMA
from etl.model.tables import Reading, Records
from etl.parallel import Submit, ordered_results, run_inline
from etl.plan.rows import list_rules, sendable, transform, validate
from etl.plan.rows.fingerprints import FingerprintIndex, is_row_per_record, supports_fingerprints
from etl.plan.rows.validate import Columns, ValidatedRows

_SLICE_SIZE = 20_000  #: records that are hashed at a time

#: Of a row: the hash of its key without upper case, and how many of its values are not sent.
_FOLDED_KEY_HASH, _SUPPRESSED = f"{INTERNAL}folded", f"{INTERNAL}withheld"


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a file comes to, and what it has to be compared with."""

    records: Records  #: all that may differ from what Norce has
    row_keys: pl.DataFrame  #: KEY and ROW of every row that went into them
    accepted_records: pl.DataFrame  #: the accepted records that these may differ from, or that may be gone
    active: int  #: accepted records that are not switched off
    rejection_lines: pl.DataFrame
    keys_of_rejected_rows: pl.Series  #: leading key values of rejected rows
    rejected_rows: pl.Series  #: numbers of good rows of which no record could be made
    unchanged_rows: pl.Series  #: numbers of the rows that say what Norce has, one for each record
    rows_read: int  #: rows
    skipped: int
    invalid: int  #: rows that did not pass the checks
    valid: int  #: rows that did
    suppressed: int  #: values of held rows that are not sent


@dataclass(slots=True)
class _Accumulator:
    """What gathers on the way through the file."""

    parts: dict[int, list[pl.DataFrame]] = field(default_factory=dict)  #: by column of `per`
    rejection_lines: list[pl.DataFrame] = field(default_factory=list)
    rejected_rows: list[pl.Series] = field(default_factory=list)
    keys_of_rejected_rows: list[pl.Series] = field(default_factory=list)
    unchanged_rows: list[pl.Series] = field(default_factory=list)
    key_hashes: list[pl.Series] = field(
        default_factory=list
    )  #: hashes, for what differs in upper and lower case only too
    texts: dict[str, list[pl.Series]] = field(default_factory=dict)
    rows_read: int = 0
    skipped: int = 0
    invalid: int = 0
    valid: int = 0
    suppressed: int = 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """What can be said of some rows of the file without the others."""

    rows: int
    validated_rows: ValidatedRows
    parts: list[pl.DataFrame]  #: by column of `per`
    fingerprints: list[pl.DataFrame]  #: for each part, when there is a sieve: fingerprints, _FOLDED and _WITHHELD
    rejection_lines: pl.DataFrame
    keys_of_rejected_rows: pl.Series


@dataclass(frozen=True, slots=True)
class _Duplicates:
    """What a file has more than once."""

    key_hashes: pl.Series
    texts: Map[str, pl.Series]

    def __bool__(self) -> bool:
        return bool(self.key_hashes.len() or any(found.len() for found in self.texts.values()))


@dataclass(frozen=True, slots=True)
class _RecordReader:
    """Everything that what is said of a row depends on; called in any thread, for pieces in any order."""

    columns: Columns
    mapping: Mapping
    layout: Layout
    fingerprint_index: FingerprintIndex | None
    always_compare: pl.Expr  #: whether a row has to be looked at whatever Norce has
    duplicates: _Duplicates

    def __call__(self, frame: pl.DataFrame) -> _Piece:
        checked = validate.validate_rows(frame, self.columns, self.mapping, self.duplicates.texts)
        parts, refused = transform.evaluate_rows(checked.frame, self.mapping, self.layout)
        bad = checked.rejected_frame
        if refused.frame.height:
            bad = pl.concat([bad, checked.frame.filter(pl.col(ROW).is_in(refused.frame["row"].implode()))])
        return _Piece(
            rows=frame.height,
            validated_rows=checked,
            parts=parts,
            fingerprints=[self._fingerprint(part, self.fingerprint_index) for part in parts]
            if self.fingerprint_index is not None
            else [],
            rejection_lines=refused.frame,
            keys_of_rejected_rows=transform.keys_of_rejected_rows(bad, self.mapping, self.layout),
        )

    @property
    def suppressed_count(self) -> pl.Expr:
        """How many values of a row are not sent."""
        return sendable.suppressed_count(self.layout).alias(_SUPPRESSED)

    def _fingerprint(self, rows: pl.DataFrame, fingerprint_index: FingerprintIndex) -> pl.DataFrame:
        told = rows.select(pl.col(KEY).str.to_lowercase().hash(0).alias(_FOLDED_KEY_HASH), self.suppressed_count)
        free = self.always_compare
        if self.duplicates.key_hashes.len():
            free = free | pl.lit(told[_FOLDED_KEY_HASH].is_in(self.duplicates.key_hashes.implode()))
        return fingerprint_index.fingerprint_rows(rows, free).hstack(told)


def read_records(
    reading: Reading,
    columns: Columns,
    mapping: Mapping,
    layout: Layout,
    accepted_records: pl.LazyFrame,
    *,
    send_all: bool,
    is_blocked: pl.Expr,
    pending_keys: pl.Series,
    submit: Submit = run_inline,
) -> ReadResult:
    """`waits`: whether a row has to wait for what it refers to; `pending`: keys with values that are still owed.

    `start`: how work on several pieces is begun; the result does not depend on it.
    """
    whole = mapping.source.content == "full"
    frames, salt = _with_salt(reading.frames(submit))
    sieve = None
    if (
        whole
        and not send_all
        and supports_fingerprints(
            layout, accepted_records.collect_schema(), transform.empty_records(mapping, layout).schema
        )
    ):
        sieve = FingerprintIndex(accepted_records, layout, salt, submit)
    free = is_blocked | pl.col(KEY).is_in(pending_keys.implode())
    for flaw in list_rules.violations(layout):
        free = free | flaw.condition
    nothing = _Duplicates(pl.Series(dtype=pl.UInt64), {})
    judge = _RecordReader(columns, mapping, layout, sieve if is_row_per_record(layout) else None, free, nothing)
    heap = _read_once(frames, judge, submit)
    twice = _find_duplicates(heap)
    if twice:
        if judge.fingerprint_index is not None:
            sieve = FingerprintIndex(accepted_records, layout, salt, submit)
        heap = _read_once(
            reading.frames(submit),
            replace(judge, fingerprint_index=judge.fingerprint_index and sieve, duplicates=twice),
            submit,
        )
    rows = pl.concat([pl.concat(parts) for parts in heap.parts.values()])
    records, late = transform.build_records(rows, layout)
    if late.frame.height and layout.leading_key is not None:
        bad = rows.filter(pl.col(ROW).is_in(late.frame["row"].implode()))
        heap.keys_of_rejected_rows.append(bad[layout.leading_key.column].cast(pl.String).drop_nulls().rename("v"))
    if sieve is not None and judge.fingerprint_index is None:
        records = _drop_unchanged_records(records, judge, sieve, heap, submit)
    known, alive = _accepted_for_comparison(accepted_records, sieve, rows[KEY], include_all=whole or send_all)
    return ReadResult(
        records=records,
        row_keys=rows.select(KEY, ROW),
        accepted_records=known,
        active=alive,
        rejection_lines=pl.concat([pl.DataFrame(schema=REJECTION_SCHEMA), *heap.rejection_lines, late.frame]),
        keys_of_rejected_rows=pl.concat([pl.Series("v", dtype=pl.String), *heap.keys_of_rejected_rows]),
        rejected_rows=pl.concat([*heap.rejected_rows, late.frame["row"].cast(pl.UInt32)]).unique(),
        unchanged_rows=pl.concat([pl.Series(ROW, dtype=pl.UInt32), *heap.unchanged_rows]),
        rows_read=heap.rows_read,
        skipped=heap.skipped,
        invalid=heap.invalid,
        valid=heap.valid,
        suppressed=heap.suppressed,
    )


def _read_once(frames: Iterable[pl.DataFrame], record_reader: _RecordReader, submit: Submit) -> _Accumulator:
    """Once through the file."""
    heap = _Accumulator()
    for piece in ordered_results((functools.partial(record_reader, frame) for frame in frames), submit):
        checked = piece.validated_rows
        heap.rows_read += piece.rows
        heap.skipped += checked.skipped
        heap.invalid += checked.rejections.rows
        heap.valid += checked.frame.height
        heap.rejected_rows.append(piece.rejection_lines["row"].cast(pl.UInt32))
        heap.rejection_lines += [checked.rejections.frame, piece.rejection_lines]
        heap.keys_of_rejected_rows.append(piece.keys_of_rejected_rows)
        for name, texts in checked.texts.items():
            heap.texts.setdefault(name, []).append(texts)
        for place, part in enumerate(piece.parts):
            if record_reader.fingerprint_index is not None:
                part = _drop_unchanged_rows(part, piece.fingerprints[place], record_reader.fingerprint_index, heap)
            heap.parts.setdefault(place, []).append(part)
    return heap


def _drop_unchanged_rows(
    rows: pl.DataFrame, fingerprints: pl.DataFrame, fingerprint_index: FingerprintIndex, accumulator: _Accumulator
) -> pl.DataFrame:
    """Without the rows that say what Norce has."""
    accumulator.key_hashes.append(fingerprints[_FOLDED_KEY_HASH])
    held = fingerprint_index.match_unchanged(fingerprints)
    accumulator.unchanged_rows.append(rows[ROW].filter(held).cast(pl.UInt32))
    accumulator.suppressed += int(fingerprints[_SUPPRESSED].filter(held).sum())
    return rows.filter(~held)


def _drop_unchanged_records(
    records: Records,
    record_reader: _RecordReader,
    fingerprint_index: FingerprintIndex,
    accumulator: _Accumulator,
    submit: Submit,
) -> Records:
    """Without the records that say what Norce has, where rows had to be brought together first."""
    pieces = list(records.frame.iter_slices(_SLICE_SIZE))
    begun = [
        submit(functools.partial(fingerprint_index.fingerprint_rows, piece, record_reader.always_compare))
        for piece in pieces
    ]
    held = pl.concat([pl.Series(dtype=pl.Boolean), *(fingerprint_index.match_unchanged(prints()) for prints in begun)])
    accumulator.unchanged_rows.append(records.frame[ROW].filter(held).cast(pl.UInt32))
    accumulator.suppressed += int(records.frame.filter(held).select(record_reader.suppressed_count.sum()).item())
    return Records(records.frame.filter(~held), records.row_numbers)


def _find_duplicates(accumulator: _Accumulator) -> _Duplicates:
    keys = pl.concat(accumulator.key_hashes) if accumulator.key_hashes else pl.Series(dtype=pl.UInt64)
    texts = {name: pl.concat(parts).drop_nulls() for name, parts in accumulator.texts.items()}
    return _Duplicates(_duplicate_values(keys), {name: _duplicate_values(found) for name, found in texts.items()})


def _duplicate_values(values: pl.Series) -> pl.Series:
    return values.clear() if values.n_unique() == values.len() else values.filter(values.is_duplicated()).unique()


def _accepted_for_comparison(
    accepted_records: pl.LazyFrame, fingerprint_index: FingerprintIndex | None, keys: pl.Series, *, include_all: bool
) -> tuple[pl.DataFrame, int]:
    """The accepted records that the comparison needs, and how many are not switched off."""
    if fingerprint_index is not None:
        return fingerprint_index.unmatched_records(keys), fingerprint_index.active
    alive = int(accepted_records.select((~pl.col(DEACTIVATED)).sum()).collect(engine="streaming").item())
    needed = accepted_records if include_all else accepted_records.filter(pl.col(KEY).is_in(keys.implode()))
    return needed.collect(engine="streaming"), alive


def _with_salt(frames: Iterator[pl.DataFrame]) -> tuple[Iterator[pl.DataFrame], int]:
    """The frames, and a number out of the first rows."""
    first = next(frames)
    salt = int(first.head(100).hash_rows().sum() or 0) % (1 << 62)
    return itertools.chain(iter([first]), frames), salt
