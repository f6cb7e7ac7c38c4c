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
from etl.formats.limits import Limits
from etl.formats.text import fixed_width as fixed
from etl.formats.text import reader as delimited
from etl.formats.text.line_source import readable
from etl.model.tables import Dialect, Reading, Table

if TYPE_CHECKING:
    from etl.formats.detect.dialect import Detection

__all__ = ["Limits", "detect", "members", "read", "reading"]

DEFAULT = Limits()


@contextmanager
def reading(path: Path, dialect: Dialect, *, limits: Limits = DEFAULT, member: str | None = None) -> Iterator[Reading]:
    """The file, to be read piece by piece; `member` names a file within an archive."""
    with ExitStack() as stack:
        with readable(path):
            plain = stack.enter_context(archives.unpacked(path, member, limits))
            if dialect.format == "excel":
                found: Reading = workbook.read(plain, dialect, limits)
            elif dialect.format == "fixed":
                found = fixed.read(plain, dialect, limits)
            else:
                found = delimited.Delimited(plain, dialect, limits)
        yield found


def read(path: Path, dialect: Dialect, *, limits: Limits = DEFAULT, member: str | None = None) -> Table:
    """The whole file as a table of text cells."""
    with reading(path, dialect, limits=limits, member=member) as found:
        return found if isinstance(found, Table) else delimited.whole(found)


def members(path: Path, *, limits: Limits = DEFAULT) -> tuple[str, ...]:
    """Names of the files in an archive, each to be read as a file of its own; () when the file is no archive."""
    with readable(path):
        return archives.members(path, limits)


def detect(path: Path, *, limits: Limits = DEFAULT, member: str | None = None) -> Detection:
    """A dialect for the file, guessed from a sample, with the evidence."""
    from etl.formats.detect import dialect as detection  # clevercsv and charset-normalizer are not needed in production

    with readable(path), archives.unpacked(path, member, limits) as plain:
        return detection.dialect_of(plain, limits)
