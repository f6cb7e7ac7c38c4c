"""Finds feeds that write the same field of the same import: they would overwrite each other again and again.

There is no conflict where one of them yields (`yields: [feed]`), leaves the field to others (`own: false`), or where
the mappings show that the two never have the same record, because a part of the key always differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Map
from typing import Any

from etl.contract.spec import Operation
from etl.errors import InvalidMappingError
from etl.mapping.model import Mapping, Node, Value
from etl.mapping.problems import Problems


def read_yields(raw: Any, problems: Problems) -> tuple[str, ...]:
    """Read `yields: [feed]`."""
    entry = raw.get("yields")
    if entry is None:
        return ()
    names = entry if isinstance(entry, list) else [entry]
    if not all(isinstance(name, str) for name in names):
        where = problems.location(raw, "yields")
        problems.add("yields", "`yields` names no feeds", where=where, hint="yields: [erp-prices]")
        return ()
    return tuple(str(name) for name in names)


def find_conflicts(mappings: Sequence[Mapping]) -> dict[str, InvalidMappingError]:
    """Return an error for each feed in conflict with another; it names the fields that both write."""
    errors = {}
    for mapping in mappings:
        problems = Problems(mapping.path)
        for name in mapping.yields:
            if all(other.feed != name or other is mapping for other in mappings):
                message = f'`yields` names the feed "{name}", which no other mapping makes'
                names = [other.feed for other in mappings if other is not mapping]
                problems.add_unknown("yields", message, name, names, where=str(mapping.path))
        for other in mappings:
            if other is not mapping and not _cannot_conflict(mapping, other):
                for field, where in _shared_fields(mapping, other):
                    hint = f"give one of them precedence: `yields: [{other.feed}]` here, or leave the field out here"
                    problems.add("owners", f"{other.feed} writes {field} too", where=where, hint=hint)
        if problems.entries:
            errors[mapping.feed] = InvalidMappingError(problems.entries)
    return errors


def _cannot_conflict(one: Mapping, other: Mapping) -> bool:
    if one.operation.id != other.operation.id or one.supplier != other.supplier:
        return True
    if other.feed in one.yields or one.feed in other.yields:
        return True
    return any(_keys_differ(one, other, path) for path in one.operation.key.paths)


def _keys_differ(one: Mapping, other: Mapping, path: str) -> bool:
    """Whether a part of the key always differs between the two."""
    here, there = _possible_values(one, path), _possible_values(other, path)
    return here is not None and there is not None and not here & there


def _possible_values(mapping: Mapping, path: str) -> frozenset[str] | None:
    """Return all values that a field can have, or None where the mapping does not list them."""
    node = next((node for _, node in _value_nodes(mapping.record.values(), "") if node.path == path), None)
    value = node.value if node is not None else None
    if value is None:
        default = (mapping.operation.key.defaults or {}).get(path)
        return None if default is None else frozenset({str(default)})
    if value.kind == "constant" and value.constant is not None:
        return frozenset({str(value.constant)})
    if value.lookup is not None and not value.replace:
        return frozenset(str(text) for text in (*value.lookup.values(), value.default) if text is not None)
    if value.kind == "column" and not value.replace:
        allowed = mapping.find_column(value.text).allowed
        if allowed:
            return frozenset({*allowed, *([str(value.default)] if value.default is not None else [])})
    return None


def _shared_fields(one: Mapping, other: Mapping) -> Iterator[tuple[str, str]]:
    """Yield the fields that both write, with their location in the mapping of the first."""
    other_fields = dict(_own_fields(other))
    for place, node in _own_fields(one):
        for name, other_node in other_fields.items():
            if _may_be_same_place(place, name) and not _is_same_constant(node.value, other_node.value):
                yield place, node.where
                break
    deactivation = one.operation.deactivation
    if deactivation is not None and one.gone == other.gone == "deactivate":
        yield f"{deactivation.path} (`gone: deactivate`)", str(one.path)


def _own_fields(mapping: Mapping) -> Iterator[tuple[str, Node]]:
    """Yield the values that a mapping writes to existing records, without those that every record carries."""
    for place, node in _value_nodes(mapping.record.values(), ""):
        is_always_sent = _is_in_every_record(node, mapping.operation)
        if node.value is not None and node.value.own and not is_always_sent:
            yield place, node


def _is_in_every_record(node: Node, operation: Operation) -> bool:
    required = node.field.required == "true" or node.field.always_sent
    return node.path in operation.key.paths or node.path in operation.full_file.required_fields or required


def _value_nodes(nodes: Iterable[Node], prefix: str) -> Iterator[tuple[str, Node]]:
    """Yield every value with its place; list elements are named by their code where the mapping gives it."""
    for node in nodes:
        name = node.path.rpartition(".")[2].removesuffix("[]")
        place = f"{prefix}.{name}" if prefix else name
        if node.kind == "value":
            yield place, node
        inner = place if node.kind == "object" else f"{place}[]"
        yield from _value_nodes(_node_list(node.children), inner)
        for code, fields in node.elements:
            yield from _value_nodes(_node_list(fields), f"{place}[{code}]" if node.kind == "keyed" else f"{place}[]")


def _node_list(fields: Map[str, Node]) -> list[Node]:
    return list(fields.values())


def _may_be_same_place(one: str, other: str) -> bool:
    """Whether two places may be the same; an element without a code may be any element."""
    if one == other:
        return True
    one_parts, other_parts = one.split("["), other.split("[")
    if len(one_parts) != len(other_parts) or one_parts[0] != other_parts[0]:
        return False
    pairs = zip(one_parts[1:], other_parts[1:], strict=True)
    codes = [(a.partition("]"), b.partition("]")) for a, b in pairs]
    return all(a[2] == b[2] and (a[0] == b[0] or not a[0] or not b[0]) for a, b in codes)


def _is_same_constant(one: Value | None, other: Value | None) -> bool:
    """Whether both values are the same constant: then the two feeds do not conflict."""
    both = one is not None and other is not None and one.kind == other.kind == "constant"
    return both and one is not None and other is not None and one.constant == other.constant is not None
