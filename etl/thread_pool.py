"""Threads for the pieces of a plan: polars releases Python's lock, so two threads use two cores.

What decides starts work by `etl.parallel.Start` and knows nothing of threads; results are taken in the order of the
file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from etl.parallel import Submit

#: More would only take memory: polars spreads what one thread asks for over all cores as well.
THREAD_COUNT = 2

_T = TypeVar("_T")


@contextmanager
def thread_pool() -> Iterator[Submit]:
    """Yield a `Start` with threads, which have ended when the block has."""
    pool = ThreadPoolExecutor(THREAD_COUNT, thread_name_prefix="plan")

    def start(work: Callable[[], _T], /) -> Callable[[], _T]:
        return pool.submit(work).result

    try:
        yield start
    finally:
        pool.shutdown(cancel_futures=True)
