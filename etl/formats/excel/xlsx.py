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

from etl.formats.excel import cell_text, xlsx_strings, xml
from etl.formats.excel.sheet import Sheet, SheetEntry, WorkbookError, choose_sheet
from etl.formats.excel.xlsx_blocks import PatternMismatch, Splicer
from etl.formats.excel.xlsx_cells import SheetParser, WorkbookData
from etl.formats.excel.xlsx_row_counter import RowCounter
from etl.formats.excel.xlsx_rows import RowBlocks
from etl.formats.limits import ReadLimits


def read_sheet_list(archive: zipfile.ZipFile) -> tuple[list[SheetEntry], bool, str]:
    """Return the sheets, whether days count from 1904, and the folder of the workbook part."""
    main = next((t for kind, t in read_relations(archive, "").values() if kind == "officeDocument"), "xl/workbook.xml")
    targets = read_relations(archive, main)
    found: list[SheetEntry] = []
    epoch = [False]

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "workbookPr":
            epoch[0] |= attributes.get("date1904", "0") in ("1", "true", "on")  # an extension repeats the element
        elif name == "sheet":
            kind, target = targets.get(xml.find_attribute(attributes, "id") or "", ("", ""))
            if kind == "worksheet":
                visible = attributes.get("state", "visible") == "visible"
                found.append(SheetEntry(attributes.get("name", ""), target, visible))

    xml.parse_part(archive, main, start)
    return found, epoch[0], main


def read_relations(archive: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    """Return by relation id the last word of its type and the path of its target."""
    folder, name = posixpath.split(part)
    found: dict[str, tuple[str, str]] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Relationship" and attributes.get("TargetMode") != "External":
            target = attributes.get("Target", "").replace("\\", "/")
            path = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            found[attributes.get("Id", "")] = (
                attributes.get("Type", "").rsplit("/", 1)[-1],
                _member_name(archive, path),
            )

    xml.parse_part(archive, posixpath.join(folder, "_rels", f"{name}.rels"), start)
    return found


def _member_name(archive: zipfile.ZipFile, path: str) -> str:
    """Return the archive's spelling of a path: some writers use other capitals or backslashes."""
    names = {name.replace("\\", "/").lower(): name for name in archive.namelist()}
    return names.get(path.lower(), path)


def read_number_formats(archive: zipfile.ZipFile, part: str) -> list[str]:
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

    xml.parse_part(archive, part, start, end)
    return [custom.get(style, cell_text.BUILTIN_FORMATS.get(style, "")) for style in styles]


def read_sheet(path: Path, sheet_name: str | None, header: int, limits: ReadLimits) -> Sheet:
    """Read one sheet."""
    with zipfile.ZipFile(path) as archive:
        found, epoch, main = read_sheet_list(archive)
        if len(found) > limits.sheets:
            raise WorkbookError(f"it has {len(found)} sheets, more than {limits.sheets}")
        tab = choose_sheet(found, sheet_name, path.name)
        parts = dict(read_relations(archive, main).values())
        styles = read_number_formats(archive, parts["styles"]) if "styles" in parts else []
        texts = parts.get("sharedStrings")
        shared = xlsx_strings.read_shared_texts(archive, texts, limits) if texts else pl.Series(dtype=pl.String)
        book = WorkbookData(styles, shared, epoch)
        with suppress(PatternMismatch, WorkbookError):
            pieces = xml.read_chunks(archive, tab.part)
            return parse_sheet_by_pattern(pieces, Sheet(tab.name, found), tab.part, book, header, limits)
        pieces = xml.read_chunks(archive, tab.part)
        return parse_sheet_by_expat(pieces, Sheet(tab.name, found), tab.part, book, header, limits)


def parse_sheet_by_pattern(
    pieces: Iterable[bytes], sheet: Sheet, part: str, book: WorkbookData, header: int, limits: ReadLimits
) -> Sheet:
    """Parse cells by pattern, other rows by expat. Raises Unproven or Unreadable when expat has to read the sheet."""
    count = RowCounter(header, book.empty_texts, limits.sheet_block_bytes)
    rows = RowBlocks(book, limits)
    parser = SheetParser(sheet, book, limits).make_parser(part)
    splicer = Splicer(parser, "sheetData", "row", rows.take_block, limits.sheet_block_bytes)
    for piece in pieces:
        count.feed(piece)
        splicer.feed(piece)
    splicer.close()
    if rows.filled_count + len(sheet.rows) > limits.rows:
        raise PatternMismatch("many rows")
    sheet.parts = rows.parts
    sheet.cell_errors += rows.cell_errors
    sheet.row_count = count.close()
    return sheet


def parse_sheet_by_expat(
    pieces: Iterable[bytes], sheet: Sheet, part: str, book: WorkbookData, header: int, limits: ReadLimits
) -> Sheet:
    """Parse all cells by expat, one after the other."""
    count = RowCounter(header, book.empty_texts, limits.sheet_block_bytes)
    parser = SheetParser(sheet, book, limits).make_parser(part)
    for piece in pieces:
        count.feed(piece)
        parser.feed(piece)
    parser.feed(b"", final=True)
    sheet.row_count = count.close()
    return sheet
