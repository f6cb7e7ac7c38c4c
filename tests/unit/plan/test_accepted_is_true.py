"""What we take Norce to have is what it has: *accepted* held against the sandbox's catalogue, day by day."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.contract.spec import Field
from etl.mapping import layout_builder
from etl.model.columns import DEACTIVATED
from etl.plan.batches import encode
from etl.sandbox.http import decode_json
from tests.contract import coverage
from tests.contract.every import CONTRACT
from tests.support.builders import Outcome, days
from tests.support.random_mappings import OPERATIONS, Feed, feeds, files, modest
from tests.unit.plan.test_invariants import read

#: Said with something else, or only when it is created, and not kept as a value.
SAID = {"IsCompanyListDelta", "IsCustomerListDelta", "IsCreateOnly", "IsLimitedUpdate", "Password"}

MODEST = modest(3)


KNOWN = pytest.mark.xfail(
    reason="when the code of a list element is a column and changes, values of the old element stay accepted",
    strict=False,
)


@pytest.mark.parametrize(
    "operation",
    [pytest.param(name, marks=KNOWN) if name == "Supplier/ImportProducts" else name for name in OPERATIONS],
)
@MODEST
@given(data=st.data())
def test_accepted_is_what_norce_has(operation: str, data: st.DataObject) -> None:
    """Cells change, come and go, elements of lists too: every value in *accepted* is in the catalogue at its place."""
    feed = data.draw(feeds(operation))
    first, second, third = (read(feed, creatable(feed, data.draw(files(feed, most=5)))) for _ in range(3))
    client = coverage.Client()
    for outcome in days(feed.mapping, first, second, third, first):
        for sent in outcome.sent:
            assert client.send(CONTRACT.operations[operation], sent.request.header, sent.request.payload) == []
        assert list(differences(outcome, client.sandbox.records(operation))) == []


def creatable(feed: Feed, rows: list[dict[str, str | None]]) -> list[dict[str, str | None]]:
    """Rows in which nothing is empty that a new record needs; Norce refuses those, which is another story."""
    needs = CONTRACT.operations[feed.mapping.operation.id].required_on_create
    leaves = layout_builder.build_layout(feed.mapping, tuple(feed.cells)).leaves
    names = {leaf.value.text for leaf in leaves if leaf.path in needs and leaf.value.kind == "column"}
    fixed = {leaf.value.text for leaf in leaves if leaf.field.name == "ManufacturerPartNo"}  # cannot change either
    if CONTRACT.operations[feed.mapping.operation.id].key.match == "first_of":  # one identifier goes with one other
        rows = [
            {**row, **{k: feed.cells[k][feed.cells[feed.keys[0]].index(str(row[feed.keys[0]]))] for k in feed.keys}}
            for row in rows
        ]
    return [
        {
            name: row[feed.keys[-1]] if name in fixed else cell or (feed.cells[name][0] if name in names else None)
            for name, cell in row.items()
        }
        for row in rows
    ]


def differences(outcome: Outcome, catalogue: dict[str, Any]) -> Iterator[str]:
    """Where *accepted* and the catalogue disagree, as far as *accepted* says anything."""
    operation = outcome.plan.mapping.operation
    layout = outcome.plan.layout
    for number in range(outcome.accepted.height):
        row = outcome.accepted[number]
        if row[DEACTIVATED].item():
            continue
        owned = [leaf for leaf in layout.leaves if leaf.value.own]
        known = [leaf for leaf in owned if leaf.column in row.columns and row[leaf.column].item() is not None]
        bits = sum(1 << leaf.index for leaf in known)
        believed = decode_json(encode.encode_payload(row, bits, layout))[0]
        found = [record for record in catalogue.values() if _same_record(operation.id, believed, record)]
        if len(found) != 1:
            yield f"{len(found)} records for {believed}"
            continue
        yield from _object(believed, found[0], operation.item_schema, "")


def _same_record(operation: str, believed: dict[str, Any], record: dict[str, Any]) -> bool:
    key = CONTRACT.operations[operation].key
    if key.list_path:
        return _part_no(believed) == _part_no(record)
    if key.match == "first_of":
        name = next(name for name in key.fields if believed.get(name))
        return bool(believed[name] == record.get(name))
    return all(believed.get(name, 0) == record.get(name, 0) for name in key.fields)


def _part_no(record: dict[str, Any]) -> str:
    return str(record["Variants"][0]["Skus"][0]["PartNo"])


def _object(believed: dict[str, Any], found: dict[str, Any], schema: str, at: str) -> Iterator[str]:
    for name, value in believed.items():
        if name in SAID:
            continue
        field = CONTRACT.schemas[schema][name]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from _list(value, found.get(name) or [], field, at + name)
        elif isinstance(value, dict):
            yield from _object(value, found.get(name) or {}, str(field.inner_type), f"{at}{name}.")
        elif isinstance(value, list):
            if [text for text in value if text] != (found.get(name) or []):
                yield f"{at}{name}: {value} is {found.get(name)}"
        elif value is not None and not _equal(value, found.get(name)):
            yield f"{at}{name}: {value!r} is {found.get(name)!r}"


def _list(believed: list[Any], found: list[Any], field: Field, at: str) -> Iterator[str]:
    for element in believed:
        if element.get("IsCreateOnly") or element.get("IsLimitedUpdate"):
            continue  # Norce decides about these
        names = [name for name in field.row_key if name in element]
        if field.inner_type == "Product.Variant":
            rows = [row for row in found if row["Skus"][0]["PartNo"] == element["Skus"][0]["PartNo"]]
        else:
            rows = [row for row in found if all(row.get(name) == element[name] for name in names)]
        if not rows:
            yield f"{at}: nothing for {element}"
        elif names or field.inner_type == "Product.Variant":
            yield from _object(element, rows[0], str(field.inner_type), f"{at}[].")
    if field.list_rule in ("replace", "unknown") and len(found) != len(believed):
        yield f"{at}: {len(found)} elements instead of {len(believed)}"


def _equal(one: Any, two: Any) -> bool:
    numbers = (int, Decimal, float)
    if isinstance(one, numbers) and isinstance(two, numbers) and not isinstance(one, bool):
        return Decimal(str(one)) == Decimal(str(two))
    return bool(one == two)
