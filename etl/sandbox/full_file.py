"""FullFile=true on flat operations: which stored rows a request turns off because it leaves them out.

Facts: docs.norce.io/…/schemas/skuonhandheader, skupricelistheader, relationheader, and the supplier service's
header page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etl.contract.spec import Operation
from etl.sandbox import payload_validation
from etl.sandbox.header import RequestHeader
from etl.sandbox.record_merge import StoredRecord

Items = Sequence[Mapping[str, Any]]


def deactivate_absent(
    operation: Operation, header: RequestHeader, items: Items, stored: Mapping[str, StoredRecord]
) -> Iterator[tuple[str, StoredRecord]]:
    """Deactivate the stored records that the items lack; yield them with their keys."""
    if operation.key.header_fields:
        yield from _deactivate_supplier_records(header, items, stored)
        return
    scope = operation.full_file.scope or ()
    mentioned = {tuple(item.get(name) for name in scope) for item in items}
    item_keys = {key for item in items for key in payload_validation.item_keys(item, operation, header.supplier_id)}
    resets = [
        path for flag in operation.flags if flag.name == "FullfileResetInheritance" and header.has_flag(flag)
        for path in flag.affected_paths
    ]  # fmt: skip
    for key, record in stored.items():
        if key not in item_keys and tuple(record.data.get(name) for name in scope) in mentioned:
            record.data["IsActive"] = False
            record.data.update(dict.fromkeys(resets))
            yield key, record


def _deactivate_supplier_records(
    header: RequestHeader, items: Items, stored: Mapping[str, StoredRecord]
) -> Iterator[tuple[str, StoredRecord]]:
    """Deactivate the categories, places and lists that no item mentions."""
    sent = {item["SupplierPartNo"]: item for item in items}
    categories = {item.get("CategoryCode") for item in items}
    for key, record in stored.items():
        data = record.data
        if data.get("SupplierId") != header.supplier_id:
            continue
        on = data.get("CategoryCode") in categories
        changed = data.get("IsActive", True) != on
        if on:
            data.pop("IsActive", None)
        else:
            data["IsActive"] = False
        item = sent.get(data["SupplierPartNo"])
        if item is not None:
            for rows, code in (("OnHand", "WarehouseCode"), ("PriceList", "PriceListCode")):
                changed |= _deactivate_rows(data, item, items, rows, code)
        if changed:
            yield key, record


def _deactivate_rows(data: dict[str, Any], item: Mapping[str, Any], items: Items, rows: str, code: str) -> bool:
    everywhere = {row.get(code) for other in items for row in other.get(rows) or ()}
    here = {row.get(code) for row in item.get(rows) or ()}
    changed = False
    for row in data.get(rows) or ():
        if row.get(code) in everywhere - here and row.get("IsActive") is not False:
            row["IsActive"] = False
            changed = True
    return changed
