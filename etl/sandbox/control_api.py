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


class ControlApi:
    """Handlers of the control endpoints; each returns what its response has as JSON."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def catalogue(self, request: Request, _: bytes) -> Any:
        operation = request.query_params.get("operation")
        return self._sandbox.catalogue() if operation is None else self._sandbox.records(operation)

    def requests(self, _: Request, __: bytes) -> Any:
        return [seen.to_json() for seen in self._sandbox.requests()]

    def jobs(self, _: Request, __: bytes) -> Any:
        return self._sandbox.jobs()

    def audit(self, _: Request, __: bytes) -> Any:
        return self._sandbox.audit()

    def faults(self, request: Request, body: bytes) -> Any:
        if request.method == "POST":
            return self._sandbox.inject(faults.parse_fault(http.decode_json(body))).to_json()
        if request.method == "DELETE":
            self._sandbox.faults.clear()
        return [fault.to_json() for fault in self._sandbox.faults.all()]

    def edit(self, _: Request, body: bytes) -> Any:
        self._sandbox.admin_edit(**http.decode_json(body))
        return {}

    def settle(self, _: Request, __: bytes) -> Any:
        self._sandbox.finish_jobs()
        return {}

    def reset(self, _: Request, __: bytes) -> Any:
        self._sandbox.reset()
        return {}


def control_routes(sandbox: Sandbox) -> list[Route]:
    """Return the control endpoints."""
    api = ControlApi(sandbox)
    return [
        _make_route("catalogue", api.catalogue, "GET"),
        _make_route("requests", api.requests, "GET"),
        _make_route("jobs", api.jobs, "GET"),
        _make_route("audit", api.audit, "GET"),
        _make_route("faults", api.faults, "GET", "POST", "DELETE"),
        _make_route("edit", api.edit, "POST"),
        _make_route("settle", api.settle, "POST"),
        _make_route("reset", api.reset, "POST"),
    ]


def _make_route(name: str, handler: Callable[[Request, bytes], Any], *methods: str) -> Route:
    async def endpoint(request: Request) -> Response:
        if request.client is None or request.client.host not in _LOCAL_HOSTS:
            return Response(http.encode_json({"error": "this machine only"}), 403, media_type="application/json")
        body = await request.body()
        try:
            answer = await run_in_threadpool(handler, request, body)
        except (ValueError, TypeError, KeyError) as error:
            return Response(http.encode_json({"error": str(error)}), 400, media_type="application/json")
        return Response(http.encode_json(answer), media_type="application/json")

    return Route(f"/_sandbox/{name}", endpoint, methods=list(methods))
