"""Random answers to random files: whatever Connect answers, nothing is believed that is not so, and everything ends."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from etl.sandbox import Fault
from tests.simulation.machine import FEEDS, FILES, Days, odd_answers, troubles

#: Examples: `make answers` takes 2,000. The parts go side by side.
EXAMPLES, PARTS = int(os.environ.get("ETL_ANSWERS", "52")), 4

#: Where chances begin; without one they are the same each time.
SEED = int(os.environ.get("ETL_SEED", "0"))

FILE = st.tuples(FEEDS, FILES)
ANSWERS = st.lists(st.one_of(odd_answers(), odd_answers(), troubles()), min_size=1, max_size=5)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_connect_answers_nothing_is_believed_that_is_not_so(part: int) -> None:
    """No record is accepted that the catalogue lacks, none ends older than its newest file, and every run ends."""

    @settings(max_examples=EXAMPLES // PARTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @seed(SEED * PARTS + part)
    @given(
        validation=st.sampled_from(["request", "item"]),
        imported_row=st.sampled_from(["null", "cut", "full"]),
        days=st.lists(st.tuples(st.lists(FILE, min_size=1, max_size=2), ANSWERS), min_size=1, max_size=3),
    )
    def histories(
        validation: str, imported_row: str, days: list[tuple[list[tuple[str, dict[str, str | None]]], list[Fault]]]
    ) -> None:
        world = Days()
        try:
            world.begin(validation, imported_row)
            for files, faults in days:
                for feed, says in files:
                    world.drop(feed, says, "whole")
                for fault in faults:
                    world.trouble(fault)
                world.work()
                world.promises()
        except BaseException:
            world.folder.cleanup()
            raise
        world.teardown()  # Connect is well again: the newest files and the catalogue have to agree

    histories()
