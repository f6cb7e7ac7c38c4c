"""Finds feeds that write the same field of the same import: they would overwrite each other again and again.

There is no conflict where one of them yields (`yields: [feed]`), leaves the field to others (`own: false`), or where
the mappings show that the two never have the same record, because a part of the key always differs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as Map
from typing import Any

from etl.contract.spec import Operation
from etl.errors import InvalidMappingError
from etl.mapping.model import Mapping, Node, Value
from etl.mapping.problems import Problems

#: Feeds whose names are shown when more of them write a field.
FEEDS_SHOWN = 3


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
    """Return an error for each feed in conflict with others; it names the fields that they write too.

    Only mappings that may have the same record are compared, so that hundreds of feeds take no time.
    """
    feeds = [mapping.feed for mapping in mappings]
    rivals = _find_rivals(mappings)
    own_fields = {mapping.feed: tuple(_own_fields(mapping)) for mapping in mappings if rivals[mapping.feed]}
    errors = {}
    for mapping in mappings:
        problems = Problems(mapping.path)
        for name in mapping.yields:
            if name == mapping.feed or name not in feeds:
                message = f'`yields` names the feed "{name}", which no other mapping makes'
                names = [feed for feed in feeds if feed != mapping.feed]
                problems.add_unknown("yields", message, name, names, where=str(mapping.path))
        writers: dict[tuple[str, str], list[str]] = {}
        for rival in rivals[mapping.feed]:
            for shared in _shared_fields(mapping, rival, own_fields):
                writers.setdefault(shared, []).append(rival.feed)
        for (field, where), names in writers.items():
            hint = f"give one of them precedence: `yields: [{', '.join(names)}]` here, or leave the field out here"
            problems.add("owners", f"{_list_feeds(names)} {field} too", where=where, hint=hint)
        if problems.entries:
            errors[mapping.feed] = InvalidMappingError(problems.entries)
    return errors


def _list_feeds(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} writes"
    more = f" and {len(names) - FEEDS_SHOWN} others" if len(names) > FEEDS_SHOWN else ""
    return f"{', '.join(names[:FEEDS_SHOWN])}{more} write"


def _find_rivals(mappings: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """Return for each feed the mappings of the same import that may have a record of it, unless one of both yields."""
    groups: dict[tuple[str, Any], list[Mapping]] = defaultdict(list)
    for mapping in mappings:
        groups[mapping.operation.id, mapping.supplier].append(mapping)
    return {
        mapping.feed: [
            rival
            for rival in candidates
            if rival is not mapping and rival.feed not in mapping.yields and mapping.feed not in rival.yields
        ]
        for group in groups.values()
        for mapping, candidates in zip(group, _sharing_keys(group), strict=True)
    }


def _sharing_keys(group: Sequence[Mapping]) -> Iterator[list[Mapping]]:
    """Yield for each mapping of an import those that may have the same key: no part of it always differs.

    A set of mappings is the bits of a number, so that a group is compared part by part of the key and not pair by pair.
    """
    everyone = (1 << len(group)) - 1
    shared = [everyone] * len(group)
    for path in group[0].operation.key.paths:
        values_of = [_possible_values(mapping, path) for mapping in group]
        any_value = sum(1 << place for place, values in enumerate(values_of) if values is None)
        by_value: dict[str, int] = defaultdict(int)
        for place, values in enumerate(values_of):
            for value in values or ():
                by_value[value] |= 1 << place
        for place, values in enumerate(values_of):
            if values is not None:
                same = any_value
                for value in values:
                    same |= by_value[value]
                shared[place] &= same
    for bits in shared:
        yield [mapping for place, mapping in enumerate(group) if bits >> place & 1]


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


def _shared_fields(
    one: Mapping, other: Mapping, own_fields: Map[str, Sequence[tuple[str, Node]]]
) -> Iterator[tuple[str, str]]:
    """Yield the fields that both write, with their location in the mapping of the first."""
    other_fields = dict(own_fields[other.feed])
    for place, node in own_fields[one.feed]:
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
