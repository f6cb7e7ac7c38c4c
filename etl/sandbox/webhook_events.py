"""Posts a JobCompletedEvent for every job that ends, and again after the contract's pauses until somebody takes it."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from etl.contract import spec
from etl.sandbox.core import Sandbox
from etl.sandbox.http import encode_json
from etl.sandbox.settings import EventSettings

#: Seconds between two looks for jobs that have ended.
_POLL_SECONDS = 0.02


@contextlib.contextmanager
def post_job_events(sandbox: Sandbox, events: EventSettings | None) -> Iterator[None]:
    """Post from a thread for as long as the block lasts."""
    if events is None:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_EventPoster(sandbox, events, stop).run, name="sandbox-events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _EventPoster:
    def __init__(
        self,
        sandbox: Sandbox,
        events: EventSettings,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sandbox, self._events, self._stop, self._clock = sandbox, events, stop, clock
        self._retry_pauses = spec.load_contract().jobs["event_retries"]
        self._posted_jobs: set[int] = set()
        self._queue: list[tuple[float, int, int, int]] = []  # when, attempt, job, status

    def run(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            for job in self._sandbox.jobs():
                if job["IsFinished"] and job["JobId"] not in self._posted_jobs:
                    self._posted_jobs.add(job["JobId"])
                    self._queue.append((self._clock(), 0, job["JobId"], job["StatusId"]))
            ready = [each for each in self._queue if each[0] <= self._clock()]
            for each in ready:
                self._queue.remove(each)
                self._post_or_requeue(*each)

    def _post_or_requeue(self, _when: float, attempt: int, job: int, status: int) -> None:
        if self._send(job, status) or attempt >= len(self._retry_pauses):
            return
        self._queue.append(
            (self._clock() + self._retry_pauses[attempt] * self._events.pause_factor, attempt + 1, job, status)
        )

    def _send(self, job: int, status: int) -> bool:
        address = urlsplit(self._events.url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname or "", address.port, timeout=5)
        body = encode_json({"ClientId": self._events.client, "ApplicationId": None, "JobId": job, "StatusId": status})
        try:
            connection.request(
                "POST", address.path or "/", body, {"Content-Type": "application/json", **self._events.headers}
            )
            return 200 <= connection.getresponse().status < 210
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
