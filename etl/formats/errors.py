"""Makes the errors of files and rows: one function for each cause, so that the same cause has one message."""

from __future__ import annotations

from etl.errors import InvalidFileError


def display_character(text: str) -> str:
    """Return a delimiter or quote as people call it."""
    return {"\t": "TAB", " ": "SPACE"}.get(text, f"'{text}'")


def yaml_literal(text: str | None) -> str:
    """Return a string as it is written in a mapping."""
    if text is None:
        return "null"
    return '"\\t"' if text == "\t" else "'\"'" if text == '"' else f'"{text}"'


def empty_file(where: str) -> InvalidFileError:
    return InvalidFileError(
        "file-empty", "the file is empty", where=where, hint="ask the source to export again, then drop the file again"
    )


def missing_header(where: str, header: int, lines: int) -> InvalidFileError:
    return InvalidFileError(
        "header-missing",
        f"the header should be in line {header}, but the file has {lines} lines",
        where=where,
        hint="check `header:` in the mapping (1-based line), or whether the file was cut off",
    )


def blank_header(where: str, header: int, _: int = 0) -> InvalidFileError:
    return InvalidFileError(
        "header-missing",
        f"the header should be in line {header}, but that line is blank",
        where=f"{where}:{header}",
        hint="set `header:` in the mapping to the line that holds the column names",
    )


def duplicate_names(where: str, header: int, names: list[str]) -> InvalidFileError:
    return InvalidFileError(
        "header-duplicate",
        f"column names appear more than once: {', '.join(names)}",
        where=f"{where}:{header}" if header else where,
        hint="rename them in the source, or name every column yourself with `columns:` in the mapping",
    )


def wrong_delimiter(where: str, line: int, declared: str, actual: str) -> InvalidFileError:
    return InvalidFileError(
        "delimiter-mismatch",
        f"delimiter was {display_character(declared)}, this file has {display_character(actual)}",
        where=f"{where}:{line}",
        hint=f"if the source has changed for good, write in the mapping: delimiter: {yaml_literal(actual)}",
    )


def wrong_quote(where: str, line: int, declared: str | None, actual: str) -> InvalidFileError:
    was = "no quotes were declared" if declared is None else f"quote was {display_character(declared)}"
    return InvalidFileError(
        "quote-mismatch",
        f"{was}, this file wraps its cells in {display_character(actual)}",
        where=f"{where}:{line}",
        hint=f"if the source has changed for good, write in the mapping: quote: {yaml_literal(actual)}",
    )


def wrong_encoding(where: str, declared: str, actual: str, reason: str) -> InvalidFileError:
    return InvalidFileError(
        "encoding-mismatch",
        f"encoding was {declared}, this file is {actual}: {reason}",
        where=where,
        hint=f"if the source has changed for good, write in the mapping: encoding: {actual}",
    )


def unknown_encoding(where: str, name: str) -> InvalidFileError:
    return InvalidFileError(
        "encoding-unknown",
        f"there is no encoding called {name!r}",
        where=where,
        hint="use a name like utf-8, utf-16, windows-1252, iso-8859-1 or cp850 in the mapping's `encoding:`",
    )


def file_too_big(where: str, measure: str, limit: int | float, *, unit: str = "") -> InvalidFileError:
    return InvalidFileError(
        "file-too-big",
        f"{measure} is above the limit of {limit:,}{unit}",
        where=where,
        hint="check that this is the right file; split the export if it is",
    )


def unclosed_quote(where: str, line: int, last: int) -> InvalidFileError:
    return InvalidFileError(
        "open-quote",
        f"the quote opened in line {line} is never closed, so lines {line} to {last} cannot be told apart",
        where=f"{where}:{line}",
        hint='double the quote inside the cell ("") in the source, or set `quote: null` if cells are never quoted',
    )


def missing_columns(where: str) -> InvalidFileError:
    return InvalidFileError(
        "columns-missing",
        "the file has no header, and the mapping does not name its columns",
        where=where,
        hint="name them in the mapping: columns: [first, second]",
    )


def missing_trailer(where: str) -> InvalidFileError:
    return InvalidFileError(
        "trailer-missing",
        "the last line is not the trailer that the mapping asks for: the file may be cut off",
        where=where,
        hint="ask the source to send the file again, or correct `trailer:` in the mapping",
    )


def wrong_trailer_count(where: str, announced: int, rows: int) -> InvalidFileError:
    return InvalidFileError(
        "trailer-count",
        f"the trailer announces {announced} rows, the file has {rows}",
        where=where,
        hint="the file is cut off or was put together wrongly: ask the source to send it again",
    )


def repeated_header(row: int, value: str) -> tuple[str, str, str, str]:
    """Return code, value, message and hint of a row that repeats the header."""
    return (
        "header-again",
        value,
        f"line {row} is the header once more: the file was put together from several exports",
        "ask the source for one export in one file; the rows around it are read",
    )
