"""The texts that cells of an .xlsx point to."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from contextlib import suppress

import polars as pl

from etl.formats.excel import xml
from etl.formats.excel.sheet import Unreadable
from etl.formats.excel.xlsx_blocks import SPACE, Splicer, Unproven, holds, plain_text
from etl.formats.excel.xlsx_cells import unescape
from etl.formats.limits import Limits

PLAIN = r'^<t(?: xml:space="preserve")?>([^<]*)</t></si>[ \t\n]*$'
ESCAPED = "_x[0-9A-Fa-f]{4}_"


def read(archive: zipfile.ZipFile, part: str, limits: Limits) -> pl.Series:
    """All texts, without the reading aids of East Asian text."""
    with suppress(Unproven, Unreadable):
        return at_once(xml.chunks(archive, part), part, limits)
    return in_turn(xml.chunks(archive, part), part)


def at_once(pieces: Iterable[bytes], part: str, limits: Limits) -> pl.Series:
    """Plain texts by pattern, the others by expat; Unproven or Unreadable when expat had better read all of them."""
    texts = _Texts()
    splicer = Splicer(texts.parser(part), "sst", "si", texts.take, limits.sheet_block)
    for piece in pieces:
        splicer.feed(piece)
    splicer.close()
    return texts.series()


def in_turn(pieces: Iterable[bytes], part: str) -> pl.Series:
    """All texts by expat."""
    texts = _Texts()
    parser = texts.parser(part)
    for piece in pieces:
        parser.feed(piece)
    parser.feed(b"", final=True)
    return texts.series()


class _Texts:
    """Texts that are written plainly come in blocks, the others through expat."""

    def __init__(self) -> None:
        self.parts: list[pl.Series] = []
        self.found: list[str] = []  #: by expat, not yet in `parts`
        self.waiting: tuple[pl.Series, pl.Series] | None = None
        self.piece: list[str] = []
        self.taking = self.aid = False

    def parser(self, part: str) -> xml.Parser:
        return xml.Parser(part, self.start, self.end, self.text)

    def start(self, name: str, _: dict[str, str]) -> None:
        if name == "si":
            self.piece.clear()
        elif name == "t":
            self.taking = not self.aid
        elif name == "rPh":
            self.aid = True

    def end(self, name: str) -> None:
        if name == "si":
            self.found.append(unescape("".join(self.piece)))
        elif name == "t":
            self.taking = False
        elif name == "rPh":
            self.aid = False

    def text(self, data: str) -> None:
        if self.taking:
            self.piece.append(data)

    def take(self, block: pl.Series) -> list[str]:
        """Texts with parts of their own formats, or reading aids, to be parsed by expat."""
        self._put_away()
        items = block.str.split("<si>").explode()
        if items[0].strip(SPACE):
            raise Unproven("something stands between texts")
        items = items.slice(1)
        texts = items.str.extract(PLAIN)
        if holds(block, "&"):
            texts = texts.to_frame().select(plain_text(pl.col("text"))).to_series()
        if holds(block, "_x"):
            places = texts.str.contains(ESCAPED).fill_null(False).arg_true()
            texts = texts.scatter(places, [unescape(text) for text in texts.gather(places)])
        missing = texts.is_null().arg_true()
        self.waiting = texts, missing
        return ["<si>" + text for text in items.gather(missing)]

    def _put_away(self) -> None:
        """Puts what expat has found meanwhile into the places that were left for it."""
        if self.waiting is not None:
            texts, missing = self.waiting
            if len(self.found) != missing.len():
                raise Unproven("a text is more than one")
            self.parts.append(texts.scatter(missing, self.found) if self.found else texts)
            self.waiting = None
            self.found = []

    def series(self) -> pl.Series:
        """The texts in their order, once all has been read."""
        self._put_away()
        return pl.concat([*self.parts, pl.Series("text", self.found, pl.String)])
