"""The HTTP shell: Starlette around the core, and what only a socket can do (reset, silence)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from etl.sandbox import control_api as control
from etl.sandbox.core import Sandbox
from etl.sandbox.http import Answer, Call

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class _App(Starlette):
    """Keeps hold of the connection's transport, which Starlette itself hides."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["sandbox.transport"] = getattr(getattr(send, "__self__", None), "transport", None)
        await super().__call__(scope, receive, send)


def app(sandbox: Sandbox) -> Starlette:
    """The sandbox as an ASGI application."""

    async def connect(request: Request) -> Response:
        call = await _call(request)
        given = await run_in_threadpool(sandbox.answer, call)
        if given.delay:
            await _pause(sandbox, given.delay)
        if given.reset or given.hang:
            return _Silent(sandbox, given)
        return Response(given.body, given.status, dict(given.headers), given.content_type)

    routes = [*control.routes(sandbox), Route("/{path:path}", connect, methods=_METHODS)]
    return _App(routes=routes)


async def _call(request: Request) -> Call:
    peer = request.client.host if request.client else ""
    body = await request.body()
    return Call(request.method, request.url.path, dict(request.query_params), dict(request.headers), body, peer)


async def _pause(sandbox: Sandbox, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until and not sandbox.closing:
        await asyncio.sleep(min(0.02, seconds))


class _Silent(Response):
    """No answer: the connection is reset, or stays open and quiet until the client gives up."""

    def __init__(self, sandbox: Sandbox, given: Answer) -> None:
        super().__init__()
        self._sandbox = sandbox
        self._given = given

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope.get("sandbox.transport")
        if self._given.reset and transport is not None:
            _reset(transport)
        gone = asyncio.ensure_future(_disconnected(receive))
        while not gone.done() and not self._sandbox.closing:
            await asyncio.wait({gone}, timeout=0.02)
        if not gone.done():
            gone.cancel()
            if transport is not None:
                transport.abort()
                await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    message: MutableMapping[str, Any] = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()


def _reset(transport: asyncio.Transport) -> None:
    """Close with RST: the client gets an error, not an end of file."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
