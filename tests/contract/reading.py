"""A second reading of the contract: every flag, gate, array, key, field and limit, with the types of this module.

It reads `etl/contract/contract.yaml` as plain data, by code that `etl.contract` does not share. A word that this
module does not know is an error: the contract gained a word, and both readings have to learn it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from tests.contract.strict import facts

#: Words that the product does not read.
UNREAD = {"alternatives"}


class WrittenFlag(NamedTuple):
    number: int
    kind: str
    writes: list[str]
    gates: list[str]
    affects: list[str]
    forces: str | None
    overrules: list[str]
    deprecated: bool
    note: str | None


class WrittenArray(NamedTuple):
    always: bool
    together_with: str | None
    flags: list[str]


class WrittenKey(NamedTuple):
    row: str
    match: str
    fields: list[str]
    header_fields: list[str]
    defaults: dict[str, object] | None


class WrittenFullFile(NamedTuple):
    supported: bool
    scope: list[str] | None
    needs: list[str]
    split: str
    effect: str | None


class WrittenField(NamedTuple):
    type: str
    inside: str | None
    wire: str
    required: str
    nullable: bool
    max_length: int | None
    storage_length: int | None
    default: object
    row_key: list[str]
    list_rule: str | None
    empty: str | None
    read_with: str | None
    always: bool
    role: str | None
    not_below: list[str]
    deprecated: bool
    note: str | None


class WrittenOperation(NamedTuple):
    item: str
    create_needs: list[str]
    unknown_key: str
    unflagged: set[str]
    pages: list[str]
    note: str | None
    off: tuple[str, object, object] | None


class Words:
    """The words of one thing in the contract; `end` raises ValueError for those that nobody asked for."""

    def __init__(self, place: str, words: dict[str, Any]) -> None:
        self.place, self.left = place, {word: words[word] for word in words if word not in UNREAD}

    def must(self, word: str) -> Any:
        if word not in self.left:
            raise ValueError(f"{self.place} has no {word}")
        return self.left.pop(word)

    def may(self, word: str, otherwise: Any = None) -> Any:
        return self.left.pop(word, otherwise)

    def end(self) -> None:
        if self.left:
            raise ValueError(f"{self.place}: nobody reads {', '.join(self.left)}")


@cache
def flags() -> dict[tuple[str, str, str], WrittenFlag]:
    """By operation, array and name."""
    return {
        (operation, array, name): flag(f"{operation} {array}.{name}", words)
        for operation, spec in facts()["operations"].items()
        for array, inside in spec["arrays"].items()
        for name, words in inside["flags"].items()
    }


def flag(place: str, raw: dict[str, Any]) -> WrittenFlag:
    words = Words(place, raw)
    field = words.may("field")
    also = words.may("also", [])
    if also and field is None:
        raise ValueError(f"{place} has also, and no field")
    result = WrittenFlag(
        number=words.must("int"),
        kind=words.must("kind"),
        writes=[] if field is None else [field, *also],
        gates=words.may("gate", []),
        affects=words.may("affects", []),
        forces=words.may("forces"),
        overrules=words.may("overrules", []),
        deprecated=words.may("deprecated", False),
        note=words.may("note"),
    )
    words.end()
    return result


@cache
def arrays() -> dict[tuple[str, str], WrittenArray]:
    """By operation and name."""
    result = {}
    for operation, spec in facts()["operations"].items():
        for name, raw in spec["arrays"].items():
            words = Words(f"{operation} {name}", raw)
            result[operation, name] = WrittenArray(
                words.must("always"), words.may("together_with"), list(words.must("flags"))
            )
            words.end()
    return result


def key(operation: str) -> WrittenKey:
    words = Words(f"{operation} key", facts()["operations"][operation]["key"])
    result = WrittenKey(
        words.must("row"),
        words.must("match"),
        words.must("fields"),
        words.may("header_fields", []),
        words.may("defaults"),
    )
    words.end()
    return result


def full_file(operation: str) -> WrittenFullFile:
    words = Words(f"{operation} full_file", facts()["operations"][operation]["full_file"])
    result = WrittenFullFile(
        words.must("supported"), words.must("scope"), words.must("needs"), words.must("split"), words.may("effect")
    )
    words.end()
    return result


def operation(name: str) -> WrittenOperation:
    words = Words(name, facts()["operations"][name])
    for part in ("key", "full_file", "arrays"):
        words.must(part)
    off = words.may("deactivate")
    result = WrittenOperation(
        item=words.must("item"),
        create_needs=words.may("create_needs", []),
        unknown_key=words.must("unknown_key"),
        unflagged=set(words.may("unflagged", [])),
        pages=words.must("pages"),
        note=words.may("note"),
        off=None if off is None else (off["field"], off["off"], off.get("on")),
    )
    words.end()
    return result


@cache
def fields() -> dict[tuple[str, str], WrittenField]:
    """By schema and name."""
    return {
        (schema, name): field(f"{schema}.{name}", words)
        for schema, inside in facts()["schemas"].items()
        for name, words in inside.items()
    }


def field(place: str, raw: dict[str, Any]) -> WrittenField:
    words = Words(place, raw)
    inside = [words.may("of"), words.may("ref")]
    required = words.may("required", False)
    result = WrittenField(
        type=words.must("type"),
        inside=next((name for name in inside if name is not None), None),
        wire=words.may("wire", "integer"),
        required={True: "true", False: "false"}.get(required, required),
        nullable=words.must("nullable"),
        max_length=words.may("max_length"),
        storage_length=words.may("storage_length"),
        default=words.may("default"),
        row_key=words.may("row_key", []),
        list_rule=words.may("list"),
        empty=words.may("empty"),
        read_with=words.may("with"),
        always=words.may("always", False),
        role=words.may("role"),
        not_below=words.may("not_below", []),
        deprecated=words.may("deprecated", False),
        note=words.may("note"),
    )
    words.end()
    return result


def paths(schema: str, above: str = "") -> Iterator[tuple[str, str, str]]:
    """Every path below a schema, with the schema and the name of the field that stands there."""
    for (owner, name), written in fields().items():
        if owner == schema:
            yield above + name, owner, name
            if written.inside in facts()["schemas"]:
                mark = "[]." if written.type == "array" else "."
                yield from paths(str(written.inside), above + name + mark)
