"""Which encoding a file without a mark is in, judged by how its characters stand among their neighbours.

UTF-8 proves itself. Code pages do not, and short texts with three umlauts are too little for statistics of languages
(docs/decisions tells the numbers): what gives a wrong page away is a sign in the middle of a word, a capital after a
small letter, or a line-drawing character. charset-normalizer decides about what is no European code page.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from charset_normalizer import from_bytes

from etl.formats import text

#: In order of preference: on a tie the first wins.
PAGES = ("windows-1252", "cp850", "windows-1250", "cp852", "mac-roman", "windows-1251", "windows-1257", "windows-1253",
         "windows-1254", "cp866", "koi8-r", "cp437", "iso8859-2")  # fmt: skip
WEST = frozenset("åäöæøéèêëàáâãçüúùûßñíìîïóòôõœý")
CENTRAL = frozenset("ąćęłńśźżčďěňřšťůžőűăâîșțđğışāēģīķļņūųįė")
SIGNS = frozenset("€£–—‘’“”„…°²³¹½¼¾®©™±×µ§\xa0«»·•º´¿¡¢¥")
ENOUGH = 0.5
CONTEXT = 4_000  #: characters beyond ASCII that are looked at


@dataclass(frozen=True, slots=True)
class Guess:
    """An encoding and why."""

    encoding: str
    why: str


def guess(sample: bytes, whole: bool) -> Guess:
    """`whole` tells that the sample is the file, so that a cut last character is a fault."""
    mark = text.bom_of(sample)
    if mark:
        name = mark[1]
        return Guess(name, f"encoding {name}: the file begins with its byte order mark")
    if sample.count(0) * 5 > len(sample):
        wide = _zeros(sample)
        return Guess(wide, f"encoding {wide}: zero bytes at every other place")
    if sample.isascii():
        return Guess("utf-8", "encoding utf-8: only ASCII characters were seen, any encoding would do")
    try:
        beyond = len(sample.decode("utf-8")) if whole else len(sample.decode("utf-8", "strict"))
        return Guess("utf-8", f"encoding utf-8: {len(sample) - beyond} bytes beyond ASCII, all of them valid")
    except UnicodeDecodeError as error:
        if not whole and error.start > len(sample) - 4:
            return Guess("utf-8", "encoding utf-8: all bytes beyond ASCII are valid")
    scores = {page: score(sample, page) for page in PAGES}
    best = max(PAGES, key=lambda page: scores[page])
    shown = ", ".join(f"{page} {scores[page]:.2f}" for page in sorted(PAGES, key=lambda p: -scores[p])[:3])
    if scores[best] < ENOUGH:
        other = from_bytes(sample).best()
        if other is not None and not text.is_single_byte(other.encoding):
            return Guess(other.encoding, f"encoding {other.encoding}: charset-normalizer, no code page fits ({shown})")
    return Guess(best, f"encoding {best}: not UTF-8, and its characters stand best among their neighbours ({shown})")


def _zeros(sample: bytes) -> str:
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if even and odd and min(even, odd) * 3 > max(even, odd):
        return "utf-32-le" if sample[1:4] == b"\0\0\0" else "utf-32-be"
    return "utf-16-le" if odd > even else "utf-16-be"


def score(sample: bytes, page: str) -> float:
    """Mean plausibility of the characters beyond ASCII, below zero for nonsense."""
    shown = " " + sample.decode(page, "replace") + " "
    places = [at for at, char in enumerate(shown) if char > "\x7f"][:CONTEXT]
    return sum(_plausible(shown[at - 1], shown[at], shown[at + 1]) for at in places) / max(len(places), 1)


def _plausible(before: str, char: str, after: str) -> float:
    if char == "\ufffd" or unicodedata.category(char) in ("Cc", "Co", "Cn"):
        return -10.0
    if char.isalpha() and char not in "ªº":
        small = char.lower()
        if char != small and before.isalpha() and before.islower():
            return -2.0
        if small in WEST:
            return 2.0
        if small in CENTRAL:
            return 1.5
        if "\u0370" <= char <= "\u04ff":
            near = any("\u0370" <= other <= "\u04ff" for other in (before, after))
            return 1.8 if near and not (before.isascii() and before.isalpha()) else -2.0
        return 0.3
    if before.isalpha() and after.isalpha():
        return 0.5 if char == "’" else -2.0
    return 1.0 if char in SIGNS else -1.5
