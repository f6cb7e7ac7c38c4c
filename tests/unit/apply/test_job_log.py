"""Tracing a log to our keys: whole tokens, the careful side, nothing invented."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.apply.job_log import MAX_MESSAGE_LENGTH, RecordIdentity, match_log
from etl.model.runs import LogRow

NAMES = ("PartNo", "WarehouseCode", "LocationCode")


def records(*keys: str) -> list[RecordIdentity]:
    """Records from keys written `part|warehouse|location`."""
    return [RecordIdentity(key, tuple(key.split("|")), row) for row, key in enumerate(keys, 2)]


def found(keys: list[RecordIdentity], message: str = "", row: str | None = None, severity: int = 3) -> list[str]:
    return [item.key for item in match_log(keys, [LogRow(severity, message, row)], NAMES).record_errors]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Product A-1 not found", ["A-1"]),
        ("Product A-10 not found.", ["A-10"]),
        ("PartNo=A-1; unit missing", ["A-1"]),
        ("'A-1': bad", ["A-1"]),
        ('"A-1", "A-10" both bad', ["A-1", "A-10"]),
        ("A-1/W1: no such warehouse", ["A-1"]),
        ("A-1.", ["A-1"]),
        ("A-100 and A and -1", []),
        ("XA-1 A-1X A-1-2", []),
        ("a-1", []),
        ("", []),
    ],
)
def test_values_are_found_as_whole_tokens(message: str, expected: list[str]) -> None:
    """A key is found where it stands alone, and not inside a longer one."""
    assert found(records("A-1", "A-10"), message) == expected


@pytest.mark.parametrize("key", ["Skruv 6x40, förzinkad", 'a"b', "å/ä\\ö", "1 2", "(x)", "tab\there", "50%", "A."])
def test_unusual_keys_are_found_in_text_and_json(key: str) -> None:
    """Spaces, quotes, umlauts and escapes do not hide a key, neither in the message nor in the row."""
    keys = [RecordIdentity(key, (key,), 2), RecordIdentity("other", ("other",), 3)]
    assert found(keys, f"Row {key} failed") == [key]
    assert found(keys, "failed", json.dumps({"PartNo": key, "OnhandValue": 1})) == [key]
    assert found(keys, "failed", json.dumps({"Some": key}, ensure_ascii=True)) == [key]


def test_all_parts_together_single_out_one_record() -> None:
    """With the whole key in the row only that record is refused."""
    keys = records("A|W1|L1", "A|W2|L1", "B|W1|L1")
    row = '{"PartNo":"A","WarehouseCode":"W2","LocationCode":"L1","OnhandVal'
    assert found(keys, "bad row", row) == ["A|W2|L1"]
    assert found(keys, "A|W1|L1: bad") == ["A|W1|L1"]


def test_records_that_cannot_be_told_apart_are_all_refused() -> None:
    """Only a shared part is named: every record with it is refused, to be on the careful side."""
    keys = records("A|W1|L1", "A|W2|L1", "B|W2|L1")
    assert found(keys, "Product A is inactive") == ["A|W1|L1", "A|W2|L1"]
    assert found(keys, "Warehouse W2 does not exist") == ["A|W2|L1", "B|W2|L1"]


def test_ambiguous_findings_are_not_sure() -> None:
    """`sure` counts only records that an error names beyond doubt."""
    keys = records("A|W1|L1", "A|W2|L1", "B|W2|L1")
    traced = match_log(keys, [LogRow(3, "A is bad"), LogRow(3, "B is bad"), LogRow(3, "nobody")], NAMES)
    assert (traced.certain, traced.error_count, traced.unmatched_errors) == (1, 3, 1)


def test_other_values_of_the_row_are_not_taken_for_keys() -> None:
    """A quantity that equals another record's part number does not drag that record in."""
    keys = records("A|W1|L1", "17|W1|L1")
    assert found(keys, "bad", '{"PartNo":"A","WarehouseCode":"W1","OnhandValue":17}') == ["A|W1|L1"]


@pytest.mark.parametrize(
    ("message", "row", "expected"),
    [
        ("7 rows failed", None, []),
        ("8000 failed", None, []),
        ("supplier 8000 is blocked", None, []),
        ("Supplier: 8000 is blocked", None, []),
        ('supplier "8000" is blocked', None, []),
        ("error #8000", None, []),
        ("PartNo: 7 failed", None, ["7"]),
        ("part no 8000 failed", None, ["8000"]),
        ('part "7" failed', None, ["7"]),
        ("product 8000 is inactive.", None, ["8000"]),
        ("PartNo='8000' is inactive", None, ["8000"]),
        ("supplier 8000 is blocked", '{"PartNo":"7","SupplierId":8000}', ["7"]),
        ("blocked", '{"SupplierId":8000,"Par', []),
        ("blocked", "8000;W1;L1", ["8000"]),
    ],
)
def test_a_number_is_a_key_only_where_the_text_says_so(message: str, row: str | None, expected: list[str]) -> None:
    """A count, or the number of a supplier, is not the part number that looks the same; a named number is."""
    assert found(records("7", "8000"), message, row) == expected


def test_a_whole_key_of_numbers_is_found() -> None:
    """A key of several parts, written as one, names its record although its parts are numbers."""
    keys = records("1001|W1|L1", "2002|W1|L1", "1001|W2|L1")
    assert found(keys, "1001|W2|L1: bad") == ["1001|W2|L1"]
    assert found(keys, "2002/W1/L1 is bad") == ["2002|W1|L1"]


def test_leading_zeros_count() -> None:
    """00123 and 123 are two keys."""
    assert found(records("00123", "123"), "part 00123") == ["00123"]


def test_information_rows_are_ignored_and_the_worst_message_wins() -> None:
    """Start and finish rows name nobody; of several complaints the highest severity is kept, once per key."""
    keys = records("A", "B")
    rows = [LogRow(1, "Start A"), LogRow(2, "A: image"), LogRow(3, "A: gone"), LogRow(2, "B: image"), LogRow(2, "?")]
    traced = match_log(keys, rows, NAMES)
    assert [(item.key, item.severity, item.message) for item in traced.record_errors] == [
        ("A", 3, "A: gone"),
        ("B", 2, "B: image"),
    ]
    assert traced.unmatched_warnings == ("?",)
    assert traced.positions == {0, 1}


def test_messages_are_kept_on_one_line_and_short() -> None:
    """Long messages are cut, line breaks removed."""
    (refusal,) = match_log(records("A"), [LogRow(3, "A:\n" + "x" * 2000)]).record_errors
    assert len(refusal.message) == MAX_MESSAGE_LENGTH
    assert "\n" not in refusal.message


@given(
    keys=st.lists(st.text(min_size=1, max_size=12).map(str.strip).filter(bool), min_size=1, max_size=8, unique=True),
    cut=st.integers(0, 40),
)
def test_a_named_row_is_always_found(keys: list[str], cut: int) -> None:
    """Whatever the key looks like: a row that carries it whole is traced to (at least) its record."""
    made = [RecordIdentity(key, (key,), 2) for key in keys]
    row = json.dumps({"PartNo": keys[0], "Name": "x" * cut})[: len(json.dumps({"PartNo": keys[0]})) + cut]
    assert keys[0] in found(made, "failed", row)


@pytest.mark.parametrize(
    "row",
    ['{"ParentPartNo":"B","PartNo":"A","WarehouseCode":"W1"}', "ParentPartNo=B; PartNo=A; WarehouseCode=W1"],
)
def test_a_longer_name_is_another_name(row: str) -> None:
    """ParentPartNo is not PartNo: its value does not name the record that has it as a key."""
    assert found(records("A|W1|L1", "B|W1|L1"), "bad", row) == ["A|W1|L1"]
