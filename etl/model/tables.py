"""The forms of a file on its way to requests: its dialect, its rows as text, its rejected rows, its records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import polars as pl

from etl.model.columns import ROW
from etl.parallel import Submit, run_inline

if TYPE_CHECKING:
    import polars as pl


#: Rows of a table that are worked on at a time.
ROWS_PER_PIECE = 250_000


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was when it was claimed."""

    path: Path  #: where the bytes are now
    name: str  #: name relative to the inbox, as it arrived, with forward slashes
    size: int
    modified_at: float  #: seconds since the epoch
    digest: str  #: sha256 of the bytes, hex


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written. Frozen in the mapping: checked in production, never guessed there."""

    format: Literal["csv", "excel", "fixed"] = "csv"
    encoding: str = "utf-8"  #: "utf-8|windows-1252": tried in this order, line by line
    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    header: int = 1  #: 1-based line (CSV; blank lines count) or sheet row of the header; 0 = the file has no header
    skip: int = 0  #: lines (CSV) or sheet rows before the data of a file that has no header
    columns: tuple[str, ...] = ()  #: names when there is no header, or to be used instead of the header's
    sheet: str | None = None  #: Excel sheet, hidden ones too when named; None = the first visible one
    widths: tuple[int, ...] = ()  #: characters per column when `format` is "fixed"; padding blanks are cut there
    short_rows: Literal["reject", "empty"] = "reject"  #: "empty": cells missing at the end of a row are empty
    long_rows: Literal["reject", "empty"] = "reject"  #: "empty": cells beyond the last column are fine when empty
    final_newline: bool = True  #: the last record ends with a line end; without one it counts as cut off
    trailer: str | None = None  #: pattern of the last line, may hold (?P<rows>\d+); a file without it is refused

    @property
    def rows_before_data(self) -> int:
        """Lines, or sheet rows, before the data."""
        return self.header or self.skip


@dataclass(frozen=True, slots=True)
class Rejections:
    """Rejected rows: one line per reason, columns REJECTION_COLUMNS, `row` as in ROW."""

    frame: pl.DataFrame

    @property
    def rows(self) -> int:
        """Number of distinct rows refused."""
        return int(self.frame["row"].n_unique())


class Reading(Protocol):
    """A file that can be read piece by piece, as often as needed; what it is at the end of each pass is a `Table`.

    `malformed` and `rows` are those of the latest pass that came to its end.
    """

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def malformed(self) -> Rejections: ...

    @property
    def rows(self) -> int: ...

    def frames(self, submit: Submit = run_inline) -> Iterator[pl.DataFrame]:
        """Yield at least one frame of whole rows, in the order of the file; `submit` may start pieces ahead."""
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """Text cells plus ROW. Every row of the file is either in `frame` or in `malformed`."""

    frame: pl.DataFrame  #: ROW (Int64) and one String column per source column; an empty cell is null
    malformed: Rejections  #: rows whose cells could not be told apart (too few, too many, bad bytes)
    rows: int  #: data rows in the file, counted independently of the frame

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name in self.frame.columns if name != ROW)

    def frames(self, submit: Submit = run_inline) -> Iterator[pl.DataFrame]:
        """Yield the rows in pieces, as a `Reading` does; `submit` is not needed."""
        yield from self.frame.iter_slices(ROWS_PER_PIECE) if self.frame.height else (self.frame,)


@dataclass(frozen=True, slots=True)
class Records:
    """Rows in Connect's shape: KEY, ITEM, ROW and one typed column per leaf of the feed's layout, perhaps CAME."""

    frame: pl.DataFrame
    row_numbers: pl.Series  #: numbers of all source rows that are in it


#: Rejected rows in a workbook; above them a person looks for a pattern, not for cells.
MAX_ANNOTATED_ROWS = 5_000
