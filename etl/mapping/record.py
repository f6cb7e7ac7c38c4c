"""The `record:` part of a mapping file: targets in Connect's shape, checked field by field against the contract."""

from __future__ import annotations

import csv
from collections.abc import Callable
from collections.abc import Mapping as Map
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from etl.contract.spec import Contract, Field, Operation
from etl.mapping.model import Column, Node, NodeKind, Scalar, Value, match_pattern
from etl.mapping.problems import Problems, parse_sql_columns, read_bool

#: Column types that may feed a field type without a look-up table.
COMPATIBLE_COLUMN_TYPES = {
    "string": {"text", "integer", "decimal"},
    "number": {"decimal", "integer"},
    "integer": {"integer"},
    "boolean": {"boolean"},
    "datetime": {"date", "datetime"},
    "uuid": {"text"},
    "uri": {"text"},
    "enum": {"text", "integer"},
}
SUGGESTED_COLUMN_TYPES = {
    "number": "decimal",
    "integer": "integer",
    "boolean": "boolean",
    "datetime": "date",
}
CONSTANT_HINTS = {
    "number": "at most 11 digits before and 4 after a point, without spaces",
    "integer": "digits only",
    "datetime": "write 2026-12-31 or 2026-12-31T23:59:00+01:00",
    "uuid": "e.g. 6f9619ff-8b86-d011-b42d-00c04fc964ff",
}
#: Kinds of values; a value has exactly one.
VALUE_KINDS = ("column", "value", "sql", "cell", "item")
VALUE_KEYS = (*VALUE_KINDS, "map", "replace", "default", "empty", "own", "flag")
#: Keys of a list that is made from the file, by the key that says how.
LIST_KEYS = {
    "split": ("split", "by", "each", "flag"),
    "rows": ("rows", "flag"),
    "columns": ("columns", "each", "flag"),
}


def constant_text(raw: Any) -> str:
    """Return a constant as its author wrote it: YAML reads 007 as 7 and true as a bool."""
    if raw is None:
        return ""
    if isinstance(raw, bool):
        return str(raw).lower()
    width = getattr(raw, "_width", None)
    return str(raw).zfill(width) if isinstance(width, int) and isinstance(raw, int) else str(raw)


def parse_number(text: str) -> Decimal:
    """Parse a number; ValueError for one that Connect does not take."""
    value = Decimal(text)
    if not value.is_finite() or abs(value) >= 10**11 or value != round(value, 4):
        raise ValueError(text)
    return value


def parse_datetime(text: str) -> str:
    """Parse a time and return it with its offset, UTC by default; ValueError for another text."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat(timespec="seconds")


def parse_uuid(text: str) -> str:
    """Return the text of a UUID; ValueError for another text."""
    UUID(text)
    return text


#: Parsers of constants by the field's type; other types take the text.
CONSTANT_PARSERS: dict[str, Callable[[str], Scalar]] = {
    "number": parse_number,
    "integer": int,
    "datetime": parse_datetime,
    "uuid": parse_uuid,
}


@dataclass(frozen=True, slots=True)
class ListSpec:
    """A list of the mapping file, and where it stands."""

    raw: Any
    field: Field
    path: str  #: in the contract
    label: str  #: in the mapping file, for problems inside it
    where: str  #: location and label, for problems of the list itself
    flag_id: str | None

    @property
    def is_generated(self) -> bool:
        """Whether its elements are made from rows or from the parts of a cell."""
        return isinstance(self.raw, dict) and bool({"rows", "split"}.intersection(self.raw))

    @property
    def is_keyed(self) -> bool:
        """Whether its elements are named by their codes."""
        return isinstance(self.raw, dict) and not {"rows", "split", "columns"}.intersection(self.raw)

    def node(self, kind: NodeKind, **content: Any) -> Node:
        """Return the node of this list."""
        return Node(kind, self.field, self.path, self.where, flag_id=self.flag_id, **content)


class RecordParser:
    """Turns the YAML tree below `record:` into nodes; problems go to the collector, never up."""

    def __init__(self, contract: Contract, operation: Operation, columns: Map[str, Column], problems: Problems) -> None:
        self.contract = contract
        self.operation = operation
        self.columns = columns
        self.problems = problems
        self.in_generated_list = False  #: inside a list made of rows or of a cell's parts

    def parse_record(self, raw: Any, where: str) -> dict[str, Node]:
        if not isinstance(raw, dict):
            hint = "write `record:` and below it one line for each field"
            self.problems.add("record", "`record` is empty", where=where, hint=hint)
            return {}
        return self.parse_fields(raw, self.operation.item_schema, "", "record")

    def parse_fields(self, raw: Any, schema: str, path: str, label: str) -> dict[str, Node]:
        """Parse the fields of one object of the contract."""
        fields = self.contract.schemas[schema]
        nodes: dict[str, Node] = {}
        for name, value in raw.items():
            here = self.problems.location(raw, name)
            if name == "flag":
                continue
            if name not in fields:
                message = f'{self.operation.id} has no field "{name}" in {schema.partition(".")[2]}'
                where = f"{here}, {label}.{name}"
                self.problems.add_unknown("unknown-field", message, str(name), fields, where=where)
                continue
            field = fields[name]
            node = self.parse_node(value, field, f"{path}.{name}" if path else str(name), f"{label}.{name}", here)
            if node is not None:
                nodes[str(name)] = node
        return nodes

    def parse_node(self, raw: Any, field: Field, path: str, label: str, location: str) -> Node | None:
        where = f"{location}, {label}"
        flag = raw.get("flag") if isinstance(raw, dict) else None
        if flag is not None:
            flag = self.find_flag(str(flag), path, where)
        if field.type == "object":
            if not isinstance(raw, dict):
                return self.add_problem(where, f"{field.name} is an object", "write its fields below it, indented")
            children = self.parse_fields(raw, str(field.inner_type), path, label)
            return Node("object", field, path, where, children=children, flag_id=flag)
        if field.is_list:
            return self.parse_list(raw, field, path + "[]", label, where, flag)
        value = self.parse_value(raw, field, where)
        return None if value is None else Node("value", field, path, where, value=value, flag_id=flag)

    def parse_list(self, raw: Any, field: Field, path: str, label: str, where: str, flag: str | None) -> Node | None:
        """Parse a list; its kind follows from the first of LIST_PARSERS whose key is there, else from the YAML type."""
        spec = ListSpec(raw, field, path, label, where, flag)
        if not self.check_placement(raw, path, where, spec.is_generated):
            return None
        if isinstance(raw, dict):
            parser = next((parser for key, parser in self.LIST_PARSERS.items() if key in raw), None)
            return self._parse_keyed_list(spec) if parser is None else parser(self, spec)
        if isinstance(raw, list):
            parts = tuple(
                (str(number), self._parse_element(part, f"{label}[{number}]", spec)) for number, part in enumerate(raw)
            )
            return spec.node("listed", elements=parts)
        return self.add_problem(where, f"{field.name} is a list", "write `- …`, codes, `rows:`, `columns:` or `split:`")

    def _parse_element(self, raw: Any, label: str, spec: ListSpec) -> dict[str, Node]:
        """Parse one element: the fields of an object, or a plain value under the empty name."""
        field = spec.field
        if not self.contract.fields_of(field):
            scalar = Field(field.name, str(field.inner_type), nullable=True)
            value = self.parse_value(raw, scalar, spec.where)
            return {} if value is None else {"": Node("value", scalar, spec.path, spec.where, value=value)}
        if not isinstance(raw, dict) or not (raw or spec.is_keyed):
            self.add_problem(spec.where, f"an element of {field.name} is an object", "write its fields as key: value")
            return {}
        outer, self.in_generated_list = self.in_generated_list, spec.is_generated and not self.holds_key(spec.path)
        fields = self.parse_fields(raw, str(field.inner_type), spec.path, label)
        self.in_generated_list = outer
        return fields

    def _parse_split_list(self, spec: ListSpec) -> Node | None:
        """Parse `split`: the parts of a cell."""
        self.check_keys(spec.raw, LIST_KEYS["split"], spec.label)
        column = str(spec.raw["split"])
        self.check_column_name(column, spec.where)
        each = spec.raw.get("each", None if self.contract.fields_of(spec.field) else {"item": True})
        if each is None:
            return self.add_problem(spec.where, "`split` needs `each`", 'write each: {Code: "{item}"}')
        children = self._parse_element(each, spec.label, spec)
        return spec.node("split", children=children, column=column, separator=str(spec.raw.get("by", "|")))

    def _parse_row_list(self, spec: ListSpec) -> Node:
        """Parse `rows`: one element per row of the file."""
        self.check_keys(spec.raw, LIST_KEYS["rows"], spec.label)
        return spec.node("rows", children=self._parse_element(spec.raw["rows"], f"{spec.label}.rows", spec))

    def _parse_column_list(self, spec: ListSpec) -> Node | None:
        """Parse `columns`: one element per column that matches a pattern."""
        self.check_keys(spec.raw, LIST_KEYS["columns"], spec.label)
        pattern = str(spec.raw["columns"])
        if "*" not in pattern:
            hint = 'use a star, as in columns: "attr_*"'
            return self.add_problem(spec.where, f'"{pattern}" names one column only', hint)
        children = self._parse_element(spec.raw.get("each", {}), f"{spec.label}.each", spec)
        return spec.node("columns", children=children, pattern=pattern)

    def _parse_keyed_list(self, spec: ListSpec) -> Node | None:
        """Parse elements that are named by their code."""
        raw, field = spec.raw, spec.field
        if len(field.row_key) != 1 or field.row_key[0] not in self.contract.fields_of(field):
            hint = "write a list (`- …`), `rows:`, `columns:` or `split:`"
            return self.add_problem(spec.where, f"{field.name} has no single code to name its elements by", hint)
        codes = [code for code in raw if code != "flag"]
        for code in codes:
            if isinstance(raw[code], dict) and field.row_key[0] in raw[code]:
                message = f'{field.row_key[0]} occurs twice: as "{code}" and in the fields below'
                self.problems.add("twice", message, where=self.problems.location(raw, code), hint="drop the latter")
        elements = tuple((str(code), self._parse_element(raw[code], f"{spec.label}.{code}", spec)) for code in codes)
        return spec.node("keyed", elements=elements)

    #: Lists that are made from the file, by the key that says so; tried in this order.
    LIST_PARSERS: ClassVar[dict[str, Callable[[RecordParser, ListSpec], Node | None]]] = {
        "split": _parse_split_list,
        "rows": _parse_row_list,
        "columns": _parse_column_list,
    }

    def holds_key(self, path: str) -> bool:
        """Return whether the record's key is in the elements of this list."""
        return f"{self.operation.key.list_path}.".startswith(f"{path}.")

    def check_placement(self, raw: Any, path: str, where: str, is_generated: bool) -> bool:
        """Return whether a list may be made like this at this place; add a problem if not."""
        if is_generated and self.in_generated_list:
            message = "a list made of rows or of a cell's parts cannot stand inside another one"
            self.add_problem(where, message, "name its elements: `- …`, or their codes")
            return False
        if not self.holds_key(path):
            return True
        one = isinstance(raw, list) and len(raw) == 1
        if one or ("[]." not in path and isinstance(raw, dict) and "rows" in raw):
            return True
        hint = "write one element: `- …`" + ("" if "[]." in path else ", or `rows:` for one element per row")
        self.add_problem(where, "the key lies in this list, so a row of the file gives one element of it", hint)
        return False

    def parse_value(self, raw: Any, field: Field, where: str) -> Value | None:
        """Parse a column name, `"{1}"`, `"{cell}"`, `"{item}"`, or an object with one of VALUE_KINDS."""
        spec = self._value_spec(raw, where)
        if spec is None:
            return None
        kinds = [kind for kind in VALUE_KINDS if kind in spec]
        if len(kinds) != 1:
            self.add_problem(where, "needs exactly one of column, value, sql", "e.g. {column: Pris, empty: leave}")
            return None
        kind, text = kinds[0], str(spec[kinds[0]])
        if kind == "column" and text in ("{cell}", "{item}"):
            kind = text[1:-1]
        elif kind == "column" and len(text) == 3 and text[0] == "{" and text[1].isdigit() and text[2] == "}":
            kind = "value"
        settings = self._value_settings(spec, field, where)
        if kind == "value":
            if "{" in text and "}" in text and isinstance(spec.get("value", text), str):
                return Value("constant", text=text, **settings)
            return Value("constant", constant=self.parse_constant(spec["value"], field, where), **settings)
        if kind == "sql":
            return Value("sql", text=text, input_columns=parse_sql_columns(text, where, self.problems), **settings)
        if kind in ("cell", "item"):
            return Value("cell" if kind == "cell" else "item", **settings)
        self.check_column_name(text, where)
        if settings["lookup"] is None and "{" not in text:
            self.check_column_type(text, field, where)
        return Value("column", text=text, **settings)

    def _value_spec(self, raw: Any, where: str) -> dict[Any, Any] | None:
        """Return a value's settings as an object; a plain text names a column."""
        if isinstance(raw, str):
            return {"column": raw}
        if not isinstance(raw, dict):
            hint = "write {value: …} for a constant"
            self.add_problem(where, "is neither a column name nor a description of one", hint)
            return None
        self.check_keys(raw, VALUE_KEYS, where.rpartition(", ")[2])
        return raw

    def _value_settings(self, spec: dict[Any, Any], field: Field, where: str) -> dict[str, Any]:
        """Parse the settings that every kind of value has."""
        lookup = self.parse_lookup(spec["map"], field, where) if "map" in spec else None
        pairs = spec.get("replace", {})
        if not isinstance(pairs, dict):
            self.add_problem(where, "`replace` is empty", 'write replace: {"old": "new"}')
            pairs = {}
        default = self.parse_constant(spec["default"], field, where) if "default" in spec else None
        empty = str(spec.get("empty", "leave"))
        if empty not in ("leave", "clear"):
            message = f'"{empty}" is no way to treat an empty cell'
            self.problems.add_unknown("empty", message, empty, ("leave", "clear"), where=where)
            empty = "leave"
        if empty == "clear":
            self.check_clearable(field, where)
        return {
            "lookup": lookup,
            "replace": tuple((str(old), str(new)) for old, new in pairs.items()),
            "default": default,
            "empty": empty,
            "own": read_bool(spec, "own", where, self.problems) if "own" in spec else True,
            "where": where,
        }

    def parse_lookup(self, raw: Any, field: Field, where: str) -> dict[str, Scalar] | None:
        """Parse `map: {cell: value}`, or `map: {file: x.csv}` with two columns beside the mapping file."""
        if not isinstance(raw, dict):
            self.add_problem(where, "`map` is empty", "write map: {from: to}")
            return None
        pairs: dict[Any, Any] | None = dict(raw)
        if list(raw) == ["file"]:
            pairs = self._read_lookup_file(self.problems.path.parent / str(raw["file"]), where)
        if pairs is None:
            return None
        return {
            constant_text(cell): value
            for cell, raw_value in pairs.items()
            if (value := self.parse_constant(raw_value, field, where)) is not None
        }

    def _read_lookup_file(self, path: Path, where: str) -> dict[str, str] | None:
        """Read the pairs of a look-up file, without its header; None with a problem where it is malformed."""
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                lines = [line for line in csv.reader(stream, strict=True) if line]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            message = f"look-up file {path.name} cannot be read: {getattr(error, 'strerror', None) or error}"
            self.add_problem(where, message, "UTF-8 CSV with two columns")
            return None
        malformed = [number for number, line in enumerate(lines, 1) if len(line) != 2]
        if malformed:
            self.add_problem(where, f"line {malformed[0]} of {path.name} has not two cells", "each line: from,to")
            return None
        return dict(lines[1:])

    def parse_constant(self, raw: Any, field: Field, where: str) -> Scalar | None:
        """Parse a value written in the mapping; return it as the payload has it."""
        text = constant_text(raw)
        if not text:
            self.add_problem(where, "a constant says nothing", "write a value, or leave the field out")
            return None
        if field.type == "enum":
            return self._parse_enum(text, field, where)
        if field.type == "boolean":
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
            self.add_problem(where, f'"{text}" is neither true nor false', "write true or false")
            return None
        try:
            value = CONSTANT_PARSERS.get(field.type, str)(text)
        except (InvalidOperation, ValueError):
            self.add_problem(where, f'"{text}" is no {field.type}', CONSTANT_HINTS[field.type])
            return None
        if isinstance(value, str) and field.type != "datetime" and field.max_length and len(text) > field.max_length:
            self.add_problem(where, f"is longer than {field.max_length} characters", "Connect takes no more")
        return value

    def _parse_enum(self, text: str, field: Field, where: str) -> Scalar | None:
        """Parse the name or the number of an enum's value."""
        values = self.contract.enums[str(field.inner_type)]
        by_number = {str(number): name for name, number in values.items()}
        name = text if text in values else by_number.get(text)
        if name is None:
            message = f'"{text}" is no value of {str(field.inner_type).partition(".")[2]}'
            self.problems.add_unknown("enum", message, text, values, where=where)
            return None
        return name if field.wire_type == "name" else values[name]

    def check_clearable(self, field: Field, where: str) -> None:
        if field.null_effect == "ignored":
            message = f"{field.name} cannot be cleared: Connect ignores null and 0 there"
            self.problems.add("cannot-clear", message, where=where, hint="use empty: leave, or deactivate the row")
        elif field.null_effect == "no_change":
            message = f"{field.name} cannot be cleared: Connect takes null as no change"
            self.problems.add("cannot-clear", message, where=where, hint="use empty: leave")
        elif not field.nullable and field.null_effect is None:
            message = f"{field.name} cannot be cleared: it holds no null, Connect would store 0, false or nothing"
            self.problems.add("cannot-clear", message, where=where, hint="use empty: leave, or default: 0")

    def check_column_type(self, column: str, field: Field, where: str) -> None:
        """Check that the column's type suits the field's type."""
        if column not in self.columns:
            declared = next((c for c in self.columns.values() if c.is_pattern and match_pattern(c.name, column)), None)
        else:
            declared = self.columns[column]
        kind = declared.type if declared else "text"
        if kind not in COMPATIBLE_COLUMN_TYPES[field.type]:
            need = SUGGESTED_COLUMN_TYPES.get(field.type, "text")
            message = f"{field.name} is a {field.type}, but column {column} is {kind}"
            hint = f"declare it: columns: {{{column}: {{type: {need}}}}}"
            self.problems.add("column-type", message, where=where, hint=hint)

    def check_column_name(self, name: str, where: str) -> None:
        """Check that a column is named. It may be undeclared: its type is text then."""
        if not name:
            self.add_problem(where, "names no column", "write the column's name as in the file's header")

    def find_flag(self, name: str, path: str, where: str) -> str | None:
        """Return the id of a flag chosen by name; it must be one that writes this field."""
        candidates = {
            flag.name: flag.id
            for flag in self.operation.flags
            if flag.kind not in ("switch", "none") and (path in flag.paths or path + "[]" in flag.paths)
        }
        if name not in candidates:
            self.problems.add_unknown("unknown-flag", f'no flag "{name}" writes {path}', name, candidates, where=where)
            return None
        return candidates[name]

    def check_keys(self, raw: Any, keys: tuple[str, ...], label: str) -> None:
        for key in raw:
            if key not in keys:
                where = f"{self.problems.location(raw, key)}, {label}.{key}"
                self.problems.add_unknown("unknown-key", f'"{key}" means nothing here', str(key), keys, where=where)

    def add_problem(self, where: str, message: str, hint: str) -> Node | None:
        """Add a problem; return None, so that a parser can end with it."""
        self.problems.add("value", message, where=where, hint=hint)
        return None
