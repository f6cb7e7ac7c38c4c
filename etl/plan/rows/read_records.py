"""Reads a file in pieces: validates and keys each row, and drops the records that equal an accepted one.

Only records that may have to be sent stay in memory, so that a file of millions of rows needs little more than its
changes. Duplicate keys and duplicate unique texts are known only at the end; if there are any, the file is read a
second time, and the rows concerned stay and are compared together.
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

#: Of a row: the hash of its key in lower case, and how many of its values are not sent.
_FOLDED_KEY_HASH, _SUPPRESSED = f"{INTERNAL}folded", f"{INTERNAL}withheld"


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The records of a file that may differ from the accepted ones, and the accepted records to compare them with."""

    records: Records  #: all that may differ from the accepted records
    row_keys: pl.DataFrame  #: KEY and ROW of every row that is in a record
    accepted_records: pl.DataFrame  #: those that the records may differ from, or that may be missing
    active: int  #: accepted records that are not deactivated
    rejection_lines: pl.DataFrame
    keys_of_rejected_rows: pl.Series  #: leading key values of rejected rows
    rejected_rows: pl.Series  #: numbers of valid rows of which no record could be made
    unchanged_rows: pl.Series  #: numbers of the rows that equal an accepted record, one for each record
    rows_read: int
    skipped: int  #: rows
    invalid: int  #: rows that did not pass the checks of columns and rules
    valid: int  #: rows that passed them
    suppressed: int  #: values of unchanged rows that Connect would not take


@dataclass(frozen=True, slots=True)
class RowComparison:
    """How the rows of a file are compared with the accepted records while reading."""

    accepted_records: pl.LazyFrame
    always_compare: pl.Expr  #: whether a row is compared field by field, whatever Norce has
    send_all: bool  #: no row is left out because it equals an accepted record

    def condition(self, layout: Layout) -> pl.Expr:
        """Return `always_compare`, and whether the lists of a record cannot be sent."""
        condition = self.always_compare
        for violation in list_rules.violations(layout):
            condition = condition | violation.condition
        return condition


@dataclass(slots=True)
class _Accumulator:
    """Results of the pieces of a file, added up while reading."""

    parts: dict[int, list[pl.DataFrame]] = field(default_factory=dict)  #: by column of `per`
    rejection_lines: list[pl.DataFrame] = field(default_factory=list)
    rejected_rows: list[pl.Series] = field(default_factory=list)
    keys_of_rejected_rows: list[pl.Series] = field(default_factory=list)
    unchanged_rows: list[pl.Series] = field(default_factory=list)
    key_hashes: list[pl.Series] = field(default_factory=list)  #: of keys in lower case
    texts: dict[str, list[pl.Series]] = field(default_factory=dict)
    rows_read: int = 0
    skipped: int = 0
    invalid: int = 0
    valid: int = 0
    suppressed: int = 0

    def add_rejected_records(self, rejection_lines: pl.DataFrame, rows: pl.DataFrame, layout: Layout) -> None:
        """Add the rejections of rows of which no record could be made."""
        self.rejection_lines.append(rejection_lines)
        self.rejected_rows.append(rejection_lines["row"].cast(pl.UInt32))
        if rejection_lines.height and layout.leading_key is not None:
            rejected = rows.filter(pl.col(ROW).is_in(rejection_lines["row"].implode()))
            keys = rejected[layout.leading_key.column].cast(pl.String).drop_nulls()
            self.keys_of_rejected_rows.append(keys.rename("v"))

    def result(
        self, records: Records, row_keys: pl.DataFrame, accepted_records: pl.DataFrame, active: int
    ) -> ReadResult:
        return ReadResult(
            records=records,
            row_keys=row_keys,
            accepted_records=accepted_records,
            active=active,
            rejection_lines=pl.concat([pl.DataFrame(schema=REJECTION_SCHEMA), *self.rejection_lines]),
            keys_of_rejected_rows=pl.concat([pl.Series("v", dtype=pl.String), *self.keys_of_rejected_rows]),
            rejected_rows=pl.concat(self.rejected_rows).unique(),
            unchanged_rows=pl.concat([pl.Series(ROW, dtype=pl.UInt32), *self.unchanged_rows]),
            rows_read=self.rows_read,
            skipped=self.skipped,
            invalid=self.invalid,
            valid=self.valid,
            suppressed=self.suppressed,
        )


@dataclass(frozen=True, slots=True)
class _Piece:
    """Results of some rows of the file, independent of its other rows."""

    rows: int
    validated_rows: ValidatedRows
    parts: list[pl.DataFrame]  #: by column of `per`
    fingerprints: list[pl.DataFrame]  #: of each part, with _FOLDED_KEY_HASH and _SUPPRESSED; empty without an index
    rejection_lines: pl.DataFrame
    keys_of_rejected_rows: pl.Series


@dataclass(frozen=True, slots=True)
class _Duplicates:
    """Keys and unique texts that a file has more than once."""

    key_hashes: pl.Series
    texts: Map[str, pl.Series]

    def __bool__(self) -> bool:
        return bool(self.key_hashes.len() or any(texts.len() for texts in self.texts.values()))


@dataclass(frozen=True, slots=True)
class _RecordReader:
    """Validates, converts and keys a piece of the file. Safe in any thread, for pieces in any order."""

    columns: Columns
    mapping: Mapping
    layout: Layout
    fingerprint_index: FingerprintIndex | None
    always_compare: pl.Expr  #: whether a row is compared field by field, whatever Norce has
    duplicates: _Duplicates = field(default_factory=lambda: _Duplicates(pl.Series(dtype=pl.UInt64), {}))

    def __call__(self, frame: pl.DataFrame) -> _Piece:
        valid = validate.validate_rows(frame, self.columns, self.mapping, self.duplicates.texts)
        parts, rejections = transform.evaluate_rows(valid.frame, self.mapping, self.layout)
        rejected = valid.rejected_frame
        if rejections.frame.height:
            failed = valid.frame.filter(pl.col(ROW).is_in(rejections.frame["row"].implode()))
            rejected = pl.concat([rejected, failed])
        return _Piece(
            rows=frame.height,
            validated_rows=valid,
            parts=parts,
            fingerprints=[self._fingerprint(part, self.fingerprint_index) for part in parts]
            if self.fingerprint_index is not None
            else [],
            rejection_lines=rejections.frame,
            keys_of_rejected_rows=transform.keys_of_rejected_rows(rejected, self.mapping, self.layout),
        )

    @property
    def suppressed_count(self) -> pl.Expr:
        """Count the values of a row that are not sent."""
        return sendable.suppressed_count(self.layout).alias(_SUPPRESSED)

    def _fingerprint(self, rows: pl.DataFrame, fingerprint_index: FingerprintIndex) -> pl.DataFrame:
        facts = rows.select(pl.col(KEY).str.to_lowercase().hash(0).alias(_FOLDED_KEY_HASH), self.suppressed_count)
        always_compare = self.always_compare
        if self.duplicates.key_hashes.len():
            is_duplicate = facts[_FOLDED_KEY_HASH].is_in(self.duplicates.key_hashes.implode())
            always_compare = always_compare | pl.lit(is_duplicate)
        return fingerprint_index.fingerprint_rows(rows, always_compare).hstack(facts)


def read_records(
    reading: Reading,
    columns: Columns,
    mapping: Mapping,
    layout: Layout,
    comparison: RowComparison,
    submit: Submit = run_inline,
) -> ReadResult:
    """Read the records of a file that may differ from the accepted ones.

    `submit` says how work on pieces of the file is begun (`etl.thread_pool`); the result does not depend on it.
    """
    frames, salt = _with_salt(reading.frames(submit))
    index = None
    if _can_drop_unchanged(mapping, layout, comparison):
        index = FingerprintIndex(comparison.accepted_records, layout, salt, submit)
    row_index = index if is_row_per_record(layout) else None
    record_reader = _RecordReader(columns, mapping, layout, row_index, comparison.condition(layout))
    accumulator = _read_once(frames, record_reader, submit)
    duplicates = _find_duplicates(accumulator)
    if duplicates:
        if row_index is not None:
            row_index.forget_matches()
        record_reader = replace(record_reader, duplicates=duplicates)
        accumulator = _read_once(reading.frames(submit), record_reader, submit)
    rows = pl.concat([pl.concat(parts) for parts in accumulator.parts.values()])
    records, rejections = transform.build_records(rows, layout)
    accumulator.add_rejected_records(rejections.frame, rows, layout)
    if index is not None and row_index is None:
        records = _drop_unchanged_records(records, record_reader, index, accumulator, submit)
    include_all = mapping.source.content == "full" or comparison.send_all
    accepted_records, active = _accepted_for_comparison(
        comparison.accepted_records, index, rows[KEY], include_all=include_all
    )
    return accumulator.result(records, rows.select(KEY, ROW), accepted_records, active)


def _can_drop_unchanged(mapping: Mapping, layout: Layout, comparison: RowComparison) -> bool:
    """Whether unchanged records of the file can be left out while reading."""
    if mapping.source.content != "full" or comparison.send_all:
        return False
    record_schema = transform.empty_records(mapping, layout).schema
    return supports_fingerprints(layout, comparison.accepted_records.collect_schema(), record_schema)


def _read_once(frames: Iterable[pl.DataFrame], record_reader: _RecordReader, submit: Submit) -> _Accumulator:
    """Read the whole file once."""
    accumulator = _Accumulator()
    for piece in ordered_results((functools.partial(record_reader, frame) for frame in frames), submit):
        valid = piece.validated_rows
        accumulator.rows_read += piece.rows
        accumulator.skipped += valid.skipped
        accumulator.invalid += valid.rejections.rows
        accumulator.valid += valid.frame.height
        accumulator.rejected_rows.append(piece.rejection_lines["row"].cast(pl.UInt32))
        accumulator.rejection_lines += [valid.rejections.frame, piece.rejection_lines]
        accumulator.keys_of_rejected_rows.append(piece.keys_of_rejected_rows)
        for name, texts in valid.texts.items():
            accumulator.texts.setdefault(name, []).append(texts)
        for place, part in enumerate(piece.parts):
            if record_reader.fingerprint_index is not None:
                part = _drop_unchanged_rows(
                    part, piece.fingerprints[place], record_reader.fingerprint_index, accumulator
                )
            accumulator.parts.setdefault(place, []).append(part)
    return accumulator


def _drop_unchanged_rows(
    rows: pl.DataFrame, fingerprints: pl.DataFrame, fingerprint_index: FingerprintIndex, accumulator: _Accumulator
) -> pl.DataFrame:
    """Drop the rows that equal an accepted record."""
    accumulator.key_hashes.append(fingerprints[_FOLDED_KEY_HASH])
    is_unchanged = fingerprint_index.match_unchanged(fingerprints)
    accumulator.unchanged_rows.append(rows[ROW].filter(is_unchanged).cast(pl.UInt32))
    accumulator.suppressed += int(fingerprints[_SUPPRESSED].filter(is_unchanged).sum())
    return rows.filter(~is_unchanged)


def _drop_unchanged_records(
    records: Records,
    record_reader: _RecordReader,
    fingerprint_index: FingerprintIndex,
    accumulator: _Accumulator,
    submit: Submit,
) -> Records:
    """Drop the records that equal an accepted one, for layouts whose records have several rows."""
    pieces = list(records.frame.iter_slices(_SLICE_SIZE))
    fingerprints = [
        submit(functools.partial(fingerprint_index.fingerprint_rows, piece, record_reader.always_compare))
        for piece in pieces
    ]
    matches = (fingerprint_index.match_unchanged(await_fingerprints()) for await_fingerprints in fingerprints)
    is_unchanged = pl.concat([pl.Series(dtype=pl.Boolean), *matches])
    accumulator.unchanged_rows.append(records.frame[ROW].filter(is_unchanged).cast(pl.UInt32))
    accumulator.suppressed += int(
        records.frame.filter(is_unchanged).select(record_reader.suppressed_count.sum()).item()
    )
    return Records(records.frame.filter(~is_unchanged), records.row_numbers)


def _find_duplicates(accumulator: _Accumulator) -> _Duplicates:
    """Find the keys, upper and lower case being the same, and the unique texts that occur more than once."""
    keys = pl.concat(accumulator.key_hashes) if accumulator.key_hashes else pl.Series(dtype=pl.UInt64)
    texts = {name: pl.concat(parts).drop_nulls() for name, parts in accumulator.texts.items()}
    return _Duplicates(_duplicate_values(keys), {name: _duplicate_values(values) for name, values in texts.items()})


def _duplicate_values(values: pl.Series) -> pl.Series:
    return values.clear() if values.n_unique() == values.len() else values.filter(values.is_duplicated()).unique()


def _accepted_for_comparison(
    accepted_records: pl.LazyFrame, fingerprint_index: FingerprintIndex | None, keys: pl.Series, *, include_all: bool
) -> tuple[pl.DataFrame, int]:
    """Return the accepted records that the comparison needs, and how many are not deactivated."""
    if fingerprint_index is not None:
        return fingerprint_index.unmatched_records(keys), fingerprint_index.active
    active = int(accepted_records.select((~pl.col(DEACTIVATED)).sum()).collect(engine="streaming").item())
    needed = accepted_records if include_all else accepted_records.filter(pl.col(KEY).is_in(keys.implode()))
    return needed.collect(engine="streaming"), active


def _with_salt(frames: Iterator[pl.DataFrame]) -> tuple[Iterator[pl.DataFrame], int]:
    """Return the frames, and a number that depends on the first rows."""
    first = next(frames)
    salt = int(first.head(100).hash_rows().sum() or 0) % (1 << 62)
    return itertools.chain(iter([first]), frames), salt
