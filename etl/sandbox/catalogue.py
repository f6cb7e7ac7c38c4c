"""What Norce would hold: one record per key and operation, and what an import does to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from etl.contract import spec
from etl.contract.spec import Operation
from etl.sandbox import field_modes, full_file, payload_validation
from etl.sandbox import record_merge as records
from etl.sandbox.header import RequestHeader
from etl.sandbox.record_merge import StoredRecord
from etl.sandbox.settings import SandboxSettings

_RELATED_OPERATIONS = {"Companies": "Customer/ImportCompanies", "Customers": "Customer/ImportCustomers"}
Items = Sequence[Mapping[str, Any]]
INFORMATION, WARNING, ERROR = 1, 2, 3


@dataclass(frozen=True, slots=True)
class LogLine:
    """One row of a job's log before it has a time."""

    severity: int
    message: str
    item: Any = None  #: what is shown of it as ImportedRow is the job's business


@dataclass(slots=True)
class ImportOutcome:
    """What came of an import."""

    insert: int = 0
    updates: int = 0
    fail: int = 0
    lines: list[LogLine] = field(default_factory=list)

    def add_failure(self, message: str, item: Any) -> None:
        self.fail += 1
        self.lines.append(LogLine(ERROR, message, item))


@dataclass(slots=True)
class Catalogue:
    """All records; `changed` names those that the state folder does not have yet."""

    settings: SandboxSettings
    records: dict[str, dict[str, StoredRecord]] = field(default_factory=dict)
    changed_keys: set[tuple[str, str]] = field(default_factory=set)

    def records_of(self, operation_id: str) -> dict[str, StoredRecord]:
        return self.records.setdefault(operation_id, {})

    def put(self, operation_id: str, key: str, record: StoredRecord) -> None:
        self.records_of(operation_id)[key] = record
        self.changed_keys.add((operation_id, key))

    def remove(self, operation_id: str, key: str) -> None:
        del self.records_of(operation_id)[key]
        self.changed_keys.add((operation_id, key))


def import_items(
    store: Catalogue, operation: Operation, header: RequestHeader, items: Items, all_items: Items
) -> ImportOutcome:
    """Import the items, then retire what FullFile says; items that were refused still count as mentioned."""
    outcome = ImportOutcome()
    work = _FlatImport(store, operation, header, outcome)
    for item in items:
        work.import_item(item)
    if header.full_file:
        for key, record in full_file.deactivate_absent(operation, header, all_items, store.records_of(operation.id)):
            store.put(operation.id, key, record)
            outcome.updates += 1
    return outcome


def edit_record(store: Catalogue, operation: Operation, key: str, path: str, value: Any) -> None:
    """Change a value as a person does in Admin; `Cultures[sv-SE].Name` names a row by its key. Raises KeyError."""
    if operation.key.list_path and key not in store.records_of(operation.id):
        key = next(
            (name for name, record in store.records_of(operation.id).items() if key in _part_numbers(record)), key
        )
    record = store.records_of(operation.id)[key]
    row, nodes = record.data, field_modes.field_tree(operation.id)
    *way, last = path.split(".")
    for part in way:
        name, _, wanted = part.partition("[")
        node, found = nodes[name], row[name]
        if node.field.is_list:
            by_key = {"|".join(records.row_identity(row, node)): row for row in found}
            found = by_key[wanted.removesuffix("]")]
        row, nodes = found, node.children
    row[last] = value
    record.edited_fields[path] = value
    store.put(operation.id, key, record)


def missing_fields(
    operation: Operation, item: Mapping[str, Any], modes: Mapping[str, field_modes.FieldMode]
) -> list[str]:
    """Return what a new record needs and this import does not give: sent and, where a flag exists, listed."""
    return [
        path
        for path in operation.required_on_create
        if "[]" not in path and (item.get(path) in (None, "") or modes[path] == "off")
    ]


class _FlatImport:
    """One import into a flat store."""

    def __init__(self, store: Catalogue, operation: Operation, header: RequestHeader, outcome: ImportOutcome) -> None:
        self.store, self.operation, self.header, self.outcome = store, operation, header, outcome
        self.nodes = field_modes.field_tree(operation.id)
        self.modes = field_modes.field_modes(operation.id, header.flags)
        self.switches = records.read_switches(operation, header)
        self.stored = store.records_of(operation.id)
        self.index = _build_index(operation, self.stored) if operation.key.match == "first_of" else {}
        self.part_numbers = _known_part_numbers(store) if store.settings.known_parts == "required" else frozenset()

    def import_item(self, item: Mapping[str, Any]) -> None:
        unknown = self._unknown_reference(item)
        if unknown:
            if self.store.settings.log_ignored:
                self.outcome.lines.append(LogLine(WARNING, f"Row ignored: {unknown}", item))
            return
        key, known = self._find_key(item)
        record = self.stored.get(key)
        if record is not None and not known:
            self.outcome.add_failure(f"{key}: already belongs to another record", item)
            return
        item = self._keep_known_relations(item)
        if record is None:
            lacking = missing_fields(self.operation, item, self.modes)
            if lacking:
                self.outcome.add_failure(f"{key}: cannot be created without {', '.join(lacking)}", item)
                return
        self._write_record(key, record, item)

    def _write_record(self, key: str, record: StoredRecord | None, item: Mapping[str, Any]) -> None:
        created = record is None
        record = record or StoredRecord(records.new_row(self.nodes))
        work = records.RecordWrite(self.modes, self.header, record, self.store.settings.create_only, self.switches)
        price = self.operation.item_schema == "Product.SkuPriceList"
        writer = records.write_price_row if price else records.write_fields
        if writer(record.data, item, self.nodes, work, "", created) is False:
            return
        self._set_key(record, item)
        if "IsActive" not in self.nodes:
            record.data.pop("IsActive", None)  # our mark for retired rows of operations without that field
        self.store.put(self.operation.id, key, record)
        for name in self.operation.key.fields if self.index else ():
            if record.data.get(name):
                self.index[name][record.data[name]] = key
        self.outcome.insert += work.inserts
        self.outcome.updates += work.updates

    def _set_key(self, record: StoredRecord, item: Mapping[str, Any]) -> None:
        key = self.operation.key
        for name in key.fields:
            if name not in record.data and (key.match == "all" or item.get(name) is not None):
                record.data[name] = item.get(name, (key.defaults or {}).get(name))
        for name in key.header_fields:
            record.data[name] = self.header.supplier_id

    def _keep_known_relations(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep the existing companies of a customer, and customers of a company (docs.norce.io/…/connectcustomer)."""
        if self.store.settings.known_parts == "any":
            return item
        for name, other in _RELATED_OPERATIONS.items():
            if self.nodes.get(name) is None or not item.get(name):
                continue
            held = self.store.records_of(other).values()
            ids = spec.load_contract().operations[other].key.fields
            known = {(field, record.data[field]) for record in held for field in ids if record.data.get(field)}
            kept = [row for row in item[name] if any((field, row.get(field)) in known for field in ids)]
            if len(kept) < len(item[name]):
                self.outcome.lines.append(LogLine(WARNING, f"{name}: unknown ones were left out", item))
                item = {**item, name: kept}
        return item

    def _find_key(self, item: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the key of the record that the item is about, and whether its first given field has found it."""
        if self.operation.key.match == "all":
            return payload_validation.item_keys(item, self.operation, self.header.supplier_id)[0], True
        switched_off = {
            path for flag in self.operation.flags if flag.name == "SearchOnlyByCode" and self.header.has_flag(flag)
            for path in flag.affected_paths
        }  # fmt: skip
        for name in self.operation.key.fields:
            if item.get(name) and name not in switched_off:
                found = self.index[name].get(item[name])
                return (found, True) if found else (str(item.get("Code") or item[name]), False)
        return payload_validation.item_keys(item, self.operation)[0], False

    def _unknown_reference(self, item: Mapping[str, Any]) -> str | None:
        """Return why a row would be ignored (docs.norce.io/…/product/importonhands, importskupricelists)."""
        if self.store.settings.known_parts == "any" or self.operation.unknown_key == "created":
            return None
        for name in ("PartNo", "RelatedPartNo"):
            if name in self.operation.key.fields and item[name] not in self.part_numbers:
                return f"{name} {item[name]} is unknown"
        lists = self.store.records_of("Product/ImportPriceLists")
        if "PriceListCode" in self.operation.key.fields and item["PriceListCode"] not in lists:
            return f"PriceListCode {item['PriceListCode']} is unknown"
        return None


def _build_index(operation: Operation, stored: Mapping[str, StoredRecord]) -> dict[str, dict[Any, str]]:
    index: dict[str, dict[Any, str]] = {name: {} for name in operation.key.fields}
    for key, record in stored.items():
        for name in operation.key.fields:
            if record.data.get(name):
                index[name][record.data[name]] = key
    return index


def _part_numbers(record: StoredRecord) -> list[str]:
    variants = record.data.get("Variants") or []
    return [sku["PartNo"] for variant in variants for sku in variant.get("Skus") or [] if sku.get("PartNo")]


def _known_part_numbers(store: Catalogue) -> frozenset[str]:
    return frozenset(
        part for record in store.records_of("Product/ImportProducts").values() for part in _part_numbers(record)
    )
