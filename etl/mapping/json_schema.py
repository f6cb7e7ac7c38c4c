"""Builds a JSON Schema of mapping files from the contract: editors complete keys and fields, and show what they mean.

The schema accepts more than `etl check`. It follows draft 7, which editors support for YAML files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from etl.contract import spec
from etl.contract.spec import Field, Operation
from etl.mapping.limits import GUARD_KEYS, PRICE_MOVE_KEYS
from etl.mapping.model import ColumnType

Schema = dict[str, Any]

#: What each key is for, in a sentence that an editor shows; docs/mapping.md says more.
FILE_DESCRIPTIONS = {
    "feed": "Name of the feed: lower-case letters, digits, - and _. The accepted records are stored under it.",
    "operation": "The import of Connect that this feed is for.",
    "source": "Which files belong to the feed, and how they are written.",
    "columns": "How cells are read and checked, by column name or pattern (`*`). Undeclared columns are text.",
    "rules": 'Conditions over a row, {name: …, sql: "a >= b"}, or {name: …, unique: [a, b]}.',
    "rejects": "Limit of rejected rows, above which a run is held: {limit: 2%}, or a number of rows.",
    "guards": "Limits of what a run may change without approval.",
    "record": "Norce's fields and the origin of their values, in the shape of the JSON that Connect gets.",
    "per": 'One record for each row and each column that matches: {columns: "stock_*"}.',
    "switches": "Flags of the header without a field, by name.",
    "gone": "What happens to records that a full file lacks: ignore (default) or deactivate.",
    "supplier": "The supplier's number in Norce, sent as SupplierId.",
    "after": "Feeds whose files are processed first.",
    "yields": "Feeds that own the fields that both write: this feed does not overwrite their accepted values.",
    "references": "Values that must be accepted in another feed before a record is sent: {PartNo: products.PartNo}.",
    "expect": 'When files are expected: "every day by 06:00 Europe/Stockholm", or {arrives: …, changes: every 3 days}.',
    "feedback": "true: the rejected rows of a file are written beside the place where the supplier dropped it.",
    "full": 'When all records are sent again, as in cron: "0 3 * * SUN".',
    "destructive": "Why a setting that can delete data is intended, in your words.",
}
SOURCE_DESCRIPTIONS = {
    "files": "Pattern of the names below the inbox, or a list of them.",
    "content": "full: a file holds every record. changes: it holds some records and says nothing about the others.",
    "keep": "SQL over the columns; rows for which it is not true are skipped.",
    "shrink": "How much smaller than the one before it a file may be before the run is held: 20%, or off.",
    "order": "Regular expression for the file's name; its named groups give the file's time.",
    "done": 'Name of the done file, which says that an export is complete: "{name}.ok".',
    "manifest": 'Name of the checksum manifest: "{name}.sha256".',
    "format": "csv, excel or fixed; by default it follows from the patterns of `files`.",
    "encoding": "Code page, e.g. utf-8 or windows-1252; several with | between are tried line by line.",
    "delimiter": "Character between cells.",
    "quote": "Character around cells that contain the delimiter; null for none.",
    "escape": "Character before a literal quote or delimiter.",
    "header": "Line or sheet row of the column names; 0 when there is none.",
    "skip": "Lines or sheet rows before the data of a file without a header.",
    "columns": "Names that replace those of the header, one for each column.",
    "sheet": "Sheet of a workbook; by default the first visible one.",
    "widths": "Characters per column, for format: fixed.",
    "short_rows": "reject, or empty: cells missing at the end of a row are empty.",
    "long_rows": "reject, or empty: surplus cells are allowed if they are empty.",
    "final_newline": "Whether the last row must end with a line break.",
    "trailer": "Pattern of the last line; (?P<rows>…) in it must equal the number of rows.",
}
COLUMN_DESCRIPTIONS = {
    "type": "text, integer, decimal, boolean, date or datetime.",
    "required": "An empty cell rejects the row.",
    "optional": "The file may lack the column; its fields are not sent then.",
    "aliases": "Other names of the column.",
    "pattern": "Regular expression for the whole cell.",
    "in": "Allowed cells, or {file: x.csv} beside the mapping.",
    "min": "Smallest allowed number or day.",
    "max": "Largest allowed number or day.",
    "max_length": "Largest number of characters.",
    "unique": "A value that occurs more than once rejects all its rows.",
    "decimal": "The decimal mark.",
    "thousands": "Character between groups of digits.",
    "round": "Decimals to keep; without it more than four reject the row.",
    "true": "Words for yes.",
    "false": "Words for no.",
    "format": 'Patterns of dates or times, e.g. "%d.%m.%Y".',
    "zone": "Time zone of the source, e.g. Europe/Stockholm.",
    "trim": "Whether surrounding white space is removed.",
    "empty": "Words for an empty cell, e.g. NULL.",
}
VALUE_DESCRIPTIONS = {
    "column": "A column of the file.",
    "value": "A constant.",
    "sql": "An SQL expression over the typed columns.",
    "cell": "The cell of the matching column, inside `columns` or with `per`.",
    "item": "The part of the cell, inside `split`.",
    "map": "Look-up from the cell's text, or {file: x.csv} beside the mapping.",
    "replace": "Texts to replace, before `map`.",
    "default": "Value for empty cells, and for cells that `map` does not know.",
    "empty": "leave (default): an empty cell changes nothing. clear: it empties the field in Norce.",
    "own": "false: sent only with new records.",
    "flag": "A flag other than the default one.",
}
LIST_DESCRIPTIONS = {
    "rows": "One element for each source row of the record.",
    "columns": "Pattern of column names: one element for each that matches and has a cell.",
    "each": "The fields of an element.",
    "split": "A column whose cell is split: one element for each part.",
    "by": "Separator of the parts; by default |.",
    "flag": "A flag other than the default one.",
}

TEXTS_SCHEMA: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
LIMIT_SCHEMA: Schema = {"type": ["string", "integer", "boolean"]}
KEY_SCHEMAS: dict[str, Schema] = {
    "operation": {"enum": sorted(spec.load_contract().operations)},
    "rules": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    "gone": {"enum": ["ignore", "deactivate"]},
    "supplier": {"type": "integer"},
    "after": TEXTS_SCHEMA,
    "yields": TEXTS_SCHEMA,
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
        "properties": dict.fromkeys(GUARD_KEYS, LIMIT_SCHEMA)
        | {
            "price_moves": {
                "anyOf": [LIMIT_SCHEMA, {"type": "object", "properties": dict.fromkeys(PRICE_MOVE_KEYS, LIMIT_SCHEMA)}]
            }
        },
    },
    "switches": TEXTS_SCHEMA,
    "files": TEXTS_SCHEMA,
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


def build_schema() -> Schema:
    """Build the schema of a mapping file."""
    return _SchemaBuilder().build()


class _SchemaBuilder:
    def __init__(self) -> None:
        self.contract = spec.load_contract()
        self.definitions: dict[str, Schema] = {}
        self.flags: dict[tuple[str, str], list[str]] = {}
        for operation in self.contract.operations.values():
            self.collect_flags(operation, operation.item_schema, "")

    def collect_flags(self, operation: Operation, name: str, prefix: str) -> None:
        """Collect the flags that a mapping may choose by name, for each field of each object."""
        for field in self.contract.schemas[name].values():
            path = prefix + field.name
            names = self.flags.setdefault((name, field.name), [])
            for flag in operation.flags:
                is_optional = flag.kind in ("create_only", "limited_update") and path in flag.paths
                if is_optional and flag.name not in names:
                    names.append(flag.name)
            if field.inner_type in self.contract.schemas:
                self.collect_flags(operation, str(field.inner_type), f"{path}[]." if field.is_list else f"{path}.")

    def build(self) -> Schema:
        properties = {key: self.key_schema(key, text) for key, text in FILE_DESCRIPTIONS.items()}
        properties["source"] = {
            **_closed_object(SOURCE_DESCRIPTIONS, self.key_schema, ["files", "content"]),
            "description": FILE_DESCRIPTIONS["source"],
        }
        column = {
            "anyOf": [
                {"enum": list(get_args(ColumnType))},
                _closed_object(COLUMN_DESCRIPTIONS, self.column_key_schema, []),
            ]
        }
        properties["columns"] = {
            "description": FILE_DESCRIPTIONS["columns"],
            "type": "object",
            "additionalProperties": column,
        }
        records = []
        for operation in self.contract.operations.values():
            record = {
                "allOf": [self.object_schema(operation.item_schema)],
                "description": operation.note or FILE_DESCRIPTIONS["record"],
            }
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

    def key_schema(self, key: str, text: str) -> Schema:
        return {"description": text, **KEY_SCHEMAS.get(key, {})}

    def column_key_schema(self, key: str, text: str) -> Schema:
        return {"description": text} if key in ("empty", "format") else self.key_schema(key, text)

    def object_schema(self, name: str) -> Schema:
        """Return a reference to the schema of one of Connect's objects."""
        if name not in self.definitions:
            self.definitions[name] = {}
            fields = self.contract.schemas[name].values()
            self.definitions[name] = {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    **{field.name: self.field_schema(name, field) for field in fields if not field.deprecated},
                    "flag": {"description": LIST_DESCRIPTIONS["flag"], "type": "string"},
                },
            }
        return {"$ref": f"#/definitions/{name}"}

    def field_schema(self, owner: str, field: Field) -> Schema:
        flags = self.flags.get((owner, field.name), [])
        if field.is_list:
            schema = self.list_schema(field, flags)
        elif field.type == "object":
            schema = self.object_schema(str(field.inner_type))
        else:
            schema = self.value_schema(field, flags)
        return {"description": describe_field(field, flags), "allOf": [schema]}

    def value_schema(self, field: Field, flags: Iterable[str]) -> Schema:
        """Return a reference to the schema of a value: a column's name, or an object with settings."""
        type_name = str(field.inner_type) if field.type == "enum" else field.type
        name = "-".join(("value", type_name, *flags))
        if name not in self.definitions:
            settings = {key: self.key_schema(key, text) for key, text in VALUE_DESCRIPTIONS.items() if key != "flag"}
            if field.type == "enum":
                names = {"enum": list(self.contract.enums[type_name])}
                settings["value"] |= {"anyOf": [names, {}]}
                settings["default"] |= {"anyOf": [names, {}]}
                settings["map"] |= {"type": "object", "additionalProperties": {"anyOf": [names, {"type": "string"}]}}
            if flags:
                settings["flag"] = {"description": VALUE_DESCRIPTIONS["flag"], "enum": list(flags)}
            self.definitions[name] = {
                "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": False, "properties": settings}]
            }
        return {"$ref": f"#/definitions/{name}"}

    def list_schema(self, field: Field, flags: Iterable[str]) -> Schema:
        """Return the schema of a list, for each of the five ways to make one."""
        if field.inner_type in self.contract.schemas:
            element = self.object_schema(str(field.inner_type))
        else:
            element = self.value_schema(Field(field.name, str(field.inner_type), nullable=True), ())
        flag = {"flag": {"description": LIST_DESCRIPTIONS["flag"], "enum": list(flags)}} if flags else {}
        keys = {key: {"description": text} for key, text in LIST_DESCRIPTIONS.items() if key != "flag"}
        rows = {"rows": {**keys["rows"], "allOf": [element]}}
        columns = {"columns": keys["columns"], "each": {**keys["each"], "allOf": [element]}}
        split = {"split": keys["split"], "by": keys["by"], "each": {**keys["each"], "allOf": [element]}}
        forms: list[Schema] = [{"type": "array", "items": element}]
        for form, required in ((rows, ["rows"]), (columns, ["columns", "each"]), (split, ["split"])):
            properties = {**form, **flag}
            forms.append(
                {"type": "object", "required": required, "properties": properties, "additionalProperties": False}
            )
        if len(field.row_key) == 1 and field.row_key[0] in self.contract.fields_of(field):
            without_list_keys = {"not": {"anyOf": [{"required": [word]} for word in ("rows", "columns", "split")]}}
            forms.append({"type": "object", "properties": flag, "additionalProperties": element, **without_list_keys})
        return {"anyOf": forms}


def _closed_object(descriptions: dict[str, str], key_schema: Any, required: list[str]) -> Schema:
    properties = {key: key_schema(key, text) for key, text in descriptions.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}


def describe_field(field: Field, flags: Iterable[str] = ()) -> str:
    """Describe a field in a few sentences."""
    kind = field.type if field.type not in ("enum", "object") else str(field.inner_type).partition(".")[2]
    length = f"Norce seems to store {field.storage_length} characters." if field.storage_length else ""
    sentences = (
        f"List of {str(field.inner_type).rpartition('.')[2]}." if field.is_list else f"{kind[0].upper()}{kind[1:]}.",
        _REQUIRED_SENTENCES.get(field.required, ""),
        f"At most {field.max_length} characters." if field.max_length else length,
        field.note.rstrip(".") + "." if field.note else "",
        _NULL_SENTENCES.get(field.null_effect or "", ""),
        "Replaced as a whole." if field.list_rule == "replace" else "",
        f"Read only together with {field.read_with}." if field.read_with else "",
        f"Also {', '.join(flags)}." if flags else "",
    )
    return " ".join(sentence for sentence in sentences if sentence)


_REQUIRED_SENTENCES = {
    "true": "Required.",
    "conditional": "Required in some cases.",
    "on_create": "Required for a new record.",
}
_NULL_SENTENCES = {"ignored": "Null and 0 are ignored: it cannot be cleared.", "no_change": "Null changes nothing."}
