"""Loads a mapping file and checks it against the contract, before the first row of a file is read.

An InvalidMappingError lists every problem with location, code, message and hint. `etl.mapping.record` reads the part
`record`; this module reads the other keys.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from etl.contract import spec
from etl.contract.spec import Operation
from etl.errors import InvalidMappingError
from etl.mapping import companion_names, conflicts, dependencies, dialect, file_times, limits, validation
from etl.mapping.columns import read_columns, read_rules
from etl.mapping.limits import read_guards, read_rejects_limit
from etl.mapping.model import Mapping, ShrinkLimit, Source
from etl.mapping.problems import Problems, as_list, load_yaml, parse_sql_columns, read_bool
from etl.mapping.record import RecordParser

MAPPING_KEYS = (
    "feed",
    "operation",
    "source",
    "columns",
    "rules",
    "rejects",
    "guards",
    "record",
    "per",
    "switches",
    "gone",
    "supplier",
    "after",
    "yields",
    "references",
    "full",
    "expect",
    "feedback",
    "destructive",
)
SOURCE_KEYS = ("files", "content", "keep", "shrink", "order", "done", "manifest")
FEED_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")


def load_mapping(path: Path) -> Mapping:
    """Load and check the mapping at `path`. Raises InvalidMappingError with all its problems."""
    problems = Problems(path)
    raw = load_yaml(path)
    mapping = _read_mapping(raw, problems)
    validation.validate_mapping(mapping, raw, problems)
    problems.raise_if_any()
    return mapping


def _read_mapping(raw: Any, problems: Problems) -> Mapping:
    """Read every key of a mapping. Raises InvalidMappingError where the import or the source is unknown."""
    _check_mapping_keys(raw, problems)
    feed = _read_feed_name(raw, problems)
    columns = read_columns(raw.get("columns") or {}, problems)
    operation = _read_operation(raw, problems)
    source = _read_source(raw, problems)
    if operation is None or source is None:
        problems.raise_if_any()
    assert operation is not None
    assert source is not None
    parser = RecordParser(spec.load_contract(), operation, columns, problems)
    record = parser.parse_record(raw.get("record"), problems.location(raw, "record"))
    expect, changes = dependencies.read_expectations(raw, problems)
    switches = _read_switches(raw, operation, problems)
    return Mapping(
        feed=feed,
        path=problems.path,
        operation=operation.with_search_switches(switches),
        source=source,
        columns=columns,
        rules=read_rules(raw, problems),
        record=record,
        rejects=read_rejects_limit(raw, problems),
        guards=read_guards(raw, problems),
        per=_read_per(raw, problems),
        switches=switches,
        gone=_read_choice(raw, "gone", ("ignore", "deactivate"), "ignore", problems),
        supplier=_read_integer(raw, "supplier", problems),
        after=tuple(str(name) for name in as_list(raw.get("after"))),
        yields=conflicts.read_yields(raw, problems),
        references=dependencies.read_references(raw, operation, record, problems),
        full=dependencies.read_full_schedule(raw, problems),
        expect=expect,
        changes=changes,
        feedback="feedback" in raw and read_bool(raw, "feedback", problems.location(raw, "feedback"), problems),
        destructive=str(raw["destructive"]) if raw.get("destructive") else None,
        digest=hashlib.sha256(problems.path.read_bytes()).hexdigest(),
    )


def load_mappings(folder: Path) -> tuple[list[Mapping], list[InvalidMappingError]]:
    """Load every mapping of a folder, by file name; returns the valid ones and the errors of the others."""
    mappings: list[Mapping] = []
    errors: list[InvalidMappingError] = []
    feeds: dict[str, Path] = {}
    for path in sorted(folder.glob("*.yaml")) + sorted(folder.glob("*.yml")):
        try:
            mapping = load_mapping(path)
        except InvalidMappingError as error:
            errors.append(error)
            continue
        if mapping.feed in feeds:
            problems = Problems(path)
            message = f'the feed "{mapping.feed}" is also made by {feeds[mapping.feed].name}'
            problems.add("feed-twice", message, where=str(path), hint="give each mapping a feed name of its own")
            errors.append(InvalidMappingError(problems.entries))
            continue
        feeds[mapping.feed] = path
        mappings.append(mapping)
    for mapping in list(mappings):
        problems = Problems(mapping.path)
        dependencies.validate_dependencies(mapping, mappings, problems)
        if problems.entries:
            mappings.remove(mapping)
            errors.append(InvalidMappingError(problems.entries))
    return mappings, errors


def _check_mapping_keys(raw: Any, problems: Problems) -> None:
    for key in raw:
        if key not in MAPPING_KEYS:
            message = f'"{key}" means nothing in a mapping'
            problems.add_unknown("unknown-key", message, str(key), MAPPING_KEYS, where=problems.location(raw, key))


def _read_feed_name(raw: Any, problems: Problems) -> str:
    feed = str(raw.get("feed", ""))
    if not FEED_NAME_PATTERN.fullmatch(feed):
        hint = "feed: lower-case letters, digits, - and _, e.g. erp-prices"
        problems.add("feed", "has no usable feed name", where=problems.location(raw, "feed"), hint=hint)
    return feed


def _read_choice(raw: Any, key: str, choices: Iterable[str], default: str, problems: Problems) -> Any:
    value = str(raw.get(key, default))
    if value not in tuple(choices):
        message = f'`{key}` cannot be "{value}"'
        problems.add_unknown(key, message, value, choices, where=problems.location(raw, key))
        return default
    return value


def _read_integer(raw: Any, key: str, problems: Problems) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        problems.add("number", f"`{key}` is no whole number", where=problems.location(raw, key), hint=f"{key}: 123")
        return None
    return int(value)


def _read_operation(raw: Any, problems: Problems) -> Operation | None:
    operations = spec.load_contract().operations
    name = str(raw.get("operation", ""))
    where = problems.location(raw, "operation")
    if "operation" not in raw:
        hint = "operation: one of " + ", ".join(sorted(operations))
        problems.add("operation", "does not say which import it is for", where=where, hint=hint)
        return None
    if name not in operations:
        problems.add_unknown("operation", f'Connect has no import "{name}"', name, operations, where=where)
        return None
    return operations[name]


def _read_source(raw: Any, problems: Problems) -> Source | None:
    source = raw.get("source")
    where = problems.location(raw, "source")
    if not isinstance(source, dict):
        problems.add("source", "says nothing of its source", where=where, hint='source: {files: "*.csv", …}')
        return None
    for key in source:
        if key not in SOURCE_KEYS and key not in dialect.DIALECT_KEYS:
            keys = SOURCE_KEYS + dialect.DIALECT_KEYS
            message = f'"{key}" means nothing in `source`'
            problems.add_unknown("unknown-key", message, str(key), keys, where=problems.location(source, key))
    files = tuple(str(name) for name in as_list(source.get("files")))
    if not files:
        problems.add("files", "`source` names no files", where=where, hint='files: "erp/prices_*.csv"')
    content: Any = "full"
    if "content" in source:
        content = _read_choice(source, "content", ("full", "changes"), "full", problems)
    else:
        message = "`source` does not say whether a file has all records or only changed ones"
        problems.add("content", message, where=where, hint="content: full, or content: changes")
    keep = source.get("keep")
    if keep is not None:
        parse_sql_columns(str(keep), problems.location(source, "keep"), problems)
    shrink = limits.parse_shrink_limit(str(source["shrink"])) if "shrink" in source else None
    if "shrink" in source and shrink is None:
        message = f'"{source["shrink"]}" is no share of a file'
        problems.add("shrink", message, where=problems.location(source, "shrink"), hint="shrink: 20%, or shrink: off")
    usual = limits.DEFAULT_SHRINK if content == "full" else ShrinkLimit()
    return Source(
        files=files,
        content=content,
        dialect=dialect.read_dialect(source, files, problems),
        keep=str(keep) if keep else None,
        shrink=shrink or usual,
        order=_read_file_order(source, problems),
        done=_read_companion_name(source, "done", '"{name}.ok"', problems),
        manifest=_read_companion_name(source, "manifest", '"{name}.sha256", or "*.md5"', problems),
    )


def _read_companion_name(source: Any, key: str, example: str, problems: Problems) -> str | None:
    if source.get(key) is None:
        return None
    text = str(source[key])
    reason = companion_names.find_companion_problem(text, allow_wildcards=key == "manifest")
    if reason:
        problems.add(
            "companion-file",
            f'`{key}: "{text}"` {reason}',
            where=problems.location(source, key),
            hint=f"{key}: {example}",
        )
    return text


def _read_file_order(source: Any, problems: Problems) -> str | None:
    if source.get("order") is None:
        return None
    text = str(source["order"])
    reason = file_times.find_order_problem(text)
    if reason:
        hint = 'order: "prices_(?P<time>[0-9]{8})", see docs/mapping.md, source'
        problems.add("order", reason, where=problems.location(source, "order"), hint=hint)
    return text


def _read_per(raw: Any, problems: Problems) -> str | None:
    per = raw.get("per")
    if per is None:
        return None
    pattern = per.get("columns") if isinstance(per, dict) else None
    if not pattern or "*" not in str(pattern):
        hint = 'per: {columns: "stock_*"}'
        problems.add("per", "`per` names no columns", where=problems.location(raw, "per"), hint=hint)
        return None
    return str(pattern)


def _read_switches(raw: Any, operation: Operation, problems: Problems) -> tuple[str, ...]:
    """Read switches and row guards, named `Array.Name`, or `Name` where only one array has it."""
    flag_ids: dict[str, str] = {}
    for flag in operation.flags:
        if flag.kind in ("switch", "row_guard") and not flag.deprecated:
            flag_ids[flag.id] = flag.id
            has_namesake = any(f.name == flag.name and f is not flag for f in operation.flags)
            if not has_namesake:
                flag_ids[flag.name] = flag.id
    switches: list[str] = []
    for name in as_list(raw.get("switches")):
        if str(name) in flag_ids:
            switches.append(flag_ids[str(name)])
        else:
            message = f'{operation.id} has no switch "{name}"'
            problems.add_unknown("switch", message, str(name), flag_ids, where=problems.location(raw, "switches"))
    return tuple(switches)
