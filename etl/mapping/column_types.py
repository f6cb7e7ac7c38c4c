"""What a column of text probably holds, judged by its cells: for drafting a mapping, never for production.

A guess has to hold for nearly all cells that were looked at; the others are named, and what could be two things says
so. Digits with leading zeros are names of things and stay text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from etl.mapping.model import ColumnType
from etl.mapping.text import SPACES

#: (decimal mark, thousands mark), the plain ones first.
MARKS = ((".", None), (",", None), (",", "."), (".", ","), (",", " "), (".", " "), (".", "'"), (",", "'"))
DATES = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%d.%m.%y", "%d/%m/%y")
TIMES = tuple(f"{day}{between}{time}" for day in DATES[:6] for between in " T" for time in ("%H:%M:%S", "%H:%M"))
#: Pairs of words that mean yes and no.
WORDS = (("ja", "nej"), ("yes", "no"), ("true", "false"), ("ja", "nein"), ("ja", "nei"), ("kyllä", "ei"),
         ("j", "n"), ("y", "n"), ("sant", "falskt"), ("wahr", "falsch"), ("on", "off"))  # fmt: skip

#: A long number as a spreadsheet shows it, and saves it as text.
SHORTENED = re.compile(r"\d[.,]\d+E\+\d{1,2}", re.IGNORECASE)

#: One in so many different cells may be something else.
MOST = 10


@dataclass(frozen=True, slots=True)
class Guess:
    """A column type with its settings as a mapping writes them, and what is not sure about it."""

    type: ColumnType = "text"
    settings: dict[str, str | list[str]] = field(default_factory=dict)
    doubt: str = ""


def column(cells: Sequence[str], *, excel: bool = False) -> Guess:
    """The type that nearly all of these cells have."""
    seen = [text for cell in dict.fromkeys(cells) if (text := cell.strip(SPACES))]
    if not seen:
        return Guess(doubt="no cell is filled")
    if any(re.fullmatch(r"[+-]?0\d+", text) for text in seen):
        return _time(seen) or Guess()
    short = next((text for text in seen if SHORTENED.fullmatch(text)), None)
    if short is not None:
        return Guess(doubt=f"a spreadsheet has shortened {short}: its last digits are lost")
    return _number(seen, excel=excel) or _words(seen) or _time(seen) or Guess()


def flags(cells: Sequence[str]) -> Guess | None:
    """Yes or no, for a field that asks for it: 1 and 0 count, too."""
    seen = {cell.strip(SPACES) for cell in cells} - {""}
    return Guess("boolean") if seen and seen <= {"0", "1"} else _words(list(seen))


def _words(seen: Sequence[str]) -> Guess | None:
    lower = {text.lower() for text in seen}
    for yes, no in WORDS:
        if lower == {yes, no}:
            return Guess("boolean", {"true": [yes], "false": [no]})
    return None


def _number(seen: Sequence[str], *, excel: bool) -> Guess | None:
    odd = _odd(seen, re.compile(r"-?\d{1,15}").fullmatch)
    if odd == "":
        return Guess("integer")
    for mark, group in MARKS[:1] if excel else MARKS:
        between = r"[ \u00a0\u2009\u202f]" if group == " " else re.escape(group or "")
        whole = rf"(?:\d{{1,3}}(?:{between}\d{{3}})+|\d+)" if group else r"\d+"
        doubt = _odd(seen, re.compile(rf"[+-]?{whole}(?:{re.escape(mark)}\d+)?").fullmatch)
        if doubt is None:
            continue
        settings: dict[str, str | list[str]] = {} if mark == "." else {"decimal": mark}
        if group:
            settings["thousands"] = group
        elif not excel:
            marked = [text for text in seen if mark in text]
            if marked and all(re.fullmatch(rf"[+-]?\d{{1,3}}{re.escape(mark)}\d{{3}}", text) for text in marked):
                doubt = doubt or f'"{mark}" may stand between thousands'
        if odd is not None and not any(mark in text for text in seen):
            return Guess("integer", {}, odd)
        return Guess("decimal", settings, doubt)
    return None


def _time(seen: Sequence[str]) -> Guess | None:
    kinds: tuple[tuple[ColumnType, tuple[str, ...]], ...] = (("date", DATES), ("datetime", TIMES))
    for kind, shapes in kinds:
        fitting = {shape: odd for shape in shapes if (odd := _odd(seen, partial(_reads, shape=shape))) is not None}
        if fitting:
            best = min(fitting, key=lambda shape: (fitting[shape] != "", shapes.index(shape)))
            others = [shape for shape in fitting if shape != best and fitting[shape] == fitting[best]]
            doubt = fitting[best] or (f"{others[0]} fits, too" if others else "")
            return Guess(kind, {"format": best}, doubt)
    return None


def _odd(seen: Sequence[str], fits: Callable[[str], object]) -> str | None:
    """A sentence on the few cells that do not fit, "" when all do; None when they are not few."""
    allowed = len(seen) // MOST
    odd = []
    for text in seen:
        if not fits(text):
            odd.append(text)
            if len(odd) > allowed:
                return None
    return f"{len(odd)} of {len(seen)} different cells do not fit, e.g. {odd[0][:30]!r}" if odd else ""


def _reads(text: str, shape: str) -> bool:
    with suppress(ValueError):
        return datetime.strptime(text, shape).year > 1900 and len(text) >= len(shape) - 2
    return False
