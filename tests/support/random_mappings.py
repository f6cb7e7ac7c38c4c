"""Mappings and files drawn at random from the contract, for the properties of the core."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from etl.contract import spec
from etl.contract.spec import Contract, Field, Operation
from etl.mapping.model import Mapping
from tests.support.builders import mapping
from tests.support.campaign import few_or_all

CONTRACT: Contract = spec.load_contract()
OPERATIONS = sorted(CONTRACT.operations)

#: Cells by field type; texts that could upset JSON, CSV or our own separators are among them.
TEXTS = ["x", "y", "Åke", 'a "b"', "back\\slash", '","Name":null', "{1}", "1", "null"]
CELLS: dict[str, list[str]] = {
    "string": TEXTS,
    "number": ["0", "1", "2.5", "-3", "10.0001", "99999999999.9999"],
    "integer": ["0", "1", "7", "-2"],
    "boolean": ["true", "false"],
    "datetime": ["2026-01-02", "2026-02-03"],
    "uuid": ["6f9619ff-8b86-d011-b42d-00c04fc964ff", "00000000-0000-0000-0000-000000000001"],
    "uri": ["https://example.com/a.jpg", "https://example.com/b.jpg"],
}
TYPES = {"number": "decimal", "integer": "integer", "boolean": "boolean", "datetime": "date"}


@dataclass
class Feed:
    """A mapping and what may stand in each of its columns."""

    text: str
    cells: dict[str, list[str]]
    keys: list[str]

    @cached_property
    def mapping(self) -> Mapping:
        return mapping(self.text)

    def __repr__(self) -> str:
        return self.text


@dataclass
class _Draft:
    draw: st.DrawFn
    operation: Operation
    rich: bool  #: lists made of rows, of columns and of split cells
    cells: dict[str, list[str]] = field(default_factory=dict)
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    inside_rows: bool = False

    def chance(self, percent: int) -> bool:
        return self.draw(st.integers(0, 99)) < percent

    def column(self, inner: Field, *, values: list[str] | None = None, name: str | None = None) -> str:
        name = name or f"c{len(self.columns)}"
        kind = TYPES.get(inner.type, "text")
        self.columns[name] = {"type": kind}
        if inner.type == "enum":
            values = values or list(CONTRACT.enums[str(inner.inner_type)])[:3]
        limit = inner.max_length or 1000
        self.cells[name] = [cell for cell in values or CELLS[inner.type] if len(cell) <= limit]
        return name

    def fields(self, schema: str, path: str, skip: frozenset[str] = frozenset()) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, inner in CONTRACT.schemas[schema].items():
            here = f"{path}.{name}" if path else name
            if inner.deprecated or name in skip:
                continue
            must = self.must(here, name, inner, schema)
            deep = here.count(".") + here.count("[]")
            if must or self.chance(35 if deep < 2 else 25):
                value = self.value(here, inner, must)
                if value is not None:
                    made[name] = value
        for relation, delta in (("Companies", "IsCompanyListDelta"), ("Customers", "IsCustomerListDelta")):
            if not path and relation in made and delta in CONTRACT.schemas[schema]:
                made[delta] = {"value": True}
        for name in list(made):
            companion = CONTRACT.schemas[schema][name].read_with
            if companion is not None and companion not in made:
                del made[name]
        return made

    def must(self, path: str, name: str, inner: Field, schema: str) -> bool:
        key = self.operation.key
        if path in key.paths:
            return key.match == "all" or path == key.paths[1] or path in self.operation.required_on_create
        on_the_way = any(known.startswith((path + "[]", path + ".")) for known in key.paths)
        return on_the_way or inner.always_sent or inner.required == "true" or path in self.operation.required_on_create

    def value(self, path: str, inner: Field, must: bool) -> Any:
        if inner.type == "object":
            return self.fields(str(inner.inner_type), path) or None
        if inner.is_list:
            return self.list(path + "[]", inner, must)
        if path in self.operation.key.paths:
            name = self.column(inner, values=["K1", "K2", "K3"] if inner.type == "string" else ["1", "2", "3"])
            self.keys.append(name)
            return name
        choice = self.draw(st.integers(0, 19))
        if choice == 0 and not inner.max_length and inner.type in ("string", "boolean", "integer"):
            return {"value": {"string": "fixed", "boolean": True, "integer": 3}[inner.type]}
        name = self.column(inner)
        if choice == 1 and not must and self.alone(path):
            return {"column": name, "own": False}
        if choice in (2, 3) and not must and inner.nullable and inner.null_effect not in ("ignored", "no_change"):
            return {"column": name, "empty": "clear"}
        if choice == 4 and not inner.max_length and inner.type in ("string", "boolean", "integer"):
            return {"column": name, "default": {"string": "none", "boolean": False, "integer": 0}[inner.type]}
        return name

    def alone(self, path: str) -> bool:
        """Whether a field goes by itself: its own flag, and no list around it that is sent whole."""
        above = path.split(".")[:-1]
        lists = [CONTRACT.field(self.operation, ".".join(above[: n + 1])) for n in range(len(above))]
        flagged = any(path in flag.paths for flag in self.operation.flags)
        told = any(path.rpartition(".")[2] in one.row_key for one in lists)
        return flagged and not told and all(one.list_rule in ("merge", None) for one in lists)

    def list(self, path: str, inner: Field, must: bool) -> Any:
        inside = CONTRACT.fields_of(inner)
        way = any(known.startswith(path) for known in self.operation.key.paths)
        if way:
            return self.key_list(path, inner)
        if not inside:
            if self.rich and not self.inside_rows and self.chance(50):
                name = self.column(Field("x", "string"), values=["a", "a|b", "b|a|a", " a | c "])
                return {"split": name}
            return [self.column(Field("x", "string")) for _ in range(self.draw(st.integers(1, 2)))]
        kinds = ["listed"]
        if len(inner.row_key) == 1 and inside[inner.row_key[0]].type == "string":
            kinds.append("keyed")
            if self.rich and not self.inside_rows:
                kinds.append("split" if self.chance(30) else "columns")
        if self.rich and not self.inside_rows and not self.keyed_below:
            kinds.append("rows")
        kind = self.draw(st.sampled_from(kinds))
        code = inner.row_key[0] if len(inner.row_key) == 1 else ""
        if kind == "keyed":
            made: dict[str, Any] = {}
            for text in ("sv-SE", "en-GB")[: self.draw(st.integers(1, 2))]:
                made[text] = self.fields(str(inner.inner_type), path, frozenset({code}))
            return made
        if kind == "split":
            name = self.column(Field("x", "string"), values=["a", "a|b", "b|a|a", " a | c "])
            if any(other.required == "true" for key, other in inside.items() if key != code):
                return None
            return {"split": name, "each": {code: "{item}"}}
        if kind == "columns":
            texts = [n for n, f in inside.items() if f.type == "string" and n != code and not f.deprecated]
            if not texts or any(f.required == "true" for n, f in inside.items() if n not in (code, texts[0])):
                return None
            stem = f"p{len(self.columns)}_"
            for ending in ("a", "b"):
                self.column(inside[texts[0]], name=stem + ending)
            return {"columns": stem + "*", "each": {code: "{1}", texts[0]: "{cell}"}}
        if kind == "rows":
            self.inside_rows = True
            made = self.fields(str(inner.inner_type), path)
            if inner.row_key and inner.row_key[0] not in made and inside[inner.row_key[0]].type == "string":
                made[inner.row_key[0]] = self.column(inside[inner.row_key[0]])
            self.inside_rows = False
            return {"rows": made} if made else None
        made_list = [self.fields(str(inner.inner_type), path) for _ in range(self.draw(st.integers(1, 2)))]
        return [one for one in made_list if one] or None

    keyed_below: bool = False

    def key_list(self, path: str, inner: Field) -> Any:
        if path == "Variants[]" and self.rich:
            self.keyed_below = True
            made = self.fields(str(inner.inner_type), path)
            self.keyed_below = False
            return {"rows": made}
        return [self.fields(str(inner.inner_type), path)]


@st.composite
def feeds(draw: st.DrawFn, operation_id: str, *, rich: bool = True) -> Feed:
    """A mapping that `etl check` accepts."""
    operation = CONTRACT.operations[operation_id]
    draft = _Draft(draw, operation, rich)
    record = draft.fields(operation.item_schema, "")
    raw: dict[str, Any] = {
        "feed": "drawn",
        "operation": operation_id,
        "source": {"files": "*.csv", "content": "full"},
        "columns": draft.columns,
        "record": record,
    }
    if operation.key.header_fields:
        raw["supplier"] = 3
    return Feed(json.dumps(raw, ensure_ascii=False), draft.cells, draft.keys)


@st.composite
def files(draw: st.DrawFn, feed: Feed, *, most: int = 4) -> list[dict[str, str | None]]:
    """Rows for a feed; cells may be empty, keys may repeat."""
    rows = []
    for _ in range(draw(st.integers(0, most))):
        row: dict[str, str | None] = {}
        for name, cells in feed.cells.items():
            choices: list[str | None] = [*cells] if name in feed.keys else [*cells, None]
            row[name] = draw(st.sampled_from(choices))
        rows.append(row)
    return rows


def modest(few: int, many: int = 40) -> settings:
    """A few examples, always the same ones, as they are drawn; many in a campaign.

    Shrinking a mapping takes minutes, and its smallest form says little more than the first one found.
    """
    return settings(
        max_examples=few_or_all(few, many),
        deadline=None,
        derandomize=True,
        print_blob=False,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
