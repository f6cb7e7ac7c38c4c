"""Requests and answers as plain values, so that the rules need no web server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def encode_json(value: object) -> bytes:
    """Return JSON bytes; decimals stay numbers."""
    return _encoder.encode(value)


def decode_json(body: bytes) -> Any:
    """Decode strict JSON with decimals in place of floats. Raises ValueError."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None


@dataclass(frozen=True)
class ApiRequest:
    """One request. Header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = "127.0.0.1"

    @cached_property
    def payload(self) -> Any:
        """The body as JSON, read once; ValueError when it is not JSON."""
        return decode_json(self.body)


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response, or the way in which it is lost."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    reset: bool = False  #: the connection is reset instead
    hang: bool = False  #: nothing is ever sent


def json_response(status: int, value: object, headers: Mapping[str, str] | None = None) -> ApiResponse:
    return ApiResponse(status, encode_json(value), headers=headers or {})


def error_response(status: int, *messages: str, headers: Mapping[str, str] | None = None) -> ApiResponse:
    """Return an error response with a list of messages; Norce does not document its own."""
    return json_response(status, {"StatusCode": str(status), "Messages": list(messages)}, headers)


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request as the sandbox has recorded it."""

    time: float
    method: str
    path: str
    query: Mapping[str, str]
    status: int  #: 0 when no answer was sent
    header: Any  #: X-StormConnect-Header as an object, or its text when it is not JSON
    digest: str  #: sha256 of the body
    size: int
    items: int | None
    job: int | None = None
    fault: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def body_digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
