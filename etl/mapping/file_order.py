"""Which of a feed's waiting files are worked, in which order, and which have been overtaken. Pure.

Of files that hold everything only the newest counts: older ones wait until it has a plan, and are overtaken then; when
it is refused or discarded, the next newest is worked. Files that hold changes are all worked, oldest first. How new a
file is its name says where the mapping gives a pattern, else the order of arrival; a file whose name says that
it is older than one that was worked is never worked by itself, because an older value must not overwrite a newer one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Named groups of `source.order`, most telling first. `time` is compared as digits from the left (20261124,
#: 2026-11-24T0930), the others as numbers.
GROUPS = ("time", "year", "month", "day", "hour", "minute", "second", "number")

Time = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that waits, as far as order is concerned."""

    run: str
    time: Time | None  #: what its name says
    arrival: tuple[float, str]  #: modification time and name
    kind: str = "file"  #: "full" and "rerun" were asked for: never overtaken
    begun: bool = False  #: planned or beyond: has to come to its end
    held: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """What is to be done with a feed's open runs."""

    work: tuple[str, ...]  #: runs in their order
    overtaken: tuple[tuple[str, str], ...]  #: runs never to be worked, each with the reason as a sentence


def problem_of(pattern: str) -> str | None:
    """What is wrong with a `source.order`, or None."""
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        return f"`order` is no regular expression: {error}"
    if not groups:
        return "`order` names no group that says how new a file is"
    unknown = [name for name in groups if name not in GROUPS]
    return f'`order` has a group "{unknown[0]}"; known are {", ".join(GROUPS)}' if unknown else None


def time_of(pattern: str | None, name: str) -> Time | None:
    """How new a file is by its name; comparable with others of the same pattern. None when the name does not say."""
    found = re.search(pattern, name) if pattern else None
    if found is None:
        return None
    groups = {key: re.sub(r"\D", "", text or "") for key, text in found.groupdict().items()}
    known = [(key, groups[key]) for key in GROUPS if key in groups]
    if not any(text for _, text in known):
        return None
    return tuple(text.ljust(20, "0") if key == "time" else text.rjust(20, "0") for key, text in known)


def queue(candidates: Sequence[Candidate], whole: bool, newest: tuple[Time, str] | None) -> Queue:
    """`whole`: the feed's files hold everything. `newest`: the highest time among files worked, and its file."""
    waiting = sorted(candidates, key=_place)
    overtaken: dict[str, str] = {}
    for candidate in waiting:
        if _may_go(candidate) and newest is not None and candidate.time is not None and candidate.time < newest[0]:
            overtaken[candidate.run] = f"older than {newest[1]}, which has been worked; `etl rerun` it to go back to it"
    files = [one for one in waiting if one.kind == "file" and one.run not in overtaken]
    lead = max(files, key=_age) if whole and files else None
    if lead is not None and lead.begun:  # not before: should it be refused, the next newest is worked
        for one in waiting:
            if one is not lead and _age(one) < _age(lead) and (_may_go(one) or one.held):
                overtaken[one.run] = f"overtaken by {lead.arrival[1]}, which holds everything and is newer"
    work: list[str] = []
    for candidate in waiting:
        if candidate.run in overtaken or (lead is not None and candidate is not lead and _may_go(candidate)):
            continue
        if candidate.held:
            if not whole:  # what comes after it would be overwritten once somebody says yes
                break
            continue
        work.append(candidate.run)
    return Queue(tuple(work), tuple(overtaken.items()))


def newest_of(times: Iterable[tuple[Time | None, str]]) -> tuple[Time, str] | None:
    """The highest time, with its name."""
    return max(((time, name) for time, name in times if time is not None), default=None)


def _may_go(candidate: Candidate) -> bool:
    return candidate.kind == "file" and not candidate.begun and not candidate.held


def _age(candidate: Candidate) -> tuple[bool, Time, tuple[float, str]]:
    return candidate.time is not None, candidate.time or (), candidate.arrival


def _place(candidate: Candidate) -> tuple[bool, bool, bool, Time, tuple[float, str]]:
    return not candidate.begun, candidate.kind == "file", *_age(candidate)
