"""The list of events is complete: each call in the code uses it, and each event of it has a call."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from etl import events, log
from etl.events import EVENTS

PACKAGE = Path(events.__file__).parent

#: Names of the functions that take an event.
SINKS = ("emit", "_emit", "write_event")


def function_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def event_names(node: ast.expr) -> set[str]:
    """The constants that an expression may be; empty if it passes on an event of somebody else."""
    if isinstance(node, ast.Constant):
        return {str(node.value)}
    if isinstance(node, ast.IfExp):
        return event_names(node.body) | event_names(node.orelse)
    return set()


def dictionaries(function: ast.AST) -> dict[str, set[str]]:
    """The keys of the literal dictionaries that a function assigns, by the variable's name."""
    literals: dict[str, set[str]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and isinstance(node.targets[0], ast.Name):
            literals[node.targets[0].id] = {str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)}
    return literals


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """Place, event and keys of every call in the package that emits a named event."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            literals = dictionaries(function)
            for node in ast.walk(function):
                if not isinstance(node, ast.Call) or function_name(node) not in SINKS or not node.args:
                    continue
                keys = set[str]()
                for keyword in node.keywords:
                    keys |= {keyword.arg} if keyword.arg else literals.get(getattr(keyword.value, "id", ""), {"**"})
                for name in event_names(node.args[0]):
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", name, keys


def test_every_call_uses_the_list() -> None:
    """Each emitted event is in the list with the keys of its call; no key comes from an open dictionary."""
    wrong = [
        (place, name, keys - EVENTS[name].keys if name in EVENTS else "unknown")
        for place, name, keys in calls()
        if name not in EVENTS or keys - EVENTS[name].keys
    ]
    assert wrong == []


def test_every_event_of_the_list_is_emitted() -> None:
    """No event and no key of the list lacks a call."""
    emitted = defaultdict[str, set[str]](set)
    for _, name, keys in calls():
        emitted[name] |= keys
    assert emitted == {event.name: set(event.keys) for event in EVENTS.values()}


def test_nothing_is_logged_past_the_list() -> None:
    """Only `etl.log` uses a logger."""
    users = [path for path in PACKAGE.rglob("*.py") if "log.logger(" in path.read_text(encoding="utf-8")]
    assert users == []
    assert log.write_event.__doc__


def test_no_key_is_dropped_by_the_log() -> None:
    """No event has a key that the log removes for its name."""
    assert [
        (event.name, key)
        for event in EVENTS.values()
        for key in event.keys
        if key in log._CELL_KEYS or log._SECRET_KEY.search(key)
    ] == []
