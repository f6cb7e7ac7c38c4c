"""ImportProducts: variants in clusters, found by part number or by manufacturer and its number.

Facts: docs.norce.io/api-reference/connect/productservice/openapi/product/importproducts.md and
…/x-stormconnect-header-product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from etl.contract.spec import Operation
from etl.sandbox import catalogue
from etl.sandbox import field_modes as fields
from etl.sandbox import payload_validation as payload
from etl.sandbox import record_merge as records
from etl.sandbox.catalogue import WARNING, Catalogue, Items, Line, Outcome
from etl.sandbox.header import Header
from etl.sandbox.record_merge import Record

_ID = "Product/ImportProducts"
Variant = dict[str, Any]


def apply(store: Catalogue, operation: Operation, header: Header, items: Items, mentioned: Items) -> Outcome:
    """Import products; with FullFile, variants left out of a named cluster leave it."""
    work = _Products(store, operation, header, Outcome())
    for item in items:
        work.take(item)
    if header.full_file:
        work.retire(mentioned)
    return work.outcome


def by_part(store: Catalogue) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every variant as a product of its own, under its part number."""
    for record in store.of(_ID).values():
        for variant in record.data["Variants"]:
            yield _part_no(variant), {**record.data, "Variants": [variant]}


def _part_no(variant: Mapping[str, Any]) -> str:
    return str(next((sku.get("PartNo") for sku in variant.get("Skus") or []), variant.get("ManufacturerPartNo")))


class _Products:
    def __init__(self, store: Catalogue, operation: Operation, header: Header, outcome: Outcome) -> None:
        self.store, self.operation, self.header, self.outcome = store, operation, header, outcome
        self.mode = fields.modes(operation.id, header.flags)
        self.switches = records.switches(operation, header)
        nodes = fields.tree(operation.id)
        self.variant_nodes = nodes["Variants"].children
        self.product_nodes = {name: node for name, node in nodes.items() if name != "Variants"}
        self.held = store.of(_ID)
        self.parts: dict[str, tuple[str, Variant]] = {}
        self.makers: dict[tuple[Any, Any], tuple[str, Variant]] = {}
        self.codes: dict[str, str] = {}
        for key, record in self.held.items():
            self._index(key, record)

    def _index(self, key: str, record: Record) -> None:
        if record.data.get("Code"):
            self.codes[record.data["Code"]] = key
        for variant in record.data["Variants"]:
            self.parts[_part_no(variant)] = (key, variant)
            if variant.get("ManufacturerPartNo"):
                self.makers[record.data.get("ManufacturerCode"), variant["ManufacturerPartNo"]] = (key, variant)

    def take(self, item: Mapping[str, Any]) -> None:
        named = payload.part_numbers(item)
        found = [self._find(item, part_no, variant) for part_no, variant in named]
        for (part_no, variant), known in zip(named, found, strict=True):
            problem = self._lacking(item, variant) if known is None else self._clash(known[1], variant)
            if problem:
                self.outcome.refuse(f"{part_no}: {problem}", item)
                return
        key, created = self._cluster(item, named[0][0], [known for known in found if known])
        record = self.held.get(key) or Record({**records.create(self.product_nodes), "Variants": []})
        work = records.Writing(self.mode, self.header, record, self.store.settings.create_only, self.switches)
        records.write(record.data, item, self.product_nodes, work, "", created)
        if item.get("Code") and "Code" not in record.data:
            record.data["Code"] = item["Code"]
        if created and "ManufacturerCode" not in record.data:
            record.data["ManufacturerCode"] = item.get("ManufacturerCode")
        for (part_no, variant), known in zip(named, found, strict=True):
            self._variant(record, key, part_no, variant, known, work)
        self.store.put(_ID, key, record)
        self._index(key, record)
        self.outcome.insert += work.inserts
        self.outcome.updates += work.updates

    def _find(self, item: Mapping[str, Any], part_no: str, variant: Mapping[str, Any]) -> tuple[str, Variant] | None:
        return self.parts.get(part_no) or self.makers.get(
            (item.get("ManufacturerCode"), variant.get("ManufacturerPartNo"))
        )

    def _lacking(self, item: Mapping[str, Any], variant: Mapping[str, Any]) -> str | None:
        sku: Mapping[str, Any] = next(iter(variant.get("Skus") or []), {})
        lacking = catalogue.missing(self.operation, item, self.mode)
        for path in self.operation.create_needs:
            if "[]" in path:
                row = sku if "Skus[]" in path else variant
                if row.get(path.rpartition(".")[2]) in (None, "") or self.mode[path] == "off":
                    lacking.append(path)
        return f"cannot be created without {', '.join(lacking)}" if lacking else None

    def _clash(self, stored: Variant, variant: Mapping[str, Any]) -> str | None:
        """Neither number changes after creation (docs.norce.io/user-portal/pim/product-import-columns)."""
        part_no = next((sku.get("PartNo") for sku in variant.get("Skus") or []), None)
        if part_no and part_no != _part_no(stored):
            return f"its ManufacturerPartNo belongs to {_part_no(stored)}"
        return None

    def _cluster(self, item: Mapping[str, Any], part_no: str, found: list[tuple[str, Variant]]) -> tuple[str, bool]:
        code = item.get("Code")
        if code and code in self.codes:
            return self.codes[code], False
        if found:
            key = found[0][0]
            held = self.held[key].data
            moving = [variant for where, variant in found if where == key]
            if not code or (self.mode["Code"] != "off" and len(moving) == len(held["Variants"])):
                if code:
                    self.codes.pop(held.get("Code") or "", None)
                return key, False
            if self.mode["Code"] == "off":
                return key, False
        return (f"code:{code}" if code else f"part:{part_no}"), True

    def _variant(
        self,
        record: Record,
        key: str,
        part_no: str,
        variant: Mapping[str, Any],
        known: tuple[str, Variant] | None,
        work: records.Writing,
    ) -> None:
        stored: Variant = records.create(self.variant_nodes) if known is None else known[1]
        if known is not None and known[0] != key:
            self._leave(known[0], stored)
        if known is None or known[0] != key:
            record.data["Variants"].append(stored)
        number = stored.get("ManufacturerPartNo")
        if number and variant.get("ManufacturerPartNo") not in (None, number):
            message = f"{part_no}: ManufacturerPartNo cannot change from {number}"
            self.outcome.lines.append(Line(WARNING, message, variant))
            variant = {**variant, "ManufacturerPartNo": number}
        if self.mode["Variants"] == "off":
            return
        records.write(stored, variant, self.variant_nodes, work, f"Variants[{part_no}].", known is None)

    def _leave(self, key: str, variant: Variant) -> None:
        old = self.held[key]
        old.data["Variants"] = [other for other in old.data["Variants"] if other is not variant]
        if old.data["Variants"]:
            self.store.put(_ID, key, old)
        else:
            self.store.drop(_ID, key)

    def retire(self, items: Items) -> None:
        """Each left-out variant becomes a cluster of its own, with a copy of what they shared."""
        sent: dict[str, set[str]] = {}
        for item in items:
            if item.get("Code"):
                sent.setdefault(item["Code"], set()).update(part_no for part_no, _ in payload.part_numbers(item))
        for code, part_nos in sent.items():
            key = self.codes.get(code)
            if key is None or key not in self.held:
                continue
            record = self.held[key]
            for variant in list(record.data["Variants"]):
                part_no, maker = _part_no(variant), variant.get("ManufacturerPartNo")
                if part_no in part_nos or f"{record.data.get('ManufacturerCode')}|{maker}" in part_nos:
                    continue
                alone = {name: value for name, value in record.data.items() if name != "Code"}
                self._leave(key, variant)
                self.store.put(_ID, f"part:{part_no}", Record({**alone, "Variants": [variant]}))
                self.outcome.updates += 1
