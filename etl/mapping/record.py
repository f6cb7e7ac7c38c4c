"""The `record:` part of a mapping file: targets in Connect's shape, checked field by field against the contract."""

from __future__ import annotations

from collections.abc import Mapping as Map
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from etl.contract.spec import Contract, Field, Operation
from etl.mapping.model import Column, Node, Scalar, Value, match_pattern
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
VALUE_KEYS = ("column", "value", "sql", "cell", "item", "map", "replace", "default", "empty", "own", "flag")
LIST_KEYS = ("rows", "columns", "each", "split", "by", "flag")


def constant_text(raw: Any) -> str:
    """A constant as its author wrote it: YAML reads 007 as 7 and true as a bool."""
    if raw is None:
        return ""
    if isinstance(raw, bool):
        return str(raw).lower()
    width = getattr(raw, "_width", None)
    return str(raw).zfill(width) if isinstance(width, int) and isinstance(raw, int) else str(raw)


def parse_number(text: str) -> Decimal:
    """ValueError for what Connect would not take."""
    value = Decimal(text)
    if not value.is_finite() or abs(value) >= 10**11 or value != round(value, 4):
        raise ValueError(text)
    return value


def parse_datetime(text: str) -> str:
    """A time with its offset, UTC unless one is given; ValueError for what is none."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat(timespec="seconds")


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
            self.problems.add("record", "`record` holds no fields", where=where, hint=hint)
            return {}
        return self.parse_fields(raw, self.operation.item_schema, "", "record")

    def parse_fields(self, raw: Any, schema: str, path: str, label: str) -> dict[str, Node]:
        """The fields of one object of the contract."""
        known = self.contract.schemas[schema]
        nodes: dict[str, Node] = {}
        for name, value in raw.items():
            here = self.problems.location(raw, name)
            if name == "flag":
                continue
            if name not in known:
                message = f'{self.operation.id} has no field "{name}" in {schema.partition(".")[2]}'
                where = f"{here}, {label}.{name}"
                self.problems.add_unknown("unknown-field", message, str(name), known, where=where)
                continue
            field = known[name]
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
        inside = self.contract.fields_of(field)
        gathered = isinstance(raw, dict) and bool({"rows", "split"}.intersection(raw))
        named = isinstance(raw, dict) and not {"rows", "split", "columns"}.intersection(raw)
        if not self.check_placement(raw, path, where, gathered):
            return None

        def element(part: Any, at: str) -> dict[str, Node]:
            if inside:
                if isinstance(part, dict) and (part or named):
                    outer, self.in_generated_list = self.in_generated_list, gathered and not self.holds_key(path)
                    made = self.parse_fields(part, str(field.inner_type), path, at)
                    self.in_generated_list = outer
                    return made
                self.add_problem(where, f"an element of {field.name} is an object", "write its fields as key: value")
                return {}
            scalar = Field(field.name, str(field.inner_type), nullable=True)
            value = self.parse_value(part, scalar, where)
            return {} if value is None else {"": Node("value", scalar, path, where, value=value)}

        if isinstance(raw, dict) and "split" in raw:
            self.check_keys(raw, ("split", "by", "each", "flag"), label)
            column = str(raw["split"])
            self.check_column_name(column, where)
            each = raw.get("each", {"item": True} if not inside else None)
            if each is None:
                return self.add_problem(where, "`split` needs `each`", 'write each: {Code: "{item}"}')
            return Node(
                "split",
                field,
                path,
                where,
                children=element(each, label),
                column=column,
                separator=str(raw.get("by", "|")),
                flag_id=flag,
            )
        if isinstance(raw, dict) and "rows" in raw:
            self.check_keys(raw, ("rows", "flag"), label)
            return Node("rows", field, path, where, children=element(raw["rows"], f"{label}.rows"), flag_id=flag)
        if isinstance(raw, dict) and "columns" in raw:
            self.check_keys(raw, ("columns", "each", "flag"), label)
            pattern = str(raw["columns"])
            if "*" not in pattern:
                return self.add_problem(
                    where, f'"{pattern}" names one column only', 'use a star, as in columns: "attr_*"'
                )
            return Node(
                "columns",
                field,
                path,
                where,
                children=element(raw.get("each", {}), f"{label}.each"),
                pattern=pattern,
                flag_id=flag,
            )
        if isinstance(raw, list):
            parts = tuple((str(i), element(part, f"{label}[{i}]")) for i, part in enumerate(raw))
            return Node("listed", field, path, where, elements=parts, flag_id=flag)
        if isinstance(raw, dict):
            if len(field.row_key) != 1 or field.row_key[0] not in inside:
                hint = "write a list (`- …`), `rows:`, `columns:` or `split:`"
                return self.add_problem(where, f"{field.name} has no single code to name its elements by", hint)
            codes = [code for code in raw if code != "flag"]
            for code in codes:
                if isinstance(raw[code], dict) and field.row_key[0] in raw[code]:
                    message = f'{field.row_key[0]} stands twice: as "{code}" and in the fields below'
                    self.problems.add("twice", message, where=self.problems.location(raw, code), hint="drop the latter")
            keyed = tuple((str(code), element(raw[code], f"{label}.{code}")) for code in codes)
            return Node("keyed", field, path, where, elements=keyed, flag_id=flag)
        return self.add_problem(where, f"{field.name} is a list", "write `- …`, codes, `rows:`, `columns:` or `split:`")

    def holds_key(self, path: str) -> bool:
        """Whether the record's key lies in the elements of this list."""
        return f"{self.operation.key.list_path}.".startswith(f"{path}.")

    def check_placement(self, raw: Any, path: str, where: str, is_generated: bool) -> bool:
        """Whether a list may be made like this at this place."""
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
        """A column name, `"{1}"`, `"{cell}"`, `"{item}"`, or an object that says more."""
        if isinstance(raw, dict):
            self.check_keys(raw, VALUE_KEYS, where.rpartition(", ")[2])
            spec = raw
        elif isinstance(raw, str):
            spec = {"column": raw}
        else:
            self.add_problem(
                where, "is neither a column name nor a description of one", "write {value: …} for a constant"
            )
            return None
        given = [kind for kind in ("column", "value", "sql", "cell", "item") if kind in spec]
        if len(given) != 1:
            self.add_problem(where, "needs exactly one of column, value, sql", "e.g. {column: Pris, empty: leave}")
            return None
        kind, text = given[0], str(spec[given[0]])
        if kind == "column" and text in ("{cell}", "{item}"):
            kind = text[1:-1]
        elif kind == "column" and len(text) == 3 and text[0] == "{" and text[1].isdigit() and text[2] == "}":
            kind = "value"
        table = self.parse_lookup(spec["map"], field, where) if "map" in spec else None
        pairs = spec.get("replace", {})
        if not isinstance(pairs, dict):
            self.add_problem(where, "`replace` holds no pairs", 'write replace: {"old": "new"}')
            pairs = {}
        replace = tuple((str(a), str(b)) for a, b in pairs.items())
        default = self.parse_constant(spec["default"], field, where) if "default" in spec else None
        empty = str(spec.get("empty", "leave"))
        if empty not in ("leave", "clear"):
            self.problems.add_unknown(
                "empty", f'"{empty}" is no way to treat an empty cell', empty, ("leave", "clear"), where=where
            )
            empty = "leave"
        if empty == "clear":
            self.check_clearable(field, where)
        own = read_bool(spec, "own", where, self.problems) if "own" in spec else True
        common: dict[str, Any] = {
            "lookup": table,
            "replace": replace,
            "default": default,
            "empty": empty,
            "own": own,
            "where": where,
        }
        if kind == "value":
            if "{" in text and "}" in text and isinstance(spec.get("value", text), str):
                return Value("constant", text=text, **common)
            return Value("constant", constant=self.parse_constant(spec["value"], field, where), **common)
        if kind == "sql":
            return Value("sql", text=text, input_columns=parse_sql_columns(text, where, self.problems), **common)
        if kind in ("cell", "item"):
            return Value("cell" if kind == "cell" else "item", **common)
        self.check_column_name(text, where)
        if table is None and "{" not in text:
            self.check_column_type(text, field, where)
        return Value("column", text=text, **common)

    def parse_lookup(self, raw: Any, field: Field, where: str) -> dict[str, Scalar] | None:
        """`map: {cell: value}`, or `map: {file: x.csv}` with two columns beside the mapping file."""
        if not isinstance(raw, dict):
            self.add_problem(where, "`map` holds no pairs", "write map: {from: to}")
            return None
        pairs: dict[Any, Any] = dict(raw)
        if list(pairs) == ["file"]:
            import csv

            path = self.problems.path.parent / str(pairs["file"])
            try:
                with path.open(encoding="utf-8-sig", newline="") as stream:
                    lines = [line for line in csv.reader(stream, strict=True) if line]
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                self.add_problem(
                    where,
                    f"look-up file {path.name} cannot be read: {getattr(error, 'strerror', None) or error}",
                    "UTF-8 CSV with two columns",
                )
                return None
            bad = [number for number, line in enumerate(lines, 1) if len(line) != 2]
            if bad:
                self.add_problem(where, f"line {bad[0]} of {path.name} has not two cells", "each line: from,to")
                return None
            pairs = dict(lines[1:])
        return {
            constant_text(k): v
            for k, raw_v in pairs.items()
            if (v := self.parse_constant(raw_v, field, where)) is not None
        }

    def parse_constant(self, raw: Any, field: Field, where: str) -> Scalar | None:
        """A value written in the mapping, as the field wants it on the wire."""
        text = constant_text(raw)
        if not text:
            self.add_problem(where, "a constant says nothing", "write a value, or leave the field out")
            return None
        if field.type == "enum":
            values = self.contract.enums[str(field.inner_type)]
            by_number = {str(number): name for name, number in values.items()}
            name = text if text in values else by_number.get(text)
            if name is None:
                message = f'"{text}" is no value of {str(field.inner_type).partition(".")[2]}'
                self.problems.add_unknown("enum", message, text, values, where=where)
                return None
            return name if field.wire_type == "name" else values[name]
        try:
            if field.type == "number":
                return parse_number(text)
            if field.type == "integer":
                return int(text)
            if field.type == "datetime":
                return parse_datetime(text)
            if field.type == "uuid":
                UUID(text)
        except (InvalidOperation, ValueError):
            self.add_problem(where, f'"{text}" is no {field.type}', CONSTANT_HINTS[field.type])
            return None
        if field.type == "boolean":
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
            self.add_problem(where, f'"{text}" is neither true nor false', "write true or false")
            return None
        if field.max_length and len(text) > field.max_length:
            self.add_problem(where, f"is longer than {field.max_length} characters", "Connect takes no more")
        return text

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
        """Does the column's type feed the field's type?"""
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
        """Columns may stay undeclared (they are text then), unless the mapping lists its columns strictly."""
        if not name:
            self.add_problem(where, "names no column", "write the column's name as in the file's header")

    def find_flag(self, name: str, path: str, where: str) -> str | None:
        """A flag chosen by name must be one that writes this very field."""
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
        """Note the problem; gives None, so that a reader can end with it."""
        self.problems.add("value", message, where=where, hint=hint)
        return None
