"""A file's bytes as a table of text: right, or refused with a reason.

`reading` takes the frozen dialect, checks it against the file and gives frames in which every cell is text, every row
knows its line, and every row that cannot be told apart stands in `malformed`; `read` puts them into one `Table`.
`detect` guesses a dialect and says why; it drafts mappings and is never used in production. `members` tells what an
archive holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from etl.formats import archives
from etl.formats.excel import workbook
from etl.formats.limits import ReadLimits
from etl.formats.text import fixed_width, reader
from etl.formats.text.line_source import translate_read_errors
from etl.model.tables import Dialect, Reading, Table

if TYPE_CHECKING:
    from etl.formats.detect.dialect import Detection

__all__ = ["ReadLimits", "archive_members", "detect_dialect", "open_table", "read_table"]

DEFAULT_READ_LIMITS = ReadLimits()


@contextmanager
def open_table(
    path: Path, dialect: Dialect, *, limits: ReadLimits = DEFAULT_READ_LIMITS, member: str | None = None
) -> Iterator[Reading]:
    """Open the file for reading in pieces; `member` names a file within an archive."""
    with ExitStack() as stack:
        with translate_read_errors(path):
            plain = stack.enter_context(archives.unpack(path, member, limits))
            if dialect.format == "excel":
                reading: Reading = workbook.read_workbook(plain, dialect, limits)
            elif dialect.format == "fixed":
                reading = fixed_width.read_fixed_width(plain, dialect, limits)
            else:
                reading = reader.TextFile(plain, dialect, limits)
        yield reading


def read_table(
    path: Path, dialect: Dialect, *, limits: ReadLimits = DEFAULT_READ_LIMITS, member: str | None = None
) -> Table:
    """Read the whole file as a table of text cells."""
    with open_table(path, dialect, limits=limits, member=member) as reading:
        return reading if isinstance(reading, Table) else reader.collect_table(reading)


def archive_members(path: Path, *, limits: ReadLimits = DEFAULT_READ_LIMITS) -> tuple[str, ...]:
    """Return the names of the files in an archive, each to be read by itself; () when the file is no archive."""
    with translate_read_errors(path):
        return archives.member_names(path, limits)


def detect_dialect(path: Path, *, limits: ReadLimits = DEFAULT_READ_LIMITS, member: str | None = None) -> Detection:
    """Guess a dialect from a sample of the file; return it with the evidence."""
    from etl.formats.detect.dialect import detect_file  # clevercsv and charset-normalizer are not needed in production

    with translate_read_errors(path), archives.unpack(path, member, limits) as plain:
        return detect_file(plain, limits)
