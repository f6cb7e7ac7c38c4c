"""A workbook's stored values as people see them, where it matters: leading zeros, dates, no `.0`, named errors.

Amounts keep their full stored value whatever the number format rounds them to: a price is what was typed.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache

#: Formats that a workbook uses by number only.
BUILTIN_FORMATS = {
    14: "yyyy-mm-dd", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm",
    21: "h:mm:ss", 22: "yyyy-mm-dd h:mm", 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0",
    **dict.fromkeys((27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58), "yyyy-mm-dd"),
    **dict.fromkeys((32, 33, 34, 35, 55, 56), "h:mm:ss"),
}  # fmt: skip
ERROR_TEXTS = {
    0x00: "#NULL!",
    0x07: "#DIV/0!",
    0x0F: "#VALUE!",
    0x17: "#REF!",
    0x1D: "#NAME?",
    0x24: "#NUM!",
    0x2A: "#N/A",
}
FORMAT_LITERAL = re.compile(r'"([^"]*)"|\\(.)|_.|\*.')
FORMAT_BRACKET = re.compile(r"\[[^\]]*\]")
END_SERIAL = 2_958_466  #: day after 9999-12-31
LEAP_BUG_SERIAL = 60  #: Excel's 29 February 1900, a day that never was


@lru_cache(4096)
def format_kind(format_code: str) -> str:
    """Return "" for plain numbers, else some of y (date), h (time), d (duration), or 0 and the pattern of zeros."""
    first = format_code.split(";")[0]
    bare = FORMAT_LITERAL.sub("", first)
    if re.search(r"\[(?:h+|m+|s+)\]", bare, re.IGNORECASE):
        return "d"
    bare = FORMAT_BRACKET.sub("", bare)
    if bare.strip().lower() in ("", "general", "standard", "@"):
        return ""
    plain = bare.lower().replace("am/pm", "").replace("a/p", "")
    if "e+" not in plain and "e-" not in plain and not re.search(r"[0#?]", plain.split(".")[0]):
        date = bool(re.search(r"[yd]", plain)) or ("m" in plain and not re.search(r"[hs]", plain))
        time = bool(re.search(r"[hs]", plain))
        if date or time:
            return "y" * date + "h" * time
    if re.fullmatch(r"[0 \-/().]*", bare) and bare.count("0") > 1 and "." not in bare:
        return "0" + FORMAT_BRACKET.sub("", FORMAT_LITERAL.sub(lambda hit: hit.group(1) or hit.group(2) or "", first))
    return ""


def number_text(raw: str | float, format_code: str, epoch_1904: bool) -> str:
    """Return a stored number as text. Raises ValueError when it is no number or no date that exists."""
    how = format_kind(format_code)
    text = raw if isinstance(raw, str) else repr(raw)
    if not how:
        return plain_number(text)
    if how[0] == "0":
        digits = plain_number(text)
        return _fill_zeros(digits, how[1:]) if digits.isdigit() else digits
    return _serial_text(float(text), how, epoch_1904)


def plain_number(text: str) -> str:
    """Return a number without exponent, without `.0`, and with the 15 digits that Excel shows."""
    if text.isdigit() or (text[:1] == "-" and text[1:].isdigit()):
        return text
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(text)
    shown = format(Decimal(format(value, ".15g")), "f")
    return "0" if shown == "-0" else shown


def _fill_zeros(digits: str, pattern: str) -> str:
    """Put digits into the zeros of a pattern from the right; further digits go in front."""
    rest = list(digits)
    shown = [(rest.pop() if rest else "0") if char == "0" else char for char in reversed(pattern)]
    return "".join(rest) + "".join(reversed(shown))


def _serial_text(serial: float, kind: str, epoch_1904: bool) -> str:
    if kind == "d":
        seconds = round(abs(serial) * 86_400)
        sign = "-" if serial < 0 else ""
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if not 0 <= serial < END_SERIAL:
        raise ValueError("no date that exists")
    if kind == "h" and serial < 1:
        return _time_text(datetime(2000, 1, 1) + timedelta(milliseconds=round(serial * 86_400_000)))
    if epoch_1904:
        start = datetime(1904, 1, 1)
    elif int(serial) == LEAP_BUG_SERIAL:
        raise ValueError("29 February 1900 never was")
    else:
        start = datetime(1899, 12, 30) if serial > LEAP_BUG_SERIAL else datetime(1899, 12, 31)
    at = start + timedelta(milliseconds=round(serial * 86_400_000))
    return at.date().isoformat() if kind == "y" else f"{at.date().isoformat()}T{_time_text(at)}"


def datetime_text(raw: str, format_code: str) -> str:
    """Return a day or time that is stored as text, as its number format shows it. Raises ValueError when it is none."""
    at = datetime.fromisoformat(raw.strip().removesuffix("Z"))
    how = format_kind(format_code)
    midnight = (at.hour, at.minute, at.second, at.microsecond) == (0, 0, 0, 0)
    if how == "h":
        return _time_text(at)
    return (
        at.date().isoformat()
        if how == "y" or (how != "yh" and midnight)
        else f"{at.date().isoformat()}T{_time_text(at)}"
    )


def _time_text(at: datetime) -> str:
    shown = at.strftime("%H:%M:%S")
    return f"{shown}.{at.microsecond // 1000:03d}" if at.microsecond >= 1000 else shown


def boolean_text(value: bool) -> str:
    """Return a truth value as Excel shows it."""
    return "TRUE" if value else "FALSE"
