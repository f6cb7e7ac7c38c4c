"""Reads .xlsb: the same workbook as .xlsx in binary records, each an id, a length and its data."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from etl.formats.excel import cell_text as cells
from etl.formats.excel import xlsx
from etl.formats.excel.sheet import Sheet, Tab, Unreadable, choose
from etl.formats.limits import Limits

ROW, BLANK, RK, ERROR, BOOL, REAL, TEXT, SHARED = 0, 1, 2, 3, 4, 5, 6, 7
F_TEXT, F_REAL, F_BOOL, F_ERROR = 8, 9, 10, 11
STRING_ITEM, FORMAT, STYLE, STYLES, STYLES_END, MERGE, SHEET, PROPERTIES = 19, 44, 47, 617, 618, 176, 156, 153


def records(archive: zipfile.ZipFile, part: str) -> Iterator[tuple[int, bytes]]:
    """(id, data) of every record; ids and lengths are little numbers of seven bits a byte."""
    try:
        data = archive.read(part)
    except (KeyError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise Unreadable(f"its part {part} is missing or damaged: {error}") from None
    at, size = 0, len(data)
    while at < size:
        kind, at = _little(data, at, 2)
        length, at = _little(data, at, 4)
        if at + length > size:
            raise Unreadable(f"its part {part} is cut off")
        yield kind, data[at : at + length]
        at += length


def _little(data: bytes, at: int, most: int) -> tuple[int, int]:
    value = 0
    for place in range(most):
        if at >= len(data):
            raise Unreadable("a record is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            break
    return value, at


def _wide(data: bytes, at: int) -> tuple[str, int]:
    """A string: count of UTF-16 units, then the units."""
    (count,) = struct.unpack_from("<I", data, at)
    if count == 0xFFFFFFFF:
        return "", at + 4
    end = at + 4 + 2 * count
    if end > len(data):
        raise Unreadable("a text is cut off")
    return data[at + 4 : end].decode("utf-16-le", "replace"), end


def _rk(raw: int) -> float:
    """Excel's short number: 30 bits of an integer or of a double, perhaps times a hundred."""
    value = float(raw >> 2 if raw < 1 << 31 else (raw >> 2) - (1 << 30)) if raw & 2 else 0.0
    if not raw & 2:
        (value,) = struct.unpack("<d", struct.pack("<II", 0, raw & 0xFFFFFFFC))
    return value / 100 if raw & 1 else value


def read(path: Path, wanted: str | None, header: int, limits: Limits) -> Sheet:
    """One sheet."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path, wanted, limits)
    except (struct.error, IndexError) as error:
        raise Unreadable(f"a record is damaged: {error}") from None


def _read(archive: zipfile.ZipFile, path: Path, wanted: str | None, limits: Limits) -> Sheet:
    main = next((t for k, t in xlsx.relations(archive, "").values() if k == "officeDocument"), "xl/workbook.bin")
    related = xlsx.relations(archive, main)
    tabs, epoch = [], False
    for kind, data in records(archive, main):
        if kind == PROPERTIES:
            epoch = bool(data[0] & 1)
        elif kind == SHEET:
            (state,) = struct.unpack_from("<I", data, 0)
            relation, at = _wide(data, 8)
            name, _ = _wide(data, at)
            sort, target = related.get(relation, ("", ""))
            if sort == "worksheet":
                tabs.append(Tab(name, target, state == 0))
    if len(tabs) > limits.sheets:
        raise Unreadable(f"it has {len(tabs)} sheets, more than {limits.sheets}")
    tab = choose(tabs, wanted, path.name)
    parts, names = dict(related.values()), set(archive.namelist())
    styles = _styles(archive, parts["styles"]) if parts.get("styles") in names else []
    shared: list[str] = []
    if parts.get("sharedStrings") in names:
        shared = [_wide(d, 1)[0] for kind, d in records(archive, parts["sharedStrings"]) if kind == STRING_ITEM]
    sheet = Sheet(tab.name, tabs)
    row = 0
    for kind, data in records(archive, tab.place):
        if kind == ROW:
            row = struct.unpack_from("<I", data, 0)[0] + 1
        elif kind == MERGE:
            top, bottom, left, right = struct.unpack_from("<IIII", data, 0)
            sheet.merged.append((top + 1, left + 1, bottom + 1, right + 1))
        elif RK <= kind <= F_ERROR:
            col, style = struct.unpack_from("<II", data, 0)
            if col >= limits.columns:
                raise Unreadable(f"row {row} has a cell in column {col + 1:,}")
            code = styles[style & 0xFFFFFF] if style & 0xFFFFFF < len(styles) else ""
            try:
                text = _text(kind, data, code, epoch, shared)
            except (ValueError, ArithmeticError):
                text = cells.ERRORS.get(data[8], "#ERROR") if kind in (ERROR, F_ERROR) else _stored(kind, data)
                sheet.faults.append((row, col + 1, text))
            if text:
                sheet.rows.setdefault(row, {})[col + 1] = text
    return sheet


def _text(kind: int, data: bytes, code: str, epoch: bool, shared: list[str]) -> str:
    if kind in (ERROR, F_ERROR):
        raise ValueError("error cell")
    if kind == RK:
        return cells.number(_rk(struct.unpack_from("<I", data, 8)[0]), code, epoch)
    if kind in (REAL, F_REAL):
        return cells.number(struct.unpack_from("<d", data, 8)[0], code, epoch)
    if kind in (BOOL, F_BOOL):
        return cells.boolean(bool(data[8]))
    if kind == SHARED:
        return shared[int.from_bytes(data[8:12], "little")]
    return _wide(data, 8)[0]


def _stored(kind: int, data: bytes) -> str:
    """A number that is no date that exists, as it stands there."""
    value = _rk(struct.unpack_from("<I", data, 8)[0]) if kind == RK else struct.unpack_from("<d", data, 8)[0]
    return f"{value:.15g}"


def _styles(archive: zipfile.ZipFile, part: str) -> list[str]:
    custom: dict[int, str] = {}
    styles: list[int] = []
    inside = False
    for kind, data in records(archive, part):
        if kind == FORMAT:
            custom[struct.unpack_from("<H", data, 0)[0]] = _wide(data, 2)[0]
        elif kind in (STYLES, STYLES_END):
            inside = kind == STYLES
        elif kind == STYLE and inside:
            styles.append(struct.unpack_from("<H", data, 2)[0])
    return [custom.get(style, cells.BUILTIN.get(style, "")) for style in styles]
