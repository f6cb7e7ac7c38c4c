"""Guesses the encoding of a file without a byte order mark.

UTF-8 proves itself, also line by line in a file that two systems have written. Zero bytes on one side show UTF-16.
Code pages are told apart by `pages`; charset-normalizer decides about what is no European code page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from charset_normalizer import from_bytes

from etl.formats.text import byte_order_mark, encoding_score, lines

MIN_SCORE = 0.5
FEW_BYTES = 20  #: bytes beyond ASCII that do not make an encoding sure
CLOSE_SCORE = 0.25  #: a page that is less worse than that, and reads other letters, is named
LINE = re.compile(rb"[^\r\n]+")


@dataclass(frozen=True, slots=True)
class EncodingGuess:
    """An encoding and why."""

    encoding: str
    reason: str


def guess_encoding(sample: bytes, is_complete: bool) -> EncodingGuess:
    """Guess the encoding of a sample; in a `whole` file, a last character that is cut off is a fault."""
    mark = byte_order_mark.find_bom(sample)
    if mark:
        name = mark[1]
        return EncodingGuess(name, f"encoding {name}: the file begins with its byte order mark")
    wide = lines.guess_wide_codec(sample)
    if wide:
        return EncodingGuess(wide, f"encoding {wide}: zero bytes at every other place")
    if sample.isascii():
        return EncodingGuess("utf-8", "encoding utf-8: only ASCII characters were seen, any encoding would do")
    try:
        beyond = len(sample) - len(sample.decode("utf-8"))
        return EncodingGuess("utf-8", f"encoding utf-8: {beyond} bytes beyond ASCII, all of them valid")
    except UnicodeDecodeError as error:
        if not is_complete and error.start > len(sample) - 4:
            return EncodingGuess("utf-8", "encoding utf-8: all bytes beyond ASCII are valid")
    return _guess_mixed(sample) or _guess_code_page(sample)


def _guess_mixed(sample: bytes) -> EncodingGuess | None:
    """Return UTF-8 and a code page where some lines are in the one and some in the other; else None."""
    valid: list[bytes] = []
    other: list[bytes] = []
    for line in LINE.findall(sample):
        if not line.isascii():
            (valid if _is_utf8_line(line) else other).append(line)
    if not valid or not other:
        return None
    page, merit = next(iter(encoding_score.rank_code_pages(b"\n".join(other)).items()))
    right = encoding_score.score_text(b"\n".join(valid).decode())
    if merit < MIN_SCORE or right < MIN_SCORE or encoding_score.score_bytes(b"\n".join(valid), page) >= right:
        return None
    return EncodingGuess(
        f"utf-8|{page}", f"encoding utf-8 in {len(valid)} lines and {page} in {len(other)}: read line by line"
    )


def _is_utf8_line(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _guess_code_page(sample: bytes) -> EncodingGuess:
    scores = encoding_score.rank_code_pages(sample)
    page = next(iter(scores))
    shown = ", ".join(f"{name} {scores[name]:.2f}" for name in list(scores)[:3])
    if scores[page] < MIN_SCORE:
        other = from_bytes(sample).best()
        if other is not None and not lines.is_single_byte_codec(other.encoding):
            return EncodingGuess(
                other.encoding, f"encoding {other.encoding}: charset-normalizer, no code page fits ({shown})"
            )
    why = f"encoding {page}: not UTF-8, and its characters stand best among their neighbours ({shown})"
    few = sum(1 for byte in sample if byte > 127) < FEW_BYTES
    close = few and next(
        (
            name
            for name in scores
            if scores[page] - scores[name] < CLOSE_SCORE and _reads_differently(sample, page, name)
        ),
        None,
    )
    return EncodingGuess(page, f"{why}; {close} is nearly as likely: look at its accented letters" if close else why)


def _reads_differently(sample: bytes, page: str, other: str) -> bool:
    return sample.decode(page, "replace") != sample.decode(other, "replace")
