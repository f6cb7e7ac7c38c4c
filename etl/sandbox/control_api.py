"""`/_sandbox/…`: looking into the sandbox and disturbing it, from this machine only and without a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from etl.sandbox import faults, http
from etl.sandbox.core import Sandbox

_LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost", "testclient")


def control_routes(sandbox: Sandbox) -> list[Route]:
    """The control endpoints."""

    def catalogue(request: Request, _: bytes) -> Any:
        operation = request.query_params.get("operation")
        return sandbox.catalogue() if operation is None else sandbox.records(operation)

    def requests(_: Request, __: bytes) -> Any:
        return [seen.to_json() for seen in sandbox.requests()]

    def jobs(_: Request, __: bytes) -> Any:
        return sandbox.jobs()

    def audit(_: Request, __: bytes) -> Any:
        return sandbox.audit()

    def faulty(request: Request, body: bytes) -> Any:
        if request.method == "POST":
            return sandbox.inject(faults.parse_fault(http.decode_json(body))).to_json()
        if request.method == "DELETE":
            sandbox.faults.clear()
        return [fault.to_json() for fault in sandbox.faults.all()]

    def edit(_: Request, body: bytes) -> Any:
        sandbox.admin_edit(**http.decode_json(body))
        return {}

    def settle(_: Request, __: bytes) -> Any:
        sandbox.finish_jobs()
        return {}

    def reset(_: Request, __: bytes) -> Any:
        sandbox.reset()
        return {}

    return [
        _make_route("catalogue", catalogue, "GET"),
        _make_route("requests", requests, "GET"),
        _make_route("jobs", jobs, "GET"),
        _make_route("audit", audit, "GET"),
        _make_route("faults", faulty, "GET", "POST", "DELETE"),
        _make_route("edit", edit, "POST"),
        _make_route("settle", settle, "POST"),
        _make_route("reset", reset, "POST"),
    ]


def _make_route(name: str, handler: Callable[[Request, bytes], Any], *methods: str) -> Route:
    async def endpoint(request: Request) -> Response:
        if request.client is None or request.client.host not in _LOCAL_HOSTS:
            return Response(http.encode_json({"error": "this machine only"}), 403, media_type="application/json")
        body = await request.body()
        try:
            given = await run_in_threadpool(handler, request, body)
        except (ValueError, TypeError, KeyError) as error:
            return Response(http.encode_json({"error": str(error)}), 400, media_type="application/json")
        return Response(http.encode_json(given), media_type="application/json")

    return Route(f"/_sandbox/{name}", endpoint, methods=list(methods))
