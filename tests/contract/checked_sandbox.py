"""Holds every import request that a sandbox receives against the second reading of the contract."""

from __future__ import annotations

from etl.sandbox import Sandbox
from etl.sandbox.http import ApiRequest, ApiResponse
from tests.contract import strict


def problems(request: ApiRequest) -> list[str]:
    """What the second reading has against a request; nothing against one that is no import."""
    facts = strict.facts()
    operation = request.path.removeprefix(facts["prefix"])
    if operation == request.path or operation not in facts["operations"]:
        return []
    headers = {name.lower(): value for name, value in request.headers.items()}
    second = strict.Request(operation, headers["x-stormconnect-header"], request.body)
    return [f"{operation}: {text}" for text in second.problems()]


def check_requests(sandbox: Sandbox) -> list[str]:
    """Have a sandbox read its requests twice; the list that is returned grows by what is wrong with them."""
    wrong: list[str] = []
    respond = sandbox.respond

    def checked(request: ApiRequest) -> ApiResponse:
        wrong.extend(problems(request))
        return respond(request)

    sandbox.respond = checked  # type: ignore[method-assign]
    return wrong
