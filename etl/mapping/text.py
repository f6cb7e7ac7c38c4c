"""Characters that count as space around a cell."""

from __future__ import annotations

#: What surrounds a cell without being part of it.
WHITESPACE = " \t\r\n\v\f\u00a0\u2007\u2009\u202f\ufeff\u200b"
