"""The whole pipeline under anything that can happen; `make states` is a longer version of it."""

from __future__ import annotations

import os
from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.simulation.machine import Days

#: Examples, and the most steps of each: `make states` takes 200.
EXAMPLES, STEPS = (int(os.environ.get(name, few)) for name, few in (("ETL_STATES", "24"), ("ETL_STEPS", "50")))

#: Parts that can go side by side, each with chances of its own.
PARTS = 8

#: Where chances begin; without one they are the same each time.
SEED = int(os.environ.get("ETL_SEED", "0"))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_the_promises_hold(part: int) -> None:
    """P1 to P8 hold after each step of any sequence, and in the end Connect agrees with the newest files."""
    run_state_machine_as_test(
        cast(type[RuleBasedStateMachine], seed(SEED * PARTS + part)(lambda: Days())),
        settings=settings(
            max_examples=EXAMPLES // PARTS,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            print_blob=True,
            phases=[Phase.generate] if "ETL_STATES" in os.environ else list(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )
