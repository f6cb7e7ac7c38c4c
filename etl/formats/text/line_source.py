"""The lines between preamble and trailer, with what they show about the file's shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from etl.errors import InvalidFileError
from etl.formats import errors
from etl.formats.limits import ReadLimits
from etl.formats.text.lines import check_encoding, read_lines
from etl.model.tables import Dialect

#: Stands for a delimiter of several characters; like MARK, no valid text holds it.
DELIMITER_PLACEHOLDER = "\udcfe"
WORKBOOK_SIGNATURES = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")


@dataclass(slots=True)
class LineSource:
    """An iterator of lines that keeps the lines of the current record and takes off the trailer."""

    path: Path
    raw_lines: Iterator[str]
    codecs: tuple[str, ...]
    bom_size: int  #: bytes of the byte order mark
    dialect: Dialect
    limits: ReadLimits
    record_lines: list[str] = field(default_factory=list)  #: lines given out since the reader last cleared it
    line_count: int = 0  #: lines given out
    last_line: str = ""
    has_zero_byte: bool = False  #: a zero byte was seen
    header_cells: list[str] = field(default_factory=list)  #: cells of the header, where they name the columns
    trailer_match: re.Match[str] | None = None

    def __iter__(self) -> Iterator[str]:
        size = 0
        for line in self._without_trailer():
            size = size + len(line) if self.record_lines else len(line)
            if size > self.limits.record_characters:
                raise self._record_too_long()
            if "\0" in line:
                self.has_zero_byte = True
            self.record_lines.append(line)
            self.line_count += 1
            self.last_line = line
            yield line

    def _record_too_long(self) -> InvalidFileError:
        line = self.line_count - len(self.record_lines) + 1
        if len(self.record_lines) > 1:
            return errors.unclosed_quote(self.path.name, line, self.line_count + 1)
        return errors.file_too_big(
            f"{self.path.name}:{line}", "the length of one record", self.limits.record_characters
        )

    def _without_trailer(self) -> Iterator[str]:
        lines = self._prepared_lines()
        if self.dialect.trailer is None:
            yield from lines
            return
        held: list[str] = []  # the last line with something in it, and the blank ones after it
        for line in lines:
            if line.strip("\r\n\x1a"):
                yield from held
                held = [line]
            else:
                held.append(line)
        if held:
            self.trailer_match = re.fullmatch(self.dialect.trailer, held[0].strip())
        if self.trailer_match is None:
            raise errors.missing_trailer(self.path.name)

    def _prepared_lines(self) -> Iterator[str]:
        """Yield lines with a delimiter that Python's csv can take, without an old end-of-file sign at the end."""
        joint = self.dialect.delimiter if len(self.dialect.delimiter) > 1 else None
        escape = _escape_rule(self.dialect)
        for line in self.raw_lines:
            if line == "\x1a":
                continue
            if escape is not None and escape[0] in line:
                line = escape[1].sub(escape[2], line)
                if line.endswith(escape[0] + "\r\n"):
                    line = line[:-2] + "\n"  # an escaped CRLF: Python's csv would end the record at its LF
            yield line if joint is None else line.replace(joint, DELIMITER_PLACEHOLDER)

    def check_trailer(self, rows: int) -> None:
        """Compare the number in the trailer with the number of rows."""
        found = self.trailer_match.groupdict().get("rows") if self.trailer_match else None
        if found is not None and int(found) != rows:
            raise errors.wrong_trailer_count(self.path.name, int(found), rows)

    @property
    def delimiter(self) -> str:
        """One character, as Python's csv wants it."""
        return self.dialect.delimiter if len(self.dialect.delimiter) == 1 else DELIMITER_PLACEHOLDER

    def restore_delimiter(self, cells: list[str]) -> list[str]:
        """Return the cells with the mapping's own delimiter where it is quoted."""
        if len(self.dialect.delimiter) == 1:
            return cells
        return [cell.replace(DELIMITER_PLACEHOLDER, self.dialect.delimiter) for cell in cells]


def _escape_rule(dialect: Dialect) -> tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]] | None:
    r"""Return the pattern of escapes; one before an ordinary character is no escape (`C:\new`).."""
    escape = dialect.escape
    if not escape:
        return None
    special = escape + (dialect.quote or "") + dialect.delimiter[0] + "\r\n"

    def keep(found: re.Match[str]) -> str:
        return found.group(0) if found.group(1) in special else escape + found.group(0)

    return escape, re.compile(re.escape(escape) + "(.)", re.DOTALL), keep


@contextmanager
def translate_read_errors(path: Path) -> Iterator[None]:
    """Raise an OSError of the file as InvalidFileError."""
    try:
        yield
    except OSError as error:
        raise InvalidFileError(
            "file-unreadable",
            f"the file cannot be opened: {error.strerror or error}",
            where=path.name,
            hint="check that it is a file and that this user may read it",
        ) from None


@contextmanager
def open_line_source(
    path: Path, dialect: Dialect, limits: ReadLimits, offset: int = 0, line_count: int = 0
) -> Iterator[LineSource]:
    """Check size and encoding, and yield the lines; from byte `at` on when so many lines have been read before."""
    size = path.stat().st_size
    if size == 0:
        raise errors.empty_file(path.name)
    if size > limits.unpacked_bytes:
        raise errors.file_too_big(path.name, "the size", limits.unpacked_bytes, unit=" bytes")
    with path.open("rb") as raw:
        if raw.read(8).startswith(WORKBOOK_SIGNATURES):
            raise InvalidFileError(
                "format-mismatch",
                "the mapping expects a text file, this is a workbook",
                where=path.name,
                hint="if the source has changed for good, write in the mapping: format: excel",
            )
    found, skip = check_encoding(path, dialect.encoding)
    if size == skip:
        raise errors.empty_file(path.name)
    with path.open("rb") as raw:
        raw.seek(max(skip, offset))
        source = read_lines(raw, found)
        try:
            yield LineSource(path, source, found, skip, dialect, limits, line_count=line_count)
        finally:
            source.close()  # and with it the stream over `raw`
