"""Decodes bytes to lines of text, with a mark for every undecodable byte.

Lines keep their ends, and CR, LF and CRLF all end a line, also mixed in one file: this is what
`TextIOWrapper(newline="")` does in C. A byte that the encoding does not know becomes MARK, a lone surrogate that
no valid file can contain, so that the row it stands in can be refused later at no cost for all other rows.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from etl.formats import errors
from etl.formats.text import encoding_score
from etl.formats.text.byte_order_mark import check_bom, find_bom, is_wide_codec

BAD_BYTE = "\udcff"
READ_BYTES = 1 << 16  #: bytes looked at when an encoding is checked
FEW_CHARACTERS = 4  #: characters beyond ASCII that are too few to refuse a file, unless they make nonsense of a word
NONSENSE_SCORE, WORDS_SCORE = 0.75, 1.5  #: scores of a page that cannot be meant, and of one that is


def _replace_bad_byte(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return BAD_BYTE, error.end


codecs.register_error("etl-mark", _replace_bad_byte)


def codec_names(encoding: str, where: str) -> tuple[str, ...]:
    """Return Python's codec names of `a|b|c`; latin-1 keeps its own name, so that C1 bytes can be rejected."""
    found = []
    for part in encoding.split("|"):
        try:
            info = codecs.lookup(part.strip())
        except LookupError:
            raise errors.unknown_encoding(where, part.strip()) from None
        if not info._is_text_encoding:
            raise errors.unknown_encoding(where, part.strip())
        found.append("utf-8" if info.name == "utf-8-sig" else info.name)
    return tuple(found)


def guess_wide_codec(head: bytes) -> str | None:
    """Guess UTF-16 or UTF-32 without a mark, by zero bytes on one side only."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if (even + odd) * 5 > len(head):
        if even and odd and min(even, odd) * 3 > max(even, odd):
            return "utf-32-le" if head[1:4] == b"\0\0\0" else "utf-32-be"
        return "utf-16-le" if odd > even else "utf-16-be"
    if max(even, odd) < 4 or min(even, odd) or (even + odd) * 50 < len(head):
        return None
    return "utf-16-le" if odd else "utf-16-be"  # not a Latin script: only delimiters and line ends have a zero


def is_single_byte_codec(codec: str) -> bool:
    """Return whether in a code page every byte is one character and ASCII is ASCII."""
    try:
        plain = bytes(range(128)).decode(codec) == bytes(range(128)).decode("ascii")
        return plain and len(bytes(range(128, 256)).decode(codec, "replace")) == 128 and codec != "utf-8"
    except (UnicodeError, LookupError):
        return False


def check_encoding(path: Path, encoding: str) -> tuple[tuple[str, ...], int]:
    """Return the codecs to use and the length of the byte order mark.

    Raises InvalidFileError for a file that is plainly written in another encoding.
    """
    codec_list = codec_names(encoding, path.name)
    with path.open("rb") as raw:
        head = raw.read(READ_BYTES)
    if bom := find_bom(head):
        return check_bom(path.name, encoding, codec_list, *bom), len(bom[0])
    if any(is_wide_codec(codec) for codec in codec_list):
        return _check_wide(path.name, encoding, codec_list, head), 0
    if wide := guess_wide_codec(head):
        raise errors.wrong_encoding(path.name, encoding, wide, "every other byte is zero")
    if all(is_single_byte_codec(codec) for codec in codec_list):
        if _is_utf8_file(path):
            raise errors.wrong_encoding(
                path.name, encoding, "utf-8", "every character beyond ASCII in it is valid UTF-8"
            )
        _check_code_page(path.name, encoding, codec_list[0], head)
    else:
        _check_last_codec(path.name, encoding, codec_list, head)
    return codec_list, 0


def _check_wide(where: str, encoding: str, codec_list: tuple[str, ...], head: bytes) -> tuple[str, ...]:
    """Return the codecs of a file in UTF-16 or UTF-32 without a byte order mark."""
    if 0 not in head:
        raise errors.wrong_encoding(where, encoding, "utf-8", "it has single-byte characters and no mark")
    if codec_list[0] in ("utf-16", "utf-32"):  # the codec would use the byte order of this machine
        return (f"{codec_list[0]}-{'le' if head[0] else 'be'}",)
    _check_last_codec(where, encoding, codec_list, head)
    return codec_list


def _check_last_codec(where: str, encoding: str, codec_list: tuple[str, ...], head: bytes) -> None:
    """Check a code page at the end of the list on the lines that no other codec reads."""
    if is_single_byte_codec(codec_list[-1]):
        lines = [
            line for line in head.splitlines()[:-1] if not line.isascii() and not _can_decode(line, codec_list[:-1])
        ]
        _check_code_page(where, encoding, codec_list[-1], b"\n".join(lines))


def _can_decode(line: bytes, codec_list: tuple[str, ...]) -> bool:
    return any("\ufffd" not in line.decode(codec, "replace") for codec in codec_list)


def _check_code_page(where: str, encoding: str, codec: str, head: bytes) -> None:
    """Raise InvalidFileError for text that is nonsense in the declared code page and plain words in another."""
    known = head.decode(codec, "replace").translate(_WITHOUT_SIGNS)  # what is no text at all is a matter of single rows
    few = sum(char > "\x7f" for char in known) < FEW_CHARACTERS
    if known.isascii() or encoding_score.score_text(known) > (-1.5 if few else NONSENSE_SCORE):
        return
    other, merit = next(iter(encoding_score.rank_code_pages(head).items()))
    if merit >= WORDS_SCORE:
        raise errors.wrong_encoding(where, encoding, other, "its letters beyond ASCII make words only then")


def _is_utf8_file(path: Path) -> bool:
    """Return whether a file is UTF-8 with something beyond ASCII in it."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    beyond = False
    with path.open("rb") as raw:
        while chunk := raw.read(READ_BYTES):
            if beyond or not chunk.isascii():
                beyond = True
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    return False
    return beyond and decoder.getstate()[0] == b""


#: Two bytes that only UTF-8 puts beside each other.
UTF8_SEQUENCE = re.compile(rb"[\xc3-\xf4][\x80-\xbf]")


def reject_other_code_page(path: Path, encoding: str, codec_list: tuple[str, ...]) -> None:
    """Raise InvalidFileError where a file has many bad bytes and not one valid sequence: it is not UTF-8 as a whole."""
    if codec_list != ("utf-8",):
        return
    sample = b""
    with path.open("rb") as raw:
        while chunk := raw.read(READ_BYTES):
            if UTF8_SEQUENCE.search(chunk):
                return
            sample = sample or (b"" if chunk.isascii() else chunk)
    other = next(iter(encoding_score.rank_code_pages(sample)))
    raise errors.wrong_encoding(path.name, encoding, other, "not one character beyond ASCII is valid UTF-8")


def read_lines(raw: BinaryIO, codec_list: tuple[str, ...]) -> Generator[str, None, None]:
    """Yield physical lines with their ends, undecodable bytes as MARK; the caller closes the stream."""
    return _read_several_codecs(raw, codec_list) if len(codec_list) > 1 else _read_one_codec(raw, codec_list[0])


def _read_one_codec(raw: BinaryIO, codec: str) -> Generator[str, None, None]:
    stream = io.TextIOWrapper(raw, encoding=codec, errors="etl-mark", newline="")
    with stream:
        if codec not in DOUBLE_ENCODED_TEXT:
            yield from stream
            return
        for line in stream:
            if line.isascii():
                yield line
                continue
            if codec == "iso8859-1":  # it has invisible controls where windows-1252 has the euro sign and the quotes
                line = line.translate(_C1_AS_BAD_BYTE)
            yield DOUBLE_ENCODED_TEXT[codec].sub(BAD_BYTE, line)


_WITHOUT_SIGNS = dict.fromkeys((*range(0x80, 0xA0), 0xFFFD))
_C1_AS_BAD_BYTE = dict.fromkeys(range(0x80, 0xA0), BAD_BYTE)
#: UTF-8 in the middle of a code page: `Ã¥` where `å` is meant. No word of these languages has such pairs.
UTF8_LEADS = {
    **dict.fromkeys(("cp1252", "iso8859-1", "iso8859-15"), b"\xc2\xc3"),
    **dict.fromkeys(("cp1250", "iso8859-2"), b"\xc3\xc5"),
}
DOUBLE_ENCODED_BYTES = {codec: re.compile(b"[" + leads + rb"][\x80-\xbf]") for codec, leads in UTF8_LEADS.items()}
DOUBLE_ENCODED_TEXT = {
    codec: re.compile(
        f"[{leads.decode(codec)}][{re.escape(bytes(range(0x80, 0xC0)).decode(codec, 'ignore'))}{BAD_BYTE}]"
    )
    for codec, leads in UTF8_LEADS.items()
}


def _read_several_codecs(raw: BinaryIO, codec_list: tuple[str, ...]) -> Generator[str, None, None]:
    """Yield every line in the first of the encodings that can read it."""
    with io.TextIOWrapper(raw, encoding="latin-1", newline="") as stream:
        for line in stream:
            if line.isascii():
                yield line
                continue
            data = line.encode("latin-1")
            for codec in codec_list[:-1]:
                try:
                    yield data.decode(codec)
                    break
                except UnicodeDecodeError:
                    continue
            else:
                yield data.decode(codec_list[-1], "etl-mark")
