"""What the main thread does beside a flight: a real ledger and a real sandbox; only plans are made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl.errors import StateError
from etl.model.runs import Run, RunState
from etl.runs.coordinator import Coordinator
from etl.runs.queue import RunQueue
from etl.sandbox import Fault
from tests.support.stage import PRICES, STOCK, Stage, parts, stage


class Plans:
    """In place of the pipeline: two records for each run, and a note of what was done."""

    def __init__(self, on: Stage) -> None:
        self.on = on
        self.done: list[str] = []
        self.newer: list[str | None] = []
        self.broken: set[str] = set()

    def plan(self, run: Run, newer: Run | None = None) -> Run:
        if run.id in self.broken:
            raise StateError("feed-unknown", "no usable mapping", hint="correct it")
        self.done.append(f"plan {run.id}")
        self.newer.append(newer.id if newer is not None else None)
        self.on.fill(run.id, parts(1, 2), operation=run.operation)
        return self._known(run)

    def complete(self, run: Run) -> Run:
        self.done.append(f"finish {run.id}")
        self.on.ledger.close_run(run.id, RunState.COMPLETED)
        return self._known(run)

    def open_follow_ups(self, _run: Run) -> list[Run]:
        return []

    def _known(self, run: Run) -> Run:
        found = self.on.ledger.runs.find(run.id)
        assert found is not None
        return found


def opened(on: Stage, name: str, operation: str = STOCK) -> None:
    on.ledger.open_run(Run(name, operation, operation, f"{name}.csv", "0" * 64, RunState.CLAIMED))


@contextmanager
def traffic(on: Stage, **more: Any) -> Iterator[tuple[Coordinator, Plans]]:
    plans = Plans(on)
    with on.flight(patience=60) as flight:
        yield Coordinator(plans, plans, RunQueue(on.ledger, []), flight, lambda *_args, **_facts: None, **more), plans  # type: ignore[arg-type]


def drive(busy: Coordinator) -> None:
    """Until there is nothing to do."""
    while busy.step() or busy.is_busy:
        busy.wake_event.wait(0.02)
        busy.wake_event.clear()


def test_the_next_file_is_planned_while_jobs_run(tmp_path: Path) -> None:
    """A run of another import is planned and finished before the first one's job has ended."""
    with stage(tmp_path) as on, traffic(on) as (busy, plans):
        on.sandbox.inject(Fault(kind="job_slow", path=STOCK, delay=0.5))
        opened(on, "a")
        opened(on, "b", PRICES)
        busy.add(on.ledger.runs.list_open())
        drive(busy)
        assert plans.done == ["plan a", "plan b", "finish b", "finish a"]
        assert [run.state for run in busy.results()] == [RunState.COMPLETED] * 2


def test_runs_of_one_import_go_one_after_the_other(tmp_path: Path) -> None:
    """The second one is not even planned before the first is closed: it has to be compared with what that brought."""
    with stage(tmp_path) as on, traffic(on) as (busy, plans):
        for name in "ab":
            opened(on, name)
        busy.add(on.ledger.runs.list_open())
        drive(busy)
        assert plans.done == ["plan a", "finish a", "plan b", "finish b"]


def test_a_run_without_a_usable_mapping_holds_up_only_its_own(tmp_path: Path) -> None:
    """It stays open and is told; the other import goes on; after `retry` it goes as well."""
    with stage(tmp_path) as on, traffic(on) as (busy, plans):
        plans.broken = {"a"}
        opened(on, "a")
        opened(on, "b")
        opened(on, "c", PRICES)
        busy.add(on.ledger.runs.list_open())
        drive(busy)
        assert plans.done == ["plan c", "finish c"]
        assert [(run.id, error.code) for run, error in busy.stalled_runs] == [("a", "feed-unknown")]
        plans.broken = set()
        busy.retry_stalled()
        drive(busy)
        assert plans.done[2:] == ["plan a", "finish a", "plan b", "finish b"]


def test_a_wrong_secret_closes_everything_until_retry(tmp_path: Path) -> None:
    """Nothing more is planned or sent, and nothing is planned again afterwards."""
    with stage(tmp_path, secret="wrong") as on, traffic(on) as (busy, plans):
        opened(on, "a")
        opened(on, "b", PRICES)
        busy.add(on.ledger.runs.list_open())
        drive(busy)
        assert busy.connect_unavailable
        assert "finish" not in " ".join(plans.done)
        assert {error.code for _, error in busy.stalled_runs} == {"connect-credentials"}
        assert on.posts() == 0


@pytest.mark.parametrize("ends", [True, False])
def test_a_restarted_job_bars_its_import(tmp_path: Path, ends: bool) -> None:
    """While a job runs that belongs to no run, only other imports go; at a retry that is asked anew."""
    answers = iter([frozenset({STOCK}), frozenset() if ends else frozenset({STOCK})])
    with stage(tmp_path) as on, traffic(on, find_busy_key_spaces=lambda: next(answers)) as (busy, plans):
        opened(on, "a")
        opened(on, "b", PRICES)
        busy.add(on.ledger.runs.list_open())
        drive(busy)
        assert plans.done == ["plan b", "finish b"]
        busy.retry_stalled()
        drive(busy)
        assert plans.done[2:] == (["plan a", "finish a"] if ends else [])
