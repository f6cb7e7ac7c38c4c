"""Plain values for the tests of the core: mappings from text, tables from CSV text, plans, and what they send."""

from __future__ import annotations

import csv
import io
import tempfile
import textwrap
from collections.abc import Iterable
from collections.abc import Mapping as Map
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from etl.contract import spec
from etl.contract.spec import Flag
from etl.mapping import load
from etl.mapping.layout import Layout
from etl.mapping.layout_builder import build_layout as build
from etl.mapping.model import Mapping
from etl.model.columns import DEACTIVATED, ITEM, KEY, PARTIAL, ROW
from etl.model.schemas import REJECTION_SCHEMA
from etl.model.tables import Reading, Records, Rejections, Table
from etl.parallel import Submit, run_inline
from etl.plan.build import build_plan
from etl.plan.inputs import PlanInputs, RequestLimits, SendMode
from etl.plan.model import Plan
from etl.plan.requests import Request, make_requests
from etl.plan.rows import transform, validate
from etl.sandbox import field_modes, header, http, payload_validation
from etl.state.snapshots.record_overlay import overlay_records
from etl.state.snapshots.sent_records import build_sent_records
from tests.contract import strict

LIMITS = RequestLimits()

PRICES = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "*.csv", content: full}
columns:
  price: {type: decimal}
  cost: {type: decimal}
record:
  PartNo: part
  PriceListCode: {value: B2C}
  CurrencyCode: {value: SEK}
  PriceSale: price
  CostPurchase: cost
"""


@lru_cache(maxsize=256)
def mapping(text: str) -> Mapping:
    """The mapping that a YAML text says."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feed.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return load.load_mapping(path)


def table(source: str | Iterable[Map[str, str | None]], delimiter: str = ",") -> Table:
    """A table from CSV text (header in its first line) or from rows; row numbers as in a CSV file."""
    if isinstance(source, str):
        rows: list[dict[str, str | None]] = []
        reader = csv.DictReader(io.StringIO(textwrap.dedent(source).strip()), delimiter=delimiter)
        names = list(reader.fieldnames or ())
        rows.extend({name: cell or None for name, cell in row.items()} for row in reader)
    else:
        rows = [dict(row) for row in source]
        names = list(dict.fromkeys(name for row in rows for name in row))
    frame = pl.DataFrame(
        {ROW: list(range(2, len(rows) + 2)), **{name: [row.get(name) for row in rows] for name in names}},
        schema={ROW: pl.Int64, **dict.fromkeys(names, pl.String)},
    )
    return Table(frame, Rejections(pl.DataFrame(schema=REJECTION_SCHEMA)), frame.height)


def records(feed: Mapping, file: Table) -> tuple[Records, Layout]:
    """The records of a file whose rows are good, and their layout."""
    columns = validate.resolve_columns(file.columns, feed)
    shape = build(feed, columns.used)
    parts, _ = transform.evaluate_rows(validate.validate_rows(file.frame, columns, feed).frame, feed, shape)
    return transform.build_records(pl.concat(parts), shape)[0], shape


def nothing() -> pl.DataFrame:
    """*accepted* of a feed that has never run."""
    return pl.DataFrame(schema={KEY: pl.String, ITEM: pl.String, DEACTIVATED: pl.Boolean})


@dataclass(frozen=True)
class Sent:
    """One request with its JSON decoded and its flags by name."""

    request: Request
    flags: dict[str, list[str]]
    records: list[dict[str, Any]]

    @property
    def names(self) -> set[str]:
        """The listed flags, of all arrays."""
        return {f"{array}.{name}" for array, names in self.flags.items() for name in names}


@dataclass(frozen=True)
class Outcome:
    """A plan with everything it would send, and *accepted* after Connect has taken all of it."""

    plan: Plan
    sent: list[Sent]
    accepted: pl.DataFrame

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for sent in self.sent for record in sent.records]

    @property
    def codes(self) -> list[tuple[int, str]]:
        """(row, code) of every rejection."""
        return list(self.plan.rejections.frame.select("row", "code").iter_rows())


def plan_inputs(accepted: pl.DataFrame, **others: Any) -> PlanInputs:
    """What a plan depends on: accepted records, and by name whatever else a test needs."""
    return PlanInputs(accepted.lazy(), account_id=7, **{"request_limits": LIMITS, **others})


def plan_file(
    reading: Reading,
    mapping: Mapping,
    accepted: pl.DataFrame | None = None,
    *,
    mode: SendMode = SendMode.CHANGED,
    submit: Submit = run_inline,
    **others: Any,
) -> Plan:
    """The plan of a file; `others` are fields of PlanInputs."""
    inputs = plan_inputs(nothing() if accepted is None else accepted, **others)
    return build_plan(reading, mapping, inputs, mode, submit)


def run(
    mapping: Mapping,
    table: Table,
    accepted: pl.DataFrame | None = None,
    limits: RequestLimits = LIMITS,
    *,
    full: bool = False,
) -> Outcome:
    """Plan a file, encode all requests, and lay what they carry over *accepted*."""
    before = nothing() if accepted is None else accepted
    made = plan_file(table, mapping, before, request_limits=limits, mode=SendMode.ALL if full else SendMode.CHANGED)
    return outcome_of(made, before)


def outcome_of(plan: Plan, before: pl.DataFrame) -> Outcome:
    """What a plan sends, and *accepted* after it."""
    after = before
    sent: list[Sent] = []
    for request in make_requests(plan):
        sent.append(Sent(request, flag_names(plan.layout, request), http.decode_json(request.payload)))
        patch = build_sent_records(request.frame, request.bits, request.number, plan.layout, request.retired_records)
        after = overlay_records(after.lazy(), patch).collect()
    return Outcome(plan, sent, after)


def days(mapping: Mapping, *files: str | Table, limits: RequestLimits = LIMITS) -> list[Outcome]:
    """One file after the other, each taken by Connect before the next."""
    made: list[Outcome] = []
    accepted = nothing()
    for file in files:
        made.append(run(mapping, file if isinstance(file, Table) else table(file), accepted, limits))
        accepted = made[-1].accepted
    return made


def flag_names(layout: Layout, request: Request) -> dict[str, list[str]]:
    """The header's arrays with names for numbers; empty arrays left out."""
    named: dict[str, list[str]] = {}
    for array in layout.operation.arrays.values():
        by_number: dict[int, Flag] = {flag.number: flag for flag in array.flags.values()}
        numbers = request.header.get(array.name)
        if numbers:
            named[array.name] = [by_number[number].name for number in numbers]
    return named


def complaints(outcome: Outcome) -> list[str]:
    """What the sandbox and a second reading of the contract have against the requests."""
    operation = outcome.plan.mapping.operation
    found: list[str] = []
    for sent in outcome.sent:
        place = f"request {sent.request.number}: "
        second = strict.Request(operation.id, http.encode_json(sent.request.header).decode(), sent.request.payload)
        found += [place + message for message in second.problems()]
        try:
            asked = header.parse_header(http.encode_json(sent.request.header).decode(), operation)
        except header.InvalidHeader as refused:
            found += [place + message for message in refused.messages]
            continue
        bad = payload_validation.validate_items(
            sent.records, spec.load_contract(), operation, asked.full_file, asked.supplier_id
        )
        found += [place + message for messages in bad.values() for message in messages]
        mode, nodes = field_modes.field_modes(operation.id, asked.flags), field_modes.field_tree(operation.id)
        for record in sent.records:
            found += [f"{place}{miss.kind} {miss.path}" for miss in field_modes.find_mismatches(record, nodes, mode)]
    return found


def leaves(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """*accepted* after the run as plain values: key to leaf to value, nulls left out."""
    return plain(outcome.accepted)


def plain(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in frame.drop(ITEM, ROW, strict=False).iter_rows(named=True):
        key = row.pop(KEY)
        found[key] = {name: value for name, value in row.items() if value is not None and value is not False}
    return found


def from_json(rows: list[dict[str, Any]], mapping: Mapping, columns: tuple[str, ...]) -> pl.DataFrame:
    """*accepted* from flat rows: leaf name to value, besides KEY, ITEM (the key unless given) and DEACTIVATED."""
    layout = build(mapping, columns)
    kinds = transform.empty_records(mapping, layout).schema
    made = [{ITEM: row[KEY], DEACTIVATED: False, **row} for row in rows]
    names = list(dict.fromkeys(name for row in made for name in row))
    schema = {
        name: {KEY: pl.String(), ITEM: pl.String(), DEACTIVATED: pl.Boolean(), PARTIAL: pl.Boolean()}.get(name)
        or kinds[name]
        for name in names
    }
    exact = [{name: exactly(row.get(name), schema[name]) for name in names} for row in made]
    return pl.DataFrame(exact, schema=schema, orient="row")


def exactly(value: Any, kind: pl.DataType) -> Any:
    """JSON numbers as decimals where the column holds decimals."""
    return Decimal(str(value)) if value is not None and kind.is_decimal() else value
