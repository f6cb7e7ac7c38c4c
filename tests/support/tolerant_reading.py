"""Reads a text file without the fast reader, so that tests can compare the two."""

from __future__ import annotations

from pathlib import Path

from etl.formats.limits import ReadLimits
from etl.formats.text import reader
from etl.model.tables import Dialect, Table


def read_tolerantly(path: Path, dialect: Dialect, limits: ReadLimits) -> Table:
    """Read the whole table with the tolerant reader. Raises InvalidFileError."""
    return reader.collect_table(reader.TextFile(path, dialect, limits, only_tolerant=True))
