"""The contract of the Connect API: operations, header flags, keys, scopes and record shapes.

The facts are data: written in `contract.yaml`, and read from `contract.json`, which `make reference` makes of it, in
a hundredth of the time. This module gives them types, and answers questions that several packages ask. A *path* is the
place of a field in one record, as the documentation writes it: `Cultures[].Name`, where `[]` marks a list on the way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

FlagKind = Literal["value", "create_only", "limited_update", "switch", "row_guard", "none"]
Role = Literal["price", "cost", "stock", "text", "code"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One name in a `...FieldsThatAreSet` array."""

    array: str
    name: str
    number: int  #: how it is sent: pages disagree on spellings, so integers go over the wire
    paths: tuple[str, ...]  #: the fields it writes; empty for switches
    kind: FlagKind
    enabling_flags: tuple[str, ...] = ()  #: "Array.Flag": one of them has to be listed too
    affected_paths: tuple[str, ...] = ()
    activates: str | None = None  #: sibling field that becomes true when this one is written
    overrides: tuple[str, ...] = ()  #: sibling fields that count for nothing once this one is written
    deprecated: bool = False
    note: str | None = None

    @property
    def id(self) -> str:
        """`Array.Flag`, the form gates use."""
        return f"{self.array}.{self.name}"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a schema. `type` is a scalar name, `object`, `array` or `enum`; `of` names what is inside."""

    name: str
    type: str
    inner_type: str | None = None
    wire_type: str = "integer"
    required: str = "false"  #: true, false, conditional, on_create, unknown
    nullable: bool = False
    max_length: int | None = None
    storage_length: int | None = None
    default: object = None
    row_key: tuple[str, ...] = ()
    list_rule: Literal["merge", "replace", "unknown"] | None = None
    null_effect: Literal["ignored", "inherit", "reset", "no_change"] | None = None
    read_with: str | None = None  #: sibling field or list that this one is read together with
    always_sent: bool = False  #: goes with whatever is sent of its object: left out it would be stored as false
    role: Role | None = None  #: what it is for a shop: guards and summaries look at these
    not_below: tuple[str, ...] = ()  #: of a price: costs beside it that it covers
    deprecated: bool = False
    note: str | None = None

    @property
    def is_list(self) -> bool:
        return self.type == "array"

    @property
    def clearable(self) -> bool:
        """Whether a null empties it: not where Connect ignores one, or would store 0 or false instead."""
        return self.null_effect not in ("ignored", "no_change") and (self.nullable or self.null_effect is not None)


@dataclass(frozen=True, slots=True)
class Key:
    """The key of a record. `row` is the list that carries the key fields, "" for the record itself."""

    list_path: str
    match: Literal["all", "first_of"]
    fields: tuple[str, ...]
    header_fields: tuple[str, ...] = ()
    defaults: Mapping[str, object] | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The key fields as paths from the top of the record."""
        prefix = f"{self.list_path}." if self.list_path else ""
        return tuple(prefix + name for name in self.fields)


@dataclass(frozen=True, slots=True)
class FullFile:
    """What `FullFile=true` may retire, and how a full feed may be cut."""

    is_supported: bool
    scope: tuple[str, ...] | None  #: None: not stated, so everything
    required_fields: tuple[str, ...]
    split: Literal["cluster", "scope", "never", "free"]
    effect: str | None = None


@dataclass(frozen=True, slots=True)
class Deactivation:
    """How a record is switched off, and on again where that is one fixed value."""

    path: str
    off_value: object
    on_value: object | None


@dataclass(frozen=True, slots=True)
class FlagArray:
    """One array of the header."""

    name: str
    always_sent: bool  #: sent even when empty
    flags: Mapping[str, Flag]
    sent_with: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One asynchronous import, e.g. `Product/ImportSkuPriceLists`."""

    id: str
    item_schema: str
    key: Key
    required_on_create: tuple[str, ...]
    unknown_key: Literal["created", "ignored", "not_stated"]
    full_file: FullFile
    arrays: Mapping[str, FlagArray]
    unflagged_paths: frozenset[str]
    doc_pages: tuple[str, ...]
    deactivation: Deactivation | None = None
    note: str | None = None

    @property
    def service(self) -> str:
        return self.id.partition("/")[0]

    @property
    def flags(self) -> tuple[Flag, ...]:
        return tuple(flag for array in self.arrays.values() for flag in array.flags.values())

    def with_search_switches(self, switches: Iterable[str]) -> Operation:
        """Return the operation with the key that these switches leave: SearchOnlyByCode takes a field out of it."""
        narrow = [flag for flag in map(self.flag, switches) if flag.name == "SearchOnlyByCode"]
        dropped = {path for flag in narrow for path in flag.affected_paths}
        fields = tuple(name for name in self.key.fields if name not in dropped)
        return replace(self, key=replace(self.key, fields=fields))

    def flag(self, flag_id: str) -> Flag:
        """Return the flag named `Array.Flag`. Raises KeyError when there is none."""
        array, _, name = flag_id.partition(".")
        return self.arrays[array].flags[name]


@dataclass(frozen=True, slots=True)
class Contract:
    """The contract."""

    path_prefix: str
    token_path: str
    jobs: Mapping[str, Any]
    limits: Mapping[str, Mapping[str, int]]
    operations: Mapping[str, Operation]
    schemas: Mapping[str, Mapping[str, Field]]
    enums: Mapping[str, Mapping[str, int]]

    def field(self, operation: Operation, path: str) -> Field:
        """Return the field at a path of the operation's record. Raises KeyError that names the first unknown part."""
        schema = operation.item_schema
        field: Field | None = None
        for part in path.split("."):
            name = part.removesuffix("[]")
            if name not in self.schemas[schema]:
                raise KeyError(f"{schema} has no field {name}")
            field = self.schemas[schema][name]
            if field.inner_type in self.schemas:
                schema = str(field.inner_type)
        assert field is not None
        return field

    def fields_of(self, field: Field) -> Mapping[str, Field]:
        """Return the fields inside an object or a list of objects; empty for scalars and lists of scalars."""
        return self.schemas.get(field.inner_type or "", {})


def _make_field(name: str, raw: Mapping[str, Any]) -> Field:
    return Field(
        name=name,
        type=raw["type"],
        inner_type=raw.get("of") or raw.get("ref"),
        wire_type=raw.get("wire", "integer"),
        required=str(raw.get("required", False)).lower(),
        nullable=raw["nullable"],
        max_length=raw.get("max_length"),
        storage_length=raw.get("storage_length"),
        default=raw.get("default"),
        row_key=tuple(raw.get("row_key", ())),
        list_rule=raw.get("list"),
        null_effect=raw.get("empty"),
        read_with=raw.get("with"),
        always_sent=raw.get("always", False),
        role=raw.get("role"),
        not_below=tuple(raw.get("not_below", ())),
        deprecated=raw.get("deprecated", False),
        note=raw.get("note"),
    )


def _make_flag(array: str, name: str, raw: Mapping[str, Any]) -> Flag:
    paths = ((raw["field"], *raw.get("also", ()))) if "field" in raw else ()
    return Flag(
        array=array,
        name=name,
        number=raw["int"],
        paths=tuple(paths),
        kind=raw["kind"],
        enabling_flags=tuple(raw.get("gate", ())),
        affected_paths=tuple(raw.get("affects", ())),
        activates=raw.get("forces"),
        overrides=tuple(raw.get("overrules", ())),
        deprecated=raw.get("deprecated", False),
        note=raw.get("note"),
    )


def _make_operation(op_id: str, raw: Mapping[str, Any]) -> Operation:
    key, full, off = raw["key"], raw["full_file"], raw.get("deactivate")
    return Operation(
        id=op_id,
        item_schema=raw["item"],
        key=Key(
            list_path=key["row"],
            match=key["match"],
            fields=tuple(key["fields"]),
            header_fields=tuple(key.get("header_fields", ())),
            defaults=key.get("defaults"),
        ),
        required_on_create=tuple(raw.get("create_needs", ())),
        unknown_key=raw["unknown_key"],
        full_file=FullFile(
            is_supported=full["supported"],
            scope=None if full["scope"] is None else tuple(full["scope"]),
            required_fields=tuple(full["needs"]),
            split=full["split"],
            effect=full.get("effect"),
        ),
        arrays={
            name: FlagArray(
                name=name,
                always_sent=array["always"],
                flags={flag: _make_flag(name, flag, spec) for flag, spec in array["flags"].items()},
                sent_with=array.get("together_with"),
            )
            for name, array in raw["arrays"].items()
        },
        unflagged_paths=frozenset(raw.get("unflagged", ())),
        doc_pages=tuple(raw["pages"]),
        deactivation=Deactivation(off["field"], off["off"], off.get("on")) if off else None,
        note=raw.get("note"),
    )


@cache
def load_contract() -> Contract:
    """Return the contract that is part of the package; it is read once per process."""
    raw = json.loads(resources.files("etl.contract").joinpath("contract.json").read_bytes())
    return Contract(
        path_prefix=raw["prefix"],
        token_path=raw["token_path"],
        jobs=raw["jobs"],
        limits=raw["limits"],
        operations={op_id: _make_operation(op_id, spec) for op_id, spec in raw["operations"].items()},
        schemas={
            schema: {name: _make_field(name, spec) for name, spec in fields.items()}
            for schema, fields in raw["schemas"].items()
        },
        enums=raw["enums"],
    )
