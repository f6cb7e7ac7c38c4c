"""A few of the walks of `make crash`: the real command dies at an effect, and the next one makes it good."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.crash import walk
from tests.crash.walk import Staged, staged

#: Walks of each kind here; `make crash` takes them all. A disk that fails once may go unnoticed, so of those two.
FEW = {"kill": 1, "pair": 1, "power": 1, "torn": 1, "fault": 2}


@pytest.fixture(scope="module")
def stage() -> Iterator[Staged]:
    with staged() as on:
        yield on


def few(walks: list[list[walk.Order]], count: int) -> list[list[walk.Order]]:
    """An even choice that is another one with every number of points."""
    return random.Random(len(walks)).sample(walks, count)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kill", "pair", "power", "torn", "fault"])
def test_a_death_at_any_effect_is_made_good(stage: Staged, kind: str) -> None:
    """After kill -9 (once and twice), a power cut, half a write or a failing disk, the end is that of a quiet day."""
    points = stage.points_of({"torn": "torn", "fault": "EIO"}.get(kind, "kill"))
    walks = {
        "kill": lambda: walk.single(points),
        "pair": lambda: walk.pairs(points, 6, 1),
        "power": lambda: walk.power_cuts(points, 6, 1),
        "torn": lambda: walk.torn(points),
        "fault": lambda: walk.faults(points, 6, 1),
    }[kind]()
    early = sum(walk.converge(stage.on, stage.oracle, orders) > 0 for orders in few(walks, FEW[kind]))
    assert points > 50
    assert early > 0
