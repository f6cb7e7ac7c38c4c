"""The texts that cells of an .xlsx point to."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from contextlib import suppress

import polars as pl

from etl.formats.excel import xml
from etl.formats.excel.sheet import WorkbookError
from etl.formats.excel.xlsx_blocks import XML_SPACE, PatternMismatch, Splicer, contains_text, resolve_references
from etl.formats.excel.xlsx_cells import unescape
from etl.formats.limits import ReadLimits

PLAIN_ITEM = r'^<t(?: xml:space="preserve")?>([^<]*)</t></si>[ \t\n]*$'
ESCAPED_PATTERN = "_x[0-9A-Fa-f]{4}_"


def read_shared_texts(archive: zipfile.ZipFile, part: str, limits: ReadLimits) -> pl.Series:
    """Return all texts, without the reading aids of East Asian text."""
    with suppress(PatternMismatch, WorkbookError):
        return parse_texts_by_pattern(xml.read_chunks(archive, part), part, limits)
    return parse_texts_by_expat(xml.read_chunks(archive, part), part)


def parse_texts_by_pattern(pieces: Iterable[bytes], part: str, limits: ReadLimits) -> pl.Series:
    """Parse plain texts by pattern, others by expat. Raises Unproven or Unreadable when expat has to read all."""
    texts = _TextBlocks()
    splicer = Splicer(texts.make_parser(part), "sst", "si", texts.take_block, limits.sheet_block_bytes)
    for piece in pieces:
        splicer.feed(piece)
    splicer.close()
    return texts.to_series()


def parse_texts_by_expat(pieces: Iterable[bytes], part: str) -> pl.Series:
    """Parse all texts by expat."""
    texts = _TextBlocks()
    parser = texts.make_parser(part)
    for piece in pieces:
        parser.feed(piece)
    parser.feed(b"", final=True)
    return texts.to_series()


class _TextBlocks:
    """Texts that are written plainly come in blocks, the others through expat."""

    def __init__(self) -> None:
        self.parts: list[pl.Series] = []
        self.expat_texts: list[str] = []  #: by expat, not yet in `parts`
        self.open_block: tuple[pl.Series, pl.Series] | None = None
        self.text_parts: list[str] = []
        self.in_text = self.in_phonetic = False

    def make_parser(self, part: str) -> xml.XmlParser:
        return xml.XmlParser(part, self.start, self.end, self.text)

    def start(self, name: str, _: dict[str, str]) -> None:
        if name == "si":
            self.text_parts.clear()
        elif name == "t":
            self.in_text = not self.in_phonetic
        elif name == "rPh":
            self.in_phonetic = True

    def end(self, name: str) -> None:
        if name == "si":
            self.expat_texts.append(unescape("".join(self.text_parts)))
        elif name == "t":
            self.in_text = False
        elif name == "rPh":
            self.in_phonetic = False

    def text(self, data: str) -> None:
        if self.in_text:
            self.text_parts.append(data)

    def take_block(self, block: pl.Series) -> list[str]:
        """Take a block and return the texts that have parts with formats or reading aids, to be parsed by expat."""
        self._close_block()
        items = block.str.split("<si>").explode()
        if items[0].strip(XML_SPACE):
            raise PatternMismatch("something stands between texts")
        items = items.slice(1)
        texts = items.str.extract(PLAIN_ITEM)
        if contains_text(block, "&"):
            texts = texts.to_frame().select(resolve_references(pl.col("text"))).to_series()
        if contains_text(block, "_x"):
            places = texts.str.contains(ESCAPED_PATTERN).fill_null(False).arg_true()
            texts = texts.scatter(places, [unescape(text) for text in texts.gather(places)])
        missing = texts.is_null().arg_true()
        self.open_block = texts, missing
        return ["<si>" + text for text in items.gather(missing)]

    def _close_block(self) -> None:
        """Put what expat has parsed into the places that were left for it."""
        if self.open_block is not None:
            texts, missing = self.open_block
            if len(self.expat_texts) != missing.len():
                raise PatternMismatch("a text is more than one")
            self.parts.append(texts.scatter(missing, self.expat_texts) if self.expat_texts else texts)
            self.open_block = None
            self.expat_texts = []

    def to_series(self) -> pl.Series:
        """Return the texts in their order, once all have been read."""
        self._close_block()
        return pl.concat([*self.parts, pl.Series("text", self.expat_texts, pl.String)])
