"""Writing one item over one stored record: modes, empty values, nested lists, price rows.

What absent and null do is documented in few places; the rest takes the harsh reading, so that a rehearsal shows
what might be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from etl.contract.spec import Field, Operation
from etl.sandbox.field_modes import Mode, Node
from etl.sandbox.header import Header

_FIXED_PRICE = 2
_ZERO: Mapping[str, object] = {
    "integer": 0, "number": 0, "boolean": False, "enum": 0, "datetime": "0001-01-01T00:00:00",
    "uuid": "00000000-0000-0000-0000-000000000000",
}  # fmt: skip
#: Say how to import, and are not kept.
_INSTRUCTIONS = frozenset({"IsCreateOnly", "IsLimitedUpdate", "IsCompanyListDelta", "IsCustomerListDelta"})


@dataclass(slots=True)
class Record:
    """What is held under one key."""

    data: dict[str, Any]
    edited: dict[str, Any] = field(default_factory=dict)  #: places that a person changed in Admin
    owners: dict[str, int] = field(default_factory=dict)  #: AccountId that wrote a row last


@dataclass(frozen=True, slots=True)
class Switches:
    """Flags without a field of their own: paths by what is done to them."""

    cleaned: frozenset[str]
    preserved: frozenset[str]
    limited: frozenset[str]
    guards: frozenset[str]


def switches(operation: Operation, header: Header) -> Switches:
    """The switches and row guards of the header."""
    listed = [flag for flag in operation.flags if header.lists(flag)]

    def affected(ending: str) -> frozenset[str]:
        return frozenset(
            path for flag in listed if flag.kind == "switch" and flag.name.endswith(ending) for path in flag.affects
        )

    guards = frozenset(path for flag in listed if flag.kind == "row_guard" for path in flag.paths)
    return Switches(affected("Cleanup"), affected("PreserveFlags"), affected("LimitedUpdate"), guards)


@dataclass(slots=True)
class Writing:
    """One import at work on one record; counts rows as the job does."""

    mode: Mapping[str, Mode]
    header: Header
    record: Record
    create_only: Literal["created", "empty"]
    switches: Switches
    inserts: int = 0
    updates: int = 0

    def count(self, created: bool) -> None:
        if created:
            self.inserts += 1
        else:
            self.updates += 1


def create(nodes: Mapping[str, Node]) -> dict[str, Any]:
    """A new row with the defaults that the documentation states."""
    return {
        name: node.field.default
        for name, node in nodes.items()
        if node.field.default is not None and name not in _INSTRUCTIONS
    }


def write(
    target: dict[str, Any], item: Mapping[str, Any], nodes: Mapping[str, Node], work: Writing, at: str, created: bool
) -> None:
    """Write every field that the header lists, or that nothing governs, at this level and below."""
    work.count(created)
    delta = bool(item.get("IsCompanyListDelta") or item.get("IsCustomerListDelta"))
    for name, node in nodes.items():
        mode = work.mode[node.path]
        if mode == "off" or name in _INSTRUCTIONS or (mode == "open" and name not in item):
            continue
        if node.field.companion and item.get(node.field.companion) is None:
            continue  # the companion says what the number means
        place = f"{at}{name}"
        if mode == "create_only" and not _may_create(target, name, work, created):
            continue
        if mode == "limited_update" and _edited(work.record, place):
            continue
        _assign(target, name, item.get(name), node, work, place, created, delta)


def _may_create(target: Mapping[str, Any], name: str, work: Writing, created: bool) -> bool:
    if work.create_only == "empty":
        return target.get(name) in (None, "", [])
    return created


def _edited(record: Record, place: str) -> bool:
    return any(edit == place or edit.startswith((f"{place}.", f"{place}[")) for edit in record.edited)


def _assign(
    target: dict[str, Any],
    name: str,
    value: Any,
    node: Node,
    work: Writing,
    place: str,
    created: bool,
    delta: bool,
) -> None:
    kind = node.field
    if value is None:
        if kind.empty not in ("ignored", "no_change"):
            target[name] = None if kind.nullable else _ZERO.get(kind.type, "")
    elif kind.empty == "ignored" and value == 0:
        return
    elif kind.type == "object":
        old = target.get(name)
        row = _kept(old, node, work) if old else create(node.children)
        if _write_row(row, value, node, work, f"{place}.", not old):
            target[name] = row
    elif kind.is_list and node.children:
        target[name] = _merged(target.get(name) or [], value, node, work, place, delta)
    else:
        target[name] = value


def _write_row(row: dict[str, Any], item: Mapping[str, Any], node: Node, work: Writing, at: str, created: bool) -> bool:
    if node.field.of == "Product.SkuPriceList":
        return write_price(row, item, node.children, work, at, created)
    write(row, item, node.children, work, at, created)
    return True


def _kept(old: Mapping[str, Any], node: Node, work: Writing) -> dict[str, Any]:
    """What stays of an object that comes again: all of it where its fields have flags of their own."""
    if node.path in work.switches.cleaned:
        return create(node.children)
    if node.governed:
        return dict(old)
    return {
        name: value for name, value in old.items() if name not in node.children or _stays(node.children[name].field)
    }


def _stays(kind: Field) -> bool:
    return kind.list_rule == "merge" or kind.empty in ("ignored", "no_change")


def _merged(
    old: list[dict[str, Any]], new: list[dict[str, Any]], node: Node, work: Writing, place: str, delta: bool
) -> list[dict[str, Any]]:
    keep = node.field.list_rule == "merge" or node.path in work.switches.preserved
    if node.path in work.switches.cleaned:
        keep = False
    if node.field.name in ("Companies", "Customers"):
        keep = delta  # relations left out end, unless the record says that its list is a delta
    rows = {_key_at(row_key(row, node), position): row for position, row in enumerate(old)}
    result = dict(rows) if keep else {}
    for position, item in enumerate(new):
        key = _key_at(_find(item, node, rows), position)
        found = rows.get(key)
        spot = f"{place}[{'|'.join(key)}]"
        if found is not None and _protected(item, node, work, spot):
            result[key] = found
            continue
        row = create(node.children) if found is None else _kept(found, node, work)
        if _write_row(row, item, node, work, f"{spot}.", found is None):
            for name in node.field.row_key:  # a row is told by its key, whether or not the header lists it
                if name in item and name not in row:
                    row[name] = item[name]
            result[key] = row
            work.record.owners[spot] = work.header.account_id
    return list(result.values())


def _key_at(key: tuple[str, ...], position: int) -> tuple[str, ...]:
    """Rows without any key are told by their position."""
    return key if any(key) else (f"#{position}",)


def _protected(item: Mapping[str, Any], node: Node, work: Writing, spot: str) -> bool:
    """Rows that are written once, or only by the account that wrote them last (docs.norce.io/…/schemas/flag)."""
    if item.get("IsCreateOnly"):
        return True
    limited = bool(item.get("IsLimitedUpdate")) or node.path in work.switches.limited
    return limited and work.record.owners.get(spot) != work.header.account_id


def row_key(row: Mapping[str, Any], node: Node) -> tuple[str, ...]:
    """What tells a row from its neighbours: all key fields, or the first given one where an Id is among them."""
    names = node.field.row_key or tuple(node.children)
    if "Id" in names:
        return next(((name, str(row[name])) for name in names if row.get(name)), ("",))
    if "Skus[].PartNo" in names:
        return (str(next((sku.get("PartNo") for sku in row.get("Skus") or []), row.get("ManufacturerPartNo"))),)
    return tuple(_text(row.get(name, node.children[name].field.default)) for name in names)


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return "" if value is None else str(value)


def _find(item: Mapping[str, Any], node: Node, rows: Mapping[tuple[str, ...], Mapping[str, Any]]) -> tuple[str, ...]:
    key = row_key(item, node)
    if key in rows or "Id" not in node.field.row_key or len(key) < 2:
        return key
    return next((known for known, row in rows.items() if str(row.get(key[0])) == key[1]), key)


def write_price(
    target: dict[str, Any], item: Mapping[str, Any], nodes: Mapping[str, Node], work: Writing, at: str, created: bool
) -> bool:
    """A price row; False when a guard turned it away. A sale price fixes the rule and activates the row.

    docs.norce.io/academy-trainings/erp-integrations/prices, …/schemas/skupricelistheader
    """
    for name, node in nodes.items():
        empty = item.get(name) is None or (node.field.type == "number" and item[name] == 0)
        if node.path in work.switches.guards and empty:
            return False
    if work.mode[nodes["PriceSale"].path] == "off" or not item.get("PriceSale"):
        write(target, item, nodes, work, at, created)
        return True
    ruled = {"PriceRule", "PriceRuleValue", "IsActive"}
    write(target, item, {name: node for name, node in nodes.items() if name not in ruled}, work, at, created)
    target.pop("PriceRuleValue", None)
    target.update(IsActive=True, PriceRule=_FIXED_PRICE)
    return True
