"""The body of an import: JSON types, required fields, lengths, decimals, enums and keys, all from the contract."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from etl.contract.spec import Contract, Field, Operation

_DATETIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,7})?)?(Z|[+-]\d\d:\d\d)?)?")
_DECIMALS = 4  # docs.norce.io/user-portal/pricing/importing-price-lists


def validate_items(
    items: list[Any], contract: Contract, operation: Operation, full_file: bool, supplier_id: int | None
) -> dict[int, list[str]]:
    """Return what is wrong by position of the item; sound items are not in it."""
    failures: dict[int, list[str]] = {}
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        problems = list(_item_problems(item, contract, operation, full_file))
        if not problems:
            for key in item_keys(item, operation, supplier_id):
                first = seen.setdefault(key, index)
                if first != index:
                    problems.append(f"same key as item {first}: {key}")
        if problems:
            failures[index] = problems
    return failures


def item_keys(item: Any, operation: Operation, supplier_id: int | None = None) -> list[str]:
    """Return the keys of one item as text, parts joined by `|`; none where the item is malformed."""
    if not isinstance(item, dict):
        return []
    key = operation.key
    if key.list_path:
        return [text for text, _ in variants_by_part_number(item)]
    if key.match == "first_of":
        key_value = next((item[name] for name in key.fields if item.get(name) not in (None, "", 0)), None)
        return [] if key_value is None else [str(key_value)]
    values = [item.get(name, (key.defaults or {}).get(name)) for name in key.fields]
    if any(value is None for value in values):
        return []
    return ["|".join(str(value) for value in ([supplier_id] if key.header_fields else []) + values)]


def variants_by_part_number(item: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return each variant of a product under its part number, else under manufacturer and the manufacturer's number."""
    variants: list[tuple[str, Mapping[str, Any]]] = []
    for variant in _object_rows(item.get("Variants")):
        part_no = next((sku["PartNo"] for sku in _object_rows(variant.get("Skus")) if sku.get("PartNo")), None)
        if part_no is None and item.get("ManufacturerCode") and variant.get("ManufacturerPartNo"):
            part_no = f"{item['ManufacturerCode']}|{variant['ManufacturerPartNo']}"
        if part_no is not None:
            variants.append((str(part_no), variant))
    return variants


def _object_rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _item_problems(item: Any, contract: Contract, operation: Operation, full_file: bool) -> Iterator[str]:
    if not isinstance(item, dict):
        yield "not a JSON object"
        return
    by_manufacturer = bool(operation.key.list_path) and bool(item.get("ManufacturerCode"))
    yield from _object_problems(item, contract, operation.item_schema, "", by_manufacturer)
    if operation.key.match == "first_of" or operation.key.list_path:
        if not item_keys(item, operation):
            yield f"no key: one of {', '.join(operation.key.paths)} is needed"
    else:
        for name in operation.key.fields:
            if item.get(name) == "":
                yield f"{name}: a key must not be empty"
    if full_file:
        for name in operation.full_file.required_fields:
            if not item.get(name):
                yield f"{name}: required with FullFile"
    if operation.key.list_path:
        yield from _product_problems(item)


def _product_problems(item: Mapping[str, Any]) -> Iterator[str]:
    """Check the rules of docs.norce.io/…/product/importproducts: one SKU per variant, a Code for several variants."""
    variants = _object_rows(item.get("Variants"))
    if len(variants) > 1 and not item.get("Code"):
        yield "Code: required with several variants"
    for position, variant in enumerate(variants):
        if len(_object_rows(variant.get("Skus"))) > 1:
            yield f"Variants[{position}].Skus: only one SKU per variant"


def _object_problems(
    value: Mapping[str, Any], contract: Contract, schema: str, path: str, by_manufacturer: bool = False
) -> Iterator[str]:
    fields = contract.schemas[schema]
    for name, field_value in value.items():
        field = fields.get(name)
        if field is None:
            yield f"{path}{name}: unknown field"
        elif field_value is None:
            if not field.nullable and field.null_effect is None:
                yield f"{path}{name}: must not be null"
        else:
            yield from _value_problems(field_value, field, contract, f"{path}{name}", by_manufacturer)
    for name, field in fields.items():
        if field.required == "true" and value.get(name) is None:
            if schema == "Product.Sku" and by_manufacturer:
                continue  # manufacturer and its number may stand in for the part number on updates
            yield f"{path}{name}: required"


def _value_problems(value: Any, field: Field, contract: Contract, path: str, by_manufacturer: bool) -> Iterator[str]:
    if field.type == "array":
        if not isinstance(value, list):
            yield f"{path}: not an array"
            return
        for position, row in enumerate(value):
            if field.inner_type in contract.schemas:
                yield from _nested_problems(
                    row, str(field.inner_type), contract, f"{path}[{position}]", by_manufacturer
                )
            elif not isinstance(row, str):
                yield f"{path}[{position}]: not a string"
    elif field.type == "object":
        yield from _nested_problems(value, str(field.inner_type), contract, path, by_manufacturer)
    else:
        problem = _scalar_problem(value, field, contract)
        if problem:
            yield f"{path}: {problem}"


def _nested_problems(value: Any, schema: str, contract: Contract, path: str, by_manufacturer: bool) -> Iterator[str]:
    if isinstance(value, dict):
        yield from _object_problems(value, contract, schema, f"{path}.", by_manufacturer)
    else:
        yield f"{path}: not an object"


def _scalar_problem(value: Any, field: Field, contract: Contract) -> str | None:
    kind = field.type
    if kind == "boolean":
        return None if isinstance(value, bool) else "not a boolean"
    if kind == "integer":
        return _integer_problem(value)
    if kind == "number":
        return _number_problem(value)
    if kind == "enum":
        return _enum_problem(value, field, contract)
    if not isinstance(value, str):
        return "not a string"
    if field.max_length is not None and len(value) > field.max_length:
        return f"longer than {field.max_length}"
    if kind == "datetime":
        return _datetime_problem(value)
    if kind == "uuid":
        return _uuid_problem(value)
    if kind == "uri" and not value.startswith(("http://", "https://")):
        return "not a web address"
    return None


def _integer_problem(value: Any) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return "not an integer"
    return None if -(2**31) <= value < 2**31 else "integer out of range"


def _number_problem(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return "not a number"
    if isinstance(value, int) or not isinstance(exponent := value.normalize().as_tuple().exponent, int):
        return None
    return None if exponent >= -_DECIMALS else f"more than {_DECIMALS} decimals"


def _enum_problem(value: Any, field: Field, contract: Contract) -> str | None:
    members = contract.enums[str(field.inner_type)]
    if field.wire_type == "name":
        return None if isinstance(value, str) and value in members else f"not a name of {field.inner_type}"
    if isinstance(value, int) and not isinstance(value, bool) and value in members.values():
        return None
    return f"not an integer of {field.inner_type}"


def _datetime_problem(value: str) -> str | None:
    if _DATETIME.fullmatch(value):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return "not a date"
        return None
    return "not an ISO 8601 date"


def _uuid_problem(value: str) -> str | None:
    try:
        return None if str(UUID(value)) == value.lower() else "not a GUID"
    except ValueError:
        return "not a GUID"
