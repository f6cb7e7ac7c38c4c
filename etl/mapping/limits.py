"""Reads the limits of a mapping at which a run is held: `rejects`, `guards` and `source.shrink`."""

from __future__ import annotations

import re
from dataclasses import fields
from decimal import Decimal
from typing import Any

from etl.mapping.model import DEFAULT_LIMIT, Guards, Limit, ShrinkLimit
from etl.mapping.problems import Problems

#: The guards that `guards:` sets, each a limit; `price_moves` may also say by how much.
GUARD_KEYS = tuple(item.name for item in fields(Guards) if item.name != "price_by")
PRICE_MOVE_KEYS = ("share", "by")


def parse_limit(value: Any) -> Limit | None:
    """Parse `2%`, `50` or `off`; None for another value."""
    text = str(value).strip().lower()
    if text in ("off", "false"):
        return Limit(explicit=True)
    if re.fullmatch(r"\d{1,9}", text):
        return Limit(count=int(text), explicit=True)
    share = _parse_share(text)
    return None if share is None else Limit(share, explicit=True)


def read_rejects_limit(raw: Any, problems: Problems) -> Limit:
    """Read `rejects: {limit: 2%}`."""
    entry = raw.get("rejects")
    if entry is None:
        return DEFAULT_LIMIT
    limit = parse_limit(entry.get("limit") if isinstance(entry, dict) else entry)
    if limit is None or (limit.share is None and limit.count is None):
        where = problems.location(raw, "rejects")
        problems.add("rejects", f'"{entry}" is no limit of rejected rows', where=where, hint="limit: 2%")
        return DEFAULT_LIMIT
    return limit


def read_guards(raw: Any, problems: Problems) -> Guards:
    """Read `guards: {gone: 5%, price_moves: {share: 10%, by: 30%}, below_cost: off}`."""
    entries = raw.get("guards")
    if entries is None:
        return Guards()
    if not isinstance(entries, dict):
        where = problems.location(raw, "guards")
        problems.add("guards", "`guards` is empty", where=where, hint="guards: {gone: 5%, below_cost: off}")
        return Guards()
    settings: dict[str, Any] = {}
    for key, value in entries.items():
        where = f"{problems.location(entries, key)}, guards.{key}"
        if key not in GUARD_KEYS:
            problems.add_unknown("unknown-key", f'there is no guard "{key}"', str(key), GUARD_KEYS, where=where)
            continue
        if key == "price_moves" and isinstance(value, dict):
            value = _read_price_moves(value, settings, problems)
        limit = parse_limit(value)
        if limit is None:
            hint = f"{key}: 5%, {key}: 20 for a number of records, or {key}: off"
            problems.add("guards", f'"{value}" is no limit', where=where, hint=hint)
        else:
            settings[str(key)] = limit
    return Guards(**settings)


def _read_price_moves(raw: Any, settings: dict[str, Any], problems: Problems) -> Any:
    """Return the share of `price_moves: {share: …, by: …}`; `by` goes into `settings`."""
    for key in raw:
        where = f"{problems.location(raw, key)}, guards.price_moves.{key}"
        if key not in PRICE_MOVE_KEYS:
            problems.add_unknown("unknown-key", f'"{key}" means nothing there', str(key), PRICE_MOVE_KEYS, where=where)
    if "by" in raw:
        by = _parse_share(str(raw["by"]))
        if by is None:
            where = f"{problems.location(raw, 'by')}, guards.price_moves.by"
            problems.add("guards", f'"{raw["by"]}" is no move of a price', where=where, hint="by: 30%")
        else:
            settings["price_by"] = by
    return raw.get("share", "20%")


def _parse_share(text: str) -> Decimal | None:
    match = re.fullmatch(r"(\d{1,4}(?:\.\d+)?)\s*%", text.strip())
    return Decimal(match[1]) / 100 if match else None


#: `shrink` of a full file where the mapping does not set it.
DEFAULT_SHRINK = ShrinkLimit(Decimal("0.2"))


def parse_shrink_limit(text: str) -> ShrinkLimit | None:
    """Parse `20%` or `off` of `shrink`; None for another value."""
    if text.strip().lower() in ("off", "false"):
        return ShrinkLimit(explicit=True)
    match = re.fullmatch(r"(\d{1,2}(?:\.\d+)?)\s*%", text.strip())
    return ShrinkLimit(Decimal(match[1]) / 100, explicit=True) if match else None
