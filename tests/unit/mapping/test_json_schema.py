"""What an editor gets to know of mappings, and docs/connect.md: made from the contract, complete, and not stale."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from etl.contract import reference, spec
from etl.mapping import columns, dialect, json_schema, load, record
from etl.mapping.model import ColumnType
from tests.contract import every
from tests.unit.test_docs import examples

ROOT = Path(__file__).parents[3]
SCHEMA = json_schema.build_schema()
SHIPPED = sorted((ROOT / "mappings").glob("*.yaml"))


def problems(value: Any, schema: dict[str, Any], at: str = "") -> list[str]:
    """What the part of JSON Schema that we use has against a value."""
    if "$ref" in schema:
        return problems(value, SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]], at)
    found: list[str] = []
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return [f"{at}: no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: {value} is none of them"]
    if "const" in schema and value != schema["const"]:
        return [f"{at}: is not {schema['const']}"]
    if "anyOf" in schema:
        tries = [problems(value, one, at) for one in schema["anyOf"]]
        found += [] if [] in tries else sorted(tries, key=len)[0]
    if "not" in schema and not problems(value, schema["not"], at):
        found.append(f"{at}: must not be this")
    for one in schema.get("allOf", ()):
        found += problems(value, one, at)
    if "if" in schema and not problems(value, schema["if"], at):
        found += problems(value, schema["then"], at)
    if isinstance(value, dict):
        found += [f"{at}: lacks {name}" for name in schema.get("required", ()) if name not in value]
        for key, part in value.items():
            name = str(key).lower() if isinstance(key, bool) else str(key)
            inside = schema.get("properties", {}).get(name, schema.get("additionalProperties", True))
            if inside is False:
                found.append(f"{at}.{name} is not known")
            elif isinstance(inside, dict):
                found += problems(part, inside, f"{at}.{name}")
    if isinstance(value, list) and "items" in schema:
        found += [text for part in value for text in problems(part, schema["items"], at + "[]")]
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_mappings_fit_and_say_so(path: Path) -> None:
    """A shipped mapping names its schema in the first line, and the schema has nothing against it."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=mapping.schema.json\n")
    assert problems(YAML(typ="safe").load(text), SCHEMA) == []


@pytest.mark.parametrize(("feed", "text"), examples(), ids=lambda value: str(value)[:20].partition("\n")[0])
def test_examples_fit(feed: str, text: str) -> None:
    """The complete examples of docs/mapping.md fit the schema."""
    assert problems(YAML(typ="safe").load(text), SCHEMA) == []


@pytest.mark.parametrize("operation", sorted(spec.load_contract().operations))
def test_every_field_and_flag_fits(operation: str) -> None:
    """Whatever can be written of an operation, in every way of writing it, fits the schema."""
    api = spec.load_contract().operations[operation]
    ways = list(every.ways(api))
    assert ways
    for way in ways:
        made = every.make(api, way)
        assert problems(json.loads(made.text), SCHEMA) == [], way.name


@pytest.mark.parametrize(
    "wrong",
    [
        {"decimals": 2},
        {"record": {"PartNo": "a", "PriceSales": "b"}},
        {"record": {"PartNo": {"column": "a", "emtpy": "clear"}}},
        {"operation": "Product/ImportPrices"},
        {"source": {"files": "*.csv", "content": "everything"}},
        {"columns": {"a": {"type": "float"}}},
    ],
    ids=["key", "field", "word", "operation", "content", "type"],
)
def test_a_slip_does_not_fit(wrong: dict[str, Any]) -> None:
    """An editor marks an unknown key, field, word, import, content and type."""
    good = {
        "feed": "prices",
        "operation": "Product/ImportSkuPriceLists",
        "source": {"files": "*.csv", "content": "full"},
        "record": {"PartNo": "a", "PriceListCode": {"value": "B2C"}},
    }
    assert problems(good, SCHEMA) == []
    assert problems({**good, **wrong}, SCHEMA) != []


def test_every_key_has_words() -> None:
    """Each key of the mapping language has a sentence, and no other word has one."""
    assert set(json_schema.FILE_DESCRIPTIONS) == set(load.MAPPING_KEYS)
    assert set(json_schema.SOURCE_DESCRIPTIONS) == {*load.SOURCE_KEYS, *dialect.DIALECT_KEYS}
    assert set(json_schema.COLUMN_DESCRIPTIONS) == set(columns.COLUMN_KEYS)
    assert set(json_schema.VALUE_DESCRIPTIONS) == set(record.VALUE_KEYS)
    assert set(json_schema.LIST_DESCRIPTIONS) == {key for keys in record.LIST_KEYS.values() for key in keys}
    assert all(name in json_schema.COLUMN_DESCRIPTIONS["type"] for name in get_args(ColumnType))


def test_nothing_generated_is_stale() -> None:
    """etl/contract/contract.json, docs/connect.md and mappings/mapping.schema.json are what `make reference` writes."""
    assert (ROOT / "etl/contract/contract.json").read_text(encoding="utf-8") == reference.contract_json()
    assert (ROOT / "docs/connect.md").read_text(encoding="utf-8") == reference.render_reference()
    assert json.loads((ROOT / "mappings/mapping.schema.json").read_text(encoding="utf-8")) == SCHEMA


def test_the_reference_has_every_field_and_flag() -> None:
    """docs/connect.md names each field, flag and switch of each operation that a mapping can reach."""
    parts = re.split(r"(?m)^## ", reference.render_reference())
    for operation in spec.load_contract().operations.values():
        part = next(part for part in parts if part.startswith(operation.id))
        for path in every.paths(operation):
            assert f"| `{path}` |" in part
        for flag in operation.flags:
            assert f"`{flag.id}`" in part or flag.deprecated or flag.kind == "none", flag.id
