"""What only shows when all of a mapping is known: keys, what Connect requires, settings that destroy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping as Map
from typing import Any

from etl.contract import spec
from etl.contract.spec import Operation
from etl.mapping import layout_builder
from etl.mapping.layout import Layout
from etl.mapping.model import Mapping, Node
from etl.mapping.problems import Problems


def validate_mapping(mapping: Mapping, raw: Any, problems: Problems) -> None:
    """What only shows when everything is known: keys, what Connect requires, destructive settings."""
    operation = mapping.operation
    paths = set(_node_paths(mapping.record.values()))
    where = problems.location(raw, "record")
    wanted = operation.key.paths
    if operation.key.match == "first_of":
        if not paths.intersection(wanted):
            hint = f"map one of {', '.join(wanted)}"
            problems.add("key", f"{operation.id} needs a key to find records by", where=where, hint=hint)
    else:
        for path in wanted:
            if path not in paths and path not in (operation.key.defaults or {}):
                hint = f"add {path.replace('[]', '')} below `record:`"
                problems.add("key", f"{operation.id} needs {path}, part of the key", where=where, hint=hint)
    for name, field in spec.load_contract().schemas[operation.item_schema].items():
        if field.required == "true" and name not in mapping.record and name not in wanted:
            hint = f"add {name} below `record:`"
            problems.add("required", f"{operation.id} needs {name} in every record", where=where, hint=hint)
    for node in walk_nodes(mapping.record.values()):
        _check_required_fields(node, problems)
        _check_mandatory_value(node, operation, problems)
    _check_read_with(mapping.record, problems)
    if not problems.entries:
        layout = layout_builder.build_layout(mapping, sample_columns(mapping))
        _check_own_false(layout, problems)
        _check_switch_flags(mapping, layout, problems, problems.location(raw, "switches"))
    if operation.key.header_fields and mapping.supplier is None:
        hint = "supplier: 123 (the supplier's id in Norce Admin)"
        problems.add("supplier", f"{operation.id} needs the supplier's id", where=problems.location(raw), hint=hint)
    if mapping.gone == "deactivate" and mapping.source.content != "full":
        message = "`gone: deactivate` needs `content: full`: a file of changes says nothing about what is gone"
        problems.add("gone", message, where=problems.location(raw, "gone"), hint="gone: ignore")
    off = operation.deactivation
    if mapping.gone == "deactivate":
        where_gone = problems.location(raw, "gone")
        if off is None:
            message = f"{operation.id} has no field that switches a record off"
            problems.add("gone", message, where=where_gone, hint="gone: ignore")
        elif off.on_value is None and off.path not in paths:
            message = f"a record that comes back needs its {off.path}, which the mapping does not give"
            problems.add("gone", message, where=where_gone, hint=f"map {off.path.replace('[]', '')}, or gone: ignore")
    cleanups = [name for name in mapping.switches if "Cleanup" in name or "Reset" in name]
    if cleanups and not mapping.destructive:
        message = f"{', '.join(cleanups)} deletes what a file leaves out"
        hint = 'say that it is meant: destructive: "why this is safe here"'
        problems.add("destructive", message, where=problems.location(raw, "switches"), hint=hint)
    contract = spec.load_contract()
    for relation, delta in (("Companies[]", "IsCompanyListDelta"), ("Customers[]", "IsCustomerListDelta")):
        said = mapping.record.get(delta)
        safe = said is not None and said.value is not None and said.value.constant is True
        bare = relation in paths and delta in contract.schemas[operation.item_schema] and not safe
        if bare and not mapping.destructive:
            message = f"without {delta} Connect detaches every relation that a record does not list"
            hint = f'add `{delta}: {{value: true}}`, or say that it is meant: destructive: "…"'
            problems.add("destructive", message, where=where, hint=hint)


def _check_required_fields(node: Node, problems: Problems) -> None:
    """Objects and elements carry what Connect needs to read them at all."""
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
    """What every record has to carry cannot be left to others, and cannot be empty."""
    value = node.value
    key = node.path in operation.key.paths
    if value is None or not (key or (node.field.required == "true" and "." not in node.path)):
        return
    what = "part of the key" if key else "required"
    if not value.own:
        message = f"{node.field.name} is {what}: every record carries it, so `own: false` cannot hold"
        problems.add("own", message, where=node.where, hint="drop `own: false`")
    if value.empty == "clear":
        message = f"{node.field.name} cannot be cleared: it is {what}"
        problems.add("cannot-clear", message, where=node.where, hint="use empty: leave")


def sample_columns(mapping: Mapping) -> tuple[str, ...]:
    """Names of columns as a file for this mapping may have them, one for each pattern."""
    names = [*mapping.columns, mapping.per or ""]
    for node in walk_nodes(mapping.record.values()):
        names += [node.column, node.pattern]
        if node.value is not None:
            names += [node.value.text if node.value.kind == "column" else "", *node.value.input_columns]
    return tuple(dict.fromkeys(re.sub(r"\*|\{\d\}", "x", name) for name in names if name))


def _check_own_false(layout: Layout, problems: Problems) -> None:
    """A field that people edit cannot be left out of what goes as a whole, nor of what tells an element apart."""
    for leaf in layout.leaves:
        if not leaf.value.own and (leaf.identifier or layout.bundles[leaf.bundle].bit_count() > 1):
            whole = leaf.parent if leaf.identifier else leaf.bundle
            message = f"{leaf.field.name} goes with all of {whole} whenever that is sent, so `own: false` cannot hold"
            problems.add("own", message, where=leaf.value.where, hint="drop `own: false`, or leave the field out")


def _check_switch_flags(mapping: Mapping, layout: Layout, problems: Problems, where: str) -> None:
    """A switch counts only with a flag above it, so something mapped has to light that."""
    lit = layout.flags_of((1 << len(layout.leaves)) - 1)
    for name in mapping.switches:
        gates = mapping.operation.flag(name).enabling_flags
        if gates and not lit.intersection(gates):
            message = f"{name} counts only together with {' or '.join(gates)}, which nothing here lights"
            problems.add("gate", message, where=where, hint="map the field of that flag, or drop the switch")


def _check_read_with(fields: Map[str, Node], problems: Problems) -> None:
    """A field that Connect only reads together with another one is of no use without it."""
    for node in fields.values():
        companion = node.field.read_with
        if companion is not None and companion not in fields:
            message = f"Connect reads {node.field.name} only together with {companion}, which is not mapped"
            problems.add("companion", message, where=node.where, hint=f"add `{companion}: …` beside it")
        for inside in (node.children, *(element for _, element in node.elements)):
            _check_read_with(inside, problems)


def walk_nodes(nodes: Iterable[Node]) -> Iterable[Node]:
    """All nodes of a record, in the order of the mapping."""
    for node in nodes:
        yield node
        yield from walk_nodes(node.children.values())
        for _, fields in node.elements:
            yield from walk_nodes(fields.values())


def _node_paths(nodes: Iterable[Node]) -> Iterable[str]:
    for node in walk_nodes(nodes):
        yield node.path
