"""Excel and OpenDocument sheets as tables of text.

The parent only starts a bounded process and reads its answer; `worker` does the work with the functions of this module.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import msgspec
import polars as pl

import etl
from etl.errors import InvalidFileError
from etl.formats import errors
from etl.formats.archives import ARCHIVE_ERRORS, check_unpacked_size
from etl.formats.excel.sheet import Sheet, WorkbookError
from etl.formats.limits import ReadLimits
from etl.formats.text import header
from etl.formats.text.csv_reader import MalformedRows, drop_blank_rows
from etl.model.columns import ROW
from etl.model.tables import Dialect, Rejections, Table

BIFF_SIGNATURES = (
    b"\x09\x00\x04\x00",
    b"\x09\x02\x06\x00",
    b"\x09\x04\x06\x00",
    b"\x09\x08\x08\x00",
    b"\x09\x08\x10\x00",
)
SAMPLE_ROWS = 300  #: looked at in detection
OLE_SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class WorkbookRequest(msgspec.Struct, frozen=True):
    """The request to the bounded process."""

    path: str
    name: str  #: for messages
    output: str  #: where the frames are written
    dialect: Dialect
    limits: ReadLimits
    only_sample: bool = False  #: only a look: sheets and first rows, for detection


class WorkbookAnswer(msgspec.Struct):
    """The answer of the bounded process; the frames are in files beside it."""

    rows: int = 0
    error: tuple[str, str, str, str] | None = None
    sheet: str = ""
    sheet_names: list[str] = []
    sample: list[tuple[int, list[str]]] = []


def read_workbook(path: Path, dialect: Dialect, limits: ReadLimits) -> Table:
    """Read one sheet of a workbook."""
    if path.stat().st_size == 0:
        raise errors.empty_file(path.name)
    with tempfile.TemporaryDirectory(prefix="etl-sheet-") as folder:
        answer = run_worker(WorkbookRequest(str(path.absolute()), path.name, folder, dialect, limits))
        frame = pl.read_ipc(Path(folder, "frame"))
        malformed = pl.read_ipc(Path(folder, "malformed"))
    return Table(frame, Rejections(malformed), answer.rows)


def run_worker(request: WorkbookRequest) -> WorkbookAnswer:
    """Run the bounded process; however it ends, the file is read or invalid."""
    root = str(Path(etl.__file__).resolve().parents[1])
    known = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "POLARS_MAX_THREADS": "1",  # every thread reserves memory that the limit counts
        "PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "etl.formats.excel.worker"],
            input=msgspec.json.encode(request),
            capture_output=True,
            timeout=request.limits.seconds + 5,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _unreadable_workbook(request, "it took too long") from None
    if done.returncode != 0:
        raise _unreadable_workbook(request, _exit_reason(done.returncode, done.stderr))
    answer = msgspec.json.decode(done.stdout, type=WorkbookAnswer)
    if answer.error:
        code, message, where, hint = answer.error
        raise InvalidFileError(code, message, where=where, hint=hint)
    return answer


def _exit_reason(status: int, stderr: bytes) -> str:
    if status in (-9, -24):
        return "it took more time or memory than it is given"
    last = stderr.decode(errors="replace").strip().splitlines()[-1:]
    return "it needs more memory than it is given" if b"MemoryError" in stderr else f"its reader gave up {last}"


def _unreadable_workbook(request: WorkbookRequest, reason: str) -> InvalidFileError:
    return InvalidFileError(
        "workbook-unreadable",
        f"the workbook cannot be read: {reason}",
        where=request.name,
        hint="open it in Excel or LibreOffice, save it as .xlsx, and drop that file",
    )


def open_sheet(request: WorkbookRequest) -> Sheet:
    """Open the sheet with the reader for the first bytes of the file, not for its name."""
    path, dialect, limits = Path(request.path), request.dialect, request.limits
    with path.open("rb") as raw:
        head = raw.read(4096)
    if head.startswith(b"PK"):
        reader = _zipped_kind(path, limits)
    elif head.startswith(OLE_SIGNATURE) or head[:4] in BIFF_SIGNATURES:
        if "EncryptedPackage".encode("utf-16-le") in path.read_bytes():
            raise WorkbookError("encrypted")
        reader = "xls"
    else:
        kind = "HTML or XML" if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"<" else "no workbook"
        raise WorkbookError(f"by its first bytes it is {kind}")
    if reader == "xls":
        from etl.formats.excel.xls import read_sheet as reading
    elif reader == "xlsb":
        from etl.formats.excel.xlsb import read_sheet as reading
    elif reader == "ods":
        from etl.formats.excel.ods import read_sheet as reading
    else:
        from etl.formats.excel.xlsx import read_sheet as reading
    try:
        return reading(path, dialect.sheet, dialect.rows_before_data, limits)
    except (zipfile.BadZipFile, ValueError, OverflowError, UnicodeError) as error:
        raise WorkbookError(str(error)) from None


def _zipped_kind(path: Path, limits: ReadLimits) -> str:
    """Return the kind of a zipped workbook. Raises InvalidFileError when it unpacks to more than it may."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except ARCHIVE_ERRORS:
        raise WorkbookError("its archive is damaged or cut off") from None
    unpacked = sum(part.file_size for part in parts)
    check_unpacked_size(path.name, unpacked, path.stat().st_size, limits)
    names = {part.filename.replace("\\", "/").lower() for part in parts}
    if "xl/workbook.bin" in names:
        return "xlsb"
    if "content.xml" in names:
        return "ods"
    if not names & {"_rels/.rels", "xl/workbook.xml"}:
        raise WorkbookError("it is an archive without a workbook in it")
    return "xlsx"


def write_table(sheet: Sheet, request: WorkbookRequest) -> WorkbookAnswer:
    """Write header, columns and rows of the sheet as frames."""
    dialect, limits, where = request.dialect, request.limits, request.name
    above = dialect.rows_before_data
    cells = sheet.to_frame()
    if not cells.height:
        raise errors.empty_file(where)
    last = int(cells[ROW][-1])
    if dialect.header and dialect.header not in cells[ROW]:
        raise (errors.missing_header if last < dialect.header else errors.blank_header)(where, dialect.header, last)
    announced = _announced_rows(cells, dialect, where)
    faults = sheet.cell_errors
    if announced is not None:
        cells = cells.head(-1)
        faults = [fault for fault in faults if fault[0] != last]
    place = _column_names(cells, sheet.merged_ranges, dialect, where, limits)
    malformed = MalformedRows()
    bad = {row for row, _, _ in faults if row > above}
    for row, col, what in faults:
        if row > above:
            malformed.add(row, *_describe_cell_error(what, row, place.get(col, f"column {col}")), column=place.get(col))
    if dialect.header and not dialect.columns and len(place) > 1:
        again = _repeated_header_rows(cells, _row_cells(cells, dialect.header), above) - bad
        for row in again:
            malformed.add(row, *errors.repeated_header(row, ""))
        bad |= again
    cells = cells.filter(pl.col(ROW) > above, ~pl.col(ROW).is_in(list(bad)))
    nothing = pl.lit(None, pl.String)
    used = (pl.col(str(col)) if str(col) in cells.columns else nothing for col in place)
    named = (text.alias(name) for text, name in zip(used, place.values(), strict=True))
    frame = drop_blank_rows(cells.select(ROW, *named))
    frame.write_ipc(Path(request.output, "frame"))
    malformed.to_frame().write_ipc(Path(request.output, "malformed"))
    rows = frame.height + len(bad) if sheet.row_count is None else sheet.row_count - (announced is not None)
    if announced and int(announced) != rows:
        raise errors.wrong_trailer_count(where, int(announced), rows)
    return WorkbookAnswer(rows=rows, sheet=sheet.name)


def _column_names(
    cells: pl.DataFrame,
    merged_ranges: list[tuple[int, int, int, int]],
    dialect: Dialect,
    where: str,
    limits: ReadLimits,
) -> dict[int, str]:
    """Return the names of the sheet's columns by place. Names in the mapping count from column A."""
    below = cells.filter(pl.col(ROW) >= dialect.rows_before_data).drop(ROW)
    used = [int(column.name) for column in below if column.null_count() < below.height]
    if dialect.columns:
        names = header.unique_names(dialect.columns, where, dialect.header, limits.columns)
        if used and used[-1] > len(names):
            raise InvalidFileError(
                "columns-count",
                f"the mapping names {len(names)} columns, the sheet has cells in column {used[-1]}",
                where=where,
                hint="give `columns:` one name per column of the sheet, column A first",
            )
        if dialect.header:
            titles = _header_cells(cells, merged_ranges, dialect.header)
            header.check_column_order(
                names, [titles.get(at, "") for at in range(1, len(names) + 1)], where, dialect.header
            )
        return dict(enumerate(names, 1))
    if not dialect.header:
        raise errors.missing_columns(where)
    titles = _header_cells(cells, merged_ranges, dialect.header)
    named = [titles.get(col) or f"column {col}" for col in used]
    return dict(zip(used, header.unique_names(named, where, dialect.header, limits.columns), strict=True))


def _row_cells(cells: pl.DataFrame, number: int) -> dict[int, str]:
    """Return the filled cells of one row by place."""
    found = cells.filter(pl.col(ROW) == number).drop(ROW).to_dicts()
    return {int(place): text for place, text in found[0].items() if text is not None} if found else {}


def _repeated_header_rows(cells: pl.DataFrame, header_cells: dict[int, str], above: int) -> set[int]:
    """Return the rows below the header that hold what it holds, and nothing else."""
    same = [
        pl.col(name).eq_missing(pl.lit(header_cells.get(int(name)), pl.String)) for name in cells.columns if name != ROW
    ]
    return set(cells.filter(pl.col(ROW) > above, *same)[ROW])


def _announced_rows(cells: pl.DataFrame, dialect: Dialect, where: str) -> str | None:
    """Return the number that the trailer announces: "" for none, None without a trailer in the mapping."""
    if dialect.trailer is None:
        return None
    last = int(cells[ROW][-1])
    text = " ".join(_row_cells(cells, last).values())
    found = re.fullmatch(dialect.trailer, text.strip()) if last > dialect.rows_before_data else None
    if found is None:
        raise errors.missing_trailer(where)
    return found.groupdict().get("rows") or ""


def _header_cells(
    cells: pl.DataFrame, merged_ranges: list[tuple[int, int, int, int]], header_row: int
) -> dict[int, str]:
    """Return the header cells; one that is merged with cells above it shows their text."""
    titles = _row_cells(cells, header_row)
    above: dict[int, dict[int, str]] = {}
    for top, left, bottom, _ in merged_ranges:
        if top < header_row <= bottom and left not in titles:
            if top not in above:
                above[top] = _row_cells(cells, top)
            if left in above[top]:
                titles[left] = above[top][left]
    return titles


def _describe_cell_error(text: str, row: int, column: str) -> tuple[str, str, str, str]:
    if text.startswith("formula"):
        message = f"{column} in row {row} is a formula whose result is not stored in the file"
        return "excel-no-value", text, message, "open the workbook in Excel or LibreOffice and save it"
    message = f"{column} in row {row} shows {text} instead of a value"
    return "excel-error", text, message, "correct the formula or the number in the workbook"


def sample_sheet(request: WorkbookRequest) -> WorkbookAnswer:
    """Return the first rows of the first visible sheet that has any, for detection."""
    sheet = open_sheet(request)
    shown = [tab.name for tab in sheet.entries if tab.visible]
    for name in shown:
        if sheet.rows or sheet.parts:
            break
        sheet = open_sheet(msgspec.structs.replace(request, dialect=replace(request.dialect, sheet=name)))
    cells = sheet.to_frame().head(SAMPLE_ROWS)
    rows = {row: _row_cells(cells, row) for row in cells[ROW]}
    width = max((max(row, default=0) for row in rows.values()), default=0)
    sample = [(row, [at.get(col, "") for col in range(1, width + 1)]) for row, at in rows.items()]
    return WorkbookAnswer(sheet=sheet.name, sheet_names=shown, sample=sample)
