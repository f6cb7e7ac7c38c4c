"""What every workbook reader hands over: cells of one sheet by row and column, and the cells that hold no value."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from etl.errors import InvalidFileError
from etl.model.columns import ROW

#: Filled cells one below the other, as readers give them that work on many at once.
CELL_SCHEMA = {"row": pl.Int64(), "col": pl.UInt16(), "text": pl.String()}


@dataclass(frozen=True, slots=True)
class SheetEntry:
    """A sheet as the workbook lists it."""

    name: str
    part: str  #: where its content is, in words of the format
    visible: bool = True


@dataclass(slots=True)
class Sheet:
    """Filled cells only, rows and columns 1-based as on the sheet."""

    name: str
    entries: list[SheetEntry] = field(default_factory=list)  #: all sheets of the workbook
    rows: dict[int, dict[int, str]] = field(default_factory=dict)
    parts: list[pl.DataFrame] = field(default_factory=list)  #: of the schema CELLS: other rows than those in `rows`
    cell_errors: list[tuple[int, int, str]] = field(default_factory=list)  #: (row, column, what stands there)
    merged_ranges: list[tuple[int, int, int, int]] = field(
        default_factory=list
    )  #: first row, first column, last row, last
    row_count: int | None = None  #: rows that hold something below the header, told by another reader

    def to_frame(self) -> pl.DataFrame:
        """Return all rows in order: ROW, and each sheet column in use, named by its number; "" is a cell."""
        cells = pl.concat([*self.parts, self._cell_frame()])
        if self.parts and self.rows:
            cells = cells.sort("row")
        numbers = cells["row"].unique().sort()
        columns = {ROW: numbers}
        for (place, *_), column in sorted(cells.partition_by("col", as_dict=True, include_key=False).items()):
            if column.height < numbers.len():
                column = numbers.to_frame().join(column, on="row", how="left", maintain_order="left")
            columns[str(place)] = column["text"]
        return pl.DataFrame(columns)

    def _cell_frame(self) -> pl.DataFrame:
        rows, columns, texts = list[int](), list[int](), list[str]()
        for row in sorted(self.rows):
            cells = self.rows[row]
            rows += [row] * len(cells)
            columns += cells.keys()
            texts += cells.values()
        return pl.DataFrame({"row": rows, "col": columns, "text": texts}, schema=CELL_SCHEMA)


def choose_sheet(entries: list[SheetEntry], name: str | None, where: str) -> SheetEntry:
    """Return the named sheet, hidden or not; without a name the first visible one."""
    for tab in entries:
        if tab.name == name or (name is None and tab.visible):
            return tab
    shown = ", ".join(tab.name for tab in entries if tab.visible) or "none that is visible"
    raise InvalidFileError(
        "sheet-missing",
        f"there is no sheet {name!r}; there are: {shown}" if name else "the workbook has no visible sheet",
        where=where,
        hint="correct `sheet:` in the mapping; hidden sheets are read only when named there",
    )


class WorkbookError(Exception):
    """The workbook is damaged, or not what it seems; the text says how."""
