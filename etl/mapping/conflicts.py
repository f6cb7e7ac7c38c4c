"""Which feeds write the same field of the same import: two that do would overwrite each other for ever.

One of them yields (`yields: [feed]`), or leaves the field to others (`own: false`); or it can be told from the mappings
that the two never speak of the same record, because a part of the key is never the same.
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
    """`yields: [feed]`."""
    given = raw.get("yields")
    if given is None:
        return ()
    names = given if isinstance(given, list) else [given]
    if not all(isinstance(name, str) for name in names):
        where = problems.location(raw, "yields")
        problems.add("yields", "`yields` names no feeds", where=where, hint="yields: [erp-prices]")
        return ()
    return tuple(str(name) for name in names)


def find_conflicts(mappings: Sequence[Mapping]) -> dict[str, InvalidMappingError]:
    """For each feed that is in conflict with another, its fields that both write."""
    found = {}
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
            found[mapping.feed] = InvalidMappingError(problems.entries)
    return found


def _cannot_conflict(one: Mapping, other: Mapping) -> bool:
    if one.operation.id != other.operation.id or one.supplier != other.supplier:
        return True
    if other.feed in one.yields or one.feed in other.yields:
        return True
    return any(_keys_differ(one, other, path) for path in one.operation.key.paths)


def _keys_differ(one: Mapping, other: Mapping, path: str) -> bool:
    """Whether a part of the key is never the same in the two."""
    here, there = _possible_values(one, path), _possible_values(other, path)
    return here is not None and there is not None and not here & there


def _possible_values(mapping: Mapping, path: str) -> frozenset[str] | None:
    """All values that a field can have, where the mapping says them."""
    node = next((node for _, node in _value_nodes(mapping.record.values(), "") if node.path == path), None)
    value = node.value if node is not None else None
    if value is None:
        default = (mapping.operation.key.defaults or {}).get(path)
        return None if default is None else frozenset({str(default)})
    if value.kind == "constant" and value.constant is not None:
        return frozenset({str(value.constant)})
    if value.lookup is not None and not value.replace:
        return frozenset(str(found) for found in (*value.lookup.values(), value.default) if found is not None)
    if value.kind == "column" and not value.replace:
        allowed = mapping.find_column(value.text).allowed
        if allowed:
            return frozenset({*allowed, *([str(value.default)] if value.default is not None else [])})
    return None


def _shared_fields(one: Mapping, other: Mapping) -> Iterator[tuple[str, str]]:
    """Fields that both write, each with its place in the first."""
    theirs = dict(_own_fields(other))
    for place, node in _own_fields(one):
        for name, twin in theirs.items():
            if _may_be_same_place(place, name) and not _is_same_constant(node.value, twin.value):
                yield place, node.where
                break
    off = one.operation.deactivation
    if off is not None and one.gone == other.gone == "deactivate":
        yield f"{off.path} (`gone: deactivate`)", str(one.path)


def _own_fields(mapping: Mapping) -> Iterator[tuple[str, Node]]:
    """What a mapping writes of a record that is there already, but for what every record carries."""
    for place, node in _value_nodes(mapping.record.values(), ""):
        along = _is_in_every_record(node, mapping.operation)
        if node.value is not None and node.value.own and not along:
            yield place, node


def _is_in_every_record(node: Node, operation: Operation) -> bool:
    required = node.field.required == "true" or node.field.always_sent
    return node.path in operation.key.paths or node.path in operation.full_file.required_fields or required


def _value_nodes(nodes: Iterable[Node], prefix: str) -> Iterator[tuple[str, Node]]:
    """Every value with its place; elements of lists by their code where the mapping says it."""
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
    """Whether two places may be the same: an element without a code may be any."""
    if one == other:
        return True
    ours, theirs = one.split("["), other.split("[")
    if len(ours) != len(theirs) or ours[0] != theirs[0]:
        return False
    pairs = zip(ours[1:], theirs[1:], strict=True)
    codes = [(a.partition("]"), b.partition("]")) for a, b in pairs]
    return all(a[2] == b[2] and (a[0] == b[0] or not a[0] or not b[0]) for a, b in codes)


def _is_same_constant(one: Value | None, other: Value | None) -> bool:
    """Two feeds may both say the same constant."""
    both = one is not None and other is not None and one.kind == other.kind == "constant"
    return both and one is not None and other is not None and one.constant == other.constant is not None
