"""Reads .xlsb: the same workbook as .xlsx in binary records, each an id, a length and its data."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from etl.formats.excel import cell_text, xlsx
from etl.formats.excel.sheet import Sheet, SheetEntry, WorkbookError, choose_sheet
from etl.formats.limits import ReadLimits

BRT_ROW, BRT_RK, BRT_ERROR, BRT_BOOL, BRT_REAL, BRT_TEXT, BRT_SHARED_TEXT = 0, 2, 3, 4, 5, 6, 7
BRT_FORMULA_REAL, BRT_FORMULA_BOOL, BRT_FORMULA_ERROR = 9, 10, 11
BRT_STRING_ITEM, BRT_FORMAT, BRT_STYLE, BRT_BEGIN_STYLES, BRT_END_STYLES, BRT_MERGE, BRT_SHEET, BRT_PROPERTIES = (
    19,
    44,
    47,
    617,
    618,
    176,
    156,
    153,
)


def read_binary_records(archive: zipfile.ZipFile, part: str) -> Iterator[tuple[int, bytes]]:
    """(id, data) of every record; ids and lengths are little numbers of seven bits a byte."""
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
    """A string: count of UTF-16 units, then the units."""
    (count,) = struct.unpack_from("<I", data, offset)
    if count == 0xFFFFFFFF:
        return "", offset + 4
    end = offset + 4 + 2 * count
    if end > len(data):
        raise WorkbookError("a text is cut off")
    return data[offset + 4 : end].decode("utf-16-le", "replace"), end


def _decode_rk(raw: int) -> float:
    """Excel's short number: 30 bits of an integer or of a double, perhaps times a hundred."""
    value = float(raw >> 2 if raw < 1 << 31 else (raw >> 2) - (1 << 30)) if raw & 2 else 0.0
    if not raw & 2:
        (value,) = struct.unpack("<d", struct.pack("<II", 0, raw & 0xFFFFFFFC))
    return value / 100 if raw & 1 else value


def read_sheet(path: Path, sheet_name: str | None, header: int, limits: ReadLimits) -> Sheet:
    """One sheet."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path, sheet_name, limits)
    except (struct.error, IndexError) as error:
        raise WorkbookError(f"a record is damaged: {error}") from None


def _read_archive(archive: zipfile.ZipFile, path: Path, sheet_name: str | None, limits: ReadLimits) -> Sheet:
    main = next((t for k, t in xlsx.read_relations(archive, "").values() if k == "officeDocument"), "xl/workbook.bin")
    related = xlsx.read_relations(archive, main)
    tabs, epoch = [], False
    for kind, data in read_binary_records(archive, main):
        if kind == BRT_PROPERTIES:
            epoch = bool(data[0] & 1)
        elif kind == BRT_SHEET:
            (state,) = struct.unpack_from("<I", data, 0)
            relation, at = _read_string(data, 8)
            name, _ = _read_string(data, at)
            sort, target = related.get(relation, ("", ""))
            if sort == "worksheet":
                tabs.append(SheetEntry(name, target, state == 0))
    if len(tabs) > limits.sheets:
        raise WorkbookError(f"it has {len(tabs)} sheets, more than {limits.sheets}")
    tab = choose_sheet(tabs, sheet_name, path.name)
    parts, names = dict(related.values()), set(archive.namelist())
    styles = _read_number_formats(archive, parts["styles"]) if parts.get("styles") in names else []
    shared: list[str] = []
    if parts.get("sharedStrings") in names:
        shared = [
            _read_string(d, 1)[0]
            for kind, d in read_binary_records(archive, parts["sharedStrings"])
            if kind == BRT_STRING_ITEM
        ]
    sheet = Sheet(tab.name, tabs)
    row = 0
    for kind, data in read_binary_records(archive, tab.part):
        if kind == BRT_ROW:
            row = struct.unpack_from("<I", data, 0)[0] + 1
        elif kind == BRT_MERGE:
            top, bottom, left, right = struct.unpack_from("<IIII", data, 0)
            sheet.merged_ranges.append((top + 1, left + 1, bottom + 1, right + 1))
        elif BRT_RK <= kind <= BRT_FORMULA_ERROR:
            col, style = struct.unpack_from("<II", data, 0)
            if col >= limits.columns:
                raise WorkbookError(f"row {row} has a cell in column {col + 1:,}")
            code = styles[style & 0xFFFFFF] if style & 0xFFFFFF < len(styles) else ""
            try:
                text = _cell_text(kind, data, code, epoch, shared)
            except (ValueError, ArithmeticError):
                text = (
                    cell_text.ERROR_TEXTS.get(data[8], "#ERROR")
                    if kind in (BRT_ERROR, BRT_FORMULA_ERROR)
                    else _stored_number(kind, data)
                )
                sheet.cell_errors.append((row, col + 1, text))
            if text:
                sheet.rows.setdefault(row, {})[col + 1] = text
    return sheet


def _cell_text(kind: int, data: bytes, format_code: str, epoch: bool, shared_texts: list[str]) -> str:
    if kind in (BRT_ERROR, BRT_FORMULA_ERROR):
        raise ValueError("error cell")
    if kind == BRT_RK:
        return cell_text.number_text(_decode_rk(struct.unpack_from("<I", data, 8)[0]), format_code, epoch)
    if kind in (BRT_REAL, BRT_FORMULA_REAL):
        return cell_text.number_text(struct.unpack_from("<d", data, 8)[0], format_code, epoch)
    if kind in (BRT_BOOL, BRT_FORMULA_BOOL):
        return cell_text.boolean_text(bool(data[8]))
    if kind == BRT_SHARED_TEXT:
        return shared_texts[int.from_bytes(data[8:12], "little")]
    return _read_string(data, 8)[0]


def _stored_number(kind: int, data: bytes) -> str:
    """A number that is no date that exists, as it stands there."""
    value = _decode_rk(struct.unpack_from("<I", data, 8)[0]) if kind == BRT_RK else struct.unpack_from("<d", data, 8)[0]
    return f"{value:.15g}"


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
