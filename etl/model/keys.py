"""Keys of records: several parts in one text, in the order of the import's key fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

#: Between the parts of a key. No cell of a key holds it: control characters are rejected there.
KEY_SEPARATOR = "\x1f"

#: Between the parts of a key that people read.
_DISPLAY_SEPARATOR = " / "

#: How a part begins where the first identifier given decides: a Code "7" is not an Id 7.
IDENTIFIER_PREFIXES = ("Id=", "Code=", "EmailAddress=", "OrganizationNo=")


def split_key(key: str) -> list[str]:
    """Return the parts of a key."""
    return key.split(KEY_SEPARATOR)


def remove_identifier(part: str) -> str:
    """Return the value of a part, without the name of the identifier before it."""
    return part.partition("=")[2] if part.startswith(IDENTIFIER_PREFIXES) else part


def display_key(key: str) -> str:
    """Return a key for people."""
    return key.replace(KEY_SEPARATOR, _DISPLAY_SEPARATOR)


def display_keys(keys: pl.Expr) -> pl.Expr:
    """Return a column of keys for people."""
    return keys.str.replace_all(KEY_SEPARATOR, _DISPLAY_SEPARATOR, literal=True)
