"""A file held against the one before it: a full export that has lost much of its rows or bytes is probably cut off.

Pure: what the ledger remembers comes in as a value.
"""

from __future__ import annotations

from dataclasses import dataclass

from etl.mapping.model import Mapping, ShrinkLimit

#: What a file may lose without anybody asking, where the mapping does not set a share: small files jump.
SMALL_ROW_LOSS, SMALL_BYTE_LOSS = 10, 4096


@dataclass(frozen=True, slots=True)
class PreviousFile:
    """The newest file of the feed that went through, beside the size of the one in hand."""

    run: str
    rows: int
    size: int | None = None  #: bytes; None where sizes say nothing: workbooks, archives, a file that is gone
    current_size: int | None = None
    gone: int = 0  #: records that it had no more, of those that Norce has


def shrink_warnings(mapping: Mapping, rows: int, previous_file: PreviousFile | None) -> tuple[str, ...]:
    """Why the file looks like a part of one; empty when it does not."""
    bound = mapping.source.shrink
    if previous_file is None or bound.share is None:
        return ()
    found = []
    allowed = f"`shrink` allows {(bound.share * 100).normalize():f} %"
    if _exceeds_limit(rows, previous_file.rows, bound, SMALL_ROW_LOSS) or (previous_file.rows and not rows):
        found.append(
            f"{rows} rows, {previous_file.rows} in run {previous_file.run} before it ({allowed}): is the file complete?"
        )
    if (
        previous_file.size is not None
        and previous_file.current_size is not None
        and _exceeds_limit(previous_file.current_size, previous_file.size, bound, SMALL_BYTE_LOSS)
    ):
        found.append(
            f"{previous_file.current_size} bytes, {previous_file.size} in run {previous_file.run} before it "
            f"({allowed}): is the file complete?"
        )
    return tuple(found)


def _exceeds_limit(current: int, previous: int, limit: ShrinkLimit, small_loss: int) -> bool:
    assert limit.share is not None
    lost = previous - current
    return lost > limit.share * previous and (limit.explicit or lost > small_loss)
