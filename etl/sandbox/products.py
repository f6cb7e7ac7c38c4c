"""ImportProducts: variants in clusters, found by part number or by manufacturer and its number.

Facts: docs.norce.io/api-reference/connect/productservice/openapi/product/importproducts.md and
…/x-stormconnect-header-product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from etl.contract.spec import Operation
from etl.sandbox import catalogue, field_modes, payload_validation, record_merge
from etl.sandbox.catalogue import WARNING, Catalogue, ImportOutcome, Items, LogLine
from etl.sandbox.header import RequestHeader
from etl.sandbox.record_merge import StoredRecord

_OPERATION_ID = "Product/ImportProducts"
Variant = dict[str, Any]


def import_products(
    store: Catalogue, operation: Operation, header: RequestHeader, items: Items, all_items: Items
) -> ImportOutcome:
    """Import products; with FullFile, variants left out of a named cluster leave it."""
    work = _ProductImport(store, operation, header, ImportOutcome())
    for item in items:
        work.import_item(item)
    if header.full_file:
        work.split_absent_variants(all_items)
    return work.outcome


def products_by_part_number(store: Catalogue) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each variant as a product of its own, by part number."""
    for record in store.records_of(_OPERATION_ID).values():
        for variant in record.data["Variants"]:
            yield _part_number(variant), {**record.data, "Variants": [variant]}


def _part_number(variant: Mapping[str, Any]) -> str:
    return str(next((sku.get("PartNo") for sku in variant.get("Skus") or []), variant.get("ManufacturerPartNo")))


class _ProductImport:
    def __init__(self, store: Catalogue, operation: Operation, header: RequestHeader, outcome: ImportOutcome) -> None:
        self.store, self.operation, self.header, self.outcome = store, operation, header, outcome
        self.modes = field_modes.field_modes(operation.id, header.flags)
        self.switches = record_merge.read_switches(operation, header)
        nodes = field_modes.field_tree(operation.id)
        self.variant_nodes = nodes["Variants"].children
        self.product_nodes = {name: node for name, node in nodes.items() if name != "Variants"}
        self.clusters = store.records_of(_OPERATION_ID)
        self.variants_by_part_number: dict[str, tuple[str, Variant]] = {}
        self.variants_by_manufacturer: dict[tuple[Any, Any], tuple[str, Variant]] = {}
        self.cluster_keys_by_code: dict[str, str] = {}
        for key, record in self.clusters.items():
            self._index_record(key, record)

    def _index_record(self, key: str, record: StoredRecord) -> None:
        if record.data.get("Code"):
            self.cluster_keys_by_code[record.data["Code"]] = key
        for variant in record.data["Variants"]:
            self.variants_by_part_number[_part_number(variant)] = (key, variant)
            if variant.get("ManufacturerPartNo"):
                self.variants_by_manufacturer[record.data.get("ManufacturerCode"), variant["ManufacturerPartNo"]] = (
                    key,
                    variant,
                )

    def import_item(self, item: Mapping[str, Any]) -> None:
        named = payload_validation.variants_by_part_number(item)
        found = [self._find_variant(item, part_no, variant) for part_no, variant in named]
        for (part_no, variant), known in zip(named, found, strict=True):
            problem = self._missing_fields(item, variant) if known is None else self._number_conflict(known[1], variant)
            if problem:
                self.outcome.add_failure(f"{part_no}: {problem}", item)
                return
        key, created = self._choose_cluster(item, named[0][0], [known for known in found if known])
        record = self.clusters.get(key) or StoredRecord({**record_merge.new_row(self.product_nodes), "Variants": []})
        work = record_merge.RecordWrite(self.modes, self.header, record, self.store.settings.create_only, self.switches)
        record_merge.write_fields(record.data, item, self.product_nodes, work, "", created)
        if item.get("Code") and "Code" not in record.data:
            record.data["Code"] = item["Code"]
        if created and "ManufacturerCode" not in record.data:
            record.data["ManufacturerCode"] = item.get("ManufacturerCode")
        for (part_no, variant), known in zip(named, found, strict=True):
            self._write_variant(record, key, part_no, variant, known, work)
        self.store.put(_OPERATION_ID, key, record)
        self._index_record(key, record)
        self.outcome.insert += work.inserts
        self.outcome.updates += work.updates

    def _find_variant(
        self, item: Mapping[str, Any], part_no: str, variant: Mapping[str, Any]
    ) -> tuple[str, Variant] | None:
        return self.variants_by_part_number.get(part_no) or self.variants_by_manufacturer.get(
            (item.get("ManufacturerCode"), variant.get("ManufacturerPartNo"))
        )

    def _missing_fields(self, item: Mapping[str, Any], variant: Mapping[str, Any]) -> str | None:
        sku: Mapping[str, Any] = next(iter(variant.get("Skus") or []), {})
        lacking = catalogue.missing_fields(self.operation, item, self.modes)
        for path in self.operation.required_on_create:
            if "[]" in path:
                row = sku if "Skus[]" in path else variant
                if row.get(path.rpartition(".")[2]) in (None, "") or self.modes[path] == "off":
                    lacking.append(path)
        return f"cannot be created without {', '.join(lacking)}" if lacking else None

    def _number_conflict(self, stored: Variant, variant: Mapping[str, Any]) -> str | None:
        """Return the conflict of numbers that cannot change (docs.norce.io/user-portal/pim/product-import-columns)."""
        part_no = next((sku.get("PartNo") for sku in variant.get("Skus") or []), None)
        if part_no and part_no != _part_number(stored):
            return f"its ManufacturerPartNo belongs to {_part_number(stored)}"
        return None

    def _choose_cluster(
        self, item: Mapping[str, Any], part_no: str, stored_variants: list[tuple[str, Variant]]
    ) -> tuple[str, bool]:
        code = item.get("Code")
        if code and code in self.cluster_keys_by_code:
            return self.cluster_keys_by_code[code], False
        if stored_variants:
            key = stored_variants[0][0]
            held = self.clusters[key].data
            moving = [variant for where, variant in stored_variants if where == key]
            if not code or (self.modes["Code"] != "off" and len(moving) == len(held["Variants"])):
                if code:
                    self.cluster_keys_by_code.pop(held.get("Code") or "", None)
                return key, False
            if self.modes["Code"] == "off":
                return key, False
        return (f"code:{code}" if code else f"part:{part_no}"), True

    def _write_variant(
        self,
        record: StoredRecord,
        key: str,
        part_no: str,
        variant: Mapping[str, Any],
        stored_variant: tuple[str, Variant] | None,
        work: record_merge.RecordWrite,
    ) -> None:
        stored: Variant = record_merge.new_row(self.variant_nodes) if stored_variant is None else stored_variant[1]
        if stored_variant is not None and stored_variant[0] != key:
            self._remove_from_cluster(stored_variant[0], stored)
        if stored_variant is None or stored_variant[0] != key:
            record.data["Variants"].append(stored)
        number = stored.get("ManufacturerPartNo")
        if number and variant.get("ManufacturerPartNo") not in (None, number):
            message = f"{part_no}: ManufacturerPartNo cannot change from {number}"
            self.outcome.lines.append(LogLine(WARNING, message, variant))
            variant = {**variant, "ManufacturerPartNo": number}
        if self.modes["Variants"] == "off":
            return
        record_merge.write_fields(
            stored, variant, self.variant_nodes, work, f"Variants[{part_no}].", stored_variant is None
        )

    def _remove_from_cluster(self, key: str, variant: Variant) -> None:
        old = self.clusters[key]
        old.data["Variants"] = [other for other in old.data["Variants"] if other is not variant]
        if old.data["Variants"]:
            self.store.put(_OPERATION_ID, key, old)
        else:
            self.store.remove(_OPERATION_ID, key)

    def split_absent_variants(self, items: Items) -> None:
        """Split off each left-out variant as a cluster of its own, with a copy of what they shared."""
        sent: dict[str, set[str]] = {}
        for item in items:
            if item.get("Code"):
                sent.setdefault(item["Code"], set()).update(
                    part_no for part_no, _ in payload_validation.variants_by_part_number(item)
                )
        for code, part_nos in sent.items():
            key = self.cluster_keys_by_code.get(code)
            if key is None or key not in self.clusters:
                continue
            record = self.clusters[key]
            for variant in list(record.data["Variants"]):
                part_no, maker = _part_number(variant), variant.get("ManufacturerPartNo")
                if part_no in part_nos or f"{record.data.get('ManufacturerCode')}|{maker}" in part_nos:
                    continue
                alone = {name: value for name, value in record.data.items() if name != "Code"}
                self._remove_from_cluster(key, variant)
                self.store.put(_OPERATION_ID, f"part:{part_no}", StoredRecord({**alone, "Variants": [variant]}))
                self.outcome.updates += 1
