"""The mapping language as JSON Schema, made from the contract: an editor completes fields with their notes.

It helps while writing and does not judge: `etl check` knows far more. It follows draft 7, which is what editors
understand of YAML files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from etl.contract import spec as contracts
from etl.contract.spec import Field, Operation
from etl.mapping.key_descriptions import COLUMN, FILE, LIST, SOURCE, VALUE
from etl.mapping.limits import GUARD_KEYS, MOVE_KEYS
from etl.mapping.model import ColumnType

Schema = dict[str, Any]
TEXTS: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
LIMIT: Schema = {"type": ["string", "integer", "boolean"]}
SHAPES: dict[str, Schema] = {
    "operation": {"enum": sorted(contracts.load().operations)},
    "rules": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    "gone": {"enum": ["ignore", "deactivate"]},
    "supplier": {"type": "integer"},
    "after": TEXTS,
    "yields": TEXTS,
    "expect": {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {key: {"type": "string"} for key in ("arrives", "changes")},
            },
        ]
    },
    "feedback": {"type": "boolean"},
    "guards": {
        "type": "object",
        "additionalProperties": False,
        "properties": dict.fromkeys(GUARD_KEYS, LIMIT)
        | {"price_moves": {"anyOf": [LIMIT, {"type": "object", "properties": dict.fromkeys(MOVE_KEYS, LIMIT)}]}},
    },
    "switches": TEXTS,
    "files": TEXTS,
    "content": {"enum": ["full", "changes"]},
    "format": {"enum": ["csv", "excel", "fixed"]},
    "header": {"type": "integer"},
    "short_rows": {"enum": ["reject", "empty"]},
    "long_rows": {"enum": ["reject", "empty"]},
    "final_newline": {"type": "boolean"},
    "type": {"enum": list(get_args(ColumnType))},
    "empty": {"enum": ["leave", "clear"]},
    **{name: {"type": "boolean"} for name in ("required", "optional", "unique", "trim", "own")},
}


def schema() -> Schema:
    """All of it."""
    return _Writer().whole()


class _Writer:
    def __init__(self) -> None:
        self.contract = contracts.load()
        self.definitions: dict[str, Schema] = {}
        self.flags: dict[tuple[str, str], list[str]] = {}
        for operation in self.contract.operations.values():
            self.gather(operation, operation.item, "")

    def gather(self, operation: Operation, name: str, prefix: str) -> None:
        """The flags that may be chosen by name, for each field of each object."""
        for field in self.contract.schemas[name].values():
            path = prefix + field.name
            found = self.flags.setdefault((name, field.name), [])
            for flag in operation.flags:
                named = flag.kind in ("create_only", "limited_update") and path in flag.paths
                if named and flag.name not in found:
                    found.append(flag.name)
            if field.of in self.contract.schemas:
                self.gather(operation, str(field.of), f"{path}[]." if field.is_list else f"{path}.")

    def whole(self) -> Schema:
        properties = {key: self.word(key, text) for key, text in FILE.items()}
        properties["source"] = {**_object(SOURCE, self.word, ["files", "content"]), "description": FILE["source"]}
        column = {"anyOf": [{"enum": list(get_args(ColumnType))}, _object(COLUMN, self.column_word, [])]}
        properties["columns"] = {"description": FILE["columns"], "type": "object", "additionalProperties": column}
        records = []
        for operation in self.contract.operations.values():
            record = {"allOf": [self.object(operation.item)], "description": operation.note or FILE["record"]}
            chosen = {"properties": {"operation": {"const": operation.id}}, "required": ["operation"]}
            switches = [f.id for f in operation.flags if f.kind in ("switch", "row_guard") and not f.deprecated]
            then: Schema = {"record": record, "switches": {"items": {"anyOf": [{"enum": switches}, {}]}}}
            records.append({"if": chosen, "then": {"properties": then}})
        return {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "A mapping file of connect-etl",
            "type": "object",
            "required": ["feed", "operation", "source", "record"],
            "additionalProperties": False,
            "properties": properties,
            "allOf": records,
            "definitions": self.definitions,
        }

    def word(self, key: str, text: str) -> Schema:
        return {"description": text, **SHAPES.get(key, {})}

    def column_word(self, key: str, text: str) -> Schema:
        return {"description": text} if key in ("empty", "format") else self.word(key, text)

    def object(self, name: str) -> Schema:
        """The fields of one of Connect's objects."""
        if name not in self.definitions:
            self.definitions[name] = {}
            fields = self.contract.schemas[name].values()
            self.definitions[name] = {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    **{field.name: self.field(name, field) for field in fields if not field.deprecated},
                    "flag": {"description": LIST["flag"], "type": "string"},
                },
            }
        return {"$ref": f"#/definitions/{name}"}

    def field(self, owner: str, field: Field) -> Schema:
        flags = self.flags.get((owner, field.name), [])
        if field.is_list:
            made = self.list(field, flags)
        elif field.type == "object":
            made = self.object(str(field.of))
        else:
            made = self.value(field, flags)
        return {"description": describe(field, flags), "allOf": [made]}

    def value(self, field: Field, flags: Iterable[str]) -> Schema:
        """A column's name, or an object that says more."""
        kind = str(field.of) if field.type == "enum" else field.type
        name = "-".join(("value", kind, *flags))
        if name not in self.definitions:
            more = {key: self.word(key, text) for key, text in VALUE.items() if key != "flag"}
            if field.type == "enum":
                known = {"enum": list(self.contract.enums[kind])}
                more["value"] |= {"anyOf": [known, {}]}
                more["default"] |= {"anyOf": [known, {}]}
                more["map"] |= {"type": "object", "additionalProperties": {"anyOf": [known, {"type": "string"}]}}
            if flags:
                more["flag"] = {"description": VALUE["flag"], "enum": list(flags)}
            self.definitions[name] = {
                "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": False, "properties": more}]
            }
        return {"$ref": f"#/definitions/{name}"}

    def list(self, field: Field, flags: Iterable[str]) -> Schema:
        """One of the five ways to make a list."""
        if field.of in self.contract.schemas:
            element = self.object(str(field.of))
        else:
            element = self.value(Field(field.name, str(field.of), nullable=True), ())
        flag = {"flag": {"description": LIST["flag"], "enum": list(flags)}} if flags else {}
        made = {key: {"description": text} for key, text in LIST.items() if key != "flag"}
        rows = {"rows": {**made["rows"], "allOf": [element]}}
        columns = {"columns": made["columns"], "each": {**made["each"], "allOf": [element]}}
        split = {"split": made["split"], "by": made["by"], "each": {**made["each"], "allOf": [element]}}
        forms: list[Schema] = [{"type": "array", "items": element}]
        for form, needs in ((rows, ["rows"]), (columns, ["columns", "each"]), (split, ["split"])):
            whole = {**form, **flag}
            forms.append({"type": "object", "required": needs, "properties": whole, "additionalProperties": False})
        if len(field.row_key) == 1 and field.row_key[0] in self.contract.fields_of(field):
            unlike = {"not": {"anyOf": [{"required": [word]} for word in ("rows", "columns", "split")]}}
            forms.append({"type": "object", "properties": flag, "additionalProperties": element, **unlike})
        return {"anyOf": forms}


def _object(words: dict[str, str], word: Any, needs: list[str]) -> Schema:
    properties = {key: word(key, text) for key, text in words.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": needs}


def describe(field: Field, flags: Iterable[str] = ()) -> str:
    """What there is to know of a field, in a few sentences."""
    kind = field.type if field.type not in ("enum", "object") else str(field.of).partition(".")[2]
    said = [f"List of {str(field.of).rpartition('.')[2]}." if field.is_list else f"{kind[0].upper()}{kind[1:]}."]
    if field.required == "true":
        said.append("Required.")
    elif field.required in ("conditional", "on_create"):
        said.append("Required for a new record." if field.required == "on_create" else "Required in some cases.")
    if field.max_length:
        said.append(f"At most {field.max_length} characters.")
    elif field.storage_length:
        said.append(f"Norce seems to store {field.storage_length} characters.")
    if field.note:
        said.append(field.note.rstrip(".") + ".")
    if field.empty == "ignored":
        said.append("Null and 0 are ignored: it cannot be cleared.")
    elif field.empty == "no_change":
        said.append("Null changes nothing.")
    if field.list_rule == "replace":
        said.append("Replaced as a whole.")
    if field.companion:
        said.append(f"Read only together with {field.companion}.")
    if flags:
        said.append(f"Also {', '.join(flags)}.")
    return " ".join(said)
