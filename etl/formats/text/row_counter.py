"""Counts the rows of a file a second time, with code that the readers of the table do not share.

It follows the same grammar with a pattern per cell instead of a csv module, and keeps nothing but the count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from etl.model.tables import Dialect

LINE_ENDS = "\r\n"


def count_rows(lines: Iterable[str], dialect: Dialect, delimiter: str) -> int:
    """Count the records with something in them, well-formed or not."""
    quote, escape = dialect.quote, dialect.escape
    blank = delimiter + LINE_ENDS
    if quote is None and escape is None:
        return sum(1 for line in lines if line.strip(blank))
    marks = [mark for mark in (quote, escape) if mark]
    scan = _QuoteScanner(delimiter, quote, escape)
    total = 0
    for line in lines:
        if not scan.in_quotes and not scan.in_escaped_line and not any(mark in line for mark in marks):
            if line.strip(blank) or scan.has_content:
                total += 1
            scan.has_content = False
            continue
        if scan.scan_line(line):
            total += scan.has_content
            scan.has_content = False
    return total + (scan.in_record and (scan.has_content or scan.in_quotes))


class _QuoteScanner:
    """Follows the quotes from line to line; `feed` says whether a record ended with this line."""

    def __init__(self, delimiter: str, quote: str | None, escape: str | None) -> None:
        self.delimiter = delimiter
        self.quote = quote
        self.in_quotes = False  #: within a quoted cell
        self.has_content = False  #: the record has a cell that is not empty
        self.in_record = False
        self.in_escaped_line = False  #: within a cell without quotes whose line end is escaped
        skip = rf"|{re.escape(escape)}." if escape else ""
        stop = re.escape(escape) if escape else ""
        quoted = re.escape(quote) if quote else ""
        self.plain_cell = re.compile(rf"(?:[^{re.escape(delimiter)}{stop}\r\n]{skip})*", re.DOTALL)
        # a doubled quote is part of the cell, also where it is the escape of itself
        self.quoted_cell = (
            re.compile(rf"(?:[^{quoted}{stop}]|{quoted}{quoted}{skip})*", re.DOTALL) if quote else self.plain_cell
        )

    def scan_line(self, line: str) -> bool:
        at, size, start = 0, len(line), not self.in_quotes
        self.in_record = True
        while True:
            if start and not self.in_escaped_line and self.quote and line.startswith(self.quote, at):
                self.in_quotes, at = True, at + 1
            if self.in_quotes:
                found = self.quoted_cell.match(line, at)
                assert found
                self.has_content = self.has_content or found.end() > at
                at = found.end()
                if at >= size:
                    return False
                at += 1  # the closing quote
                self.in_quotes = False
            elif start:
                found = self.plain_cell.match(line, at)
                assert found
                self.has_content = self.has_content or found.end() > at
                at, self.in_escaped_line = found.end(), False
                if at >= size and line.endswith(("\r", "\n")):
                    self.in_escaped_line = True
                    return False
            if at < size and line.startswith(self.delimiter, at):
                at, start = at + 1, True
                continue
            if at < size and line[at] not in LINE_ENDS:
                self.has_content = True  # something after a closing quote: broken, and its line ends the record
            self.in_record = False
            return True
