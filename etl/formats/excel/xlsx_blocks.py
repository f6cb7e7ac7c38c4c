"""The long list within a part, such as the rows of a sheet: taken out in blocks of text, the rest goes through expat.

What a block reader takes has to be whole, well-formed elements, all bytes accounted for; taking them out then leaves a
document that is well-formed exactly when the original is. Whatever else is found raises `Unproven`, and the part is
read again by expat alone: nothing here decides that a workbook is bad.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import polars as pl

from etl.formats.excel.xml import Parser

LONGEST = 1 << 26  #: bytes in which an item has to end
#: Characters that no XML may hold, and carriage returns, which XML reads as line ends.
ODD = bytes(byte for byte in range(32) if byte not in b"\t\n")
REFERENCE = re.compile(rb"&(?:amp|lt|gt|quot|apos);")
SPACE = " \t\n"
Take = Callable[[pl.Series], Iterable[str]]


class Unproven(Exception):
    """Something stands there that the quick reader does not know: expat has to read the part."""


class Splicer:
    """Cuts the items out of the element `root` of a part that `parser` parses.

    `take` gets blocks of them, each a single text, and gives back those that expat has to see, in order.
    """

    def __init__(self, parser: Parser, root: str, item: str, take: Take, block: int) -> None:
        self.parser, self.root, self.item, self.take = parser, root, item, take
        self.opening = re.compile(rb"<(\w+:)?%s(?:\s[^<>]*)?(?<!/)>" % root.encode())
        self.prefix = self.end = b""
        self.depth = 0  #: of the list
        self.rest = bytearray()
        self.block = self.enough = block  #: bytes worth looking at

    def feed(self, piece: bytes) -> None:
        """The next piece of the part."""
        self.rest += piece
        if len(self.rest) >= self.enough:
            self._work()
            if len(self.rest) > LONGEST:
                raise Unproven("an item, or what stands before or behind all of them, is very long")
            self.enough = max(self.block, 2 * len(self.rest))

    def close(self) -> None:
        """The end of the part."""
        self._work()
        if not self.depth:
            raise Unproven(f"no {self.root}")
        self.parser.feed(bytes(self.rest), final=True)

    def _work(self) -> None:
        """Takes all items that are whole off the front."""
        if not self.depth and not self._begin():
            return
        cut = self.rest.rfind(self.end) + len(self.end)
        if cut < len(self.end):
            return
        for text in self.take(_text(bytes(memoryview(self.rest)[:cut]), self.prefix)):
            if "<!" in text or "<?" in text:
                raise Unproven("a comment or CDATA may reach over several items")
            self.parser.feed(text.encode())
            if self.parser.depth != self.depth:
                raise Unproven("an item is not balanced")
        del self.rest[:cut]

    def _begin(self) -> bool:
        """Lets expat have what stands before the first item, when it is all there."""
        found = self.opening.search(self.rest)
        if found is None:
            return False
        self.prefix = found.group(1) or b""
        self.end = b"</%s%s>" % (self.prefix, self.item.encode())
        head = bytes(self.rest[: found.end()])
        del found  # it holds on to the bytes
        self.parser.feed(head)
        if self.parser.last != self.root or (self.parser.encoding or "utf-8").lower() != "utf-8":
            raise Unproven(f"{self.root} is not what it seems")
        self.depth = self.parser.depth
        del self.rest[: len(head)]
        return True


def _text(block: bytes, prefix: bytes) -> pl.Series:
    """The block without prefixes, in which every reference is one of the five of XML."""
    if len(block.translate(None, ODD)) != len(block):
        raise Unproven("control characters")
    if b"]" in block and b"]]>" in block:  # the shorter search is many times as fast
        raise Unproven("an end without a beginning")
    if b"\xef" in block and (b"\xef\xbf\xbe" in block or b"\xef\xbf\xbf" in block):
        raise Unproven("characters that are none")
    if b"&" in block and block.count(b"&") != len(REFERENCE.findall(block)):
        raise Unproven("references by number")
    if prefix:
        tags = block.count(b"<")
        if block.count(b"<" + prefix) + block.count(b"</" + prefix) != tags:
            raise Unproven("several prefixes")
        block = block.replace(b"<" + prefix, b"<").replace(b"</" + prefix, b"</")
    try:
        return pl.Series("text", [block], pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:
        raise Unproven("not UTF-8") from None


def plain_text(text: pl.Expr) -> pl.Expr:
    """Text in which references are what they stand for; `_text` has seen that there are no others."""
    meant = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&"}
    return pl.when(text.str.contains("&", literal=True)).then(text.str.replace_many(meant)).otherwise(text)


def holds(block: pl.Series, text: str) -> bool:
    """Whether this stands anywhere in a block."""
    return bool(block.str.contains(text, literal=True).any())
