"""Listens for Norce's JobCompletedEvent; see https://docs.norce.io/developer-portal/system-integration/using-norceevent

A caller that has the token can cause one poll of a job and nothing else. The token is compared in constant time, before
the body is read; bodies are small; of what a caller sends, only numbers enter the log, and nothing its response.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import threading
import time
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from etl import log
from etl.config.secrets import Secret
from etl.config.settings import WebhookSettings
from etl.connect.job_events import JobEvents
from etl.connect.responses import parse_event
from etl.errors import StateError
from etl.http_server import server_config

#: The longest body in bytes; an event is about a hundred.
MAX_BODY_BYTES = 4096

#: Seconds that a caller has to send a body. Norce itself waits five seconds for the response.
BODY_TIMEOUT = 4.0

#: Seconds between two log lines about denied calls.
_LOG_INTERVAL = 60.0


@contextlib.contextmanager
def listen(settings: WebhookSettings, token: Secret, job_events: JobEvents) -> Iterator[str]:
    """Listen in a thread; yield the address. Raises StateError when the port cannot be opened."""
    try:
        listener = socket.create_server((settings.host, settings.port))
    except OSError as error:
        raise StateError(
            "webhook-port",
            f"the webhook cannot listen: {error.strerror or error}",
            where=f"{settings.host}:{settings.port}",
            hint="choose another webhook.port, or stop the program that has it",
        ) from error
    with listener:
        config = server_config(
            create_app(settings, token, job_events),
            limit_concurrency=50,
            timeout_keep_alive=5,
            h11_max_incomplete_event_size=16 * 1024,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="webhook", daemon=True)
        thread.start()
        address = f"http://{settings.host}:{listener.getsockname()[1]}{settings.path}"
        log.write_event("webhook_opened", address=address)
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join(timeout=5)


def create_app(settings: WebhookSettings, token: Secret, job_events: JobEvents) -> Starlette:
    """Create the endpoint as an ASGI application."""
    deny = _ErrorResponder()

    async def event(request: Request) -> Response:
        sent_token = request.headers.get(settings.header, "")
        if not hmac.compare_digest(sent_token.encode("utf-8", "surrogateescape"), token.reveal().encode()):
            return deny(401, "the token is missing or wrong")
        try:
            body = await asyncio.wait_for(_read_body(request), BODY_TIMEOUT)
        except (TimeoutError, ClientDisconnect):
            return deny(408, "the body did not come")
        if body is None:
            return deny(413, f"the body has more than {MAX_BODY_BYTES} bytes")
        job_id = parse_event(body)
        if job_id is None:
            return deny(400, "the body is no JobCompletedEvent")
        if job_events.add(job_id):
            log.write_event("job_event_received", job=job_id)
        return Response(status_code=204)

    return Starlette(routes=[Route(settings.path, event, methods=["POST"])])


async def _read_body(request: Request) -> bytes | None:
    """Read a body up to MAX_BODY_BYTES; None when it is longer."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        return None
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            return None
    return body


class _ErrorResponder:
    """Denies calls, and writes at most one log line per interval."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: float | None = None
        self._unlogged_count = 0

    def __call__(self, status: int, reason: str) -> Response:
        now = self._clock()
        if self._logged_at is None or now - self._logged_at >= _LOG_INTERVAL:
            log.write_event("webhook_denied", status=status, reason=reason, others_since=self._unlogged_count)
            self._logged_at, self._unlogged_count = now, 0
        else:
            self._unlogged_count += 1
        return Response(status_code=status)
