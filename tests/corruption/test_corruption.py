"""A choice of the variants of `make corruption`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corruption.walk import LAST, THIRD, Workshop, export, play, variants, workshop

#: How many, and the number that makes the choice.
COUNT, SEED = 12, 7


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with workshop(tmp_path_factory.mktemp("torn")) as opened:
        yield opened


def test_an_undamaged_folder_goes_on_and_is_right(on: Workshop, tmp_path: Path) -> None:
    """Without damage the killed run is ended, and the last file brings the catalogue to what it says."""
    on.put_back("killed")
    assert on.quantities() != THIRD
    on.shop.drop("Art;Qty;Days\n", "other.csv")
    assert on.shop.etl("once").status == 0
    assert on.quantities() == THIRD
    on.shop.drop(export(LAST), "stock_9.csv")
    assert on.shop.etl("once").status == 0
    assert on.right()


@pytest.mark.slow
def test_damaged_folders_start_right_or_are_refused_with_a_repair(on: Workshop) -> None:
    """Torn, flipped, emptied and lost files: never wrong in silence, and what verify advises leads out."""
    outcomes = [play(on, *variant) for variant in variants(on, COUNT, SEED)]
    assert {"started", "refused"} <= set(outcomes)
