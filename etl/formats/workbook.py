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
from etl.errors import FileRefused
from etl.formats import header, refusals
from etl.formats.archives import check_unpacked
from etl.formats.limits import Limits
from etl.formats.records import Malformed, frame_of
from etl.formats.sheet import Sheet, Unreadable
from etl.model import Dialect, Rejections, Table

BIFF = (b"\x09\x00\x04\x00", b"\x09\x02\x06\x00", b"\x09\x04\x06\x00", b"\x09\x08\x08\x00", b"\x09\x08\x10\x00")
SAMPLE_ROWS = 300  #: looked at in detection
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class Request(msgspec.Struct, frozen=True):
    """What the bounded process is asked for."""

    path: str
    name: str  #: for messages
    output: str  #: where the frames are written
    dialect: Dialect
    limits: Limits
    tabs: bool = False  #: only a look: sheets and first rows, for detection


class Answer(msgspec.Struct):
    """What it says; the frames lie beside it."""

    rows: int = 0
    refused: tuple[str, str, str, str] | None = None
    sheet: str = ""
    tabs: list[str] = []
    sample: list[tuple[int, list[str]]] = []


def read(path: Path, dialect: Dialect, limits: Limits) -> Table:
    """One sheet of a workbook."""
    if path.stat().st_size == 0:
        raise refusals.empty(path.name)
    with tempfile.TemporaryDirectory(prefix="etl-sheet-") as folder:
        answer = ask(Request(str(path.absolute()), path.name, folder, dialect, limits))
        frame = pl.read_ipc(Path(folder, "frame"))
        malformed = pl.read_ipc(Path(folder, "malformed"))
    return Table(frame, Rejections(malformed), answer.rows)


def ask(request: Request) -> Answer:
    """Runs the bounded process; whatever becomes of it, the file is read or refused."""
    root = str(Path(etl.__file__).resolve().parents[1])
    known = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "POLARS_MAX_THREADS": "1",  # every thread reserves memory that the limit counts
        "PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "etl.formats.worker"],
            input=msgspec.json.encode(request),
            capture_output=True,
            timeout=request.limits.seconds + 5,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _gave_up(request, "it took too long") from None
    if done.returncode != 0:
        raise _gave_up(request, _why(done.returncode, done.stderr))
    answer = msgspec.json.decode(done.stdout, type=Answer)
    if answer.refused:
        code, message, where, hint = answer.refused
        raise FileRefused(code, message, where=where, hint=hint)
    return answer


def _why(status: int, stderr: bytes) -> str:
    if status in (-9, -24):
        return "it took more time or memory than it is given"
    last = stderr.decode(errors="replace").strip().splitlines()[-1:]
    return "it needs more memory than it is given" if b"MemoryError" in stderr else f"its reader gave up {last}"


def _gave_up(request: Request, why: str) -> FileRefused:
    return FileRefused(
        "workbook-unreadable",
        f"the workbook cannot be read: {why}",
        where=request.name,
        hint="open it in Excel or LibreOffice, save it as .xlsx, and drop that file",
    )


def open_sheet(request: Request) -> Sheet:
    """The sheet, by the reader that the first bytes ask for: names lie."""
    path, dialect, limits = Path(request.path), request.dialect, request.limits
    with path.open("rb") as raw:
        head = raw.read(4096)
    if head.startswith(b"PK"):
        reader = _zipped(path, limits)
    elif head.startswith(OLE) or head[:4] in BIFF:
        if "EncryptedPackage".encode("utf-16-le") in path.read_bytes():
            raise Unreadable("encrypted")
        reader = "xls"
    else:
        kind = "HTML or XML" if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"<" else "no workbook"
        raise Unreadable(f"by its first bytes it is {kind}")
    if reader == "xls":
        from etl.formats.xls import read as reading
    elif reader == "xlsb":
        from etl.formats.xlsb import read as reading
    elif reader == "ods":
        from etl.formats.ods import read as reading
    else:
        from etl.formats.xlsx import read as reading
    try:
        return reading(path, dialect.sheet, dialect.above, limits)
    except (zipfile.BadZipFile, ValueError, OverflowError, UnicodeError) as error:
        raise Unreadable(str(error)) from None


def _zipped(path: Path, limits: Limits) -> str:
    """Kind of a zipped workbook; refuses one that unpacks to more than it should."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError):
        raise Unreadable("its archive is damaged or cut off") from None
    unpacked = sum(part.file_size for part in parts)
    check_unpacked(path.name, unpacked, path.stat().st_size, limits)
    names = {part.filename.replace("\\", "/").lower() for part in parts}
    if "xl/workbook.bin" in names:
        return "xlsb"
    if "content.xml" in names:
        return "ods"
    if not names & {"_rels/.rels", "xl/workbook.xml"}:
        raise Unreadable("it is an archive without a workbook in it")
    return "xlsx"


def assemble(sheet: Sheet, request: Request) -> Answer:
    """Header, columns and rows of the sheet, written as frames."""
    dialect, limits, where = request.dialect, request.limits, request.name
    above = dialect.above
    if not sheet.rows:
        raise refusals.empty(where)
    if dialect.header and dialect.header not in sheet.rows:
        last = max(sheet.rows)
        raise (refusals.no_header if last < dialect.header else refusals.blank_header)(where, dialect.header, last)
    announced = _take_trailer(sheet, dialect, where)
    place = _columns(sheet, dialect, where, limits)
    malformed = Malformed()
    bad = {row for row, _, _ in sheet.faults if row > above}
    for row, col, what in sheet.faults:
        if row > above:
            malformed.add(row, *_fault(what, row, place.get(col, f"column {col}")), column=place.get(col))
    if dialect.header and not dialect.columns and len(place) > 1:
        titles = sheet.rows[dialect.header]
        again = {row for row, cells in sheet.rows.items() if row > above and cells == titles}
        for row in again - bad:
            malformed.add(row, *refusals.header_again(row, ""))
        bad |= again
    numbers = [row for row in sorted(sheet.rows) if row > above and row not in bad]
    cells = [[sheet.rows[row].get(col, "") for col in place] for row in numbers]
    for number in numbers:
        if sheet.rows[number].keys() - place.keys():
            raise Unreadable(f"row {number} has cells outside of the {len(place)} columns")
    frame = frame_of(numbers, cells, tuple(place.values()))
    frame.write_ipc(Path(request.output, "frame"))
    malformed.frame().write_ipc(Path(request.output, "malformed"))
    rows = frame.height + len(bad) if sheet.counted is None else sheet.counted - (announced is not None)
    if announced and int(announced) != rows:
        raise refusals.trailer_count(where, int(announced), rows)
    return Answer(rows=rows, sheet=sheet.name)


def _columns(sheet: Sheet, dialect: Dialect, where: str, limits: Limits) -> dict[int, str]:
    """Names of the sheet's columns by place. Names of the mapping count from column A: what is empty moves nothing."""
    used = sorted({col for row, cells in sheet.rows.items() if row >= dialect.above for col in cells})
    if dialect.columns:
        names = header.unique(dialect.columns, where, dialect.header, limits.columns)
        if used and used[-1] > len(names):
            raise FileRefused(
                "columns-count",
                f"the mapping names {len(names)} columns, the sheet has cells in column {used[-1]}",
                where=where,
                hint="give `columns:` one name per column of the sheet, column A first",
            )
        if dialect.header:
            titles = _titles(sheet, dialect.header)
            header.check_places(names, [titles.get(at, "") for at in range(1, len(names) + 1)], where, dialect.header)
        return dict(enumerate(names, 1))
    if not dialect.header:
        raise refusals.columns_missing(where)
    titles = _titles(sheet, dialect.header)
    named = [titles.get(col) or f"column {col}" for col in used]
    return dict(zip(used, header.unique(named, where, dialect.header, limits.columns), strict=True))


def _take_trailer(sheet: Sheet, dialect: Dialect, where: str) -> str | None:
    """Takes the last row off where the mapping declares it; the number it announces, "" for none, None: no trailer."""
    if dialect.trailer is None:
        return None
    last = max(sheet.rows)
    text = " ".join(sheet.rows[last][col] for col in sorted(sheet.rows[last]))
    found = re.fullmatch(dialect.trailer, text.strip()) if last > dialect.above else None
    if found is None:
        raise refusals.trailer_missing(where)
    del sheet.rows[last]
    sheet.faults = [fault for fault in sheet.faults if fault[0] != last]
    return found.groupdict().get("rows") or ""


def _titles(sheet: Sheet, first: int) -> dict[int, str]:
    """Header cells; one that is merged with cells above it shows the text that stands there."""
    titles = dict(sheet.rows[first])
    for top, left, bottom, _ in sheet.merged:
        if top < first <= bottom and left not in titles and left in sheet.rows.get(top, {}):
            titles[left] = sheet.rows[top][left]
    return titles


def _fault(what: str, row: int, column: str) -> tuple[str, str, str, str]:
    if what.startswith("formula"):
        message = f"{column} in row {row} is a formula whose result is not stored in the file"
        return "excel-no-value", what, message, "open the workbook in Excel or LibreOffice and save it"
    message = f"{column} in row {row} shows {what} instead of a value"
    return "excel-error", what, message, "correct the formula or the number in the workbook"


def detail(request: Request) -> Answer:
    """The first rows of the first visible sheet that holds something, for detection."""
    sheet = open_sheet(request)
    shown = [tab.name for tab in sheet.tabs if tab.visible]
    for name in shown:
        if sheet.rows:
            break
        sheet = open_sheet(msgspec.structs.replace(request, dialect=replace(request.dialect, sheet=name)))
    numbers = sorted(sheet.rows)[:SAMPLE_ROWS]
    width = max((max(sheet.rows[row]) for row in numbers), default=0)
    sample = [(row, [sheet.rows[row].get(col, "") for col in range(1, width + 1)]) for row in numbers]
    return Answer(sheet=sheet.name, tabs=shown, sample=sample)
