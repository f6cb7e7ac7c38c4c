"""Scores how plausible bytes are in a code page, by the characters beside each character.

Code pages do not prove themselves, and short texts with three umlauts are too little for statistics of languages
(docs/decisions tells the numbers). The signs of a wrong page are a sign in the middle of a word, a capital after a
small letter, a row of accented letters, or a line-drawing character.
"""

from __future__ import annotations

import unicodedata

#: In order of preference: on a tie the first wins.
CODE_PAGES = (
    "windows-1252",
    "cp850",
    "windows-1250",
    "cp852",
    "mac-roman",
    "windows-1251",
    "windows-1257",
    "windows-1253",
    "windows-1254",
    "cp866",
    "koi8-r",
    "cp437",
    "iso8859-2",
    "cp865",
)
NORDIC_LETTERS = frozenset("åäöæøéüß")
WESTERN_LETTERS = frozenset("èêëàáâãçúùûñíìîïóòôõœý")
CENTRAL_LETTERS = frozenset("ąćęłńśźżčďěňřšťůžőűăâîșțđğışāēģīķļņūųįė")
#: Signs by where they stand: before a word or number, after one, or anywhere but inside a word.
OPENING_SIGNS = frozenset("“‘„‚«»¿¡£")
CLOSING_SIGNS = frozenset("”’“»«…°²³¹®©™ºª£")
FREE_SIGNS = frozenset("–—±×§·•´¢¥÷€½¼¾")
MAX_CHARACTERS = 4_000  #: characters beyond ASCII that are looked at


def score_bytes(sample: bytes, code_page: str) -> float:
    """Return the mean plausibility of the characters beyond ASCII: below zero for nonsense, 0 where there are none."""
    return score_text(sample.decode(code_page, "replace"))


def score_text(text: str) -> float:
    """Return the mean plausibility of the characters beyond ASCII in a text."""
    shown = " " + text + " "
    places = [at for at, char in enumerate(shown) if char > "\x7f"][:MAX_CHARACTERS]
    return sum(_character_score(shown[at - 1], shown[at], shown[at + 1]) for at in places) / max(len(places), 1)


def _character_score(before: str, char: str, after: str) -> float:
    if char == "\ufffd" or unicodedata.category(char) in ("Cc", "Co", "Cn"):
        return -10.0
    if char.isalpha() and char not in "ªº":
        return _letter_score(before, char, after)
    if char == "\xa0":
        return 1.9
    if before.isalpha() and after.isalpha():
        return {"’": 1.7, "–": 0.9, "—": 0.9, "·": 0.9}.get(char, -2.0)
    opens = char in OPENING_SIGNS and after.isalnum() and not before.isalnum()
    closes = char in CLOSING_SIGNS and not before.isspace() and not after.isalpha()
    free = char in FREE_SIGNS and not before.isalpha() and not after.isalpha()
    return 1.9 if opens or closes or free else -1.0


def _letter_score(before: str, char: str, after: str) -> float:
    small = char.lower()
    if char != small and before.isalpha() and before.islower():
        return -2.0
    if before.isdigit() and not after.isalpha():
        return -2.0
    if char == small and "A" <= after <= "Z":
        return -1.0
    if "\u0370" <= char <= "\u04ff":
        near = any("\u0370" <= other <= "\u04ff" for other in (before, after))
        return 1.9 if near and not (before.isascii() and before.isalpha()) else -2.0
    if before > "\x7f" and after > "\x7f" and before.isalpha() and after.isalpha():
        return -1.5  # no Latin script has three in a row
    if not before.isalnum() and not after.isalpha():
        return 1.9 if small == "ø" else 1.0  # a word of one letter, or a diameter
    return (
        2.0
        if small in NORDIC_LETTERS
        else 1.8
        if small in WESTERN_LETTERS
        else 1.5
        if small in CENTRAL_LETTERS
        else 0.3
    )


def rank_code_pages(sample: bytes) -> dict[str, float]:
    """Return every code page with its score, the best first."""
    found = {page: score_bytes(sample, page) for page in CODE_PAGES}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
