"""The whole pipeline under anything that can happen; `make states` is the long version of it."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.states.machine import Days

#: Examples, and steps of each: `make states` sets 200 and 50.
EXAMPLES, STEPS = (int(os.environ.get(name, few)) for name, few in (("ETL_STATES", "6"), ("ETL_STEPS", "20")))


@pytest.mark.slow
def test_whatever_happens_the_promises_hold() -> None:
    """P1 to P8 hold after each step of any sequence, and in the end Connect agrees with the newest files."""
    run_state_machine_as_test(
        Days,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize="ETL_STATES" not in os.environ,
            report_multiple_bugs=False,
            print_blob=True,
            phases=[Phase.generate] if "ETL_STATES" in os.environ else list(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )
