"""Reads .xlsx and .xlsm: every cell with its own number format, which whole-column readers lose.

Only what is needed is parsed: the list of sheets, number formats, shared strings, one sheet. Row and column numbers
come from the cells; the sheet's own claim about its dimension is not looked at.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import polars as pl

from etl.formats.excel import cell_text as cells
from etl.formats.excel import xlsx_strings, xml
from etl.formats.excel.sheet import Sheet, Tab, Unreadable, choose
from etl.formats.excel.xlsx_blocks import Splicer, Unproven
from etl.formats.excel.xlsx_cells import Book, SheetParser
from etl.formats.excel.xlsx_row_counter import RowCount
from etl.formats.excel.xlsx_rows import Rows
from etl.formats.limits import Limits


def tabs(archive: zipfile.ZipFile) -> tuple[list[Tab], bool, str]:
    """Sheets, whether days count from 1904, and the folder of the workbook part."""
    main = next((t for kind, t in relations(archive, "").values() if kind == "officeDocument"), "xl/workbook.xml")
    targets = relations(archive, main)
    found: list[Tab] = []
    epoch = [False]

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "workbookPr":
            epoch[0] |= attributes.get("date1904", "0") in ("1", "true", "on")  # an extension repeats the element
        elif name == "sheet":
            kind, target = targets.get(xml.attribute(attributes, "id") or "", ("", ""))
            if kind == "worksheet":
                visible = attributes.get("state", "visible") == "visible"
                found.append(Tab(attributes.get("name", ""), target, visible))

    xml.parse(archive, main, start)
    return found, epoch[0], main


def relations(archive: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    """Relation id -> (last word of its type, path of the target)."""
    folder, name = posixpath.split(part)
    found: dict[str, tuple[str, str]] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Relationship" and attributes.get("TargetMode") != "External":
            target = attributes.get("Target", "").replace("\\", "/")
            path = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            found[attributes.get("Id", "")] = (attributes.get("Type", "").rsplit("/", 1)[-1], _member(archive, path))

    xml.parse(archive, posixpath.join(folder, "_rels", f"{name}.rels"), start)
    return found


def _member(archive: zipfile.ZipFile, path: str) -> str:
    """The archive's spelling of a path: some writers use other capitals or back slashes."""
    names = {name.replace("\\", "/").lower(): name for name in archive.namelist()}
    return names.get(path.lower(), path)


def formats(archive: zipfile.ZipFile, part: str) -> list[str]:
    """Number format of every cell style."""
    custom: dict[int, str] = {}
    styles: list[int] = []
    inside = [False]

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "numFmt":
            custom[int(attributes.get("numFmtId", 0))] = attributes.get("formatCode", "")
        elif name == "cellXfs":
            inside[0] = True
        elif name == "xf" and inside[0]:
            styles.append(int(attributes.get("numFmtId", 0)))

    def end(name: str) -> None:
        inside[0] = inside[0] and name != "cellXfs"

    xml.parse(archive, part, start, end)
    return [custom.get(style, cells.BUILTIN.get(style, "")) for style in styles]


def read(path: Path, wanted: str | None, header: int, limits: Limits) -> Sheet:
    """One sheet."""
    with zipfile.ZipFile(path) as archive:
        found, epoch, main = tabs(archive)
        if len(found) > limits.sheets:
            raise Unreadable(f"it has {len(found)} sheets, more than {limits.sheets}")
        tab = choose(found, wanted, path.name)
        parts = dict(relations(archive, main).values())
        styles = formats(archive, parts["styles"]) if "styles" in parts else []
        texts = parts.get("sharedStrings")
        shared = xlsx_strings.read(archive, texts, limits) if texts else pl.Series(dtype=pl.String)
        book = Book(styles, shared, epoch)
        with suppress(Unproven, Unreadable):
            pieces = xml.chunks(archive, tab.place)
            return at_once(pieces, Sheet(tab.name, found), tab.place, book, header, limits)
        pieces = xml.chunks(archive, tab.place)
        return in_turn(pieces, Sheet(tab.name, found), tab.place, book, header, limits)


def at_once(pieces: Iterable[bytes], sheet: Sheet, part: str, book: Book, header: int, limits: Limits) -> Sheet:
    """Cells by pattern; rows that do not fit by expat. Unproven or Unreadable when expat had better read all of it."""
    count = RowCount(header, book.empties, limits.sheet_block)
    rows = Rows(book, limits)
    parser = SheetParser(sheet, book, limits).parser(part)
    splicer = Splicer(parser, "sheetData", "row", rows.take, limits.sheet_block)
    for piece in pieces:
        count.feed(piece)
        splicer.feed(piece)
    splicer.close()
    if rows.filled + len(sheet.rows) > limits.rows:
        raise Unproven("many rows")
    sheet.parts = rows.parts
    sheet.faults += rows.faults
    sheet.counted = count.close()
    return sheet


def in_turn(pieces: Iterable[bytes], sheet: Sheet, part: str, book: Book, header: int, limits: Limits) -> Sheet:
    """All cells by expat, one after the other."""
    count = RowCount(header, book.empties, limits.sheet_block)
    parser = SheetParser(sheet, book, limits).parser(part)
    for piece in pieces:
        count.feed(piece)
        parser.feed(piece)
    parser.feed(b"", final=True)
    sheet.counted = count.close()
    return sheet
