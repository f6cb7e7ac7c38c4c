"""One pass over a block of bytes: what it is made of, and the same text as UTF-8 where it is not UTF-8 yet.

ASCII is passed on as it is. windows-1252, the most frequent code page, is read as latin-1, three times as fast,
wherever that is the same: the bytes in which the two differ show up as 0xC2 in the UTF-8.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass

from etl.formats.text import lines as text
from etl.model.tables import Dialect

CHUNK = 1 << 16  #: small enough that both sides of a transcoding stay in the processor's cache


@dataclass(slots=True)
class Scan:
    """A block as UTF-8, and what its bytes are."""

    data: bytes = b""
    newlines: int = 0
    returns: int = 0
    quotes: int = 0
    quoted: bool = False  #: a cell may begin with a quote
    longest: int = 0  #: no line is longer, give or take two chunks
    run: int = 0  #: bytes since the chunk with the latest line end began
    last: bytes = b""

    def look(self, chunk: bytes, quote: bytes, openers: tuple[bytes, ...]) -> None:
        newlines = chunk.count(b"\n")
        self.newlines += newlines
        self.run = len(chunk) if newlines else self.run + len(chunk)
        self.longest = max(self.longest, self.run + CHUNK if newlines else self.run)
        if b"\r" in chunk:
            self.returns += chunk.count(b"\r")
        if quote and quote in chunk:
            self.quotes += chunk.count(quote)
            if not self.quoted:
                joined = (self.last or b"\n") + chunk
                self.quoted = any(opener in joined for opener in openers)
        self.last = chunk[-1:]


def scan(block: bytearray, size: int, codec: str, dialect: Dialect) -> Scan | None:
    """What the first `size` bytes are, of which nothing is kept.

    None when only the tolerant reader may judge: undecodable or stray UTF-8 bytes, zeros, an old EOF sign.
    """
    quote = (dialect.quote or "").encode()
    openers = tuple(before + quote for before in (dialect.delimiter.encode(), b"\n", b"\r"))
    found = Scan()
    ascii = codec == "utf-8" or text.is_single_byte(codec)  #: whether ASCII stays what it is
    convert = _converter(codec) if codec != "utf-8" else None
    leads = text.LEADS.get(codec, b"")
    if any(block.find(lead, 0, size) >= 0 for lead in leads) and text.DOUBLE[codec].search(block, 0, size):
        return None
    parts: list[bytes] = []
    view = memoryview(block)[:size]
    try:
        for at in range(0, size, CHUNK):
            chunk = bytes(view[at : at + CHUNK])
            if convert is not None and not (ascii and chunk.isascii()):
                chunk = convert(chunk)
            parts.append(chunk)
            if b"\0" in chunk:
                return None
            if chunk:
                found.look(chunk, quote, openers)
        if convert is not None and not ascii:
            convert(b"", True)  # an incomplete last character is an error
    except UnicodeError:
        return None
    if found.last == b"\x1a":
        return None
    found.data = b"".join(parts)
    return found


def _converter(codec: str) -> Callable[..., bytes]:
    if codec == "cp1252":
        return _cp1252
    if codec == "iso8859-1":
        return _latin1
    if text.is_single_byte(codec):
        return lambda chunk: chunk.decode(codec).encode()
    decoder = codecs.getincrementaldecoder(codec)("strict")
    return lambda chunk, final=False: decoder.decode(chunk, final).encode()


def _cp1252(chunk: bytes) -> bytes:
    quick = chunk.decode("latin-1").encode()
    return chunk.decode("cp1252").encode() if b"\xc2" in quick else quick


def _latin1(chunk: bytes) -> bytes:
    quick = chunk.decode("latin-1")
    if b"\xc2" in quick.encode() and any("\x7f" < mark < "\xa0" for mark in set(quick)):
        raise UnicodeError("C1 controls")
    return quick.encode()
