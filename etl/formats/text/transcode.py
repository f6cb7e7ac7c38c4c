"""One pass over a block of bytes: what it is made of, and the same text as UTF-8 where it is not UTF-8 yet.

ASCII is passed on as it is. windows-1252, the most frequent code page, is read as latin-1, three times as fast,
wherever that is the same: the bytes in which the two differ show up as 0xC2 in the UTF-8.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass

from etl.formats.text import lines
from etl.model.tables import Dialect

SCAN_CHUNK = 1 << 16  #: small enough that both sides of a transcoding stay in the processor's cache


@dataclass(slots=True)
class BlockScan:
    """A block as UTF-8, and what its bytes are."""

    data: bytes = b""
    newlines: int = 0
    carriage_returns: int = 0
    quote_count: int = 0
    may_have_quotes: bool = False  #: a cell may begin with a quote
    longest_line: int = 0  #: no line is longer, give or take two chunks
    line_bytes: int = 0  #: bytes since the chunk with the latest line end began
    last_byte: bytes = b""

    def add_chunk(self, chunk: bytes, quote: bytes, openers: tuple[bytes, ...]) -> None:
        newlines = chunk.count(b"\n")
        self.newlines += newlines
        self.line_bytes = len(chunk) if newlines else self.line_bytes + len(chunk)
        self.longest_line = max(self.longest_line, self.line_bytes + SCAN_CHUNK if newlines else self.line_bytes)
        if b"\r" in chunk:
            self.carriage_returns += chunk.count(b"\r")
        if quote and quote in chunk:
            self.quote_count += chunk.count(quote)
            if not self.may_have_quotes:
                joined = (self.last_byte or b"\n") + chunk
                self.may_have_quotes = any(opener in joined for opener in openers)
        self.last_byte = chunk[-1:]


def scan_block(block: bytearray, size: int, codec: str, dialect: Dialect) -> BlockScan | None:
    """Describe the first `size` bytes, none of which is kept.

    None when only the tolerant reader may judge: undecodable or stray UTF-8 bytes, zeros, an old EOF sign.
    """
    quote = (dialect.quote or "").encode()
    openers = tuple(before + quote for before in (dialect.delimiter.encode(), b"\n", b"\r"))
    found = BlockScan()
    ascii = codec == "utf-8" or lines.is_single_byte_codec(codec)  #: whether ASCII stays what it is
    convert = _utf8_converter(codec) if codec != "utf-8" else None
    leads = lines.UTF8_LEADS.get(codec, b"")
    if any(block.find(lead, 0, size) >= 0 for lead in leads) and lines.DOUBLE_ENCODED_BYTES[codec].search(
        block, 0, size
    ):
        return None
    parts: list[bytes] = []
    view = memoryview(block)[:size]
    try:
        for at in range(0, size, SCAN_CHUNK):
            chunk = bytes(view[at : at + SCAN_CHUNK])
            if convert is not None and not (ascii and chunk.isascii()):
                chunk = convert(chunk)
            parts.append(chunk)
            if b"\0" in chunk:
                return None
            if chunk:
                found.add_chunk(chunk, quote, openers)
        if convert is not None and not ascii:
            convert(b"", True)  # an incomplete last character is an error
    except UnicodeError:
        return None
    if found.last_byte == b"\x1a":
        return None
    found.data = b"".join(parts)
    return found


def _utf8_converter(codec: str) -> Callable[..., bytes]:
    if codec == "cp1252":
        return _convert_cp1252
    if codec == "iso8859-1":
        return _convert_latin1
    if lines.is_single_byte_codec(codec):
        return lambda chunk: chunk.decode(codec).encode()
    decoder = codecs.getincrementaldecoder(codec)("strict")
    return lambda chunk, final=False: decoder.decode(chunk, final).encode()


def _convert_cp1252(chunk: bytes) -> bytes:
    quick = chunk.decode("latin-1").encode()
    return chunk.decode("cp1252").encode() if b"\xc2" in quick else quick


def _convert_latin1(chunk: bytes) -> bytes:
    quick = chunk.decode("latin-1")
    if b"\xc2" in quick.encode() and any("\x7f" < mark < "\xa0" for mark in set(quick)):
        raise UnicodeError("C1 controls")
    return quick.encode()
