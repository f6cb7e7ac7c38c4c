"""Tests of a mapping by its author: a folder with a file, the accepted records before, and the expected requests.

`mappings/<feed>.cases/<case>/` holds `input.<ext>`, perhaps `accepted.<ext>` (an earlier file of the feed,
whose records are all accepted), and `expected.json`. The plan is the real one, so a case also shows what a changed
mapping resends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl import filesystem, formats
from etl.errors import InvalidFileError
from etl.mapping.layout import Layout
from etl.mapping.model import Mapping
from etl.plan import build as plan
from etl.plan.inputs import PlanInputs
from etl.plan.model import Plan
from etl.plan.requests import make_requests
from etl.state.snapshots import accepted, record_overlay, sent_records

if TYPE_CHECKING:
    import polars as pl

EXPECTED_FILE = "expected.json"
_ACCOUNT_ID = 1


def case_folders(mapping: Mapping) -> list[Path]:
    """Return the folders with cases of a feed, by name."""
    return sorted(path for path in mapping.path.parent.glob(f"{mapping.feed}.cases/*") if path.is_dir())


def evaluate_case(mapping: Mapping, case: Path) -> dict[str, Any]:
    """Return the rejected rows of a case's file, and its requests with their flags by name."""
    source = _find_file(case, "input")
    if source is None:
        return {"invalid": "there is no input file"}
    before = accepted.scan(case, mapping.feed, None, ())
    earlier = _find_file(case, "accepted")
    try:
        if earlier is not None:
            earlier_plan = _plan_file(earlier, mapping, before)
            for request in make_requests(earlier_plan):
                sent = sent_records.build_sent_records(
                    request.frame, request.bits, request.number, earlier_plan.layout, request.retired_records
                )
                before = record_overlay.overlay_records(before, sent)
        plan_of_input = _plan_file(source, mapping, before)
    except InvalidFileError as error:
        return {"invalid": error.code}
    rows = plan_of_input.rejections.frame.select("row", "column", "code").unique(maintain_order=True)
    return {"rejected": rows.to_dicts(), "requests": list(_request_json(plan_of_input))}


def _plan_file(path: Path, mapping: Mapping, accepted_records: pl.LazyFrame) -> Plan:
    table = formats.read_table(path, mapping.source.dialect)
    return plan.build_plan(table, mapping, PlanInputs(accepted_records, _ACCOUNT_ID))


def _request_json(plan: Plan) -> Iterator[dict[str, Any]]:
    for request in make_requests(plan):
        yield {"flags": _flag_names(plan.layout, request.header), "records": json.loads(request.payload)}


def _flag_names(layout: Layout, header: dict[str, Any]) -> dict[str, list[str]]:
    names = {}
    for array in layout.operation.arrays.values():
        by_number = {flag.number: flag.name for flag in array.flags.values()}
        if header.get(array.name):
            names[array.name] = [by_number[number] for number in header[array.name]]
    return names


def _find_file(case: Path, name: str) -> Path | None:
    return next(iter(sorted(case.glob(f"{name}.*"))), None)


def find_differences(mapping: Mapping, case: Path) -> list[str]:
    """Return the differences between the expected result of a case and the actual one; empty if they agree."""
    path = case / EXPECTED_FILE
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [f"there is no {EXPECTED_FILE}"]
    except ValueError as error:
        return [f"{EXPECTED_FILE} is no JSON: {error}"]
    return list(_compare(expected, evaluate_case(mapping, case), ""))


def write_expected(mapping: Mapping, case: Path) -> None:
    """Write the actual result of a case as its expected one."""
    text = json.dumps(evaluate_case(mapping, case), indent=2, ensure_ascii=False)
    filesystem.write_atomically(case / EXPECTED_FILE, text.encode() + b"\n")


def _compare(expected: Any, actual: Any, path: str) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name in dict.fromkeys([*expected, *actual]):
            here = f"{path}.{name}".lstrip(".")
            if name not in actual:
                yield f"{here} is missing, {_abbreviate(expected[name])} is expected"
            elif name not in expected:
                yield f"{here} is {_abbreviate(actual[name])}, and not expected"
            else:
                yield from _compare(expected[name], actual[name], here)
    elif isinstance(expected, list) and isinstance(actual, list):
        for number, (one, two) in enumerate(zip(expected, actual, strict=False), 1):
            yield from _compare(one, two, f"{path}[{number}]")
        if len(expected) != len(actual):
            yield f"{path} has {len(actual)} elements, {len(expected)} are expected"
    elif expected != actual:
        yield f"{path} is {_abbreviate(actual)}, {_abbreviate(expected)} is expected"


def _abbreviate(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
