"""Reads and checks the keys of `source` that say how its files are written: format, encoding, delimiter, header."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from typing import Any

from etl.mapping.problems import Problems
from etl.model.tables import Dialect

DIALECT_KEYS = tuple(Dialect.__dataclass_fields__)
WORKBOOK_NAME = re.compile(r"\.(xlsx|xlsm|xlsb|xls|ods)$", re.IGNORECASE)
#: Keys that have no meaning for a workbook.
TEXT_ONLY_KEYS = ("encoding", "delimiter", "quote", "escape", "short_rows", "long_rows", "final_newline")
ROW_LENGTH_CHOICES = ("reject", "empty")


def read_dialect(source: Any, files: Sequence[str], problems: Problems) -> Dialect:
    """Read the dialect of `source`; a key with a problem keeps its default."""
    settings: dict[str, Any] = {}
    for key in DIALECT_KEYS:
        if key in source:
            value = _to_python(source[key])
            reason = KEY_CHECKS[key](value)
            if reason:
                problems.add("dialect", f"`{key}` {reason}", where=problems.location(source, key), hint=KEY_HINTS[key])
            else:
                settings[key] = value
    if "format" not in settings and files:
        settings["format"] = "excel" if all(WORKBOOK_NAME.search(name) for name in files) else "csv"
    dialect = Dialect(**settings)
    for key, message, hint in _find_contradictions(dialect, source):
        problems.add("dialect", message, where=problems.location(source, key), hint=hint)
    return dialect


def _to_python(value: Any) -> Any:
    """Convert the YAML reader's own types of texts and lists to str and tuple."""
    if isinstance(value, list):
        return tuple(_to_python(item) for item in value)
    return str(value) if isinstance(value, str) else value


def _find_contradictions(dialect: Dialect, source: Any) -> list[tuple[str, str, str]]:
    """Find keys that exclude each other; returns (key, message, hint) of each."""
    excel = dialect.format == "excel"
    hint = "take it out, or set `format: csv`"
    contradictions = [
        (key, f"`{key}` means nothing for a workbook", hint) for key in TEXT_ONLY_KEYS if excel and key in source
    ]
    if dialect.sheet is not None and not excel:
        contradictions.append(("sheet", "`sheet` means nothing for a text file", "take it out, or set `format: excel`"))
    if (dialect.format == "fixed") != bool(dialect.widths):
        hint = "format: fixed, and widths: [8, 30, 10] with the characters of each column"
        contradictions.append(("widths", "`format: fixed` and `widths` go together", hint))
    if dialect.skip and dialect.header:
        contradictions.append(("skip", "`skip` is for files without a header", "header: 4 is the line of the header"))
    if not dialect.header and not dialect.columns:
        contradictions.append(("header", "`header: 0` leaves the columns without names", "columns: [first, second, …]"))
    if dialect.quote is not None and dialect.quote in dialect.delimiter:
        contradictions.append(("quote", "`quote` and `delimiter` are the same", KEY_HINTS["quote"]))
    return contradictions


def _check_text(value: Any) -> str:
    return "" if isinstance(value, str) and value else "is no text"


def _check_encoding(value: Any) -> str:
    for part in str(value).split("|"):
        try:
            if not codecs.lookup(part.strip())._is_text_encoding:
                return f'"{part}" is no encoding of text'
        except LookupError:
            return f'"{part}" is not known'
    return ""


def _check_delimiter(value: Any) -> str:
    return _check_text(value) or ("contains a line end" if re.search(r"[\r\n]", value) else "")


def _check_character(value: Any) -> str:
    fits = value is None or (isinstance(value, str) and len(value) == 1 and value not in "\r\n")
    return "" if fits else "is not one sign"


def _check_line_count(value: Any) -> str:
    return "" if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else "is no number of lines"


def _check_names(value: Any) -> str:
    if not isinstance(value, tuple) or not value or not all(isinstance(name, str) and name for name in value):
        return "is no list of names"
    duplicates = sorted({name for name in value if value.count(name) > 1})
    return f"names {', '.join(duplicates)} more than once" if duplicates else ""


def _check_widths(value: Any) -> str:
    fits = isinstance(value, tuple) and value and all(isinstance(width, int) and width > 0 for width in value)
    return "" if fits else "is no list of numbers of characters"


def _check_pattern(value: Any) -> str:
    try:
        re.compile(str(value))
    except re.error as error:
        return f"is no regular expression: {error}"
    return "" if value is None else _check_text(value)


def _choice_check(*choices: str) -> Callable[[Any], str]:
    return lambda value: "" if value in choices else f'cannot be "{value}"'


KEY_CHECKS: dict[str, Callable[[Any], str]] = {
    "format": _choice_check("csv", "excel", "fixed"),
    "encoding": _check_encoding,
    "delimiter": _check_delimiter,
    "quote": _check_character,
    "escape": _check_character,
    "header": _check_line_count,
    "skip": _check_line_count,
    "columns": _check_names,
    "sheet": lambda value: "" if value is None else _check_text(value),
    "widths": _check_widths,
    "short_rows": _choice_check(*ROW_LENGTH_CHOICES),
    "long_rows": _choice_check(*ROW_LENGTH_CHOICES),
    "final_newline": lambda value: "" if isinstance(value, bool) else "is neither true nor false",
    "trailer": _check_pattern,
}
KEY_HINTS = {
    "format": "csv, excel or fixed",
    "encoding": "a name like utf-8, utf-16, windows-1252, iso-8859-1 or cp850, or utf-8|windows-1252",
    "delimiter": 'delimiter: ";", or "\\t" for TAB',
    "quote": "one sign in quotes, or null when cells are never wrapped",
    "escape": 'escape: "\\\\"',
    "header": "the line or sheet row of the column names, 1 for the first; 0: there is none",
    "skip": "skip: 2 leaves out the first two lines of a file without a header",
    "columns": "columns: [first, second], one for each column of the file, no name twice",
    "sheet": "the name of the sheet as a text",
    "widths": "widths: [8, 30, 10]",
    "short_rows": "reject or empty",
    "long_rows": "reject or empty",
    "final_newline": "true or false",
    "trailer": 'trailer: "END;(?P<rows>\\\\d+)"',
}
