"""A file's bytes as a table of text: right, or refused with a reason.

`read` takes the frozen dialect, checks it against the file and gives a `Table` in which every cell is text, every row
knows its line, and every row that cannot be told apart stands in `malformed`. `detect` guesses a dialect and says why;
it drafts mappings and is never used in production. `members` tells what an archive holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from etl.errors import FileRefused
from etl.formats import archives, delimited, workbook
from etl.formats.limits import Limits
from etl.model import Dialect, Table

if TYPE_CHECKING:
    from etl.formats.detection import Detection

__all__ = ["Limits", "detect", "members", "read"]

DEFAULT = Limits()


def read(path: Path, dialect: Dialect, *, limits: Limits = DEFAULT, member: str | None = None) -> Table:
    """The file as a table of text cells; `member` names a file within an archive."""
    with _readable(path), archives.unpacked(path, member, limits) as plain:
        if dialect.format == "excel":
            return workbook.read(plain, dialect, limits)
        return delimited.read(plain, dialect, limits)


def members(path: Path, *, limits: Limits = DEFAULT) -> tuple[str, ...]:
    """Names of the files in an archive, each to be read as a file of its own; () when the file is no archive."""
    with _readable(path):
        return archives.members(path, limits)


def detect(path: Path, *, limits: Limits = DEFAULT, member: str | None = None) -> Detection:
    """A dialect for the file, guessed from a sample, with the evidence."""
    from etl.formats import detection  # clevercsv and charset-normalizer are not needed in production

    with _readable(path), archives.unpacked(path, member, limits) as plain:
        return detection.dialect_of(plain, limits)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileRefused(
            "file-unreadable",
            f"the file cannot be opened: {error.strerror or error}",
            where=path.name,
            hint="check that it is a file and that this user may read it",
        ) from None
