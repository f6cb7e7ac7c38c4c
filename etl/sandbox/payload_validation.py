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


def check(
    items: list[Any], contract: Contract, operation: Operation, full_file: bool, supplier: int | None
) -> dict[int, list[str]]:
    """What is wrong, by position of the item; sound items do not appear."""
    failures: dict[int, list[str]] = {}
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        problems = list(_item(item, contract, operation, full_file))
        if not problems:
            for key in keys(item, operation, supplier):
                first = seen.setdefault(key, index)
                if first != index:
                    problems.append(f"same key as item {first}: {key}")
        if problems:
            failures[index] = problems
    return failures


def keys(item: Any, operation: Operation, supplier: int | None = None) -> list[str]:
    """The keys of one item as text, parts joined by `|`; nothing where the item is too broken to tell."""
    if not isinstance(item, dict):
        return []
    key = operation.key
    if key.row:
        return [text for text, _ in part_numbers(item)]
    if key.match == "first_of":
        given = next((item[name] for name in key.fields if item.get(name) not in (None, "", 0)), None)
        return [] if given is None else [str(given)]
    values = [item.get(name, (key.defaults or {}).get(name)) for name in key.fields]
    if any(value is None for value in values):
        return []
    return ["|".join(str(value) for value in ([supplier] if key.header_fields else []) + values)]


def part_numbers(item: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each variant of a product under its part number, else under manufacturer and the manufacturer's number."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for variant in _rows(item.get("Variants")):
        part_no = next((sku["PartNo"] for sku in _rows(variant.get("Skus")) if sku.get("PartNo")), None)
        if part_no is None and item.get("ManufacturerCode") and variant.get("ManufacturerPartNo"):
            part_no = f"{item['ManufacturerCode']}|{variant['ManufacturerPartNo']}"
        if part_no is not None:
            found.append((str(part_no), variant))
    return found


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _item(item: Any, contract: Contract, operation: Operation, full_file: bool) -> Iterator[str]:
    if not isinstance(item, dict):
        yield "not a JSON object"
        return
    by_manufacturer = bool(operation.key.row) and bool(item.get("ManufacturerCode"))
    yield from _object(item, contract, operation.item, "", by_manufacturer)
    if operation.key.match == "first_of" or operation.key.row:
        if not keys(item, operation):
            yield f"no key: one of {', '.join(operation.key.paths)} is needed"
    else:
        for name in operation.key.fields:
            if item.get(name) == "":
                yield f"{name}: a key must not be empty"
    if full_file:
        for name in operation.full_file.needs:
            if not item.get(name):
                yield f"{name}: required with FullFile"
    if operation.key.row:
        yield from _product(item)


def _product(item: Mapping[str, Any]) -> Iterator[str]:
    """Rules of docs.norce.io/…/product/importproducts: one SKU per variant, a Code for several variants."""
    variants = _rows(item.get("Variants"))
    if len(variants) > 1 and not item.get("Code"):
        yield "Code: required with several variants"
    for position, variant in enumerate(variants):
        if len(_rows(variant.get("Skus"))) > 1:
            yield f"Variants[{position}].Skus: only one SKU per variant"


def _object(
    value: Mapping[str, Any], contract: Contract, schema: str, at: str, by_manufacturer: bool = False
) -> Iterator[str]:
    fields = contract.schemas[schema]
    for name, given in value.items():
        field = fields.get(name)
        if field is None:
            yield f"{at}{name}: unknown field"
        elif given is None:
            if not field.nullable and field.empty is None:
                yield f"{at}{name}: must not be null"
        else:
            yield from _value(given, field, contract, f"{at}{name}", by_manufacturer)
    for name, field in fields.items():
        if field.required == "true" and value.get(name) is None:
            if schema == "Product.Sku" and by_manufacturer:
                continue  # manufacturer and its number may stand in for the part number on updates
            yield f"{at}{name}: required"


def _value(given: Any, field: Field, contract: Contract, at: str, by_manufacturer: bool) -> Iterator[str]:
    if field.type == "array":
        if not isinstance(given, list):
            yield f"{at}: not an array"
            return
        for position, row in enumerate(given):
            if field.of in contract.schemas:
                yield from _nested(row, str(field.of), contract, f"{at}[{position}]", by_manufacturer)
            elif not isinstance(row, str):
                yield f"{at}[{position}]: not a string"
    elif field.type == "object":
        yield from _nested(given, str(field.of), contract, at, by_manufacturer)
    else:
        problem = _scalar(given, field, contract)
        if problem:
            yield f"{at}: {problem}"


def _nested(given: Any, schema: str, contract: Contract, at: str, by_manufacturer: bool) -> Iterator[str]:
    if isinstance(given, dict):
        yield from _object(given, contract, schema, f"{at}.", by_manufacturer)
    else:
        yield f"{at}: not an object"


def _scalar(given: Any, field: Field, contract: Contract) -> str | None:
    kind = field.type
    if kind == "boolean":
        return None if isinstance(given, bool) else "not a boolean"
    if kind == "integer":
        return _integer(given)
    if kind == "number":
        return _number(given)
    if kind == "enum":
        return _enum(given, field, contract)
    if not isinstance(given, str):
        return "not a string"
    if field.max_length is not None and len(given) > field.max_length:
        return f"longer than {field.max_length}"
    if kind == "datetime":
        return _datetime(given)
    if kind == "uuid":
        return _uuid(given)
    if kind == "uri" and not given.startswith(("http://", "https://")):
        return "not a web address"
    return None


def _integer(given: Any) -> str | None:
    if not isinstance(given, int) or isinstance(given, bool):
        return "not an integer"
    return None if -(2**31) <= given < 2**31 else "integer out of range"


def _number(given: Any) -> str | None:
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        return "not a number"
    if isinstance(given, int) or not isinstance(exponent := given.normalize().as_tuple().exponent, int):
        return None
    return None if exponent >= -_DECIMALS else f"more than {_DECIMALS} decimals"


def _enum(given: Any, field: Field, contract: Contract) -> str | None:
    members = contract.enums[str(field.of)]
    if field.wire == "name":
        return None if isinstance(given, str) and given in members else f"not a name of {field.of}"
    if isinstance(given, int) and not isinstance(given, bool) and given in members.values():
        return None
    return f"not an integer of {field.of}"


def _datetime(given: str) -> str | None:
    if _DATETIME.fullmatch(given):
        try:
            datetime.fromisoformat(given)
        except ValueError:
            return "not a date"
        return None
    return "not an ISO 8601 date"


def _uuid(given: str) -> str | None:
    try:
        return None if str(UUID(given)) == given.lower() else "not a GUID"
    except ValueError:
        return "not a GUID"
