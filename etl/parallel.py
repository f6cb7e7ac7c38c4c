"""Work on pieces that is begun before its result is needed, and taken in order.

Who decides starts work by a `Start` and knows nothing of threads: `etl.thread_pool` has one with them, `in_turn` is one
without.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

#: Pieces that are started before the current one is finished: enough to keep two threads busy.
MAX_AHEAD = 2

_T = TypeVar("_T")


class Submit(Protocol):
    """Begins something that depends on nothing but what it is given, and gives what waits for its result.

    When and in which thread it runs is not the beginner's affair.
    """

    def __call__(self, task: Callable[[], _T], /) -> Callable[[], _T]: ...


def run_inline(task: Callable[[], _T]) -> Callable[[], _T]:
    """Start a task by running it when its result is asked for."""
    return task


def ordered_results(tasks: Iterable[Callable[[], _T]], submit: Submit) -> Iterator[_T]:
    """Yield the results in the order of the tasks, some of which are started ahead."""
    begun: deque[Callable[[], _T]] = deque()
    for work in tasks:
        begun.append(submit(work))
        if len(begun) > MAX_AHEAD:
            yield begun.popleft()()
    while begun:
        yield begun.popleft()()
