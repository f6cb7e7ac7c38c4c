"""Guesses the type of a column from its cells, to draft a mapping; runs never use it.

A guess must fit nearly all cells; it names the others, and says where a second type fits too. Digits with leading
zeros are identifiers and stay text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from etl.mapping.model import ColumnType
from etl.mapping.text import WHITESPACE

#: (decimal mark, thousands mark), the plain ones first.
NUMBER_MARKS = ((".", None), (",", None), (",", "."), (".", ","), (",", " "), (".", " "), (".", "'"), (",", "'"))
DATE_FORMATS = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%d.%m.%y", "%d/%m/%y")
DATETIME_FORMATS = tuple(
    f"{day}{between}{time}" for day in DATE_FORMATS[:6] for between in " T" for time in ("%H:%M:%S", "%H:%M")
)
#: Pairs of words that mean yes and no.
BOOLEAN_WORDS = (("ja", "nej"), ("yes", "no"), ("true", "false"), ("ja", "nein"), ("ja", "nei"), ("kyllä", "ei"),
         ("j", "n"), ("y", "n"), ("sant", "falskt"), ("wahr", "falsch"), ("on", "off"))  # fmt: skip

#: A long number as a spreadsheet shows and exports it.
SCIENTIFIC_NOTATION = re.compile(r"\d[.,]\d+E\+\d{1,2}", re.IGNORECASE)

#: One in so many different cells may not fit.
MISFIT_RATIO = 10


@dataclass(frozen=True, slots=True)
class TypeGuess:
    """A column type with its settings as in a mapping, and a sentence on what is uncertain."""

    type: ColumnType = "text"
    settings: dict[str, str | list[str]] = field(default_factory=dict)
    uncertainty: str = ""


def guess_column_type(cells: Sequence[str], *, excel: bool = False) -> TypeGuess:
    """Guess the type that nearly all of these cells have."""
    seen = [text for cell in dict.fromkeys(cells) if (text := cell.strip(WHITESPACE))]
    if not seen:
        return TypeGuess(uncertainty="no cell is filled")
    if any(re.fullmatch(r"[+-]?0\d+", text) for text in seen):
        return _guess_time(seen) or TypeGuess()
    short = next((text for text in seen if SCIENTIFIC_NOTATION.fullmatch(text)), None)
    if short is not None:
        return TypeGuess(uncertainty=f"a spreadsheet has shortened {short}: its last digits are lost")
    return _guess_number(seen, excel=excel) or _guess_words(seen) or _guess_time(seen) or TypeGuess()


def guess_boolean(cells: Sequence[str]) -> TypeGuess | None:
    """Guess whether a column holds yes and no, for a boolean field: 1 and 0 count too."""
    seen = {cell.strip(WHITESPACE) for cell in cells} - {""}
    return TypeGuess("boolean") if seen and seen <= {"0", "1"} else _guess_words(list(seen))


def _guess_words(texts: Sequence[str]) -> TypeGuess | None:
    lower = {text.lower() for text in texts}
    for yes, no in BOOLEAN_WORDS:
        if lower == {yes, no}:
            return TypeGuess("boolean", {"true": [yes], "false": [no]})
    return None


def _guess_number(texts: Sequence[str], *, excel: bool) -> TypeGuess | None:
    integer_misfits = _describe_misfits(texts, re.compile(r"-?\d{1,15}").fullmatch)
    if integer_misfits == "":
        return TypeGuess("integer")
    for mark, group in NUMBER_MARKS[:1] if excel else NUMBER_MARKS:
        separator = r"[ \u00a0\u2009\u202f]" if group == " " else re.escape(group or "")
        whole = rf"(?:\d{{1,3}}(?:{separator}\d{{3}})+|\d+)" if group else r"\d+"
        misfits = _describe_misfits(texts, re.compile(rf"[+-]?{whole}(?:{re.escape(mark)}\d+)?").fullmatch)
        if misfits is None:
            continue
        settings: dict[str, str | list[str]] = {} if mark == "." else {"decimal": mark}
        if group:
            settings["thousands"] = group
        elif not excel:
            marked = [text for text in texts if mark in text]
            if marked and all(re.fullmatch(rf"[+-]?\d{{1,3}}{re.escape(mark)}\d{{3}}", text) for text in marked):
                misfits = misfits or f'"{mark}" may stand between thousands'
        if integer_misfits is not None and not any(mark in text for text in texts):
            return TypeGuess("integer", {}, integer_misfits)
        return TypeGuess("decimal", settings, misfits)
    return None


def _guess_time(texts: Sequence[str]) -> TypeGuess | None:
    kinds: tuple[tuple[ColumnType, tuple[str, ...]], ...] = (("date", DATE_FORMATS), ("datetime", DATETIME_FORMATS))
    for kind, formats in kinds:
        fitting = {
            shape: misfits
            for shape in formats
            if (misfits := _describe_misfits(texts, partial(_has_format, time_format=shape))) is not None
        }
        if fitting:
            best = min(fitting, key=lambda shape: (fitting[shape] != "", formats.index(shape)))
            others = [shape for shape in fitting if shape != best and fitting[shape] == fitting[best]]
            uncertainty = fitting[best] or (f"{others[0]} fits, too" if others else "")
            return TypeGuess(kind, {"format": best}, uncertainty)
    return None


def _describe_misfits(texts: Sequence[str], fits: Callable[[str], object]) -> str | None:
    """Return a sentence on the few cells that do not fit, "" where all fit, None where too many do not."""
    allowed = len(texts) // MISFIT_RATIO
    misfits = []
    for text in texts:
        if not fits(text):
            misfits.append(text)
            if len(misfits) > allowed:
                return None
    return f"{len(misfits)} of {len(texts)} different cells do not fit, e.g. {misfits[0][:30]!r}" if misfits else ""


def _has_format(text: str, time_format: str) -> bool:
    with suppress(ValueError):
        return datetime.strptime(text, time_format).year > 1900 and len(text) >= len(time_format) - 2
    return False
