"""The word to stop, for everybody who works or waits."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ShutdownEvent(threading.Event):
    """Set once and for all. Who waits for something else is woken too, so that nobody has to look again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._linked_events: list[threading.Event] = []

    def also_set(self, event: threading.Event) -> None:
        """Set this one as well, now or later."""
        self._linked_events.append(event)
        if self.is_set():
            event.set()

    def set(self) -> None:
        """Everything is to end."""
        super().set()
        for other in list(self._linked_events):
            other.set()


@contextmanager
def set_on_signals(stop: ShutdownEvent) -> Iterator[None]:
    """SIGTERM and SIGINT say it for as long as the block lasts."""

    def said(*_: object) -> None:
        # A handler runs between any two steps of the main thread, which may hold the lock of an event just then.
        _thread.start_new_thread(stop.set, ())

    before = {name: signal.signal(name, said) for name in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
