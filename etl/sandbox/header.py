"""The X-StormConnect-Header of one request, checked flag by flag against the contract.

Facts: https://docs.norce.io/api-reference/connect/productservice/x-stormconnect-header-product and its siblings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from etl.contract.spec import Flag, FlagArray, Operation

#: Known to the API, but nothing a client of this program should send.
_FORBIDDEN_PROPERTIES = ("JobId", "StorageName", "SerializationType")


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """The content of a request's header."""

    account_id: int
    full_file: bool
    supplier_id: int | None
    flags: frozenset[str]  #: "Array.Flag"

    def has_flag(self, flag: Flag) -> bool:
        return flag.id in self.flags


class InvalidHeader(Exception):
    """The header cannot be used; `messages` has every reason."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__("; ".join(messages))
        self.messages = messages


def parse_header(text: str | None, operation: Operation) -> RequestHeader:
    """Parse the header in `text`. Raises InvalidHeader with all problems at once."""
    if text is None:
        raise InvalidHeader(["X-StormConnect-Header is missing"])
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise InvalidHeader([f"X-StormConnect-Header is not JSON: {error}"]) from None
    if not isinstance(raw, dict):
        raise InvalidHeader(["X-StormConnect-Header is not a JSON object"])
    flags: set[str] = set()
    problems = list(_check_properties(raw, operation))
    for array in operation.arrays.values():
        problems += _check_array(raw, array, flags)
    problems += _check_enabling_flags(operation, flags)
    if problems:
        raise InvalidHeader(problems)
    return RequestHeader(raw["AccountId"], raw.get("FullFile", False), raw.get("SupplierId"), frozenset(flags))


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_properties(raw: dict[str, Any], operation: Operation) -> Iterator[str]:
    known = {"AccountId", "FullFile", *operation.key.header_fields, *operation.arrays}
    for name in raw:
        if name in _FORBIDDEN_PROPERTIES:
            yield f"{name} must not be sent"
        elif name == "FullFile" and not operation.full_file.is_supported:
            yield f"{operation.id} has no FullFile"
        elif name not in known:
            yield f"unknown header property {name}"
    if not _is_positive_integer(raw.get("AccountId")):
        yield "AccountId is required, a positive integer"
    if operation.full_file.is_supported and not isinstance(raw.get("FullFile"), bool):
        yield "FullFile is required, true or false"
    for name in operation.key.header_fields:
        if not _is_positive_integer(raw.get(name)):
            yield f"{name} is required, a positive integer"


def _check_array(raw: dict[str, Any], array: FlagArray, flags: set[str]) -> Iterator[str]:
    listed = raw.get(array.name)
    if listed is None:
        if array.always_sent or array.name in raw:
            yield f"{array.name} is required, an array"
        return
    if not isinstance(listed, list):
        yield f"{array.name} is not an array"
        return
    if array.sent_with and array.sent_with not in raw:
        yield f"{array.name} goes together with {array.sent_with}"
    numbers = {flag.number: flag for flag in array.flags.values()}
    for entry in listed:
        flag = array.flags.get(entry) if isinstance(entry, str) else None
        if isinstance(entry, int) and not isinstance(entry, bool):
            flag = numbers.get(entry)
        if flag is None:
            yield f"{array.name} has no flag {json.dumps(entry)}"
        elif flag.deprecated:
            yield f"{flag.id} is deprecated"
        elif flag.id in flags:
            yield f"{flag.id} is listed twice"
        else:
            flags.add(flag.id)


def _check_enabling_flags(operation: Operation, flags: set[str]) -> Iterator[str]:
    for flag in operation.flags:
        if flag.id in flags and flag.enabling_flags and not flags.intersection(flag.enabling_flags):
            yield f"{flag.id} needs {' or '.join(flag.enabling_flags)}"
