"""White space: the characters that are removed around a cell."""

from __future__ import annotations

#: Removed at both ends of a cell.
WHITESPACE = " \t\r\n\v\f\u00a0\u2007\u2009\u202f\ufeff\u200b"
