"""Reads `columns` and `rules` of a mapping file: what good cells and good rows look like."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, get_args
from zoneinfo import ZoneInfo

from etl.mapping.model import Column, ColumnType, Rule
from etl.mapping.problems import Problems, as_list, is_time_format, parse_sql_columns, pattern_error, read_bool

COLUMN_KEYS = (
    "type",
    "required",
    "optional",
    "aliases",
    "pattern",
    "in",
    "min",
    "max",
    "max_length",
    "unique",
    "decimal",
    "thousands",
    "round",
    "true",
    "false",
    "format",
    "zone",
    "trim",
    "empty",
)
#: Keys that mean something for some types only.
TYPES_OF_KEY = {
    "min": ("integer", "decimal", "date", "datetime"),
    "max": ("integer", "decimal", "date", "datetime"),
    "decimal": ("integer", "decimal"),
    "thousands": ("integer", "decimal"),
    "round": ("decimal",),
    "true": ("boolean",),
    "false": ("boolean",),
    "format": ("date", "datetime"),
    "zone": ("datetime",),
}


BOUNDS = ("min", "max")
#: Attributes of `Column` that have another name than their key.
FIELDS_OF_KEYS = {"in": "allowed", "format": "formats"}


@dataclass(frozen=True, slots=True)
class ColumnKey:
    """One key of a column's description, and where its problems go."""

    spec: dict[Any, Any]
    key: str
    kind: str  #: the column's type
    where: str
    problems: Problems

    @property
    def raw(self) -> Any:
        return self.spec[self.key]


def read_columns(raw: Any, problems: Problems) -> dict[str, Column]:
    """Read every declared column, by its name or pattern."""
    if not isinstance(raw, dict):
        hint = "write `Name: {type: text}`, one line each"
        problems.add("columns", "`columns` is empty", where=problems.location(raw), hint=hint)
        return {}
    return {_to_nfc(name): _read_column(_to_nfc(name), raw, name, problems) for name in raw}


def _to_nfc(text: Any) -> str:
    """Return the text in NFC, as cells and headers are compared: `å` is one character however the editor writes it."""
    return unicodedata.normalize("NFC", str(text))


def _read_column(name: str, parent: Any, key: Any, problems: Problems) -> Column:
    """Read the description of one column."""
    where = f"{problems.location(parent, key)}, columns.{name}"
    spec = _column_spec(parent[key], name, where, problems)
    kind = str(spec.get("type", "text"))
    if kind not in get_args(ColumnType):
        problems.add_unknown("type", f'there is no column type "{kind}"', kind, get_args(ColumnType), where=where)
        kind = "text"
    _check_column_keys(spec, kind, where, problems)
    settings: dict[str, Any] = {"type": kind, "where": where}
    for setting, read in KEY_READERS.items():
        if setting in spec and (setting not in BOUNDS or kind in TYPES_OF_KEY[setting]):
            settings[FIELDS_OF_KEYS.get(setting, setting)] = read(ColumnKey(spec, setting, kind, where, problems))
    _check_number_marks(settings, where, problems)
    _check_time_formats(settings, kind, where, problems)
    if "pattern" in settings and (reason := pattern_error(settings["pattern"])):
        hint = "quote it; look-ahead and back-references do not exist here"
        problems.add("pattern", f"`pattern` is no regular expression: {reason}", where=where, hint=hint)
    return Column(name, **settings)


def _column_spec(raw: Any, name: str, where: str, problems: Problems) -> dict[Any, Any]:
    """Return a column's description as an object; a plain text is its type."""
    if isinstance(raw, str):
        return {"type": raw}
    if not isinstance(raw or {}, dict):
        problems.add("column", "is no description of a column", where=where, hint=f"write {name}: {{type: text}}")
    if not isinstance(raw, dict):
        return {}
    if True in raw or False in raw:  # YAML reads the key `true:` without quotes as a boolean.
        return {str(key).lower() if isinstance(key, bool) else key: value for key, value in raw.items()}
    return raw


def _check_column_keys(spec: dict[Any, Any], kind: str, where: str, problems: Problems) -> None:
    """Reject keys that do not exist, or not for this type."""
    for key in spec:
        if key not in COLUMN_KEYS:
            message = f'"{key}" means nothing for a column'
            problems.add_unknown("unknown-key", message, str(key), COLUMN_KEYS, where=where)
        elif kind not in TYPES_OF_KEY.get(key, (kind,)):
            hint = f"take it out, or type: {TYPES_OF_KEY[key][0]}"
            problems.add("column", f"`{key}` means nothing for a {kind} column", where=where, hint=hint)


def _read_allowed(setting: ColumnKey) -> tuple[str, ...]:
    """Read the allowed cells: a list, or the first column of a CSV file beside the mapping."""
    raw, where, problems = setting.raw, setting.where, setting.problems
    if not isinstance(raw, dict):
        return tuple(_to_nfc(item) for item in as_list(raw))
    if list(raw) != ["file"]:
        problems.add("column", "`in` is neither a list nor a file", where=where, hint="in: {file: currencies.csv}")
        return ()
    path = problems.path.parent / str(raw["file"])
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = [line for line in csv.reader(stream, strict=True) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"look-up file {path.name} cannot be read: {reason}"
        problems.add("column", message, where=where, hint="UTF-8 CSV with a header; the first column counts")
        return ()
    allowed = tuple(_to_nfc(line[0].strip()) for line in lines[1:])
    if not allowed:
        hint = "a header, and below it one allowed cell in each line"
        problems.add("column", f"look-up file {path.name} is empty", where=where, hint=hint)
    return allowed


def _read_bound(setting: ColumnKey) -> Decimal | date | None:
    is_date = setting.kind in ("date", "datetime")
    try:
        return date.fromisoformat(str(setting.raw)) if is_date else Decimal(str(setting.raw))
    except (InvalidOperation, ValueError):
        problem, hint = ("no day", "2026-01-31") if is_date else ("no number", "0")
        message, hint = f"`{setting.key}` is {problem}", f"{setting.key}: {hint}"
        setting.problems.add("number", message, where=setting.where, hint=hint)
        return None


def _read_whole_number(setting: ColumnKey) -> int | None:
    raw, key = setting.raw, setting.key
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 0:
        setting.problems.add("number", f"`{key}` is no whole number", where=setting.where, hint=f"{key}: 2")
        return None
    return int(raw)


def _read_flag(setting: ColumnKey) -> bool:
    return read_bool(setting.spec, setting.key, setting.where, setting.problems)


def _read_texts(setting: ColumnKey) -> tuple[str, ...]:
    return tuple(_to_nfc(item) for item in as_list(setting.raw))


def _read_formats(setting: ColumnKey) -> tuple[str, ...]:
    return tuple(str(item) for item in as_list(setting.raw))


def _read_text(setting: ColumnKey) -> str:
    return str(setting.raw)


#: Reader of each key but `type`, in the order in which problems are reported.
KEY_READERS: dict[str, Callable[[ColumnKey], Any]] = {
    **dict.fromkeys(("required", "optional", "unique", "trim"), _read_flag),
    **dict.fromkeys(("aliases", "true", "false", "empty"), _read_texts),
    "in": _read_allowed,
    "format": _read_formats,
    **dict.fromkeys(BOUNDS, _read_bound),
    **dict.fromkeys(("max_length", "round"), _read_whole_number),
    **dict.fromkeys(("decimal", "thousands", "pattern", "zone"), _read_text),
}


def _check_number_marks(settings: dict[str, Any], where: str, problems: Problems) -> None:
    for word in ("decimal", "thousands"):
        if len(settings.get(word, ".")) != 1:
            problems.add("mark", f"`{word}` is one character", where=where, hint=f'{word}: ","')
            del settings[word]
    if settings.get("decimal", ".") == settings.get("thousands"):
        problems.add("mark", "`decimal` and `thousands` are the same", where=where, hint='decimal: ",", thousands: "."')
    usual = {word: Column.__dataclass_fields__[word].default for word in ("true", "false")}
    yes_words, no_words = (settings.get(word, usual[word]) for word in ("true", "false"))
    both = sorted({word.lower() for word in yes_words} & {word.lower() for word in no_words})
    if both:
        hint = "give both lists: true: [ja], false: [nej]"
        problems.add("column", f'"{both[0]}" means both yes and no', where=where, hint=hint)


def _check_time_formats(settings: dict[str, Any], kind: str, where: str, problems: Problems) -> None:
    if kind in ("date", "datetime") and not settings.get("formats"):
        settings["formats"] = ("%Y-%m-%d",) if kind == "date" else ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
    for shape in settings.get("formats", ()):
        if "%" not in shape or not is_time_format(shape):
            message = f'"{shape}" is no format for a {kind}'
            problems.add("format", message, where=where, hint='year %Y, month %m, day %d, as in "%d.%m.%Y %H:%M"')
    try:
        ZoneInfo(settings.get("zone", "UTC"))
    except (KeyError, ValueError, OSError):
        problems.add("zone", f'unknown time zone "{settings["zone"]}"', where=where, hint="e.g. Europe/Stockholm")


def read_rules(raw: Any, problems: Problems) -> tuple[Rule, ...]:
    """Read conditions over several cells of a row, and combinations of columns that must be unique."""
    rules: list[Rule] = []
    for rule in as_list(raw.get("rules")):
        if not isinstance(rule, dict) or set(rule) not in ({"name", "sql"}, {"name", "unique"}):
            where = problems.location(raw, "rules")
            hint = '{name: …, sql: "a > b"}, or {name: …, unique: [a, b]}'
            problems.add("rule", "a rule has a name, and an sql or unique", where=where, hint=hint)
            continue
        name, kind = str(rule["name"]), "sql" if "sql" in rule else "unique"
        where = f"{problems.location(rule, kind)}, rules.{name}"
        if kind == "sql":
            sql = str(rule["sql"])
            rules.append(Rule(name, parse_sql_columns(sql, where, problems), where, sql=sql))
            continue
        columns = tuple(_to_nfc(column) for column in as_list(rule["unique"]))
        if len(set(columns)) < 2:
            hint = "unique: [Artikelnr, Lager]; of a single column it is said there: {unique: true}"
            problems.add("rule", "`unique` of a rule takes two columns or more", where=where, hint=hint)
            continue
        rules.append(Rule(name, columns, where))
    return tuple(rules)
