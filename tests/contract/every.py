"""Mappings that name every field of an operation, made from the contract, and the rows that fill them.

A *way* says how the lists are written: by their codes or one by one, from rows, from columns, or from the parts of a
cell, at which depth, and which of a field's flags is chosen by name. Ways in which nothing differs are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as of
from typing import Any, Literal

from etl.contract.spec import Field, Flag, Operation, load_contract

CONTRACT = load_contract()
Style = Literal["rows", "columns", "split"]

#: Kinds of fields to the column types that feed them, and cells for the first and second record.
KINDS: dict[str, tuple[str, str, str]] = {
    "string": ("text", "A1", "B2"),
    "uri": ("text", "https://img.example/1.png", "https://img.example/2.png"),
    "uuid": ("text", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "0e5c2b1a-1111-4222-8333-944455566677"),
    "integer": ("integer", "7", "8"),
    "number": ("decimal", "12.5", "13.25"),
    "boolean": ("boolean", "true", "true"),
    "datetime": ("date", "2026-01-02", "2026-02-03"),
}


@dataclass(frozen=True, slots=True)
class Way:
    """How a generated mapping says what it says."""

    style: Style | None = None
    depth: int = 1  #: which lists, counted from outside, are written in that style
    choice: int = 0  #: the n-th flag with a name of its own; 0 = none
    switches: tuple[str, ...] = ()
    full: bool = False

    @property
    def name(self) -> str:
        parts = [f"{self.style}-{self.depth}" if self.style else "named"]
        if self.choice:
            parts.append(f"flags-{self.choice}")
        if self.switches:
            parts.append("guards" if "Ignore" in self.switches[0] else "switches")
        return "-".join((*parts, "full") if self.full else parts)


@dataclass
class Made:
    """A mapping as plain values, and the rows that it reads."""

    mapping: dict[str, Any]
    rows: list[dict[str, str]]
    chosen: set[str] = of(default_factory=set)

    @property
    def text(self) -> str:
        """As a mapping file: JSON is YAML."""
        return json.dumps(self.mapping, ensure_ascii=False)


def ways(operation: Operation) -> list[Way]:
    """Every way of writing this operation's mapping in which something new happens."""
    found = [Way()]
    styles: tuple[Style, ...] = ("rows", "columns", "split")
    found += [Way(style, depth) for style in styles for depth in (1, 2, 3)]
    found += [Way(choice=choice) for choice in (1, 2)]
    usable = [flag for flag in operation.flags if not flag.deprecated]
    switches = tuple(flag.id for flag in usable if flag.kind == "switch")
    guards = tuple(flag.id for flag in usable if flag.kind == "row_guard")
    if switches:
        found.append(Way(switches=switches))
    if guards:
        found.append(Way(switches=guards))
    if operation.full_file.is_supported:
        found.append(Way(switches=tuple(name for name in switches if "Cleanup" not in name), full=True))
    kept: dict[str, Way] = {}
    for way in found:
        kept.setdefault(str((make(operation, way).mapping["record"], way.switches, way.full)), way)
    return list(kept.values())


def make(operation: Operation, way: Way, without: tuple[str, ...] = ()) -> Made:
    """The mapping of one way, except for fields with these names."""
    writer = _Writer(operation, way, without)
    record = writer.fields(operation.item_schema, "", 0, None)
    columns = {name: {"type": kind} for name, (kind, _, _) in writer.columns.items()}
    mapping: dict[str, Any] = {
        "feed": "every",
        "operation": operation.id,
        "source": {"files": "*.csv", "content": "full"},
        "columns": columns,
        "record": record,
        "destructive": "everything is sent, as a test",
    }
    if operation.key.header_fields:
        mapping["supplier"] = 3
    if way.switches:
        mapping["switches"] = list(way.switches)
    rows = [{name: cells[number] for name, (_, *cells) in writer.columns.items()} for number in (0, 1)]
    ruling = {path for flag in operation.flags for path in flag.paths if flag.overrides}
    if not without:
        rows[1] |= dict.fromkeys(ruling, "")  # what it overrules can be sent without it only
    return Made(mapping, rows, writer.chosen)


def paths(operation: Operation) -> Iterator[str]:
    """Every undeprecated field of the operation's record that holds a value, by its path."""

    def inside(schema: str, prefix: str) -> Iterator[str]:
        for name, field in CONTRACT.schemas[schema].items():
            if field.deprecated:
                continue
            path = f"{prefix}{name}{'[]' if field.is_list else ''}"
            if CONTRACT.fields_of(field):
                yield from inside(str(field.inner_type), path + ".")
            else:
                yield path

    return inside(operation.item_schema, "")


class _Writer:
    def __init__(self, operation: Operation, way: Way, without: tuple[str, ...]) -> None:
        self.operation, self.way, self.without = operation, way, without
        self.columns: dict[str, tuple[str, str, str]] = {}
        self.chosen: set[str] = set()
        row = operation.key.list_path
        self.key_lists = {".".join(row.split(".")[: i + 1]) for i in range(row.count(".") + 1)} if row else set()

    def fields(self, schema: str, prefix: str, depth: int, inner: str | None, without: str = "") -> dict[str, Any]:
        """All fields of an object. `inner`: the list style whose element this is part of."""
        made: dict[str, Any] = {}
        for name, field in CONTRACT.schemas[schema].items():
            path = f"{prefix}{name}"
            if field.deprecated or name == without or name in self.without:
                continue
            if field.is_list:
                made[name] = self.list_value(field, path + "[]", depth + 1, inner)
            elif field.type == "object":
                made[name] = self.flagged(self.fields(str(field.inner_type), path + ".", depth, inner), path)
            else:
                made[name] = self.scalar(field, path, inner)
        return made

    def list_value(self, field: Field, path: str, depth: int, inner: str | None) -> Any:
        plain = not CONTRACT.fields_of(field)
        if path in self.key_lists:
            element = self.fields(str(field.inner_type), path + ".", depth - 1, inner)
            return {"rows": element} if "[]." not in path else [element]
        style = self.way.style if depth == self.way.depth and inner is None else None
        if plain:
            scalar = Field(field.name, str(field.inner_type), nullable=True)
            if style == "split":
                return {"split": self.column(path, scalar, "a|b")}
            if style == "rows":
                return {"rows": self.scalar(scalar, path, None)}
            if style == "columns":
                return {"columns": f"{self.column(path + '_x', scalar)[:-1]}*", "each": "{cell}"}
            return [self.scalar(scalar, path, inner)]
        below = path + "."
        if style == "split":
            code, codes = self.code(field)
            each = {**self.fields(str(field.inner_type), below, depth, "split"), code: "{item}"}
            cell = self.column(path, Field("", "string"), "|".join(codes))
            return self.flagged({"split": cell, "each": each}, path[:-2])
        if style == "rows":
            return self.flagged({"rows": self.fields(str(field.inner_type), below, depth, "rows")}, path[:-2])
        if style == "columns":
            code, codes = self.code(field)
            for name in codes:
                self.column(f"{path}_{name}", Field("", "string"))
            each = {**self.fields(str(field.inner_type), below, depth, "columns"), code: "{1}"}
            return self.flagged({"columns": f"{path}_*", "each": each}, path[:-2])
        keyed = len(field.row_key) == 1 and "." not in field.row_key[0] and field.row_key[0]
        if not keyed:
            return [self.fields(str(field.inner_type), below, depth, inner)]
        element = self.fields(str(field.inner_type), below, depth, inner, without=keyed)
        key = CONTRACT.fields_of(field)[keyed]
        codes = self.codes(key)
        many = codes if inner is None and element else codes[:1]
        return self.flagged(dict.fromkeys(many, element), path[:-2]) if element else [{keyed: {"value": "K1"}}]

    def code(self, field: Field) -> tuple[str, list[str]]:
        """The field that tells the elements of a list apart, a text where there is one, and two values for it."""
        inside = CONTRACT.fields_of(field)
        names = [name for name in (*field.row_key, *inside) if inside.get(name) and not inside[name].is_list]
        name = next((name for name in names if inside[name].type == "string"), names[0])
        return name, self.codes(inside[name])

    def codes(self, field: Field) -> list[str]:
        return list(CONTRACT.enums[str(field.inner_type)])[:2] if field.type == "enum" else ["K1", "K2"]

    def scalar(self, field: Field, path: str, inner: str | None) -> Any:
        made: dict[str, Any]
        if inner == "split":
            kind, cell = field.type, KINDS.get(field.type, ("", "", ""))[1]
            if kind == "enum":
                cell = next(iter(CONTRACT.enums[str(field.inner_type)]))
            made = {"value": cell[: field.max_length]}
        else:
            made = {"column": self.column(path, field)}
        return self.flagged(made, path)

    def column(self, path: str, field: Field, cell: str | None = None) -> str:
        """A source column named by the path of what it feeds."""
        if field.type == "enum":
            names = list(CONTRACT.enums[str(field.inner_type)])
            spec = ("text", names[0], names[-1])
        else:
            spec = KINDS[field.type]
        if cell is not None:
            spec = ("text", cell, cell)
        if field.max_length:
            spec = (spec[0], spec[1][: field.max_length], spec[2][: field.max_length])
        self.columns[path] = spec
        return path

    def flagged(self, made: dict[str, Any], path: str) -> dict[str, Any]:
        """With the n-th of the flags that have to be chosen by name, where the field has so many."""
        flags = named(self.operation, path)
        if self.way.choice and len(flags) >= self.way.choice:
            flag = flags[self.way.choice - 1]
            self.chosen.add(flag.id)
            return {**made, "flag": flag.name}
        return made


def named(operation: Operation, path: str) -> list[Flag]:
    """The flags of a field besides its plain one."""
    kinds = ("create_only", "limited_update")
    return [f for f in operation.flags if f.kind in kinds and path in f.paths and not f.deprecated]


def identities(operation: Operation, made: Made) -> set[str]:
    """Columns that tell records or list elements apart, or that can be set only once or not on their own."""
    records = {
        *operation.key.paths,
        *operation.full_file.required_fields,
        "ManufacturerCode",
        "Variants[].ManufacturerPartNo",
    }
    for flag in operation.flags:
        records |= {path.rpartition(".")[0] + f".{flag.activates}" for path in flag.paths if flag.activates}
    records = {path.lstrip(".") for path in records}
    found = set()
    for column in made.mapping["columns"]:
        above, _, name = column.removesuffix("[]").rpartition(".")
        keys = CONTRACT.field(operation, above.removesuffix("[]")).row_key if above else ()
        if column in records or name in keys or name == "Password":
            found.add(column)
    return found


def one_change_each(operation: Operation, made: Made) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """As many records as there are columns to change, on one day and on the next, each with its own cell changed."""
    fixed = identities(operation, made)
    own = {*operation.key.paths, *operation.full_file.required_fields, "Variants[].ManufacturerPartNo"}
    before, after = [], []
    for number, column in enumerate(name for name in made.mapping["columns"] if name not in fixed):
        row = {name: f"{cell}{number}" if name in own else cell for name, cell in made.rows[0].items()}
        row |= {name: "false" for name in row if name.endswith((".IsCreateOnly", ".IsLimitedUpdate"))}
        before.append(row)
        other = made.rows[1][column]
        after.append({**row, column: {"true": "false", "false": "true"}.get(row[column], other)})
    return before, after
