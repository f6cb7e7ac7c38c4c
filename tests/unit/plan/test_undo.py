"""Taking back the last run: the sandbox's catalogue is as it was before, but for what is named."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from etl.mapping.model import Mapping
from etl.model.columns import DEACTIVATED, KEY
from etl.model.runs import AcceptedRange, Overlay
from etl.plan import undo
from etl.plan.inputs import OriginalRun, SendMode
from etl.plan.model import Plan
from etl.plan.requests import make_requests
from etl.sandbox import Sandbox, SandboxSettings
from etl.sandbox.http import ApiRequest, decode_json
from etl.state.snapshots import record_overlay, sent_records
from tests.contract.checked_sandbox import problems
from tests.support.builders import PRICES, mapping, nothing, plan_file, plan_inputs, table
from tests.support.random_mappings import CONTRACT, OPERATIONS, Feed, feeds, files, modest

#: `make undo-examples` draws many more.
EXAMPLES = int(os.environ.get("UNDO_EXAMPLES", "3"))
DRAWN = modest(EXAMPLES, EXAMPLES)


#: Names of fields that tell elements of lists apart.
CODES = {
    name
    for fields in CONTRACT.schemas.values()
    for field in fields.values()
    if field.is_list and len(field.row_key) == 1
    for name in field.row_key
}


class Norce:
    """A sandbox without a socket, and what it has accepted from one feed."""

    def __init__(self, feed: Mapping) -> None:
        self.feed = feed
        self.sandbox = Sandbox(SandboxSettings(clock=lambda: 0.0, requests=10_000, validation="item"))
        form = {"content-type": "application/x-www-form-urlencoded"}
        body = b"grant_type=client_credentials&client_id=sandbox&client_secret=sandbox&scope=playground"
        token = self.sandbox.respond(ApiRequest("POST", self.sandbox.contract.token_path, headers=form, body=body))
        self.headers = {
            "authorization": f"Bearer {decode_json(token.body)['access_token']}",
            "application-id": "1",
            "content-type": "application/json",
        }
        self.accepted = nothing()
        self.failed = 0

    def file(self, rows: Any, *, full: bool = False) -> Plan:
        return plan_file(table(rows), self.feed, self.accepted, mode=SendMode.ALL if full else SendMode.CHANGED)

    def take(self, plan: Plan) -> Any:
        """Everything of a plan, sent and taken; what was sent, as a run keeps it."""
        parts = []
        for request in make_requests(plan):
            headers = self.headers | {"x-stormconnect-header": json.dumps({"AccountId": 7, **request.header})}
            path = self.sandbox.contract.path_prefix + self.feed.operation.id
            call = ApiRequest("POST", path, headers=headers, body=request.payload)
            assert problems(call) == []
            answer = self.sandbox.respond(call)
            assert answer.status == 200, answer.body
            self.sandbox.finish_jobs()
            job = self.sandbox.jobs()[-1]
            self.failed += job["Fail"]
            parts.append(
                sent_records.build_sent_records(
                    request.frame, request.bits, request.number, plan.layout, request.retired_records
                )
            )
            self.accepted = record_overlay.overlay_records(self.accepted.lazy(), parts[-1]).collect()
        return pl.concat(parts, how="diagonal") if parts else None

    def undone(self, plan: Plan, sent: Any) -> Plan:
        """The plan that takes another one back."""
        chunks = [AcceptedRange(number, tuple(range(10_000)), frozenset()) for number in sent["_chunk"].unique()]
        went = sent_records.select_accepted(sent, Overlay("r", tuple(chunks)))
        assert plan.previous_records is not None
        return undo.build_reverse_plan(
            self.feed, OriginalRun("r", plan.columns, went, plan.previous_records), plan_inputs(self.accepted)
        )

    def shared(self) -> bool:
        """Whether variants that are records of their own have ended in one product, which each of them describes."""
        held = self.sandbox.store.records_of(self.feed.operation.id).values()
        return any(len(record.data.get("Variants") or ()) > 1 for record in held)

    def catalogue(self) -> dict[str, Any]:
        """Records by key, without empty values and what is switched off."""
        off = self.feed.operation.deactivation
        found = {}
        for key, record in self.sandbox.records(self.feed.operation.id).items():
            if off is not None and at(record, off.path) == off.off_value:
                continue
            found[key] = pruned(record)
            if off is not None and off.on_value is not None and found[key].get(off.path) == off.on_value:
                del found[key][off.path]  # said or not, it is on
        return found


def at(record: Any, path: str) -> Any:
    """The first value at a path."""
    for name in path.replace("[]", "").split("."):
        if isinstance(record, list):
            record = record[0] if record else None
        record = record.get(name) if isinstance(record, dict) else None
    return record


def pruned(value: Any) -> Any:
    """Without empty values, lists and objects, and what is nothing but the code that tells it apart."""
    if isinstance(value, dict):
        made = {name: inner for name, found in value.items() if (inner := pruned(found)) not in (None, {}, [], "")}
        return {} if made.keys() <= CODES else made
    if isinstance(value, list):
        return [inner for found in value if (inner := pruned(found)) not in (None, {}, [])]
    return value


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every value by its place."""
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in flat(inner, f"{path}.{name}").items()}
    if isinstance(value, list):
        return {k: v for place, inner in enumerate(value) for k, v in flat(inner, f"{path}[{place}]").items()}
    return {path: value}


CSV = "part,price,cost\n"


def test_changed_new_and_gone_records_go_back() -> None:
    """Old values come back, new records are switched off, gone ones switched on again."""
    norce = Norce(mapping(PRICES + "gone: deactivate"))
    norce.take(norce.file(CSV + "A,10,5\nB,20,5\nC,30,"))
    before = norce.catalogue()
    plan = norce.file(CSV + "A,11,5\nB,20,6\nD,40,1")
    back = norce.undone(plan, norce.take(plan))
    assert norce.catalogue() != before
    assert back.hold_reasons[0] == "undoes run r: inspect it first"
    assert (back.counts.new, back.counts.changed, back.counts.gone, back.irreversible) == (1, 2, 1, ())
    norce.take(back)
    assert norce.catalogue() == before
    assert norce.sandbox.audit()["listed_but_absent"] == []


def test_an_undo_can_be_taken_back() -> None:
    """Undoing the undo leads to where the run had led; undoing once more leads back again."""
    norce = Norce(mapping(PRICES + "gone: deactivate"))
    norce.take(norce.file(CSV + "A,10,5\nB,20,5"))
    states = [norce.catalogue()]
    plan = norce.file(CSV + "A,11,5\nC,40,1")
    for _ in range(3):
        sent = norce.take(plan)
        states.append(norce.catalogue())
        plan = norce.undone(plan, sent)
    assert states[0] == states[2]
    assert states[1] == states[3] != states[0]


def test_what_cannot_be_emptied_is_named() -> None:
    """A price that was not there before stays, and is named with its key: Connect ignores an empty price."""
    norce = Norce(mapping(PRICES))
    norce.take(norce.file(CSV + "A,10,\nB,20,"))
    plan = norce.file(CSV + "A,12,3\nB,20,")
    back = norce.undone(plan, norce.take(plan))
    assert [(one["field"], one["records"], one["keys"]) for one in back.irreversible] == [
        ("CostPurchase", 1, ["A / B2C"])
    ]
    norce.take(back)
    assert norce.catalogue()["A|B2C|0"]["PriceSale"] == 10


def test_an_element_that_was_not_there_is_not_sent_without_its_code() -> None:
    """A list that Connect replaces goes back to the one warehouse of before, and no request has one without a code."""
    warehouses = """
        feed: lists
        operation: Product/ImportPriceLists
        source: {files: "*.csv", content: full}
        record:
          Code: code
          Warehouses:
            - {Code: {value: N}, Name: north, Locations: [{Code: hall}]}
            - {Code: {value: S}, Name: south, Locations: [{Code: yard}]}
    """
    norce = Norce(mapping(warehouses))
    norce.take(norce.file("code,north,hall,south,yard\nL,cold,1,,\n"))
    before = norce.catalogue()
    plan = norce.file("code,north,hall,south,yard\nL,cold,1,warm,2\n")
    norce.take(norce.undone(plan, norce.take(plan)))
    assert norce.catalogue() == before


def test_what_a_later_run_has_changed_stays() -> None:
    """Only values that are still the run's go back; what came after it is named."""
    norce = Norce(mapping(PRICES))
    norce.take(norce.file(CSV + "A,10,1\nB,20,1"))
    plan = norce.file(CSV + "A,11,2\nB,21,1")
    sent = norce.take(plan)
    norce.take(norce.file(CSV + "A,12,2\nB,21,1"))
    back = norce.undone(plan, sent)
    assert [(one["field"], one["reason"]) for one in back.irreversible] == [
        ("PriceSale", "a later run has changed it since")
    ]
    norce.take(back)
    found = norce.catalogue()
    assert (found["A|B2C|0"]["PriceSale"], found["A|B2C|0"]["CostPurchase"]) == (12, 1)
    assert found["B|B2C|0"]["PriceSale"] == 20


def test_records_that_cannot_be_switched_off_are_named() -> None:
    """Price lists know no switch: a new one stays, and is named."""
    lists = mapping(
        "feed: lists\noperation: Product/ImportPriceLists\nsource: {files: '*.csv', content: full}\n"
        "record: {Code: code, Name: name, CurrencyCode: {value: SEK}}"
    )
    norce = Norce(lists)
    norce.take(norce.file("code,name\nA,a"))
    plan = norce.file("code,name\nA,b\nB,b")
    back = norce.undone(plan, norce.take(plan))
    assert [(one["field"], one["keys"]) for one in back.irreversible] == [("", ["B"])]
    norce.take(back)
    assert norce.catalogue()["A"]["Name"] == "a"


def test_records_that_cannot_be_deactivated_again_are_named() -> None:
    """The same for a record that was deactivated before the run: it stays active, and is named."""
    lists = mapping(
        "feed: lists\noperation: Product/ImportPriceLists\nsource: {files: '*.csv', content: full}\n"
        "record: {Code: code, Name: name, CurrencyCode: {value: SEK}}"
    )
    norce = Norce(lists)
    norce.take(norce.file("code,name\nA,a\nB,a"))
    norce.accepted = norce.accepted.with_columns((pl.col(KEY) == "B").alias(DEACTIVATED))
    plan = norce.file("code,name\nA,a\nB,b")
    back = norce.undone(plan, norce.take(plan))
    assert [(entry["field"], entry["records"], entry["keys"]) for entry in back.irreversible] == [("", 1, ["B"])]


def test_a_price_goes_back_before_its_row_is_switched_off() -> None:
    """A row that the run woke up with a new price gets its old price, then sleeps again."""
    feed = mapping(
        PRICES.replace("cost: {type: decimal}", "cost: {type: decimal}\n  on: {type: boolean}") + "  IsActive: on\n"
    )
    norce = Norce(feed)
    header = "part,price,cost,on\n"
    norce.take(norce.file(header + "A,10,5,true"))
    norce.take(norce.file(header + "A,10,5,false"))
    plan = norce.file(header + "A,12,5,true")
    back = norce.undone(plan, norce.take(plan))
    norce.take(back)
    record = norce.sandbox.records(feed.operation.id)["A|B2C|0"]
    assert (record["PriceSale"], record["IsActive"]) == (10, False)


@pytest.mark.parametrize("operation", OPERATIONS)
@DRAWN
@given(data=st.data())
def test_after_any_runs_the_last_can_be_taken_back(operation: str, data: st.DataObject) -> None:
    """Whatever was sent before: undoing the last run leaves the catalogue as it was, but for what is named."""
    feed: Feed = data.draw(feeds(operation, rich=False))
    norce = Norce(feed.mapping)
    runs = data.draw(st.integers(1, 3))
    plan, sent, before = None, None, {}
    for _ in range(runs):
        before = norce.catalogue()
        rows = data.draw(files(feed))
        plan = norce.file(rows if rows else ",".join(feed.cells))
        sent = norce.take(plan)
    if sent is None:
        return
    assert plan is not None
    assume(not norce.failed and not norce.shared())  # what Norce did not take, or two rows both say, is another matter
    back = norce.undone(plan, sent)
    norce.take(back)
    assert not norce.failed
    after = norce.catalogue()
    named = {re.sub(r"\[.*?\]", "", one["field"]).rpartition(".")[2] for one in back.irreversible}
    named |= {name for one in back.irreversible for name in re.findall(r"(\w+)\[\w", one["field"])}  # the element stays
    for key, record in before.items():
        differing = {
            place
            for place in flat(record).keys() | flat(after.get(key, {})).keys()
            if flat(record).get(place) != flat(after.get(key, {})).get(place)
        }
        ways = {place: re.sub(r"\[.*?\]", "", place).split(".") for place in differing}
        unnamed = {place for place, way in ways.items() if way[-1] not in CODES and not named.intersection(way)}
        assert unnamed == set(), (key, record, after.get(key))
    assert (after.keys() <= before.keys()) or "" in named
