"""Writes an item over a stored record: modes, empty values, nested lists, price rows.

What absent and null do is documented in few places; for the rest the strictest reading is taken, so that a rehearsal
shows what might be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from etl.contract.spec import Field, Operation
from etl.sandbox.field_modes import FieldMode, FieldNode
from etl.sandbox.header import RequestHeader

_FIXED_PRICE_RULE = 2
_ZERO_VALUES: Mapping[str, object] = {
    "integer": 0, "number": 0, "boolean": False, "enum": 0, "datetime": "0001-01-01T00:00:00",
    "uuid": "00000000-0000-0000-0000-000000000000",
}  # fmt: skip
#: Say how to import, and are not kept.
_INSTRUCTION_FIELDS = frozenset({"IsCreateOnly", "IsLimitedUpdate", "IsCompanyListDelta", "IsCustomerListDelta"})


@dataclass(slots=True)
class StoredRecord:
    """A record of the catalogue."""

    data: dict[str, Any]
    edited_fields: dict[str, Any] = field(default_factory=dict)  #: places that a person changed in Admin
    row_writers: dict[str, int] = field(default_factory=dict)  #: AccountId that wrote a row last


@dataclass(frozen=True, slots=True)
class Switches:
    """Flags without a field of their own: paths by what is done to them."""

    cleanup_paths: frozenset[str]
    preserve_paths: frozenset[str]
    limited_paths: frozenset[str]
    guard_paths: frozenset[str]


def read_switches(operation: Operation, header: RequestHeader) -> Switches:
    """Return the switches and row guards of the header."""
    listed = [flag for flag in operation.flags if header.has_flag(flag)]

    def affected(ending: str) -> frozenset[str]:
        return frozenset(
            path
            for flag in listed
            if flag.kind == "switch" and flag.name.endswith(ending)
            for path in flag.affected_paths
        )

    guards = frozenset(path for flag in listed if flag.kind == "row_guard" for path in flag.paths)
    return Switches(affected("Cleanup"), affected("PreserveFlags"), affected("LimitedUpdate"), guards)


@dataclass(slots=True)
class RecordWrite:
    """The writes of one import to one record; counts rows as the job does."""

    modes: Mapping[str, FieldMode]
    header: RequestHeader
    record: StoredRecord
    create_only: Literal["created", "empty"]
    switches: Switches
    inserts: int = 0
    updates: int = 0

    def count_row(self, created: bool) -> None:
        if created:
            self.inserts += 1
        else:
            self.updates += 1


def new_row(nodes: Mapping[str, FieldNode]) -> dict[str, Any]:
    """Return a new row with the defaults that the documentation states."""
    return {
        name: node.field.default
        for name, node in nodes.items()
        if node.field.default is not None and name not in _INSTRUCTION_FIELDS
    }


def write_fields(
    target: dict[str, Any],
    item: Mapping[str, Any],
    nodes: Mapping[str, FieldNode],
    work: RecordWrite,
    path: str,
    created: bool,
) -> None:
    """Write every field that the header lists, or that nothing governs, at this level and below."""
    work.count_row(created)
    for name, node in nodes.items():
        mode = work.modes[node.path]
        if mode == "off" or name in _INSTRUCTION_FIELDS or (mode == "open" and name not in item):
            continue
        if node.field.read_with and item.get(node.field.read_with) is None:
            continue  # the companion says what the number means
        place = f"{path}{name}"
        if mode == "create_only" and not _may_create(target, name, work, created):
            continue
        if mode == "limited_update" and _is_edited(work.record, place):
            continue
        _assign_field(target, item, node, work, place, created)


def _may_create(target: Mapping[str, Any], name: str, work: RecordWrite, created: bool) -> bool:
    if work.create_only == "empty":
        return target.get(name) in (None, "", [])
    return created


def _is_edited(record: StoredRecord, path: str) -> bool:
    return any(edit == path or edit.startswith((f"{path}.", f"{path}[")) for edit in record.edited_fields)


def _assign_field(
    target: dict[str, Any], item: Mapping[str, Any], node: FieldNode, work: RecordWrite, path: str, created: bool
) -> None:
    kind, name = node.field, node.field.name
    value = item.get(name)
    if value is None:
        if kind.null_effect not in ("ignored", "no_change"):
            target[name] = None if kind.nullable else _ZERO_VALUES.get(kind.type, "")
    elif kind.null_effect == "ignored" and value == 0:
        return
    elif kind.type == "object":
        old = target.get(name)
        row = _surviving_fields(old, node, work) if old else new_row(node.children)
        if _write_row(row, value, node, work, f"{path}.", not old):
            target[name] = row
    elif kind.is_list and node.children:
        delta = bool(item.get("IsCompanyListDelta") or item.get("IsCustomerListDelta"))
        target[name] = _merge_list(target.get(name) or [], value, node, work, path, delta)
    else:
        target[name] = value


def _write_row(
    row: dict[str, Any], item: Mapping[str, Any], node: FieldNode, work: RecordWrite, path: str, created: bool
) -> bool:
    if node.field.inner_type == "Product.SkuPriceList":
        return write_price_row(row, item, node.children, work, path, created)
    write_fields(row, item, node.children, work, path, created)
    return True


def _surviving_fields(row: Mapping[str, Any], node: FieldNode, work: RecordWrite) -> dict[str, Any]:
    """Return what stays of an object that is sent again: all of it where its fields have flags of their own."""
    if node.path in work.switches.cleanup_paths:
        return new_row(node.children)
    if node.has_flagged_children:
        return dict(row)
    return {
        name: value
        for name, value in row.items()
        if name not in node.children or _is_preserved(node.children[name].field)
    }


def _is_preserved(kind: Field) -> bool:
    return kind.list_rule == "merge" or kind.null_effect in ("ignored", "no_change")


def _merge_list(
    old: list[dict[str, Any]], new: list[dict[str, Any]], node: FieldNode, work: RecordWrite, path: str, delta: bool
) -> list[dict[str, Any]]:
    keep = node.field.list_rule == "merge" or node.path in work.switches.preserve_paths
    if node.path in work.switches.cleanup_paths:
        keep = False
    if node.field.name in ("Companies", "Customers"):
        keep = delta  # relations left out end, unless the record says that its list is a delta
    rows = {_key_or_position(row_identity(row, node), position): row for position, row in enumerate(old)}
    result = dict(rows) if keep else {}
    for position, item in enumerate(new):
        key = _key_or_position(_match_row_key(item, node, rows), position)
        found = rows.get(key)
        spot = f"{path}[{'|'.join(key)}]"
        if found is not None and _is_protected(item, node, work, spot):
            result[key] = found
            continue
        row = new_row(node.children) if found is None else _surviving_fields(found, node, work)
        if _write_row(row, item, node, work, f"{spot}.", found is None):
            for name in node.field.row_key:  # a row is told by its key, whether or not the header lists it
                if name in item and name not in row:
                    row[name] = item[name]
            result[key] = row
            work.record.row_writers[spot] = work.header.account_id
    return list(result.values())


def _key_or_position(key: tuple[str, ...], position: int) -> tuple[str, ...]:
    """Return the identity of a row; its position where it has no key."""
    return key if any(key) else (f"#{position}",)


def _is_protected(item: Mapping[str, Any], node: FieldNode, work: RecordWrite, path: str) -> bool:
    """Return whether a row is written once, or only by the account that wrote it (docs.norce.io/…/schemas/flag)."""
    if item.get("IsCreateOnly"):
        return True
    limited = bool(item.get("IsLimitedUpdate")) or node.path in work.switches.limited_paths
    return limited and work.record.row_writers.get(path) != work.header.account_id


def row_identity(row: Mapping[str, Any], node: FieldNode) -> tuple[str, ...]:
    """Return what identifies a row: all key fields, or the first given one where an Id is among them."""
    names = node.field.row_key or tuple(node.children)
    if "Id" in names:
        return next(((name, str(row[name])) for name in names if row.get(name)), ("",))
    if "Skus[].PartNo" in names:
        return (str(next((sku.get("PartNo") for sku in row.get("Skus") or []), row.get("ManufacturerPartNo"))),)
    return tuple(_key_text(row.get(name, node.children[name].field.default)) for name in names)


def _key_text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return "" if value is None else str(value)


def _match_row_key(
    item: Mapping[str, Any], node: FieldNode, rows: Mapping[tuple[str, ...], Mapping[str, Any]]
) -> tuple[str, ...]:
    key = row_identity(item, node)
    if key in rows or "Id" not in node.field.row_key or len(key) < 2:
        return key
    return next((known for known, row in rows.items() if str(row.get(key[0])) == key[1]), key)


def write_price_row(
    target: dict[str, Any],
    item: Mapping[str, Any],
    nodes: Mapping[str, FieldNode],
    work: RecordWrite,
    path: str,
    created: bool,
) -> bool:
    """Write a price row; return False when a guard rejects it. A sale price fixes the rule and activates the row.

    docs.norce.io/academy-trainings/erp-integrations/prices, …/schemas/skupricelistheader
    """
    for name, node in nodes.items():
        empty = item.get(name) is None or (node.field.type == "number" and item[name] == 0)
        if node.path in work.switches.guard_paths and empty:
            return False
    if work.modes[nodes["PriceSale"].path] == "off" or not item.get("PriceSale"):
        write_fields(target, item, nodes, work, path, created)
        return True
    ruled = {"PriceRule", "PriceRuleValue", "IsActive"}
    write_fields(target, item, {name: node for name, node in nodes.items() if name not in ruled}, work, path, created)
    target.pop("PriceRuleValue", None)
    target.update(IsActive=True, PriceRule=_FIXED_PRICE_RULE)
    return True
