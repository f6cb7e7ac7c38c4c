"""One pass over a file's bytes: what they are made of, and, where they are not UTF-8 yet, the same text as UTF-8.

ASCII is passed on as it is. windows-1252, the most frequent code page, is read as latin-1, three times as fast,
wherever that is the same: the bytes in which the two differ show up as 0xC2 in the UTF-8.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from etl.formats import text
from etl.model import Dialect

CHUNK = 1 << 16  #: small enough that both sides of a transcoding stay in the processor's cache


@dataclass(slots=True)
class Scan:
    """What the bytes (as UTF-8, without the byte order mark) are made of."""

    path: Path
    skip: int
    size: int = 0
    newlines: int = 0
    returns: int = 0
    quotes: int = 0
    quoted: bool = False  #: a cell may begin with a quote
    longest: int = 0  #: no line is longer, give or take two chunks
    run: int = 0  #: bytes since the chunk with the latest line end began
    last: bytes = b""
    data: bytes | None = None  #: UTF-8, when the file itself is not
    parts: list[bytes] = field(default_factory=list)

    def look(self, chunk: bytes, quote: bytes, openers: tuple[bytes, ...]) -> None:
        self.size += len(chunk)
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

    def head(self, lines: int) -> bytes | None:
        """The bytes of the first lines; None when they are too long to be preamble and header."""
        if self.data is None:
            with self.path.open("rb") as raw:
                raw.seek(self.skip)
                start = raw.read(1 << 20)
        else:
            start = self.data[: 1 << 20]
        at = 0
        for _ in range(lines):
            at = start.find(b"\n", at) + 1
            if not at:
                return None
        return start[:at]


def scan(path: Path, codec: str, skip: int, dialect: Dialect) -> Scan | None:
    """None when only the tolerant reader may judge: undecodable or stray UTF-8 bytes, zeros, an old EOF sign."""
    quote = (dialect.quote or "").encode()
    openers = tuple(before + quote for before in (dialect.delimiter.encode(), b"\n", b"\r"))
    found = Scan(path, skip)
    convert = None if codec == "utf-8" else _converter(codec)
    single = text.is_single_byte(codec)
    try:
        with path.open("rb", buffering=0) as raw:
            raw.seek(skip)
            tail, double = b"", text.DOUBLE.get(codec)
            while chunk := raw.read(CHUNK):
                if double and not chunk.isascii() and double.search(tail + chunk):
                    return None
                tail = chunk[-1:]
                if convert and not (single and chunk.isascii()):
                    if not found.parts and found.size:
                        found.parts.append(_before(path, skip, found.size))
                    chunk = convert(chunk)
                    found.parts.append(chunk)
                elif found.parts:
                    found.parts.append(chunk)
                if b"\0" in chunk:
                    return None
                if chunk:
                    found.look(chunk, quote, openers)
            if convert and not single:
                convert(b"", True)  # an incomplete last character is an error
    except UnicodeError:
        return None
    if found.last == b"\x1a":
        return None
    if found.parts:
        found.data = b"".join(found.parts)
        found.parts.clear()
    return found


def _before(path: Path, skip: int, size: int) -> bytes:
    with path.open("rb") as raw:
        return os.pread(raw.fileno(), size, skip)


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
