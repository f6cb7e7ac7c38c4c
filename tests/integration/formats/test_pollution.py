"""A corpus of polluted files with known answers: right, rejected or refused, and never wrong without a word."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from etl import formats
from etl.errors import InvalidFileError
from etl.model.tables import Dialect
from tests.integration.formats import pollution

#: `make pollution` takes thousands.
FILES = int(os.environ.get("ETL_FILES", "150"))
#: Files of two or three rows can be written in ways that nobody could tell apart; a draft says what it rests on.
MISREAD = 0.01


def read(path: Path, made: pollution.Polluted, *, guessed: bool) -> str:
    limits = (
        formats.ReadLimits() if guessed else formats.ReadLimits(block_bytes=len(made.data) // 3 or 1)
    )  # blocks cut anywhere
    try:
        dialect = formats.detect_dialect(path).dialect if guessed else made.dialect
        return pollution.verdict(made, formats.read_table(path, dialect, limits=limits))
    except InvalidFileError as error:
        return pollution.verdict(made, error)


def test_a_frozen_dialect_reads_every_polluted_file_right(tmp_path: Path) -> None:
    """With the dialect that a careful person has frozen every cell is right, and damaged rows are named."""
    path = tmp_path / "export.csv"
    for seed in range(FILES):
        made = pollution.make(seed)
        path.write_bytes(made.data)
        found = read(path, made, guessed=False)
        assert found == "right", (seed, found, made.traits)


def test_detection_reads_nearly_every_polluted_file_right(tmp_path: Path) -> None:
    """Guessed dialects read nearly all of them right; what is not right is counted."""
    path = tmp_path / "export.csv"
    counted: Counter[str] = Counter()
    for seed in range(FILES):
        made = pollution.make(seed)
        path.write_bytes(made.data)
        found = read(path, made, guessed=True)
        counted[found.partition(":")[0]] += 1
        if found != "right":
            print(f"\n{seed} {found[:200]}\n  {' '.join(made.traits)}")
    print(f"\n{FILES} polluted files, guessed dialects: {dict(counted)}")
    assert counted["right"] >= FILES * 0.97
    assert counted["WRONG"] <= max(1, FILES * MISREAD)


def test_another_delimiter_or_encoding_is_not_read_in_silence(tmp_path: Path) -> None:
    """A file in another style than the frozen one is refused, or no row is read wrong; only a page whose letters make
    other words now and then cannot be told."""
    path = tmp_path / "export.csv"
    taken = tried = 0
    for seed in range(FILES):
        made, other = pollution.make(seed), pollution.make(seed + 1).dialect
        path.write_bytes(made.data)
        assert not is_wrong(path, made, replace(made.dialect, delimiter=other.delimiter)), (seed, made.traits)
        assert not is_wrong(path, made, replace(made.dialect, final_newline=True)), (seed, made.traits)
        tried += other.encoding != made.dialect.encoding
        taken += is_wrong(path, made, replace(made.dialect, encoding=other.encoding))
    print(f"\n{tried} files in another encoding than the frozen one: {taken} read with wrong letters")
    assert taken <= max(2, FILES * 0.04)


def is_wrong(path: Path, made: pollution.Polluted, dialect: Dialect) -> bool:
    try:
        return pollution.verdict(made, formats.read_table(path, dialect)).startswith("WRONG")
    except InvalidFileError:
        return False
