"""Tests of a mapping by its author: a folder with a file, what Norce had before, and the requests that have to follow.

`mappings/<feed>.cases/<case>/` holds `input.<ext>`, perhaps `accepted.<ext>` (an earlier file of the feed, all of
which Norce took), and `expected.json`. The plan is the real one, so a case also shows what a changed mapping resends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etl import filesystem as durable
from etl import formats
from etl.errors import FileRefused
from etl.mapping.layout import Layout
from etl.mapping.model import Mapping
from etl.plan import build as plan
from etl.plan import model
from etl.plan.requests import requests
from etl.state.snapshots import accepted

EXPECTED = "expected.json"
_TERMS = model.Terms(account_id=1)


def folders(mapping: Mapping) -> list[Path]:
    """The cases of a feed, by name."""
    return sorted(path for path in mapping.path.parent.glob(f"{mapping.feed}.cases/*") if path.is_dir())


def outcome(mapping: Mapping, case: Path) -> dict[str, Any]:
    """What comes of a case's file: rejected rows, and requests with their flags by name."""
    source = _file(case, "input")
    if source is None:
        return {"refused": "there is no input file"}
    before = accepted.scan(case, mapping.feed, None, ())
    earlier = _file(case, "accepted")
    try:
        if earlier is not None:
            made = plan.make(formats.read(earlier, mapping.source.dialect), mapping, before, _TERMS)
            for request in requests(made):
                sent = accepted.sent(request.frame, request.bits, request.number, made.layout, request.retired)
                before = accepted.lay_over(before, sent)
        made = plan.make(formats.read(source, mapping.source.dialect), mapping, before, _TERMS)
    except FileRefused as refused:
        return {"refused": refused.code}
    rows = made.rejections.frame.select("row", "column", "code").unique(maintain_order=True)
    return {"rejected": rows.to_dicts(), "requests": list(_requests(made))}


def _requests(made: model.Plan) -> Iterator[dict[str, Any]]:
    for request in requests(made):
        yield {"flags": _flags(made.layout, request.header), "records": json.loads(request.payload)}


def _flags(layout: Layout, header: dict[str, Any]) -> dict[str, list[str]]:
    names = {}
    for array in layout.operation.arrays.values():
        by_number = {flag.number: flag.name for flag in array.flags.values()}
        if header.get(array.name):
            names[array.name] = [by_number[number] for number in header[array.name]]
    return names


def _file(case: Path, name: str) -> Path | None:
    return next(iter(sorted(case.glob(f"{name}.*"))), None)


def differences(mapping: Mapping, case: Path) -> list[str]:
    """Where a case's outcome is not what its author expects; empty when it is."""
    path = case / EXPECTED
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [f"there is no {EXPECTED}"]
    except ValueError as error:
        return [f"{EXPECTED} is no JSON: {error}"]
    return list(_differ(expected, outcome(mapping, case), ""))


def write(mapping: Mapping, case: Path) -> None:
    """What comes of a case as what is expected of it."""
    text = json.dumps(outcome(mapping, case), indent=2, ensure_ascii=False)
    durable.write(case / EXPECTED, text.encode() + b"\n")


def _differ(expected: Any, got: Any, at: str) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in dict.fromkeys([*expected, *got]):
            here = f"{at}.{name}".lstrip(".")
            if name not in got:
                yield f"{here} is missing, {_shown(expected[name])} is expected"
            elif name not in expected:
                yield f"{here} is {_shown(got[name])}, and not expected"
            else:
                yield from _differ(expected[name], got[name], here)
    elif isinstance(expected, list) and isinstance(got, list):
        for number, (one, two) in enumerate(zip(expected, got, strict=False), 1):
            yield from _differ(one, two, f"{at}[{number}]")
        if len(expected) != len(got):
            yield f"{at} has {len(got)} elements, {len(expected)} are expected"
    elif expected != got:
        yield f"{at} is {_shown(got)}, {_shown(expected)} is expected"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
