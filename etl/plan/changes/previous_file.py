"""A file held against the one before it: a full export that has lost much of its rows or bytes is probably cut off.

Pure: what the ledger remembers comes in as a value.
"""

from __future__ import annotations

from dataclasses import dataclass

from etl.mapping.model import Mapping, ShrinkLimit

#: What a file may lose without anybody asking, where the mapping does not set a share: small files jump.
FEW_ROWS, FEW_BYTES = 10, 4096


@dataclass(frozen=True, slots=True)
class Before:
    """The newest file of the feed that went through, beside the size of the one in hand."""

    run: str
    rows: int
    size: int | None = None  #: bytes; None where sizes say nothing: workbooks, archives, a file that is gone
    size_now: int | None = None
    gone: int = 0  #: records that it had no more, of those that Norce has


def doubts(mapping: Mapping, rows: int, before: Before | None) -> tuple[str, ...]:
    """Why the file looks like a part of one; empty when it does not."""
    bound = mapping.source.shrink
    if before is None or bound.share is None:
        return ()
    found = []
    allowed = f"`shrink` lets {(bound.share * 100).normalize():f} % pass"
    if _lost(rows, before.rows, bound, FEW_ROWS) or (before.rows and not rows):
        found.append(f"{rows} rows, {before.rows} in run {before.run} before it ({allowed}): is the file whole?")
    if (
        before.size is not None
        and before.size_now is not None
        and _lost(before.size_now, before.size, bound, FEW_BYTES)
    ):
        found.append(
            f"{before.size_now} bytes, {before.size} in run {before.run} before it ({allowed}): is the file whole?"
        )
    return tuple(found)


def _lost(now: int, before: int, bound: ShrinkLimit, few: int) -> bool:
    assert bound.share is not None
    lost = before - now
    return lost > bound.share * before and (bound.explicit or lost > few)
