"""The content of a mapping file as values: the source, its columns and rules, and the record that they become.

`etl.mapping.load` reads them from YAML and checks them against the contract. `where` is the `file:line:column` that
problems and rejections name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping as Map
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal

from etl.contract.spec import Field, Operation
from etl.model.tables import Dialect

Scalar = str | int | bool | Decimal
ColumnType = Literal["text", "integer", "decimal", "boolean", "date", "datetime"]
NodeKind = Literal["value", "object", "keyed", "listed", "rows", "columns", "split"]


@dataclass(frozen=True, slots=True)
class Column:
    """The description of a source column: how its cells are read and checked. `name` may be a pattern with `*`."""

    name: str
    type: ColumnType = "text"
    required: bool = False  #: an empty cell rejects the row
    optional: bool = False  #: the file may lack the column
    aliases: tuple[str, ...] = ()
    pattern: str | None = None  #: regular expression for the whole cell
    allowed: tuple[str, ...] = ()
    min: Decimal | date | None = None
    max: Decimal | date | None = None
    max_length: int | None = None
    unique: bool = False
    decimal: str = "."
    thousands: str | None = None
    round: int | None = None  #: decimals to keep, half away from zero; None: more than four is a rejection
    true: tuple[str, ...] = ("true", "1", "yes", "ja", "j", "y", "x")
    false: tuple[str, ...] = ("false", "0", "no", "nej", "nein", "n")
    formats: tuple[str, ...] = ()
    zone: str = "UTC"
    trim: bool = True
    empty: tuple[str, ...] = ()  #: cell texts that mean "nothing", e.g. NULL
    where: str = ""

    @property
    def is_pattern(self) -> bool:
        return "*" in self.name


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition over the typed cells of one row, in SQL; or columns whose cells together occur once."""

    name: str
    input_columns: tuple[str, ...]  #: columns that it reads
    where: str
    sql: str | None = None  #: None: the columns together are unique


@dataclass(frozen=True, slots=True)
class Value:
    """The origin of one field's value."""

    kind: Literal["column", "constant", "sql", "cell", "item"]
    text: str = ""  #: column name, SQL, or a constant that still holds {1}
    input_columns: tuple[str, ...] = ()  #: columns that the SQL reads
    constant: Scalar | None = None
    lookup: Map[str, Scalar] | None = None  #: look-up from cell text to value
    replace: tuple[tuple[str, str], ...] = ()
    default: Scalar | None = None
    empty: Literal["leave", "clear"] = "leave"
    own: bool = True  #: False: written when the record is new, never again
    synthetic: bool = False  #: no row gives it, see `Leaf.synthetic`
    where: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One target in the record: a value, an object, or one of five ways to make a list.

    keyed: {code: object} · listed: [object, …] · rows: one element for each source row of the record ·
    columns: one for each source column that fits a pattern · split: one for each part of a cell.
    """

    kind: NodeKind
    field: Field
    path: str  #: as in the contract: `Variants[].Skus`
    where: str
    value: Value | None = None
    children: Map[str, Node] = dataclasses.field(default_factory=dict)  #: of an object, or of a list's element template
    elements: tuple[tuple[str, Map[str, Node]], ...] = ()  #: keyed and listed: (code or index, fields)
    pattern: str = ""  #: columns
    column: str = ""  #: split
    separator: str = "|"
    flag_id: str | None = None  #: chosen by name instead of the plain one, e.g. NameCreateOnly


@dataclass(frozen=True, slots=True)
class ShrinkLimit:
    """By how much a file may be smaller than the one before it; without `share` there is no limit.

    See `etl.plan.changes.previous_file`.
    """

    share: Decimal | None = None
    explicit: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a feed, and how they are written."""

    files: tuple[str, ...]  #: globs below the inbox
    content: Literal["full", "changes"]
    dialect: Dialect
    keep: str | None = None  #: SQL: rows for which it is not true are skipped, and counted
    shrink: ShrinkLimit = ShrinkLimit()
    done: str | None = None  #: name of the done file, see `etl.mapping.companion_names`
    manifest: str | None = None  #: name of the checksum manifest, perhaps with stars
    order: str | None = None  #: regular expression for the name below the inbox; its named groups give the file's time


@dataclass(frozen=True, slots=True)
class Limit:
    """How many records or rows of a kind a run may have before it is held; without share and count any number."""

    share: Decimal | None = None
    count: int | None = None
    explicit: bool = False

    def is_exceeded(self, number: int, total: int) -> bool:
        """Whether `number` of `total` is over the limit; a default share allows at least MIN_ALLOWED."""
        if self.count is not None:
            return number > self.count
        if self.share is None:
            return False
        allowed = int(self.share * total)
        return number > (allowed if self.explicit else max(allowed, MIN_ALLOWED))

    def __str__(self) -> str:
        if self.count is not None:
            return str(self.count) if self.count else "none"
        return f"{(self.share * 100).normalize():f} %" if self.share is not None else "off"


#: Records or rows that a default share always allows.
MIN_ALLOWED = 10

DEFAULT_LIMIT = Limit(Decimal("0.2"))


@dataclass(frozen=True, slots=True)
class Guards:
    """What a run may change without approval; see `etl.plan.changes.guards`."""

    gone: Limit = DEFAULT_LIMIT
    deactivated: Limit = DEFAULT_LIMIT
    full_file: Limit = Limit(count=0)
    price_moves: Limit = DEFAULT_LIMIT
    price_by: Decimal = Decimal("0.15")  #: a price that moves by more is counted in `price_moves`
    price_zero: Limit = Limit(count=0)
    below_cost: Limit = Limit(count=0)
    stock_zero: Limit = DEFAULT_LIMIT


@dataclass(frozen=True, slots=True)
class Mapping:
    """The mapping of one feed."""

    feed: str
    path: Path
    operation: Operation
    source: Source
    columns: Map[str, Column]
    rules: tuple[Rule, ...]
    record: Map[str, Node]
    rejects: Limit = DEFAULT_LIMIT
    guards: Guards = Guards()
    per: str | None = None  #: pattern of columns: one record for each of them and each row
    switches: tuple[str, ...] = ()  #: flag ids without a field
    gone: Literal["ignore", "deactivate"] = "ignore"
    supplier: int | None = None
    after: tuple[str, ...] = ()  #: feeds that are processed first, besides the order of the imports
    yields: tuple[str, ...] = ()  #: feeds whose accepted values this one does not overwrite
    references: Map[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    #: by field the feed and field that must have its value accepted before the record is sent
    full: str | None = None  #: cron expression, local time: when all records are sent again
    expect: str | None = None  #: when its files come, see `etl.mapping.expectations`
    changes: str | None = None  #: how long their content may stay the same
    feedback: bool = False  #: whether the supplier gets the rejected rows, beside its file
    destructive: str | None = None  #: in the author's words, why a destructive setting is intended
    digest: str = ""

    def find_column(self, name: str) -> Column:
        """Return the description of a source column; a column without one is text."""
        if name in self.columns:
            return self.columns[name]
        for column in self.columns.values():
            if column.is_pattern and match_pattern(column.name, name) is not None:
                return column
        return Column(name)


def match_pattern(pattern: str, name: str) -> tuple[str, ...] | None:
    """Return the texts that the stars of a pattern stand for, or None where the name does not match."""
    import re

    match = re.fullmatch("(.+)".join(re.escape(part) for part in pattern.split("*")), name)
    return match.groups() if match else None


def bind_pattern(value: Value, match_texts: tuple[str, ...] | None) -> Value:
    """Put the texts that a column pattern matched, `(column, {1}, {2}, …)`, into a value."""
    if match_texts is not None:
        for number, text in enumerate(match_texts[1:], 1):
            value = dataclasses.replace(value, text=value.text.replace(f"{{{number}}}", text))
        if value.kind == "cell":
            value = dataclasses.replace(value, kind="column", text=match_texts[0])
    if value.kind == "constant" and value.constant is None and not value.synthetic:
        text = value.text
        for old, new in value.replace:
            text = text.replace(old, new)
        if value.lookup is not None and text in value.lookup:
            return dataclasses.replace(value, constant=value.lookup[text], lookup=None)
        return dataclasses.replace(value, constant=text)
    return value
