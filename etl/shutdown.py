"""The event that ends a process on SIGTERM and SIGINT."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ShutdownEvent(threading.Event):
    """An event that is never cleared. It also sets linked events, so that threads that wait for those need not poll."""

    def __init__(self) -> None:
        super().__init__()
        self._linked_events: list[threading.Event] = []

    def also_set(self, event: threading.Event) -> None:
        """Link an event: it is set together with this one, or at once if this one is set."""
        self._linked_events.append(event)
        if self.is_set():
            event.set()

    def set(self) -> None:
        """Set this event and the linked ones."""
        super().set()
        for other in list(self._linked_events):
            other.set()


@contextmanager
def set_on_signals(stop: ShutdownEvent) -> Iterator[None]:
    """Set the event on SIGTERM and SIGINT within the block."""

    def handle_signal(*_: object) -> None:
        # A handler runs between any two steps of the main thread, which may hold the lock of an event just then.
        _thread.start_new_thread(stop.set, ())

    old_handlers = {name: signal.signal(name, handle_signal) for name in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for name, handler in old_handlers.items():
            signal.signal(name, handler)
