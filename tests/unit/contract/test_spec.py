"""The contract as the product reads it is the contract as it is written, word by word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from etl.contract import spec
from tests.contract import reading, strict
from tests.contract.reading import (
    WrittenArray,
    WrittenField,
    WrittenFlag,
    WrittenFullFile,
    WrittenKey,
    WrittenOperation,
)

CONTRACT = spec.load_contract()
OPERATIONS = sorted(strict.facts()["operations"])
GOLDEN = Path(__file__).parents[2] / "golden"


def test_every_flag_is_read_as_written() -> None:
    """Its number, kind, fields, enabling flags and what it does to other fields; none is missing, none is added."""
    read = {
        (operation.id, array.name, name): WrittenFlag(
            number=flag.number,
            kind=flag.kind,
            writes=list(flag.paths),
            gates=list(flag.enabling_flags),
            affects=list(flag.affected_paths),
            forces=flag.activates,
            overrules=list(flag.overrides),
            deprecated=flag.deprecated,
            note=flag.note,
        )
        for operation in CONTRACT.operations.values()
        for array in operation.arrays.values()
        for name, flag in array.flags.items()
    }
    assert read == reading.flags()
    assert len(read) > 300


def test_every_array_is_read_as_written() -> None:
    """Whether it is always sent, what it goes with, and its flags in their order."""
    read = {
        (operation.id, name): WrittenArray(array.always_sent, array.sent_with, list(array.flags))
        for operation in CONTRACT.operations.values()
        for name, array in operation.arrays.items()
    }
    assert read == reading.arrays()
    assert {array.always for array in read.values()} == {True, False}
    assert any(array.together_with for array in read.values())


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_flags_know_their_array_and_name(operation_id: str) -> None:
    """All of an operation's flags are found by their ids, and enabling flags exist."""
    operation = CONTRACT.operations[operation_id]
    written = {f"{array}.{name}" for owner, array, name in reading.flags() if owner == operation_id}
    assert {flag.id for flag in operation.flags} == written
    assert {operation.flag(flag_id).id for flag_id in written} == written
    assert {gate for flag in operation.flags for gate in flag.enabling_flags} <= written


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_every_operation_is_read_as_written(operation_id: str) -> None:
    """Its key, scope of a full file, record shape, and how a record is switched off."""
    operation = CONTRACT.operations[operation_id]
    key, full, off = operation.key, operation.full_file, operation.deactivation
    assert operation.id == operation_id
    assert operation.service == operation_id.split("/")[0]
    assert reading.key(operation_id) == WrittenKey(
        key.list_path,
        key.match,
        list(key.fields),
        list(key.header_fields),
        None if key.defaults is None else dict(key.defaults),
    )
    scope = None if full.scope is None else list(full.scope)
    assert reading.full_file(operation_id) == WrittenFullFile(
        full.is_supported, scope, list(full.required_fields), full.split, full.effect
    )
    assert reading.operation(operation_id) == WrittenOperation(
        item=operation.item_schema,
        create_needs=list(operation.required_on_create),
        unknown_key=operation.unknown_key,
        unflagged=set(operation.unflagged_paths),
        pages=list(operation.doc_pages),
        note=operation.note,
        off=None if off is None else (off.path, off.off_value, off.on_value),
    )


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_key_paths_are_fields_of_the_record(operation_id: str) -> None:
    """Each key field in its list; SearchOnlyByCode takes out those that it affects."""
    operation, written = CONTRACT.operations[operation_id], reading.key(operation_id)
    expected = [f"{written.row}.{name}" if written.row else name for name in written.fields]
    assert list(operation.key.paths) == expected
    places = {path for path, _, _ in reading.paths(reading.operation(operation_id).item)}
    assert set(expected) <= places
    for (owner, array, name), flag in reading.flags().items():
        if owner == operation_id and name == "SearchOnlyByCode":
            narrow = operation.with_search_switches([f"{array}.{name}"]).key.fields
            assert list(narrow) == [field for field in written.fields if field not in flag.affects]


def test_a_switch_takes_a_field_out_of_two_keys() -> None:
    """That of the record's own array; the switch of the list inside it leaves the key as it is."""
    narrowed = {
        operation
        for (operation, _, name), flag in reading.flags().items()
        if name == "SearchOnlyByCode" and set(flag.affects) & set(reading.key(operation).fields)
    }
    assert narrowed == {"Customer/ImportCustomers", "Customer/ImportCompanies"}


def test_no_operation_is_missing_or_added() -> None:
    """The product knows the operations that are written."""
    assert sorted(CONTRACT.operations) == OPERATIONS


def test_every_field_is_read_as_written() -> None:
    """Its type, lengths, and what null, absence and lists mean; none is missing, none is added."""
    read = {
        (schema, name): WrittenField(
            type=field.type,
            inside=field.inner_type,
            wire=field.wire_type,
            required=field.required,
            nullable=field.nullable,
            max_length=field.max_length,
            storage_length=field.storage_length,
            default=field.default,
            row_key=list(field.row_key),
            list_rule=field.list_rule,
            empty=field.null_effect,
            read_with=field.read_with,
            always=field.always_sent,
            role=field.role,
            not_below=list(field.not_below),
            deprecated=field.deprecated,
            note=field.note,
        )
        for schema, fields in CONTRACT.schemas.items()
        for name, field in fields.items()
    }
    assert read == reading.fields()
    assert len(read) > 400
    assert all(field.name == name for fields in CONTRACT.schemas.values() for name, field in fields.items())


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_a_path_leads_to_the_field_that_is_written_there(operation_id: str) -> None:
    """Through lists and objects, at every path of the record; the fields inside it are those of its schema."""
    operation = CONTRACT.operations[operation_id]
    places = list(reading.paths(strict.facts()["operations"][operation_id]["item"]))
    assert places
    for path, schema, name in places:
        field = CONTRACT.field(operation, path)
        assert field is CONTRACT.schemas[schema][name], path
        inside = {inner for owner, inner in reading.fields() if owner == reading.fields()[schema, name].inside}
        assert set(CONTRACT.fields_of(field)) == inside, path


def test_what_nulls_empty_follows_from_the_words() -> None:
    """`empty: ignored` and `no_change` are never cleared; any other word, or `nullable` alone, is."""
    written = reading.fields()
    cleared = {(s, n) for s, fields in CONTRACT.schemas.items() for n, field in fields.items() if field.clearable}
    kept = {place for place, field in written.items() if field.empty in ("ignored", "no_change")}
    worded = {place for place, field in written.items() if field.empty in ("inherit", "reset")}
    bare = {place for place, field in written.items() if field.empty is None and field.nullable}
    assert cleared == worded | bare
    assert kept
    assert not cleared & kept


def test_limits_jobs_enums_and_addresses_are_read_as_written() -> None:
    """The rest of the contract, as plain data."""
    written = strict.facts()
    assert CONTRACT.limits == written["limits"]
    assert CONTRACT.jobs == written["jobs"]
    assert CONTRACT.enums == written["enums"]
    assert (CONTRACT.path_prefix, CONTRACT.token_path) == (written["prefix"], written["token_path"])


@pytest.mark.parametrize("group", sorted(path.stem for path in GOLDEN.glob("*.json")))
def test_golden_headers_are_right_by_the_second_reading(group: str) -> None:
    """Every header of the golden plans: its arrays, flags and enabling flags."""
    plans = json.loads((GOLDEN / f"{group}.json").read_text(encoding="utf-8"))
    headers = {
        (request["method"], json.dumps(request["header"]))
        for plan in plans.values()
        for request in plan.get("requests", ())
    }
    assert headers
    wrong = {pair: list(strict.Request(*pair, b"[]").in_header()) for pair in headers}
    assert {pair: problems for pair, problems in wrong.items() if problems} == {}


@pytest.mark.parametrize(
    ("nullable", "null_effect", "clearable"),
    [
        (False, None, False),
        (True, None, True),
        (False, "reset", True),
        (False, "inherit", True),
        (True, "ignored", False),
        (True, "no_change", False),
    ],
)
def test_the_word_for_null_counts_more_than_nullable(
    nullable: bool, null_effect: Literal["ignored", "inherit", "reset", "no_change"] | None, clearable: bool
) -> None:
    """A documented effect of null makes a field clearable or not, whether or not nullable is known."""
    field = spec.Field("PriceSale", "number", nullable=nullable, null_effect=null_effect)
    assert field.clearable is clearable
