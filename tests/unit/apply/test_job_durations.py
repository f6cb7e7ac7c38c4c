"""How long jobs have taken lately, from looks at them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from etl.apply.job_durations import SAMPLE_SIZE, JobDurations
from etl.model.runs import Chunk, ChunkState

STOCK, PRICES = "Product/ImportOnhands", "Product/ImportSkuPriceLists"


def sent(at: float, operation: str = STOCK, seen: float | None = None) -> Chunk:
    """A chunk sent then whose job was last seen running at another time."""
    made = Chunk("r", 1, 1, operation, {}, Path("p"), "d", 1, 1, state=ChunkState.SUBMITTED, sent_at=at)
    return replace(made, polled_at=seen)


def test_the_middle_of_the_latest_jobs_of_an_import_is_usual() -> None:
    """One slow job changes little, older ones are forgotten, other imports have figures of their own."""
    pace = JobDurations(0.0)
    for taken in (4.0, 6.0, 500.0):
        pace.observe_finished(sent(100.0), 100.0 + taken)
    pace.observe_finished(sent(100.0, PRICES), 101.0)
    assert pace.usual_durations == {STOCK: 6.0, PRICES: 1.0}
    for _ in range(SAMPLE_SIZE):
        pace.observe_finished(sent(200.0), 230.0)
    assert pace.usual_durations[STOCK] == 30.0


def test_before_a_job_has_ended_the_oldest_one_seen_running_tells() -> None:
    """Jobs take at least so long; the first end knows better."""
    pace = JobDurations(0.0)
    pace.observe_running(sent(100.0))
    assert pace.usual_durations == {}
    pace.observe_running(sent(100.0, seen=140.0))
    pace.observe_running(sent(130.0, seen=140.0))
    assert pace.usual_durations == {STOCK: 40.0}
    pace.observe_finished(sent(130.0), 132.0)
    pace.observe_running(sent(100.0, seen=150.0))
    assert pace.usual_durations == {STOCK: 2.0}


def test_what_an_earlier_process_has_sent_says_nothing() -> None:
    """Nobody has asked for it in between."""
    pace = JobDurations(1000.0)
    pace.observe_finished(sent(100.0), 1001.0)
    pace.observe_running(sent(100.0, seen=1001.0))
    assert pace.usual_durations == {}


def test_a_clock_that_was_set_back_takes_no_time_away() -> None:
    """A job never took less than nothing."""
    pace = JobDurations(0.0)
    pace.observe_finished(sent(100.0), 50.0)
    assert pace.usual_durations == {STOCK: 0.0}
