"""The long list within a part, such as the rows of a sheet: taken out in blocks of text, the rest goes through expat.

What a block reader takes has to be whole, well-formed elements, all bytes accounted for; taking them out then leaves a
document that is well-formed exactly when the original is. Whatever else is found raises `Unproven`, and the part is
read again by expat alone: nothing here decides that a workbook is bad.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import polars as pl

from etl.formats.excel.xml import XmlParser

MAX_ITEM_BYTES = 1 << 26  #: bytes in which an item has to end
#: Characters that no XML may hold, and carriage returns, which XML reads as line ends.
FORBIDDEN_BYTES = bytes(byte for byte in range(32) if byte not in b"\t\n")
ENTITY_REFERENCE = re.compile(rb"&(?:amp|lt|gt|quot|apos);")
XML_SPACE = " \t\n"
TakeItems = Callable[[pl.Series], Iterable[str]]


class PatternMismatch(Exception):
    """The part has something that the fast reader does not know: expat has to read it."""


class Splicer:
    """Cuts the items out of the element `root` of a part that `parser` parses.

    `take` gets blocks of them, each a single text, and gives back those that expat has to see, in order.
    """

    def __init__(self, parser: XmlParser, root_tag: str, item_tag: str, take: TakeItems, block: int) -> None:
        self.parser, self.root_tag, self.item_tag, self.take = parser, root_tag, item_tag, take
        self.root_opening = re.compile(rb"<(\w+:)?%s(?:\s[^<>]*)?(?<!/)>" % root_tag.encode())
        self.prefix = self.item_end = b""
        self.depth = 0  #: of the list
        self.buffer = bytearray()
        self.block = self.threshold = block  #: bytes worth looking at

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the part."""
        self.buffer += piece
        if len(self.buffer) >= self.threshold:
            self._take_items()
            if len(self.buffer) > MAX_ITEM_BYTES:
                raise PatternMismatch("an item, or what stands before or behind all of them, is very long")
            self.threshold = max(self.block, 2 * len(self.buffer))

    def close(self) -> None:
        """End the part."""
        self._take_items()
        if not self.depth:
            raise PatternMismatch(f"no {self.root_tag}")
        self.parser.feed(bytes(self.buffer), final=True)

    def _take_items(self) -> None:
        """Take all complete items from the front."""
        if not self.depth and not self._read_head():
            return
        cut = self.buffer.rfind(self.item_end) + len(self.item_end)
        if cut < len(self.item_end):
            return
        for text in self.take(_block_text(bytes(memoryview(self.buffer)[:cut]), self.prefix)):
            if "<!" in text or "<?" in text:
                raise PatternMismatch("a comment or CDATA may reach over several items")
            self.parser.feed(text.encode())
            if self.parser.depth != self.depth:
                raise PatternMismatch("an item is not balanced")
        del self.buffer[:cut]

    def _read_head(self) -> bool:
        """Let expat parse what is in front of the first item, when all of it is there."""
        found = self.root_opening.search(self.buffer)
        if found is None:
            return False
        self.prefix = found.group(1) or b""
        self.item_end = b"</%s%s>" % (self.prefix, self.item_tag.encode())
        head = bytes(self.buffer[: found.end()])
        del found  # it holds on to the bytes
        self.parser.feed(head)
        if self.parser.last_tag != self.root_tag or (self.parser.encoding or "utf-8").lower() != "utf-8":
            raise PatternMismatch(f"{self.root_tag} is not what it seems")
        self.depth = self.parser.depth
        del self.buffer[: len(head)]
        return True


def _block_text(block: bytes, prefix: bytes) -> pl.Series:
    """Return the block without prefixes, in which every reference is one of the five of XML."""
    if len(block.translate(None, FORBIDDEN_BYTES)) != len(block):
        raise PatternMismatch("control characters")
    if b"]" in block and b"]]>" in block:  # the shorter search is many times as fast
        raise PatternMismatch("an end without a beginning")
    if b"\xef" in block and (b"\xef\xbf\xbe" in block or b"\xef\xbf\xbf" in block):
        raise PatternMismatch("characters that are none")
    if b"&" in block and block.count(b"&") != len(ENTITY_REFERENCE.findall(block)):
        raise PatternMismatch("references by number")
    if prefix:
        tags = block.count(b"<")
        if block.count(b"<" + prefix) + block.count(b"</" + prefix) != tags:
            raise PatternMismatch("several prefixes")
        block = block.replace(b"<" + prefix, b"<").replace(b"</" + prefix, b"</")
    try:
        return pl.Series("text", [block], pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:
        raise PatternMismatch("not UTF-8") from None


def resolve_references(text: pl.Expr) -> pl.Expr:
    """Resolve the references in a text; `_block_text` has checked that there are no others."""
    meant = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&"}
    return pl.when(text.str.contains("&", literal=True)).then(text.str.replace_many(meant)).otherwise(text)


def contains_text(block: pl.Series, text: str) -> bool:
    """Whether this stands anywhere in a block."""
    return bool(block.str.contains(text, literal=True).any())
