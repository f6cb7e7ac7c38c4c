"""docs/glossary.md describes every public name that is a value: states, kinds, events and alerts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from etl.events import EVENTS
from etl.model.runs import ChunkState, Run, RunState
from etl.runs import alerts

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"


def part(title: str) -> str:
    """The text under a heading of the second level."""
    return GLOSSARY.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def meaning(term: str) -> str:
    """The second cell of a term's row."""
    (row,) = re.findall(rf"(?m)^\| {re.escape(term)} \| (.+?) \|", part("Terms"))
    return str(row)


ALERT_PREFIXES = (*alerts._DERIVED_PREFIXES, alerts._NOT_READY_PREFIX, *alerts._JOB_PREFIXES, "fetch:")


@pytest.mark.parametrize(
    ("term", "values"),
    [
        ("run state", [state.value for state in RunState]),
        ("run kind", get_args(get_type_hints(Run)["kind"])),
        ("chunk state", [state.value for state in ChunkState]),
        ("alert", [prefix.rstrip(":") for prefix in ALERT_PREFIXES]),
    ],
)
def test_every_value_is_described(term: str, values: list[str]) -> None:
    """The row of the term names each value, and none that does not exist."""
    named = set(re.findall(r"`(\w+)`", meaning(term)))
    assert named == set(values)


def test_every_event_is_described() -> None:
    """The table of events has each event with its level and keys."""
    rows = re.findall(r"(?m)^\| `(\w+)` \| (debug|info|warning) \| (.*?) \| (.+) \|$", part("Terms"))
    described = {name: (level, set(re.findall(r"\w+", keys))) for name, level, keys, _ in rows}
    assert described == {event.name: (event.level, set(event.keys)) for event in EVENTS.values()}


def test_a_changed_name_is_not_in_use_among_the_values() -> None:
    """No state, kind or event goes by a name that the table calls old."""
    in_use = {*RunState, *ChunkState, *get_args(get_type_hints(Run)["kind"]), *EVENTS}
    rows = re.findall(r"(?m)^\| (state|run-kind|event) \| [^|]* \| `([\w ]+)` \|", part("Names that changed"))
    assert rows
    assert {old for _, old in rows} & in_use == set()
