"""Checks that need the whole mapping: keys, what Connect requires, destructive settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Map
from typing import Any

from etl.contract import spec
from etl.contract.spec import Operation
from etl.mapping import layout_builder
from etl.mapping.layout import Layout
from etl.mapping.model import Mapping, Node
from etl.mapping.problems import Problems


def validate_mapping(mapping: Mapping, raw: Any, problems: Problems) -> None:
    """Run every check; the layout, which needs a correct record, is checked only where the record has no problem.

    Args:
        raw: the mapping file as read, for the locations of problems.
    """
    for check in RECORD_CHECKS:
        check(mapping, raw, problems)
    if not problems.entries:
        layout = layout_builder.build_layout(mapping, sample_columns(mapping))
        _check_own_false(layout, problems)
        _check_switch_flags(mapping, layout, problems, problems.location(raw, "switches"))
    for check in SETTING_CHECKS:
        check(mapping, raw, problems)


def _check_key(mapping: Mapping, raw: Any, problems: Problems) -> None:
    """Require the fields that tell records apart."""
    operation = mapping.operation
    paths = set(_node_paths(mapping.record.values()))
    where = problems.location(raw, "record")
    if operation.key.match == "first_of":
        if not paths.intersection(operation.key.paths):
            hint = f"map one of {', '.join(operation.key.paths)}"
            problems.add("key", f"{operation.id} needs a key to find records by", where=where, hint=hint)
        return
    for path in operation.key.paths:
        if path not in paths and path not in (operation.key.defaults or {}):
            hint = f"add {path.replace('[]', '')} below `record:`"
            problems.add("key", f"{operation.id} needs {path}, part of the key", where=where, hint=hint)


def _check_required(mapping: Mapping, raw: Any, problems: Problems) -> None:
    """Require the fields that every record of the operation needs."""
    operation = mapping.operation
    where = problems.location(raw, "record")
    for name, field in spec.load_contract().schemas[operation.item_schema].items():
        if field.required == "true" and name not in mapping.record and name not in operation.key.paths:
            hint = f"add {name} below `record:`"
            problems.add("required", f"{operation.id} needs {name} in every record", where=where, hint=hint)


def _check_nodes(mapping: Mapping, raw: Any, problems: Problems) -> None:
    """Check each node: what its object or element needs, and what a mandatory value may not be."""
    for node in walk_nodes(mapping.record.values()):
        _check_required_fields(node, problems)
        _check_mandatory_value(node, mapping.operation, problems)


def _check_companions(mapping: Mapping, raw: Any, problems: Problems) -> None:
    """Check fields that Connect reads only together with another one."""
    _check_read_with(mapping.record, problems)


def _check_supplier(mapping: Mapping, raw: Any, problems: Problems) -> None:
    """Require the supplier where the header names it."""
    if mapping.operation.key.header_fields and mapping.supplier is None:
        message = f"{mapping.operation.id} needs the supplier's id"
        hint = "supplier: 123 (the supplier's id in Norce Admin)"
        problems.add("supplier", message, where=problems.location(raw), hint=hint)


def _check_gone(mapping: Mapping, raw: Any, problems: Problems) -> None:
    """Check that `gone: deactivate` has a full file, and a field that deactivates and reactivates records."""
    if mapping.gone != "deactivate":
        return
    where = problems.location(raw, "gone")
    if mapping.source.content != "full":
        message = "`gone: deactivate` needs `content: full`: a change file does not show which records are missing"
        problems.add("gone", message, where=where, hint="gone: ignore")
    deactivation = mapping.operation.deactivation
    if deactivation is None:
        message = f"{mapping.operation.id} has no field that deactivates a record"
        problems.add("gone", message, where=where, hint="gone: ignore")
    elif deactivation.on_value is None and deactivation.path not in set(_node_paths(mapping.record.values())):
        message = f"a record that reappears needs its {deactivation.path}, which the mapping does not give"
        problems.add("gone", message, where=where, hint=f"map {deactivation.path.replace('[]', '')}, or gone: ignore")


def _check_cleanup_switches(mapping: Mapping, raw: Any, problems: Problems) -> None:
    """Require `destructive` for switches that delete what a file leaves out."""
    cleanups = [name for name in mapping.switches if "Cleanup" in name or "Reset" in name]
    if cleanups and not mapping.destructive:
        message = f"{', '.join(cleanups)} deletes everything that a file leaves out"
        hint = 'say that it is meant: destructive: "why this is safe here"'
        problems.add("destructive", message, where=problems.location(raw, "switches"), hint=hint)


def _check_relation_deltas(mapping: Mapping, raw: Any, problems: Problems) -> None:
    """Require `destructive` for relations that Connect takes as the complete list."""
    schema = spec.load_contract().schemas[mapping.operation.item_schema]
    paths = set(_node_paths(mapping.record.values()))
    for relation, delta in (("Companies[]", "IsCompanyListDelta"), ("Customers[]", "IsCustomerListDelta")):
        node = mapping.record.get(delta)
        is_delta = node is not None and node.value is not None and node.value.constant is True
        if relation in paths and delta in schema and not is_delta and not mapping.destructive:
            message = f"without {delta} Connect detaches every relation that a record does not list"
            hint = f'add `{delta}: {{value: true}}`, or say that it is meant: destructive: "…"'
            problems.add("destructive", message, where=problems.location(raw, "record"), hint=hint)


def _check_required_fields(node: Node, problems: Problems) -> None:
    """Require the fields without which Connect cannot read an object or element."""
    groups = [node.children] if node.children and "" not in node.children else []
    groups += [fields for _, fields in node.elements if "" not in fields]
    for fields in groups:
        inside = spec.load_contract().fields_of(node.field)
        keyed = node.field.row_key if node.kind == "keyed" else ()
        missing = [
            name
            for name, field in inside.items()
            if (field.required == "true" or field.always_sent) and name not in fields and name not in keyed
        ]
        for name in missing:
            hint = f"add `{name}: …` there"
            problems.add("required", f"{node.path} needs {name}", where=node.where, hint=hint)


def _check_mandatory_value(node: Node, operation: Operation, problems: Problems) -> None:
    """Reject `own: false` and `empty: clear` for a value that every record must carry."""
    value = node.value
    is_key = node.path in operation.key.paths
    if value is None or not (is_key or (node.field.required == "true" and "." not in node.path)):
        return
    reason = "part of the key" if is_key else "required"
    if not value.own:
        message = f"{node.field.name} is {reason}: every record carries it, so `own: false` cannot hold"
        problems.add("own", message, where=node.where, hint="drop `own: false`")
    if value.empty == "clear":
        message = f"{node.field.name} cannot be cleared: it is {reason}"
        problems.add("cannot-clear", message, where=node.where, hint="use empty: leave")


def sample_columns(mapping: Mapping) -> tuple[str, ...]:
    """Return column names that a file of this mapping may have, one for each pattern."""
    names = [*mapping.columns, mapping.per or ""]
    for node in walk_nodes(mapping.record.values()):
        names += [node.column, node.pattern]
        if node.value is not None:
            names += [node.value.text if node.value.kind == "column" else "", *node.value.input_columns]
    return tuple(dict.fromkeys(re.sub(r"\*|\{\d\}", "x", name) for name in names if name))


def _check_own_false(layout: Layout, problems: Problems) -> None:
    """Reject `own: false` for identifiers and for parts of a bundle, which is always sent whole."""
    for leaf in layout.leaves:
        if not leaf.value.own and (leaf.identifier or layout.bundles[leaf.bundle].bit_count() > 1):
            whole = leaf.parent if leaf.identifier else leaf.bundle
            message = f"{leaf.field.name} goes with all of {whole} whenever that is sent, so `own: false` cannot hold"
            problems.add("own", message, where=leaf.value.where, hint="drop `own: false`, or leave the field out")


def _check_switch_flags(mapping: Mapping, layout: Layout, problems: Problems, where: str) -> None:
    """Reject a switch whose enabling flag no mapped field activates."""
    active_flags = layout.flags_of((1 << len(layout.leaves)) - 1)
    for name in mapping.switches:
        enabling_flags = mapping.operation.flag(name).enabling_flags
        if enabling_flags and not active_flags.intersection(enabling_flags):
            message = f"{name} counts only together with {' or '.join(enabling_flags)}, which nothing here lights"
            problems.add("gate", message, where=where, hint="map the field of that flag, or drop the switch")


def _check_read_with(fields: Map[str, Node], problems: Problems) -> None:
    """Require the companion of each field that Connect reads only together with another one."""
    for node in fields.values():
        companion = node.field.read_with
        if companion is not None and companion not in fields:
            message = f"Connect reads {node.field.name} only together with {companion}, which is not mapped"
            problems.add("companion", message, where=node.where, hint=f"add `{companion}: …` beside it")
        for inside in (node.children, *(element for _, element in node.elements)):
            _check_read_with(inside, problems)


def walk_nodes(nodes: Iterable[Node]) -> Iterable[Node]:
    """Yield all nodes of a record, in the order of the mapping."""
    for node in nodes:
        yield node
        yield from walk_nodes(node.children.values())
        for _, fields in node.elements:
            yield from walk_nodes(fields.values())


def _node_paths(nodes: Iterable[Node]) -> Iterable[str]:
    for node in walk_nodes(nodes):
        yield node.path


Check = Callable[[Mapping, Any, Problems], None]

#: Checks of the record, in the order in which people read their problems.
RECORD_CHECKS: tuple[Check, ...] = (_check_key, _check_required, _check_nodes, _check_companions)

#: Checks of settings beside the record.
SETTING_CHECKS: tuple[Check, ...] = (_check_supplier, _check_gone, _check_cleanup_switches, _check_relation_deltas)
