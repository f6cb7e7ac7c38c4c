"""Warnings of `etl check`: settings that are valid, but probably not what the author intends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from etl.contract import spec
from etl.errors import MappingProblem
from etl.mapping.model import Mapping, Node
from etl.mapping.validation import walk_nodes


def lint_mapping(mapping: Mapping) -> list[MappingProblem]:
    """Return the warnings about a mapping."""
    nodes = list(walk_nodes(mapping.record.values()))
    return [
        *_lint_create_fields(mapping, nodes),
        *_lint_elements(nodes),
        *_lint_lengths(mapping, nodes),
        *_lint_side_effects(mapping, nodes),
    ]


def _warning(code: str, message: str, where: str, hint: str) -> MappingProblem:
    return MappingProblem(f"mapping-{code}", message, where=where, hint=hint)


def _lint_create_fields(mapping: Mapping, nodes: Iterable[Node]) -> Iterator[MappingProblem]:
    paths = {node.path for node in nodes}
    missing = [path for path in mapping.operation.required_on_create if path not in paths]
    if missing:
        message = f"{mapping.operation.id} cannot create records without {', '.join(missing)}"
        yield _warning("create", message, str(mapping.path), "map them, unless every record is in Norce already")


def _lint_elements(nodes: Iterable[Node]) -> Iterator[MappingProblem]:
    """Warn of list elements without identifying fields, or without fields that Connect may require."""
    for node in nodes:
        inside = spec.load_contract().fields_of(node.field)
        keyed = node.field.row_key if node.kind == "keyed" else ()
        for fields in [node.children, *(fields for _, fields in node.elements)]:
            if not fields or "" in fields or not inside:
                continue
            identifiers = [name for name in node.field.row_key if name in inside]
            if identifiers and not any(name in fields or name in keyed for name in identifiers):
                message = f"nothing tells the elements of {node.path} apart"
                yield _warning("apart", message, node.where, f"map {identifiers[0]} in them")
            uncertain = [n for n, field in inside.items() if field.required == "unknown" and n not in (*fields, *keyed)]
            if uncertain:
                message = f"{node.path} may need {', '.join(uncertain)}: the documentation does not say"
                yield _warning("perhaps-required", message, node.where, "map them where the source has them")


def _lint_lengths(mapping: Mapping, nodes: Iterable[Node]) -> Iterator[MappingProblem]:
    for node in nodes:
        value, field = node.value, node.field
        limit = field.max_length or field.storage_length
        if value is None or limit is None:
            continue
        limit_owner = "Connect takes" if field.max_length else "Norce seems to store"
        texts = [value.constant, value.default, *(value.lookup or {}).values()]
        long_text = next((text for text in texts if isinstance(text, str) and len(text) > limit), None)
        if long_text is not None:
            message = f'{field.name}: "{long_text[:20]}…" has {len(long_text)} characters, {limit_owner} {limit}'
            yield _warning("length", message, node.where, "shorten it")
        column = mapping.find_column(value.text) if value.kind == "column" else None
        if column is not None and column.max_length is not None and column.max_length > limit:
            message = f"{field.name}: column {column.name} allows {column.max_length} characters, {limit_owner} {limit}"
            yield _warning("length", message, node.where, f"max_length: {limit}")


def _lint_side_effects(mapping: Mapping, nodes: Iterable[Node]) -> Iterator[MappingProblem]:
    """Warn of side effects of flags and switches, and of switches without effect."""
    operation = mapping.operation
    paths = {node.path: node for node in nodes}
    for flag in operation.flags:
        for path in flag.paths if flag.overrides else ():
            for name in flag.overrides:
                other = path.rpartition(".")[0] + f".{name}" if "." in path else name
                if path in paths and other in paths:
                    message = f"Connect ignores {name} in a row that has a {flag.name}"
                    yield _warning("overruled", message, paths[other].where, "such values are suppressed and counted")
    flags_node = paths.get("Flags[]")
    keeps_flags = mapping.destructive or any(name.endswith(".PreserveFlags") for name in mapping.switches)
    if flags_node is not None and flags_node.field.list_rule == "replace" and not keeps_flags:
        message = "the marks of a record are replaced: those that people set in Norce Admin go"
        hint = "switches: [PreserveFlags] keeps flags that a row leaves out; if deleting is intended: destructive: …"
        yield _warning("replaced", message, flags_node.where, hint)
    mapped = {path.removesuffix("[]") for path in paths}
    for name in mapping.switches:
        affected = [path for path in operation.flag(name).affected_paths if path not in operation.key.paths]
        if affected and not mapped.intersection(affected) and not name.endswith("FullfileResetInheritance"):
            message = f"{name} is about {' and '.join(affected)}, which is not mapped: it is never sent"
            yield _warning("idle", message, str(mapping.path), "map that, or drop the switch")
    if any(name.endswith(".PartNoCreateWhenMissing") for name in mapping.switches):
        message = "the effect of PartNoCreateWhenMissing is not documented"
        yield _warning("undocumented", message, str(mapping.path), "leave it out")
