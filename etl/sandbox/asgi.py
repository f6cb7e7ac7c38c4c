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

from etl.sandbox import control_api
from etl.sandbox.core import Sandbox
from etl.sandbox.http import ApiRequest, ApiResponse

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class _SandboxApp(Starlette):
    """Keeps hold of the connection's transport, which Starlette itself hides."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["sandbox.transport"] = getattr(getattr(send, "__self__", None), "transport", None)
        await super().__call__(scope, receive, send)


def make_app(sandbox: Sandbox) -> Starlette:
    """Create the sandbox as an ASGI application."""

    async def connect(request: Request) -> Response:
        call = await _read_request(request)
        response = await run_in_threadpool(sandbox.respond, call)
        if response.delay:
            await _sleep(sandbox, response.delay)
        if response.reset or response.hang:
            return _NoResponse(sandbox, response)
        return Response(response.body, response.status, dict(response.headers), response.content_type)

    routes = [*control_api.control_routes(sandbox), Route("/{path:path}", connect, methods=_METHODS)]
    return _SandboxApp(routes=routes)


async def _read_request(request: Request) -> ApiRequest:
    peer = request.client.host if request.client else ""
    body = await request.body()
    return ApiRequest(request.method, request.url.path, dict(request.query_params), dict(request.headers), body, peer)


async def _sleep(sandbox: Sandbox, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until and not sandbox.closing:
        await asyncio.sleep(min(0.02, seconds))


class _NoResponse(Response):
    """No answer: the connection is reset, or stays open and quiet until the client gives up."""

    def __init__(self, sandbox: Sandbox, response: ApiResponse) -> None:
        super().__init__()
        self._sandbox = sandbox
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope.get("sandbox.transport")
        if self._response.reset and transport is not None:
            _reset_connection(transport)
        gone = asyncio.ensure_future(_wait_for_disconnect(receive))
        while not gone.done() and not self._sandbox.closing:
            await asyncio.wait({gone}, timeout=0.02)
        if not gone.done():
            gone.cancel()
            if transport is not None:
                transport.abort()
                await _wait_for_disconnect(receive)


async def _wait_for_disconnect(receive: Receive) -> None:
    message: MutableMapping[str, Any] = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()


def _reset_connection(transport: asyncio.Transport) -> None:
    """Close with RST: the client gets an error, not an end of file."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
