"""Hashes looked for in the order of a column, and in any other."""

from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.plan.rows import hash_locator
from etl.plan.rows.hash_locator import HashLocator


def agree(known: list[int], pieces: list[list[int]]) -> None:
    """Every place that is told holds what was wanted, and null is told only of what is nowhere."""
    column = pl.Series(known, dtype=pl.UInt64)
    found, all_of_them = HashLocator(column), set(known)
    for piece in pieces:
        told = found.locate(pl.Series(piece, dtype=pl.UInt64))
        assert (told.dtype, told.len()) == (pl.UInt32(), len(piece))
        there = [known[place] if place is not None else None for place in told]
        assert there == [hash if hash in all_of_them else None for hash in piece]


@given(known=st.lists(st.integers(0, 9), max_size=12), pieces=st.lists(st.lists(st.integers(0, 12), max_size=9)))
@settings(deadline=None)
def test_few_hashes_in_any_order(known: list[int], pieces: list[list[int]]) -> None:
    """Also where some of them are equal."""
    agree(known, pieces)


@pytest.mark.parametrize("lost", [0, 3, 200, 3000])
@pytest.mark.parametrize("more", [0, 3, 200, 3000])
@pytest.mark.parametrize("moved", [0, 2, 400])
def test_a_file_from_which_rows_went_and_to_which_rows_came(
    lost: int, more: int, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many, and in pieces: stretches end and begin anew, and many short ones are searched for."""
    monkeypatch.setattr(hash_locator, "_MIN_STRETCH", 64)
    monkeypatch.setattr(hash_locator, "_NEAR_WINDOW", 128)
    chance = random.Random(f"{lost} {more} {moved}")
    known = [chance.getrandbits(64) for _ in range(6000)]
    gone = set(chance.sample(known, lost))
    wanted = [hash for hash in known if hash not in gone]
    for _ in range(moved):
        wanted.insert(chance.randrange(len(wanted)), wanted.pop(chance.randrange(len(wanted))))
    for _ in range(more):
        wanted.insert(chance.randrange(len(wanted)), chance.getrandbits(64))
    agree(known, [wanted[at : at + 1500] for at in range(0, len(wanted), 1500)])


def test_a_file_in_its_old_order_needs_no_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one with a few rows less and a few more."""
    monkeypatch.setattr(
        HashLocator, "_search_sorted", lambda _self, wanted: pl.Series(wanted.to_list(), dtype=pl.UInt32)
    )
    known = list(range(100_000, 130_000))
    wanted = known[:9_000] + known[9_010:20_000] + [1, 2] + known[20_000:]
    agree(known, [wanted[:15_000], wanted[15_000:]])
