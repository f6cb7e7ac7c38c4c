"""A file's bytes as a table of text: right, or refused with a reason.

`read` takes the frozen dialect, checks it against the file and gives a `Table` in which every cell is text, every row
knows its line, and every row that cannot be told apart stands in `malformed`.
"""

from __future__ import annotations

from pathlib import Path

from etl.errors import FileRefused
from etl.formats import delimited
from etl.formats.limits import Limits
from etl.model import Dialect, Table

__all__ = ["Limits", "read"]


def read(path: Path, dialect: Dialect, *, limits: Limits = Limits()) -> Table:  # noqa: B008 (frozen)
    """The file as a table of text cells."""
    try:
        if dialect.format == "excel":
            from etl.formats import workbook  # only then does Excel cost anything

            return workbook.read(path, dialect, limits)
        return delimited.read(path, dialect, limits)
    except OSError as error:
        raise FileRefused(
            "file-unreadable",
            f"the file cannot be opened: {error.strerror or error}",
            where=path.name,
            hint="check that it is a file and that this user may read it",
        ) from None
