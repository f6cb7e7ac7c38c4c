"""Reads .xlsb: the same workbook as .xlsx in binary records, each an id, a length and its data."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from etl.formats.excel import cell_text, xlsx
from etl.formats.excel.sheet import Sheet, SheetEntry, WorkbookError, choose_sheet
from etl.formats.limits import ReadLimits

#: Ids of records.
BRT_ROW = 0
BRT_RK, BRT_ERROR, BRT_BOOL, BRT_REAL, BRT_TEXT, BRT_SHARED_TEXT = 2, 3, 4, 5, 6, 7
BRT_FORMULA_TEXT, BRT_FORMULA_REAL, BRT_FORMULA_BOOL, BRT_FORMULA_ERROR = 8, 9, 10, 11
BRT_STRING_ITEM = 19
BRT_FORMAT, BRT_STYLE, BRT_BEGIN_STYLES, BRT_END_STYLES = 44, 47, 617, 618
BRT_PROPERTIES, BRT_SHEET, BRT_MERGE = 153, 156, 176


def read_binary_records(archive: zipfile.ZipFile, part: str) -> Iterator[tuple[int, bytes]]:
    """Yield (id, data) of every record; ids and lengths are little-endian numbers of seven bits a byte."""
    try:
        data = archive.read(part)
    except (KeyError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise WorkbookError(f"its part {part} is missing or damaged: {error}") from None
    at, size = 0, len(data)
    while at < size:
        kind, at = _read_varint(data, at, 2)
        length, at = _read_varint(data, at, 4)
        if at + length > size:
            raise WorkbookError(f"its part {part} is cut off")
        yield kind, data[at : at + length]
        at += length


def _read_varint(data: bytes, offset: int, max_bytes: int) -> tuple[int, int]:
    value = 0
    for place in range(max_bytes):
        if offset >= len(data):
            raise WorkbookError("a record is cut off")
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            break
    return value, offset


def _read_string(data: bytes, offset: int) -> tuple[str, int]:
    """Read a string: the number of UTF-16 units, then the units."""
    (count,) = struct.unpack_from("<I", data, offset)
    if count == 0xFFFFFFFF:
        return "", offset + 4
    end = offset + 4 + 2 * count
    if end > len(data):
        raise WorkbookError("a text is cut off")
    return data[offset + 4 : end].decode("utf-16-le", "replace"), end


def _decode_rk(raw: int) -> float:
    """Decode Excel's short number: 30 bits of an integer or of a double, perhaps times a hundred."""
    value = float(raw >> 2 if raw < 1 << 31 else (raw >> 2) - (1 << 30)) if raw & 2 else 0.0
    if not raw & 2:
        (value,) = struct.unpack("<d", struct.pack("<II", 0, raw & 0xFFFFFFFC))
    return value / 100 if raw & 1 else value


@dataclass(frozen=True, slots=True)
class _CellContext:
    """What the cells of a workbook refer to."""

    number_formats: list[str]  #: by the number of the style
    shared_texts: list[str]
    dates_from_1904: bool


class _CellError(Exception):
    """The cell holds an error or a date that does not exist; the text is what stands there."""


def read_sheet(path: Path, sheet_name: str | None, header: int, limits: ReadLimits) -> Sheet:
    """Read one sheet. Raises WorkbookError and InvalidFileError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path, sheet_name, limits)
    except (struct.error, IndexError) as error:
        raise WorkbookError(f"a record is damaged: {error}") from None


def _read_archive(archive: zipfile.ZipFile, path: Path, sheet_name: str | None, limits: ReadLimits) -> Sheet:
    main = next((t for k, t in xlsx.read_relations(archive, "").values() if k == "officeDocument"), "xl/workbook.bin")
    relations = xlsx.read_relations(archive, main)
    entries, dates_from_1904 = _read_entries(archive, main, relations)
    if len(entries) > limits.sheets:
        raise WorkbookError(f"it has {len(entries)} sheets, more than {limits.sheets}")
    entry = choose_sheet(entries, sheet_name, path.name)
    parts, names = dict(relations.values()), set(archive.namelist())
    formats = _read_number_formats(archive, parts["styles"]) if parts.get("styles") in names else []
    texts = _read_shared_texts(archive, parts["sharedStrings"]) if parts.get("sharedStrings") in names else []
    sheet = Sheet(entry.name, entries)
    _read_cells(archive, entry.part, sheet, _CellContext(formats, texts, dates_from_1904), limits)
    return sheet


def _read_entries(
    archive: zipfile.ZipFile, part: str, relations: dict[str, tuple[str, str]]
) -> tuple[list[SheetEntry], bool]:
    """Return the worksheets, and whether dates count from 1904."""
    entries, dates_from_1904 = list[SheetEntry](), False
    for kind, data in read_binary_records(archive, part):
        if kind == BRT_PROPERTIES:
            dates_from_1904 = bool(data[0] & 1)
        elif kind == BRT_SHEET:
            (visibility,) = struct.unpack_from("<I", data, 0)
            relation, offset = _read_string(data, 8)
            name, _ = _read_string(data, offset)
            target_kind, target = relations.get(relation, ("", ""))
            if target_kind == "worksheet":
                entries.append(SheetEntry(name, target, visibility == 0))
    return entries, dates_from_1904


def _read_shared_texts(archive: zipfile.ZipFile, part: str) -> list[str]:
    return [_read_string(data, 1)[0] for kind, data in read_binary_records(archive, part) if kind == BRT_STRING_ITEM]


def _read_cells(archive: zipfile.ZipFile, part: str, sheet: Sheet, context: _CellContext, limits: ReadLimits) -> None:
    """Fill a sheet with its cells, cell errors and merged ranges."""
    row = 0
    for kind, data in read_binary_records(archive, part):
        if kind == BRT_ROW:
            row = struct.unpack_from("<I", data, 0)[0] + 1
        elif kind == BRT_MERGE:
            top, bottom, left, right = struct.unpack_from("<IIII", data, 0)
            sheet.merged_ranges.append((top + 1, left + 1, bottom + 1, right + 1))
        elif cell_reader := _CELL_READERS.get(kind):
            column, style = struct.unpack_from("<II", data, 0)
            if column >= limits.columns:
                raise WorkbookError(f"row {row} has a cell in column {column + 1:,}")
            try:
                text = cell_reader(data, style & 0xFFFFFF, context)
            except _CellError as error:
                text = str(error)
                sheet.cell_errors.append((row, column + 1, text))
            if text:
                sheet.rows.setdefault(row, {})[column + 1] = text


def _rk_text(data: bytes, style: int, context: _CellContext) -> str:
    return _number_text(_decode_rk(struct.unpack_from("<I", data, 8)[0]), style, context)


def _real_text(data: bytes, style: int, context: _CellContext) -> str:
    return _number_text(struct.unpack_from("<d", data, 8)[0], style, context)


def _number_text(number: float, style: int, context: _CellContext) -> str:
    number_format = context.number_formats[style] if style < len(context.number_formats) else ""
    try:
        return cell_text.number_text(number, number_format, context.dates_from_1904)
    except (ValueError, ArithmeticError):  # a date that does not exist
        raise _CellError(f"{number:.15g}") from None


def _boolean_text(data: bytes, _style: int, _context: _CellContext) -> str:
    return cell_text.boolean_text(bool(data[8]))


def _inline_text(data: bytes, _style: int, _context: _CellContext) -> str:
    return _read_string(data, 8)[0]


def _shared_text(data: bytes, _style: int, context: _CellContext) -> str:
    return context.shared_texts[int.from_bytes(data[8:12], "little")]


def _error_text(data: bytes, _style: int, _context: _CellContext) -> str:
    raise _CellError(cell_text.ERROR_TEXTS.get(data[8], "#ERROR"))


#: How the text of a cell is read, by the id of its record.
_CELL_READERS: dict[int, Callable[[bytes, int, _CellContext], str]] = {
    BRT_RK: _rk_text,
    BRT_ERROR: _error_text,
    BRT_BOOL: _boolean_text,
    BRT_REAL: _real_text,
    BRT_TEXT: _inline_text,
    BRT_SHARED_TEXT: _shared_text,
    BRT_FORMULA_TEXT: _inline_text,
    BRT_FORMULA_REAL: _real_text,
    BRT_FORMULA_BOOL: _boolean_text,
    BRT_FORMULA_ERROR: _error_text,
}


def _read_number_formats(archive: zipfile.ZipFile, part: str) -> list[str]:
    custom: dict[int, str] = {}
    styles: list[int] = []
    inside = False
    for kind, data in read_binary_records(archive, part):
        if kind == BRT_FORMAT:
            custom[struct.unpack_from("<H", data, 0)[0]] = _read_string(data, 2)[0]
        elif kind in (BRT_BEGIN_STYLES, BRT_END_STYLES):
            inside = kind == BRT_BEGIN_STYLES
        elif kind == BRT_STYLE and inside:
            styles.append(struct.unpack_from("<H", data, 2)[0])
    return [custom.get(style, cell_text.BUILTIN_FORMATS.get(style, "")) for style in styles]
