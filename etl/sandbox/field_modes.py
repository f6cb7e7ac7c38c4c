"""The tree of fields of an operation, and which of them a header asks to write.

A field is *listed* by a flag of its own, or *open*: either nothing governs it (the contract's `unflagged`),
or it lies under a flagged field and goes with that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

from etl.contract import spec
from etl.contract.spec import Contract, Field, Flag, Operation

FieldMode = Literal["value", "create_only", "limited_update", "open", "off"]
_WRITE_MODES: tuple[FieldMode, ...] = ("value", "create_only", "limited_update")


@dataclass(frozen=True, slots=True)
class FieldNode:
    """One field at one place of the record."""

    path: str
    field: Field
    flags: tuple[Flag, ...]  #: that write it; empty for open fields
    is_identifying: (
        bool  #: (part of) a key of the record or of its row, or on the way to one: read for matching, listed or not
    )
    children: Mapping[str, FieldNode]
    has_flagged_children: bool  #: some field below has a flag of its own


@cache
def field_tree(operation_id: str) -> Mapping[str, FieldNode]:
    """Return the fields of the operation's record by name."""
    contract = spec.load_contract()
    operation = contract.operations[operation_id]
    return _build_nodes(contract, operation, operation.item_schema, "", _identifying_paths(operation))


def _identifying_paths(operation: Operation) -> frozenset[str]:
    paths = set(operation.key.paths)
    if operation.key.list_path:  # a nested key: the record can also be found by what creates it, and by its cluster
        paths.update(path for path in operation.required_on_create if not path.endswith((".Status", ".Type")))
        paths.update(operation.full_file.required_fields)
    for path in tuple(paths):
        parts = path.split(".")
        paths.update(".".join(parts[:count]).removesuffix("[]") for count in range(1, len(parts)))
    return frozenset(paths)


def _build_nodes(
    contract: Contract,
    operation: Operation,
    schema: str,
    prefix: str,
    identifying_paths: frozenset[str],
    row_key: tuple[str, ...] = (),
) -> dict[str, FieldNode]:
    nodes = {}
    for name, field in contract.schemas[schema].items():
        path = prefix + name
        below = f"{path}[]." if field.is_list else f"{path}."
        children = (
            _build_nodes(contract, operation, str(field.inner_type), below, identifying_paths, field.row_key)
            if field.inner_type in contract.schemas
            else {}
        )
        flags = tuple(flag for flag in operation.flags if flag.kind in _WRITE_MODES and path in flag.paths)
        governed = any(child.flags or child.has_flagged_children for child in children.values())
        nodes[name] = FieldNode(path, field, flags, path in identifying_paths or name in row_key, children, governed)
    return nodes


@lru_cache(maxsize=512)
def field_modes(operation_id: str, flag_ids: frozenset[str]) -> Mapping[str, FieldMode]:
    """Return the mode of every path under these flags."""
    modes: dict[str, FieldMode] = {}
    _fill_modes(field_tree(operation_id), flag_ids, False, modes)
    return modes


def _fill_modes(
    nodes: Mapping[str, FieldNode], flag_ids: frozenset[str], is_off: bool, result: dict[str, FieldMode]
) -> None:
    for node in nodes.values():
        mode: FieldMode = "open"
        if is_off:
            mode = "off"
        elif node.flags:
            kinds: set[str] = {flag.kind for flag in node.flags if flag.id in flag_ids}
            mode = next((kind for kind in _WRITE_MODES if kind in kinds), "off")
        result[node.path] = mode
        _fill_modes(node.children, flag_ids, mode == "off", result)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A place where header and body disagree."""

    kind: Literal["listed_but_absent", "unlisted"]
    path: str


def find_mismatches(
    item: Mapping[str, Any], nodes: Mapping[str, FieldNode], modes: Mapping[str, FieldMode]
) -> Iterator[Mismatch]:
    """Return the listed fields that the item lacks, and the fields that it has though nothing lists them."""
    for name, node in nodes.items():
        if name not in item:
            if modes[node.path] in _WRITE_MODES:
                yield Mismatch("listed_but_absent", node.path)
            continue
        if modes[node.path] == "off" and not node.is_identifying:
            yield Mismatch("unlisted", node.path)
            continue
        if node.field.read_with and item.get(node.field.read_with) is None and item[name] is not None:
            yield Mismatch("unlisted", node.path)
        value = item[name]
        if not node.children or value is None:
            continue
        for row in value if isinstance(value, list) else (value,):
            if isinstance(row, dict):
                yield from find_mismatches(row, node.children, modes)
