"""The tree of fields of an operation, and which of them a header asks to write.

A field is *listed* by a flag of its own, or *open*: either nothing governs it (the contract's `unflagged`),
or it lies under a flagged field and goes with that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

from etl.contract import spec as api
from etl.contract.spec import Contract, Field, Flag, Operation

Mode = Literal["value", "create_only", "limited_update", "open", "off"]
_WRITING: tuple[Mode, ...] = ("value", "create_only", "limited_update")


@dataclass(frozen=True, slots=True)
class Node:
    """One field at one place of the record."""

    path: str
    field: Field
    flags: tuple[Flag, ...]  #: that write it; empty for open fields
    identity: (
        bool  #: (part of) a key of the record or of its row, or on the way to one: read for matching, listed or not
    )
    children: Mapping[str, Node]
    governed: bool  #: some field below has a flag of its own


@cache
def tree(operation_id: str) -> Mapping[str, Node]:
    """The fields of the operation's record by name."""
    contract = api.load()
    operation = contract.operations[operation_id]
    return _nodes(contract, operation, operation.item, "", _identity(operation))


def _identity(operation: Operation) -> frozenset[str]:
    paths = set(operation.key.paths)
    if operation.key.row:  # a nested key: the record can also be found by what creates it, and by its cluster
        paths.update(path for path in operation.create_needs if not path.endswith((".Status", ".Type")))
        paths.update(operation.full_file.needs)
    for path in tuple(paths):
        parts = path.split(".")
        paths.update(".".join(parts[:count]).removesuffix("[]") for count in range(1, len(parts)))
    return frozenset(paths)


def _nodes(
    contract: Contract,
    operation: Operation,
    schema: str,
    prefix: str,
    identity: frozenset[str],
    row_key: tuple[str, ...] = (),
) -> dict[str, Node]:
    nodes = {}
    for name, field in contract.schemas[schema].items():
        path = prefix + name
        below = f"{path}[]." if field.is_list else f"{path}."
        children = (
            _nodes(contract, operation, str(field.of), below, identity, field.row_key)
            if field.of in contract.schemas
            else {}
        )
        flags = tuple(flag for flag in operation.flags if flag.kind in _WRITING and path in flag.paths)
        governed = any(child.flags or child.governed for child in children.values())
        nodes[name] = Node(path, field, flags, path in identity or name in row_key, children, governed)
    return nodes


@lru_cache(maxsize=512)
def modes(operation_id: str, listed: frozenset[str]) -> Mapping[str, Mode]:
    """How every path is treated under these flags."""
    found: dict[str, Mode] = {}
    _modes(tree(operation_id), listed, False, found)
    return found


def _modes(nodes: Mapping[str, Node], listed: frozenset[str], closed: bool, found: dict[str, Mode]) -> None:
    for node in nodes.values():
        mode: Mode = "open"
        if closed:
            mode = "off"
        elif node.flags:
            kinds: set[str] = {flag.kind for flag in node.flags if flag.id in listed}
            mode = next((kind for kind in _WRITING if kind in kinds), "off")
        found[node.path] = mode
        _modes(node.children, listed, mode == "off", found)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A place where header and body disagree."""

    kind: Literal["listed_but_absent", "unlisted"]
    path: str


def mismatches(item: Mapping[str, Any], nodes: Mapping[str, Node], mode: Mapping[str, Mode]) -> Iterator[Mismatch]:
    """Listed fields that the item lacks, and fields that it carries though nothing lists them."""
    for name, node in nodes.items():
        if name not in item:
            if mode[node.path] in _WRITING:
                yield Mismatch("listed_but_absent", node.path)
            continue
        if mode[node.path] == "off" and not node.identity:
            yield Mismatch("unlisted", node.path)
            continue
        if node.field.companion and item.get(node.field.companion) is None and item[name] is not None:
            yield Mismatch("unlisted", node.path)
        value = item[name]
        if not node.children or value is None:
            continue
        for row in value if isinstance(value, list) else (value,):
            if isinstance(row, dict):
                yield from mismatches(row, node.children, mode)
