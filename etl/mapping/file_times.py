"""Reads the time of a file from its name, by the pattern `source.order` of a mapping. Pure.

Full files: only the newest counts. Change files: all are processed, oldest first. Without a pattern the order of
arrival counts. `etl.runs.queue` uses the times to choose the next file and to find overtaken ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Named groups of `source.order`, most significant first. `time` is compared as digits from the left (20261124,
#: 2026-11-24T0930), the others as numbers.
TIME_GROUPS = ("time", "year", "month", "day", "hour", "minute", "second", "number")

FileTime = tuple[str, ...]


def find_order_problem(pattern: str) -> str | None:
    """Return what is wrong with a `source.order`, or None."""
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        return f"`order` is no regular expression: {error}"
    if not groups:
        return "`order` names no group that says how new a file is"
    unknown = [name for name in groups if name not in TIME_GROUPS]
    return f'`order` has a group "{unknown[0]}"; groups are {", ".join(TIME_GROUPS)}' if unknown else None


def parse_file_time(pattern: str | None, file_name: str) -> FileTime | None:
    """Parse the time in a file's name; comparable with others of the same pattern. None where the name has no time."""
    match = re.search(pattern, file_name) if pattern else None
    if match is None:
        return None
    groups = {key: re.sub(r"\D", "", text or "") for key, text in match.groupdict().items()}
    parts = [(key, groups[key]) for key in TIME_GROUPS if key in groups]
    if not any(text for _, text in parts):
        return None
    return tuple(text.ljust(20, "0") if key == "time" else text.rjust(20, "0") for key, text in parts)


def find_newest(times: Iterable[tuple[FileTime | None, str]]) -> tuple[FileTime, str] | None:
    """Return the highest time, with its name."""
    return max(((time, name) for time, name in times if time is not None), default=None)
