"""A second reading of the contract: every request held against it, word by word.

It knows `etl/contract/contract.yaml` as plain data and shares no code with what makes requests, nor with the sandbox:
what both of those misread in the same way would otherwise never show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SCALARS = ("string", "integer", "number", "boolean", "datetime", "uuid", "uri", "enum")
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@cache
def facts() -> Any:
    return YAML(typ="safe").load((ROOT / "etl/contract/contract.yaml").read_text(encoding="utf-8"))


class Request:
    """One request against one operation; `problems` says everything that is wrong with it."""

    def __init__(self, operation: str, header: str, payload: bytes) -> None:
        self.operation = facts()["operations"][operation]
        self.header = json.loads(header)
        self.text = payload.decode("utf-8")
        self.items = json.loads(payload, parse_float=Decimal)
        self.flags = {
            f"{array}.{name}": flag
            for array, spec in self.operation["arrays"].items()
            for name, flag in spec["flags"].items()
        }
        self.listed = {
            f"{array}.{name}"
            for array, spec in self.operation["arrays"].items()
            for name, flag in spec["flags"].items()
            if flag["int"] in self.header.get(array, ())
        }

    def problems(self) -> list[str]:
        return [*self.in_header(), *self.in_payload()]

    # -- the header

    def in_header(self) -> Iterator[str]:
        arrays = self.operation["arrays"]
        known = {"AccountId", *arrays}
        if self.operation["full_file"]["supported"]:
            known.add("FullFile")
            if type(self.header.get("FullFile")) is not bool:
                yield "FullFile is not true or false"
        for name in self.operation["key"].get("header_fields", ()):
            known.add(name)
            if type(self.header.get(name)) is not int:
                yield f"{name} is no integer"
        if type(self.header.get("AccountId")) is not int:
            yield "AccountId is no integer"
        yield from (f"{name} does not belong in the header" for name in self.header if name not in known)
        for name, spec in arrays.items():
            if spec["always"] and name not in self.header:
                yield f"{name} is missing"
            sent = self.header.get(name, [])
            if not isinstance(sent, list) or any(type(number) is not int for number in sent):
                yield f"{name} is no array of integers"
                continue
            numbers = {flag["int"]: flag for flag in spec["flags"].values()}
            yield from (f"{name} has no {number}" for number in sent if number not in numbers)
            yield from (f"{name}: {n} is deprecated" for n in sent if numbers.get(n, {}).get("deprecated"))
            yield from (f"{name}: {n} has no field here" for n in sent if numbers.get(n, {}).get("kind") == "none")
            if len(set(sent)) != len(sent):
                yield f"{name} names a flag twice"
            if name in self.header and spec.get("together_with", name) not in self.header:
                yield f"{name} goes with {spec['together_with']}"
        for flag in self.listed:
            gates = self.flags[flag].get("gate", ())
            if gates and not self.listed.intersection(gates):
                yield f"{flag} needs one of {', '.join(gates)}"
            twins = [other for other in self.listed if other != flag and self.writes(other) & self.writes(flag)]
            yield from (f"{flag} and {twin} write the same field" for twin in twins)

    def writes(self, flag: str) -> set[str]:
        spec = self.flags[flag]
        kinds = ("value", "create_only", "limited_update")
        return {spec["field"], *spec.get("also", ())} if spec["kind"] in kinds and "field" in spec else set()

    # -- the payload

    def in_payload(self) -> Iterator[str]:
        if not isinstance(self.items, list) or not self.items:
            yield "the payload is no array with something in it"
            return
        if re.search(r"[:\[,]\s*-?\d+(\.\d+)?[eE]", re.sub(r'"(\\.|[^"\\])*"', '""', self.text)):
            yield "a number is written with an exponent"
        written = {path for flag in self.listed for path in self.writes(flag)}
        keys: dict[tuple[Any, ...], int] = {}
        for number, item in enumerate(self.items):
            place = f"item {number}: "
            yield from (place + text for text in self.object(item, self.operation["item"], ""))
            yield from (place + text for path in sorted(written) for text in self.absent(item, path.split("."), path))
            yield from (place + text for text in self.unlisted(item, self.operation["item"], "", written))
            yield from (place + text for text in self.forced(item))
            for key in self.keys(item):
                if key is None:
                    yield f"{place}has no whole key"
                elif keys.setdefault(key, number) != number:
                    yield f"{place}has the key of item {keys[key]}"
        yield from self.full()

    def object(self, value: Any, schema: str, at: str) -> Iterator[str]:
        """Known fields, right types, required ones there."""
        if not isinstance(value, dict):
            yield f"{at or 'the item'} is no object"
            return
        fields = facts()["schemas"][schema]
        for name, given in value.items():
            spec = fields.get(name)
            if spec is None or spec.get("deprecated"):
                yield f"{at}{name} is no field to send"
            elif given is None:
                if not spec["nullable"] or spec.get("empty") in ("ignored", "no_change"):
                    yield f"{at}{name} is null"
            else:
                yield from self.value(given, spec, f"{at}{name}")
        for name, spec in fields.items():
            if spec.get("required") is True and value.get(name) is None:
                yield f"{at}{name} is required"
            if spec.get("always") and name not in value and len(value) > len(self.row_key(at)):
                yield f"{at}{name} has to be said"
            if spec.get("with") and name in value and not self.with_partner(value, spec["with"]):
                yield f"{at}{name} is read only with {spec['with']}"

    def with_partner(self, value: dict[str, Any], partner: str) -> bool:
        return partner in value

    def row_key(self, at: str) -> list[str]:
        field = self.field(at.rstrip(".")) if at else None
        return list(field.get("row_key", ())) if field else []

    def field(self, path: str) -> Any:
        schema, found = self.operation["item"], None
        for part in path.split("."):
            found = facts()["schemas"][schema][re.sub(r"\[\d*\]", "", part)]
            schema = found.get("of") or found.get("ref")
        return found

    def value(self, given: Any, spec: Any, at: str) -> Iterator[str]:
        kind = spec["type"]
        if kind == "array":
            if not isinstance(given, list):
                yield f"{at} is no array"
                return
            for number, row in enumerate(given):
                if spec["of"] in facts()["schemas"]:
                    yield from self.object(row, spec["of"], f"{at}[{number}].")
                elif type(row) is not str or not row:
                    yield f"{at}[{number}] is no text"
            if spec["of"] in facts()["schemas"]:
                yield from self.twins(given, spec, at)
            elif len(set(given)) != len(given):
                yield f"{at} holds a text twice"
        elif kind == "object":
            if given == {}:
                yield f"{at} is an object without anything in it"
            yield from self.object(given, spec["ref"], f"{at}.")
        elif not self.scalar(given, spec):
            yield f"{at} is no {kind}"
        elif spec.get("max_length") and isinstance(given, str) and len(given) > spec["max_length"]:
            yield f"{at} is too long"

    def twins(self, rows: list[Any], spec: Any, at: str) -> Iterator[str]:
        keys = [name for name in spec.get("row_key", ()) if "." not in name]
        seen = set()
        for row in rows:
            values = [row.get(name) for name in keys] if isinstance(row, dict) else []
            told = json.dumps(values, default=str)
            if told in seen and any(value is not None for value in values):  # without any, `etl check` warns
                yield f"{at} has two rows {told}"
            seen.add(told)

    def scalar(self, given: Any, spec: Any) -> bool:
        match spec["type"]:
            case "boolean":
                return type(given) is bool
            case "integer":
                return type(given) is int and -(2**31) <= given < 2**31
            case "number":
                return type(given) is int or (isinstance(given, Decimal) and given == round(given, 4))
            case "enum":
                members = facts()["enums"][spec["ref"]]
                if spec.get("wire") == "name":
                    return type(given) is str and given in members
                return type(given) is int and given in members.values()
            case "datetime":
                return type(given) is str and bool(ISO.fullmatch(given)) and bool(datetime.fromisoformat(given))
            case "uuid":
                return type(given) is str and bool(GUID.fullmatch(given))
            case "uri":
                return type(given) is str and bool(re.match(r"https?://\S+$", given))
        return type(given) is str and given != ""

    def absent(self, value: Any, parts: list[str], path: str) -> Iterator[str]:
        """A field that the header names, and that an object around it does not carry."""
        name, rest = parts[0].removesuffix("[]"), parts[1:]
        if not isinstance(value, dict):
            return
        if name not in value:
            # Some flags are about several places; one that a record does not speak of is judged by its gate.
            alternatives = [flag for flag in self.listed if path in self.writes(flag) and len(self.writes(flag)) > 1]
            if not rest or not alternatives:
                yield f"{path} is named and absent"
            return
        if not rest:
            return
        for row in value[name] if isinstance(value[name], list) else [value[name]]:
            yield from self.absent(row, rest, path)

    def unlisted(self, value: Any, schema: str, at: str, written: set[str]) -> Iterator[str]:
        """A field that the header does not name, and that is neither a key, nor read without a flag, nor part of one
        that is named as a whole."""
        free = set(self.operation.get("unflagged", ()))
        for name, given in value.items():
            path = f"{at}{name}"
            if path not in written and not self.identifies(path):
                if path in self.flagged():
                    yield f"{path} is sent and not named"
                elif path not in free and not any(path.startswith((f"{w}[].", f"{w}.")) for w in written | free):
                    yield f"{path} is sent, and nothing that is named holds it"
            spec = facts()["schemas"][schema].get(name, {})
            inside = spec.get("of") or spec.get("ref")
            if inside in facts()["schemas"] and given is not None:
                below = f"{path}[]." if isinstance(given, list) else f"{path}."
                for row in given if isinstance(given, list) else [given]:
                    yield from self.unlisted(row, inside, below, written)

    def flagged(self) -> set[str]:
        """Paths that some flag of the operation writes."""
        return {path for flag in self.flags for path in self.writes(flag)}

    def identifies(self, path: str) -> bool:
        """Whether a field tells its record or row apart."""
        key = self.operation["key"]
        prefix = f"{key['row']}." if key["row"] else ""
        if path in [prefix + name for name in key["fields"]]:
            return True
        above, _, name = path.rpartition(".")
        return bool(above) and name in (self.field(above).get("row_key") or ())

    def forced(self, item: dict[str, Any]) -> Iterator[str]:
        """A sale price switches its row on, so it must not travel with the word that the row is off; and a price of
        nothing is ignored."""
        rows = [item]
        for variant in item.get("Variants") or ():
            rows += [sku["StandardPrice"] for sku in variant.get("Skus") or () if sku.get("StandardPrice")]
        for row in rows:
            if "PriceSale" in row and row.get("IsActive") is False and "SkuPriceListFieldsThatAreSet" in self.header:
                yield "PriceSale with IsActive false"
            if "SkuPriceListFieldsThatAreSet" in self.header:
                prices = ("PriceSale", "CostPurchase", "CostUnit", "PriceRecommended", "PricePrevious", "PriceCatalog")
                yield from (
                    f"{name} is {row[name]}, which is ignored" for name in prices if row.get(name, 1) in (0, None)
                )

    def keys(self, item: dict[str, Any]) -> Iterator[tuple[Any, ...] | None]:
        key = self.operation["key"]
        if key["row"]:
            skus = [sku for variant in item.get("Variants") or () for sku in variant.get("Skus") or ()]
            yield from ((sku["PartNo"],) if sku.get("PartNo") else None for sku in skus)
            if not skus:
                yield None
        elif key["match"] == "first_of":
            given = [(name, item[name]) for name in key["fields"] if item.get(name) not in (None, "")]
            yield given[0] if given else None
        else:
            values = tuple(item.get(name, key.get("defaults", {}).get(name)) for name in key["fields"])
            yield None if None in values or "" in values else values

    def full(self) -> Iterator[str]:
        if self.header.get("FullFile"):
            for number, item in enumerate(self.items):
                for name in self.operation["full_file"]["needs"]:
                    if not item.get(name):
                        yield f"item {number}: {name} is needed with FullFile"
