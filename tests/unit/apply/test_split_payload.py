"""Cutting requests: nothing lost, nothing changed, order kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.apply import split_payload
from etl.errors import InternalError
from etl.model.runs import Chunk, ChunkState


def made(folder: Path, elements: list[bytes]) -> Chunk:
    data = split_payload.join_elements(elements)
    path = folder / "1.json"
    path.write_bytes(data)
    count = len(elements)
    return Chunk("r", 3, 2, "op", {"a": 1}, path, hashlib.sha256(data).hexdigest(), count, count * 2, origin_chunk=3)


def elements(count: int) -> list[bytes]:
    """Objects whose text would change if they were read and written."""
    return [b'{"PartNo": "%d",  "PriceSale":10.10}' % n for n in range(count)]


@settings(deadline=None)
@given(count=st.integers(1, 12), drops=st.lists(st.sets(st.integers(0, 11)), max_size=4))
def test_repeated_cuts_keep_bytes_and_indexes(count: int, drops: list[set[int]]) -> None:
    """After any sequence of leaving out and halving, each payload holds exactly the elements its indexes name."""
    with TemporaryDirectory() as name:
        original = elements(count)
        chunks = [made(Path(name), original)]
        kept = set(range(count))
        for drop in drops:
            following = []
            for chunk in chunks:
                rest = split_payload.without_records(chunk, drop)
                kept -= {chunk.indexes[position] for position in drop if position < chunk.records}
                following += [] if rest is None else list(split_payload.halve(rest)) if rest.records > 1 else [rest]
            chunks = following
        assert sorted(index for chunk in chunks for index in chunk.indexes) == sorted(kept)
        for chunk in chunks:
            data = chunk.payload.read_bytes()
            assert data == split_payload.join_elements([original[index] for index in chunk.indexes])
            assert chunk.digest == hashlib.sha256(data).hexdigest()
            assert (chunk.origin_chunk, chunk.wave, chunk.state, chunk.header) == (3, 2, ChunkState.READY, {"a": 1})


def test_cutting_again_writes_the_same_files(tmp_path: Path) -> None:
    """A cut repeated after a crash gives the same names and bytes."""
    chunk = made(tmp_path, elements(5))
    assert split_payload.halve(chunk) == split_payload.halve(chunk)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_single_record_is_not_halved(tmp_path: Path) -> None:
    """That would be our own mistake."""
    with pytest.raises(InternalError):
        split_payload.halve(made(tmp_path, elements(1)))


def test_the_same_again_counts_its_repeats(tmp_path: Path) -> None:
    """A repeat is a chunk of its own over the same payload."""
    chunk = made(tmp_path, elements(2))
    assert split_payload.duplicate(chunk).repeats == 1
    assert split_payload.duplicate(chunk).payload == chunk.payload


def test_a_part_has_its_share_of_the_values_and_no_repeats(tmp_path: Path) -> None:
    """The first half is the larger one; counts of repeats begin anew, and numbers are given by the ledger."""
    chunk = replace(made(tmp_path, elements(5)), repeats=1, values=10)
    first, second = split_payload.halve(chunk)
    assert [(part.records, part.values, part.repeats, part.number) for part in (first, second)] == [
        (3, 6, 0, 0),
        (2, 4, 0, 0),
    ]
    assert (first.indexes, second.indexes) == ((0, 1, 2), (3, 4))


def test_a_part_of_a_planned_chunk_names_it_as_its_origin(tmp_path: Path) -> None:
    """A chunk that was never cut has no origin of its own: it is the origin."""
    chunk = replace(made(tmp_path, elements(2)), origin_chunk=0)
    assert [part.origin_chunk for part in split_payload.halve(chunk)] == [3, 3]


def test_without_any_record_there_is_no_chunk(tmp_path: Path) -> None:
    """Nothing is written for it; positions outside of the chunk change nothing."""
    chunk = made(tmp_path, elements(3))
    assert split_payload.without_records(chunk, {0, 1, 2}) is None
    rest = split_payload.without_records(chunk, {1, 7})
    assert rest is not None
    assert (rest.indexes, rest.first, rest.excluded_indexes) == ((0, 2), 0, (1,))


def test_a_payload_with_another_number_of_records_is_a_defect(tmp_path: Path) -> None:
    """The message names both numbers and the file."""
    chunk = replace(made(tmp_path, elements(3)), records=4)
    with pytest.raises(InternalError, match="says 4 records and holds 3") as caught:
        split_payload.halve(chunk)
    assert str(chunk.payload) in str(caught.value)
