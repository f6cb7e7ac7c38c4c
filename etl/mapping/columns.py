"""Reads `columns` and `rules` of a mapping file: what good cells and good rows look like."""

from __future__ import annotations

import csv
import unicodedata
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, get_args
from zoneinfo import ZoneInfo

from etl.mapping.model import Column, ColumnType, Rule
from etl.mapping.problems import Problems, is_time_format, parse_sql_columns, pattern_error, read_bool

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


def read_columns(raw: Any, problems: Problems) -> dict[str, Column]:
    """Every declared column by its name or pattern."""
    if not isinstance(raw, dict):
        hint = "write `Name: {type: text}`, one line each"
        problems.add("columns", "`columns` holds no columns", where=problems.location(raw), hint=hint)
        return {}
    return {_to_nfc(name): _read_column(_to_nfc(name), raw, name, problems) for name in raw}


def _to_nfc(text: Any) -> str:
    """As cells and headers are compared: `å` is one character, however the editor writes it."""
    return unicodedata.normalize("NFC", str(text))


def _as_list(raw: Any) -> list[Any]:
    if raw is None:
        return []
    return list(raw) if isinstance(raw, (list, tuple)) else [raw]


def _read_column(name: str, parent: Any, key: Any, problems: Problems) -> Column:
    spec, where = parent[key], f"{problems.location(parent, key)}, columns.{name}"
    if isinstance(spec, str):
        spec = {"type": spec}
    if not isinstance(spec or {}, dict):
        problems.add("column", "is no description of a column", where=where, hint=f"write {name}: {{type: text}}")
    spec = spec if isinstance(spec, dict) else {}
    if True in spec or False in spec:  # `true:` without quotes is no text in YAML
        spec = {str(word).lower() if isinstance(word, bool) else word: value for word, value in spec.items()}
    kind = str(spec.get("type", "text"))
    if kind not in get_args(ColumnType):
        problems.add_unknown("type", f'there is no column type "{kind}"', kind, get_args(ColumnType), where=where)
        kind = "text"
    for word in spec:
        if word not in COLUMN_KEYS:
            problems.add_unknown(
                "unknown-key", f'"{word}" means nothing for a column', str(word), COLUMN_KEYS, where=where
            )
        elif kind not in TYPES_OF_KEY.get(word, (kind,)):
            hint = f"take it out, or type: {TYPES_OF_KEY[word][0]}"
            problems.add("column", f"`{word}` means nothing for a {kind} column", where=where, hint=hint)
    settings: dict[str, Any] = {"type": kind, "where": where}
    for word in ("required", "optional", "unique", "trim"):
        if word in spec:
            settings[word] = read_bool(spec, word, where, problems)
    for word in ("aliases", "true", "false", "empty"):
        if word in spec:
            settings[word] = tuple(_to_nfc(item) for item in _as_list(spec[word]))
    if "in" in spec:
        settings["allowed"] = _read_allowed(spec["in"], where, problems)
    if "format" in spec:
        settings["formats"] = tuple(str(item) for item in _as_list(spec["format"]))
    for word in ("min", "max"):
        if word in spec and kind in TYPES_OF_KEY[word]:
            settings[word] = _read_bound(spec[word], word, kind, where, problems)
    for word in ("max_length", "round"):
        if word in spec:
            settings[word] = _read_whole_number(spec[word], word, where, problems)
    for word in ("decimal", "thousands", "pattern", "zone"):
        if word in spec:
            settings[word] = str(spec[word])
    _check_number_marks(settings, where, problems)
    _check_time_formats(settings, kind, where, problems)
    if "pattern" in settings and (reason := pattern_error(settings["pattern"])):
        hint = "quote it; look-ahead and back-references do not exist here"
        problems.add("pattern", f"`pattern` is no regular expression: {reason}", where=where, hint=hint)
    return Column(name, **settings)


def _read_allowed(raw: Any, where: str, problems: Problems) -> tuple[str, ...]:
    """The cells that are allowed, listed or in the first column of a CSV file beside the mapping."""
    if not isinstance(raw, dict):
        return tuple(_to_nfc(item) for item in _as_list(raw))
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
    found = tuple(_to_nfc(line[0].strip()) for line in lines[1:])
    if not found:
        hint = "a header, and below it one allowed cell in each line"
        problems.add("column", f"look-up file {path.name} holds nothing", where=where, hint=hint)
    return found


def _read_bound(raw: Any, key: str, kind: str, where: str, problems: Problems) -> Decimal | date | None:
    try:
        return date.fromisoformat(str(raw)) if kind in ("date", "datetime") else Decimal(str(raw))
    except (InvalidOperation, ValueError):
        what, hint = ("no day", "2026-01-31") if kind in ("date", "datetime") else ("no number", "0")
        problems.add("number", f"`{key}` is {what}", where=where, hint=f"{key}: {hint}")
        return None


def _read_whole_number(raw: Any, key: str, where: str, problems: Problems) -> int | None:
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 0:
        problems.add("number", f"`{key}` is no whole number", where=where, hint=f"{key}: 2")
        return None
    return int(raw)


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
    """Conditions over several cells of a row, and columns that together occur once."""
    found: list[Rule] = []
    for rule in _as_list(raw.get("rules")):
        if not isinstance(rule, dict) or set(rule) not in ({"name", "sql"}, {"name", "unique"}):
            where = problems.location(raw, "rules")
            hint = '{name: …, sql: "a > b"}, or {name: …, unique: [a, b]}'
            problems.add("rule", "a rule has a name, and an sql or unique", where=where, hint=hint)
            continue
        name, kind = str(rule["name"]), "sql" if "sql" in rule else "unique"
        where = f"{problems.location(rule, kind)}, rules.{name}"
        if kind == "sql":
            sql = str(rule["sql"])
            found.append(Rule(name, parse_sql_columns(sql, where, problems), where, sql=sql))
            continue
        columns = tuple(_to_nfc(column) for column in _as_list(rule["unique"]))
        if len(set(columns)) < 2:
            hint = "unique: [Artikelnr, Lager]; of a single column it is said there: {unique: true}"
            problems.add("rule", "`unique` of a rule takes two columns or more", where=where, hint=hint)
            continue
        found.append(Rule(name, columns, where))
    return tuple(found)
