"""Compares a file with the one before it: a full export with far fewer rows or bytes is probably incomplete. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from etl.mapping.model import Mapping, ShrinkLimit

#: Rows and bytes that a file may always lose where the mapping sets no share: small files vary much.
SMALL_ROW_LOSS, SMALL_BYTE_LOSS = 10, 4096


@dataclass(frozen=True, slots=True)
class PreviousFile:
    """The newest processed file of the feed, with the size of the current file."""

    run: str
    rows: int
    size: int | None = None  #: bytes; None where sizes are not comparable: workbooks, archives, a deleted file
    current_size: int | None = None
    gone: int = 0  #: active accepted records that it lacked


def shrink_warnings(mapping: Mapping, rows: int, previous_file: PreviousFile | None) -> tuple[str, ...]:
    """Return why the file looks incomplete; empty if it does not."""
    shrink = mapping.source.shrink
    if previous_file is None or shrink.share is None:
        return ()
    warnings = []
    allowed = f"`shrink` allows {(shrink.share * 100).normalize():f} %"
    if _exceeds_limit(rows, previous_file.rows, shrink, SMALL_ROW_LOSS) or (previous_file.rows and not rows):
        warnings.append(
            f"{rows} rows, {previous_file.rows} in run {previous_file.run} before it ({allowed}): is the file complete?"
        )
    if (
        previous_file.size is not None
        and previous_file.current_size is not None
        and _exceeds_limit(previous_file.current_size, previous_file.size, shrink, SMALL_BYTE_LOSS)
    ):
        warnings.append(
            f"{previous_file.current_size} bytes, {previous_file.size} in run {previous_file.run} before it "
            f"({allowed}): is the file complete?"
        )
    return tuple(warnings)


def _exceeds_limit(current: int, previous: int, limit: ShrinkLimit, small_loss: int) -> bool:
    assert limit.share is not None
    lost = previous - current
    return lost > limit.share * previous and (limit.explicit or lost > small_loss)
