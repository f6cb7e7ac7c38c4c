"""A workbook's stored values as people see them, where it matters: leading zeros, dates, no `.0`, named errors.

Amounts keep their full stored value whatever the number format rounds them to: a price is what was typed.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache

#: Formats that a workbook uses by number only.
BUILTIN = {
    14: "yyyy-mm-dd", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm",
    21: "h:mm:ss", 22: "yyyy-mm-dd h:mm", 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0",
    **dict.fromkeys((27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58), "yyyy-mm-dd"),
    **dict.fromkeys((32, 33, 34, 35, 55, 56), "h:mm:ss"),
}  # fmt: skip
ERRORS = {0x00: "#NULL!", 0x07: "#DIV/0!", 0x0F: "#VALUE!", 0x17: "#REF!", 0x1D: "#NAME?", 0x24: "#NUM!", 0x2A: "#N/A"}
LITERAL = re.compile(r'"([^"]*)"|\\(.)|_.|\*.')
BRACKET = re.compile(r"\[[^\]]*\]")
LAST_DAY = 2_958_466  #: day after 9999-12-31
LEAP_BUG = 60  #: Excel's 29 February 1900, a day that never was


@lru_cache(4096)
def kind(code: str) -> str:
    """ "" for plain numbers, else some of y (date), h (time), d (duration), or 0 followed by the zeros' pattern."""
    first = code.split(";")[0]
    bare = LITERAL.sub("", first)
    if re.search(r"\[(?:h+|m+|s+)\]", bare, re.IGNORECASE):
        return "d"
    bare = BRACKET.sub("", bare)
    if bare.strip().lower() in ("", "general", "standard", "@"):
        return ""
    plain = bare.lower().replace("am/pm", "").replace("a/p", "")
    if "e+" not in plain and "e-" not in plain and not re.search(r"[0#?]", plain.split(".")[0]):
        date = bool(re.search(r"[yd]", plain)) or ("m" in plain and not re.search(r"[hs]", plain))
        time = bool(re.search(r"[hs]", plain))
        if date or time:
            return "y" * date + "h" * time
    if re.fullmatch(r"[0 \-/().]*", bare) and bare.count("0") > 1 and "." not in bare:
        return "0" + BRACKET.sub("", LITERAL.sub(lambda hit: hit.group(1) or hit.group(2) or "", first))
    return ""


def number(stored: str | float, code: str, epoch_1904: bool) -> str:
    """A stored number as text; ValueError when it is no number or no date that exists."""
    how = kind(code)
    text = stored if isinstance(stored, str) else repr(stored)
    if not how:
        return plain(text)
    if how[0] == "0":
        digits = plain(text)
        return _zeros(digits, how[1:]) if digits.isdigit() else digits
    return _moment(float(text), how, epoch_1904)


def plain(text: str) -> str:
    """A number without exponent, without `.0`, and with the 15 digits that Excel shows."""
    if text.isdigit() or (text[:1] == "-" and text[1:].isdigit()):
        return text
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(text)
    shown = format(Decimal(format(value, ".15g")), "f")
    return "0" if shown == "-0" else shown


def _zeros(digits: str, pattern: str) -> str:
    """Digits poured into the zeros of a pattern from the right; what is left over goes in front."""
    rest = list(digits)
    shown = [(rest.pop() if rest else "0") if char == "0" else char for char in reversed(pattern)]
    return "".join(rest) + "".join(reversed(shown))


def _moment(serial: float, how: str, epoch_1904: bool) -> str:
    if how == "d":
        seconds = round(abs(serial) * 86_400)
        sign = "-" if serial < 0 else ""
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if not 0 <= serial < LAST_DAY:
        raise ValueError("no date that exists")
    if how == "h" and serial < 1:
        return _clock(datetime(2000, 1, 1) + timedelta(milliseconds=round(serial * 86_400_000)))
    if epoch_1904:
        start = datetime(1904, 1, 1)
    elif int(serial) == LEAP_BUG:
        raise ValueError("29 February 1900 never was")
    else:
        start = datetime(1899, 12, 30) if serial > LEAP_BUG else datetime(1899, 12, 31)
    at = start + timedelta(milliseconds=round(serial * 86_400_000))
    return at.date().isoformat() if how == "y" else f"{at.date().isoformat()}T{_clock(at)}"


def moment(stored: str, code: str) -> str:
    """A day or time that is stored as text, shown as its number format does; ValueError when it is none."""
    at = datetime.fromisoformat(stored.strip().removesuffix("Z"))
    how = kind(code)
    midnight = (at.hour, at.minute, at.second, at.microsecond) == (0, 0, 0, 0)
    if how == "h":
        return _clock(at)
    return (
        at.date().isoformat() if how == "y" or (how != "yh" and midnight) else f"{at.date().isoformat()}T{_clock(at)}"
    )


def _clock(at: datetime) -> str:
    shown = at.strftime("%H:%M:%S")
    return f"{shown}.{at.microsecond // 1000:03d}" if at.microsecond >= 1000 else shown


def boolean(value: bool) -> str:
    """As Excel shows it."""
    return "TRUE" if value else "FALSE"
