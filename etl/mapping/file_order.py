"""Which of a feed's waiting files are worked, in which order, and which have been overtaken. Pure.

Of files that hold everything only the newest counts: older ones wait until it has a plan, and are overtaken then; when
it is refused or discarded, the next newest is worked. Files that hold changes are all worked, oldest first. How new a
file is its name says where the mapping gives a pattern, else the order of arrival; a file whose name says that
it is older than one that was worked is never worked by itself, because an older value must not overwrite a newer one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Named groups of `source.order`, most telling first. `time` is compared as digits from the left (20261124,
#: 2026-11-24T0930), the others as numbers.
TIME_GROUPS = ("time", "year", "month", "day", "hour", "minute", "second", "number")

FileTime = tuple[str, ...]


def find_order_problem(pattern: str) -> str | None:
    """What is wrong with a `source.order`, or None."""
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        return f"`order` is no regular expression: {error}"
    if not groups:
        return "`order` names no group that says how new a file is"
    unknown = [name for name in groups if name not in TIME_GROUPS]
    return f'`order` has a group "{unknown[0]}"; groups are {", ".join(TIME_GROUPS)}' if unknown else None


def parse_file_time(pattern: str | None, file_name: str) -> FileTime | None:
    """How new a file is by its name; comparable with others of the same pattern. None when the name does not say."""
    found = re.search(pattern, file_name) if pattern else None
    if found is None:
        return None
    groups = {key: re.sub(r"\D", "", text or "") for key, text in found.groupdict().items()}
    known = [(key, groups[key]) for key in TIME_GROUPS if key in groups]
    if not any(text for _, text in known):
        return None
    return tuple(text.ljust(20, "0") if key == "time" else text.rjust(20, "0") for key, text in known)


def find_newest(times: Iterable[tuple[FileTime | None, str]]) -> tuple[FileTime, str] | None:
    """The highest time, with its name."""
    return max(((time, name) for time, name in times if time is not None), default=None)
