"""`/_sandbox/…`: looking into the sandbox and disturbing it, from this machine only and without a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from etl.sandbox import faults
from etl.sandbox import http as wire
from etl.sandbox.core import Sandbox

_LOCAL = ("127.0.0.1", "::1", "localhost", "testclient")


def routes(sandbox: Sandbox) -> list[Route]:
    """The control endpoints."""

    def catalogue(request: Request, _: bytes) -> Any:
        operation = request.query_params.get("operation")
        return sandbox.catalogue() if operation is None else sandbox.records(operation)

    def requests(_: Request, __: bytes) -> Any:
        return [seen.as_json() for seen in sandbox.requests()]

    def jobs(_: Request, __: bytes) -> Any:
        return sandbox.jobs()

    def audit(_: Request, __: bytes) -> Any:
        return sandbox.audit()

    def faulty(request: Request, body: bytes) -> Any:
        if request.method == "POST":
            return sandbox.inject(faults.from_json(wire.load(body))).as_json()
        if request.method == "DELETE":
            sandbox.faults.clear()
        return [fault.as_json() for fault in sandbox.faults.all()]

    def edit(_: Request, body: bytes) -> Any:
        sandbox.admin_edit(**wire.load(body))
        return {}

    def settle(_: Request, __: bytes) -> Any:
        sandbox.settle()
        return {}

    def reset(_: Request, __: bytes) -> Any:
        sandbox.reset()
        return {}

    return [
        _route("catalogue", catalogue, "GET"),
        _route("requests", requests, "GET"),
        _route("jobs", jobs, "GET"),
        _route("audit", audit, "GET"),
        _route("faults", faulty, "GET", "POST", "DELETE"),
        _route("edit", edit, "POST"),
        _route("settle", settle, "POST"),
        _route("reset", reset, "POST"),
    ]


def _route(name: str, act: Callable[[Request, bytes], Any], *methods: str) -> Route:
    async def endpoint(request: Request) -> Response:
        if request.client is None or request.client.host not in _LOCAL:
            return Response(wire.dump({"error": "this machine only"}), 403, media_type="application/json")
        body = await request.body()
        try:
            given = await run_in_threadpool(act, request, body)
        except (ValueError, TypeError, KeyError) as error:
            return Response(wire.dump({"error": str(error)}), 400, media_type="application/json")
        return Response(wire.dump(given), media_type="application/json")

    return Route(f"/_sandbox/{name}", endpoint, methods=list(methods))
