"""X-StormConnect-Header, checked flag by flag."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from etl.contract import spec
from etl.sandbox.header import InvalidHeader, RequestHeader, parse_header

CONTRACT = spec.load_contract()
#: The contract as it is written, not as `etl.contract` reads it.
WRITTEN: dict[str, Any] = json.loads(resources.files("etl.contract").joinpath("contract.json").read_bytes())
ARRAYS = {name: operation["arrays"] for name, operation in WRITTEN["operations"].items()}
ALWAYS = [(operation, name) for operation in ARRAYS for name, array in ARRAYS[operation].items() if array["always"]]
GATED = [
    (operation, array, name)
    for operation, arrays in ARRAYS.items()
    for array in arrays
    for name, flag in arrays[array]["flags"].items()
    if flag.get("gate") and not flag.get("deprecated")
]
STOCK = "Product/ImportOnhands"
GOOD = {"AccountId": 7, "FullFile": False, "SkuOnhandFieldsThatAreSet": [3]}


def read(operation: str, header: object) -> RequestHeader:
    return parse_header(json.dumps(header), CONTRACT.operations[operation])


def why(operation: str, header: object) -> str:
    with pytest.raises(InvalidHeader) as caught:
        read(operation, header)
    return "\n".join(caught.value.messages)


def whole(operation_id: str, **more: Any) -> dict[str, Any]:
    operation = CONTRACT.operations[operation_id]
    header: dict[str, Any] = {"AccountId": 7} | dict.fromkeys(operation.key.header_fields, 3)
    if operation.full_file.is_supported:
        header["FullFile"] = False
    return header | {name: [] for owner, name in ALWAYS if owner == operation_id} | more


def test_numbers_and_names_mean_the_same_flag() -> None:
    """Both forms are taken."""
    by_name = read(STOCK, {**GOOD, "SkuOnhandFieldsThatAreSet": ["OnhandValue"]})
    assert read(STOCK, GOOD).flags == by_name.flags == {"SkuOnhandFieldsThatAreSet.OnhandValue"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SkuOnhandFieldsThatAreSet": ["onhandvalue"]}, "no flag"),
        ({"SkuOnhandFieldsThatAreSet": [99]}, "no flag 99"),
        ({"SkuOnhandFieldsThatAreSet": [True]}, "no flag"),
        ({"SkuOnhandFieldsThatAreSet": [3, "OnhandValue"]}, "listed twice"),
        ({"SkuOnhandFieldsThatAreSet": [7]}, "deprecated"),
        ({"SkuOnhandFieldsThatAreSet": 3}, "not an array"),
        ({"SkuOnhandFieldsThatAreSet": None}, "required"),
        ({"AccountId": None}, "AccountId is required"),
        ({"AccountId": "7"}, "AccountId is required"),
        ({"FullFile": None}, "FullFile is required"),
        ({"FullFile": 0}, "FullFile is required"),
        ({"JobId": 1}, "JobId must not be sent"),
        ({"StorageName": "x"}, "StorageName must not be sent"),
        ({"SerializationType": 0}, "SerializationType must not be sent"),
        ({"SupplierId": 1}, "unknown header property SupplierId"),
        ({"Dryrun": True}, "unknown header property Dryrun"),
    ],
)
def test_a_wrong_header_says_what_is_wrong(change: dict[str, Any], message: str) -> None:
    """Unknown, missing, deprecated and ill-typed parts are each named."""
    assert message in why(STOCK, {**GOOD, **change})


@pytest.mark.parametrize("text", [None, "", "no", "[]", "3"])
def test_a_header_that_is_no_object_is_refused(text: str | None) -> None:
    """Missing, broken or another kind of JSON."""
    with pytest.raises(InvalidHeader):
        parse_header(text, CONTRACT.operations[STOCK])


@pytest.mark.parametrize("operation", sorted(CONTRACT.operations))
def test_every_operation_takes_its_smallest_header(operation: str) -> None:
    """AccountId, FullFile where there is one, and the arrays that are always sent."""
    assert read(operation, whole(operation)).account_id == 7


def test_the_contract_has_arrays_and_enabling_flags_to_test() -> None:
    """Eight operations with an array that is always sent, and flags that need another one."""
    assert len({operation for operation, _ in ALWAYS}) > 5
    assert len(GATED) > 10


@pytest.mark.parametrize(("operation", "array"), ALWAYS)
def test_arrays_that_are_always_sent_must_be_there(operation: str, array: str) -> None:
    """Leaving any of them out is refused."""
    header = whole(operation)
    del header[array]
    assert f"{array} is required" in why(operation, header)


@pytest.mark.parametrize(("operation", "array", "name"), GATED)
def test_every_flag_needs_one_of_its_enabling_flags(operation: str, array: str, name: str) -> None:
    """Without an enabling flag the header is refused."""
    header = whole(operation)
    header[array] = [ARRAYS[operation][array]["flags"][name]["int"]]
    assert f"{array}.{name} needs" in why(operation, header)


def test_one_enabling_flag_of_several_is_enough() -> None:
    """Image texts go with any of the four image flags."""
    header = whole("Product/ImportProducts", ProductFieldsThatAreSet=[8], ImageCultureFieldsThatAreSet=[0])
    assert len(read("Product/ImportProducts", header).flags) == 2


def test_full_file_is_refused_where_there_is_none() -> None:
    """Price lists, customers and companies."""
    without = [name for name, words in WRITTEN["operations"].items() if not words["full_file"]["supported"]]
    assert without
    for name in without:
        assert "has no FullFile" in why(name, whole(name, FullFile=False))


def test_the_supplier_service_needs_a_supplier() -> None:
    """SupplierId is required there."""
    header = whole("Supplier/ImportProducts")
    del header["SupplierId"]
    assert "SupplierId is required" in why("Supplier/ImportProducts", header)


def test_warehouse_arrays_go_together() -> None:
    """One without the other is refused."""
    header = whole("Product/ImportPriceLists", PriceListFieldsThatAreSet=[7], WarehouseFieldsThatAreSet=[1])
    assert "goes together" in why("Product/ImportPriceLists", header)
    header["WarehouseLocationFieldsThatAreSet"] = []
    assert read("Product/ImportPriceLists", header).flags
