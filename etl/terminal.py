"""Output without control characters, on which a terminal would act.

Names of files, cells and Norce's sentences come from outside; an escape sequence in one of them could hide, forge or
overwrite lines, and a surrogate would end the command. Everything that is printed passes here; only what colours and
moves lines itself (tables, the moving line, the log) writes to the stream behind it, and cleans its own texts.
"""

from __future__ import annotations

import re
import sys
from typing import Any, TextIO, cast

#: C0 but tab and line feed, DEL, C1, what turns the direction of writing, line separators, surrogates.
_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return the text with a visible character in place of each control character."""
    return _CONTROL_CHARACTERS.sub("\ufffd", text)


def escape_json(json: str) -> str:
    """Return JSON of the same meaning without control characters."""
    return _CONTROL_CHARACTERS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", json)


class _SanitizedStream:
    """A stream that replaces control characters."""

    def __init__(self, stream: TextIO) -> None:
        self.raw = stream

    def write(self, text: str) -> int:
        self.raw.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def sanitize_streams() -> None:
    """Replace control characters in everything that is written to standard output and error from now on."""
    for name in ("stdout", "stderr"):
        if not isinstance(getattr(sys, name), _SanitizedStream):
            setattr(sys, name, cast(TextIO, _SanitizedStream(getattr(sys, name))))


def raw_stream(stream: TextIO) -> TextIO:
    """Return the stream itself, for those that clean their own texts."""
    return stream.raw if isinstance(stream, _SanitizedStream) else stream
