"""Pieces worked on side by side: the same plan, and nothing left running."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from etl import thread_pool
from tests.support.builders import PRICES, days, mapping, outcome_of, plan_file, table
from tests.unit.plan.rows.test_read_records import Pieces, told


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_plan_is_the_same_in_threads(size: int) -> None:
    """With new, changed, unchanged, gone, repeated and bad rows over many pieces; to the byte, every time."""
    prices = mapping(PRICES)
    lines = [f"P{number},{number}.5,1" for number in range(40)]
    before = days(prices, "part,price,cost\n" + "\n".join(lines))[0].accepted
    lines[3:6] = ["P3,8,1", "P4,x,1"]
    lines += ["new,1,1", "P7,7.5,1", "p8,8.5,1", "P9,77,1"]
    file = table("part,price,cost\n" + "\n".join(lines))
    alone = told(outcome_of(plan_file(Pieces(file, size), prices, before), before))
    for _ in range(3):
        with thread_pool.thread_pool() as start:
            made = plan_file(Pieces(file, size), prices, before, submit=start)
        assert told(outcome_of(made, before)) == alone


def test_a_result_is_what_the_work_gives() -> None:
    """In the order in which it is asked for, also where that is not the order in which it ended; errors come out."""
    ended = threading.Event()
    with thread_pool.thread_pool() as start:
        slow = start(partial(name_after, ended))
        quick = start(partial(name_before, ended))
        failed = start(lambda: 1 // 0)
        assert slow() != quick() != threading.current_thread().name
        with pytest.raises(ZeroDivisionError):
            failed()


def name_after(ended: threading.Event) -> str:
    assert ended.wait(60)
    return threading.current_thread().name


def name_before(ended: threading.Event) -> str:
    ended.set()
    return threading.current_thread().name


def slow_step(begun: list[int], number: int) -> None:
    begun.append(number)
    time.sleep(0.1)


def failing(begun: list[int]) -> None:
    with thread_pool.thread_pool() as start:
        for number in range(40):
            start(partial(slow_step, begun, number))
        raise RuntimeError


def test_nothing_goes_on_when_the_plan_has_failed() -> None:
    """What has not begun is not begun, and the threads have ended."""
    begun: list[int] = []
    with pytest.raises(RuntimeError):
        failing(begun)
    assert len(begun) < 40
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("plan")]
