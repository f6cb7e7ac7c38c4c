"""Everything that the contract documents can be sent from a mapping, and the strict sandbox has nothing against it."""

from __future__ import annotations

import pytest

from etl.plan.inputs import RequestLimits
from tests.contract import coverage, every
from tests.contract.every import CONTRACT, Way
from tests.support import builders as build
from tests.support.campaign import few_or_all

OPERATIONS = sorted(CONTRACT.operations)

#: Imports of hundreds of fields: inner lists are written in one style here, in all of them by `make contract-coverage`.
WIDE = ("Product/ImportProducts", "Customer/ImportCompanies")

#: A sale price overrules them, so what comes last in time decides.
RULED = ("PriceRule", "PriceRuleValue")

#: So many requests a minute that no two records have to share a header.
ROOM = RequestLimits(requests_per_minute=10_000)


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_every_field_and_flag_is_sent_and_taken(operation_id: str) -> None:
    """Each way of writing a mapping reaches every field, and all ways together every documented flag."""
    operation = CONTRACT.operations[operation_id]
    fields, flags = set(every.paths(operation)), set()
    for way in every.ways(operation):
        if operation_id in WIDE and way.depth > few_or_all(1, 3):
            continue
        reached, chosen = coverage.reach(operation, way), every.make(operation, way).chosen
        assert not reached.wrong, way.name
        assert fields - reached.fields == set(), way.name
        assert chosen - reached.flags == set(), way.name
        flags |= reached.flags
    assert coverage.documented(operation) - flags == set()


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_one_changed_cell_each(operation_id: str) -> None:
    """One record for each column, in which only that cell changes: every request is clean, and Norce ends as if new."""
    operation = CONTRACT.operations[operation_id]
    made = every.make(operation, Way(), RULED)
    mapping = build.mapping(made.text)
    before, after = every.one_change_each(operation, made)
    first, second = build.days(mapping, build.table(before), build.table(after), limits=ROOM)
    changed = [name for name in made.mapping["columns"] if name not in every.identities(operation, made)]
    assert (second.plan.counts.new, second.plan.counts.changed) == (0, len(changed))
    stepwise, at_once = coverage.Client(), coverage.Client()
    for outcome, client in ((first, stepwise), (second, stepwise), (build.run(mapping, build.table(after)), at_once)):
        for sent in outcome.sent:
            assert client.send(operation, sent.request.header, sent.request.payload) == []
        assert not any(client.sandbox.audit().values())
    assert stepwise.sandbox.records(operation_id) == at_once.sandbox.records(operation_id)


def test_what_is_left_out_is_little() -> None:
    """Only flags without a field in their operation, and deprecated ones, need not be reached."""
    kinds = {
        flag.kind for op in CONTRACT.operations.values() for flag in op.flags if flag.id in coverage.documented(op)
    }
    assert kinds == {"value", "create_only", "limited_update", "switch", "row_guard"}
    assert sum(sum(coverage.left_out(operation).values()) for operation in CONTRACT.operations.values()) <= 21
