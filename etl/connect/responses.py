"""Decodes responses of Connect: statuses, jobs, lists of jobs, logs, tokens. Pure.

A response is foreign text. It is decoded once, here, against the types of the documentation; whatever does not fit is
an odd response, which costs only itself: the request is made again, and nothing is concluded. In .NET the numbers,
flags and dates of a job are plain values: one that is absent is not known, one that is null is odd.

Spellings and the meaning of numbers: https://docs.norce.io/api-reference/schemas/connectjob
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from etl.errors import ConnectError, ConnectHttpError, ConnectUnreachableError, OutcomeUnknownError
from etl.model.runs import Job, JobList, LogRow, Submission

_MAX_INT64 = 2**63 - 1

_Id = Annotated[int, Meta(ge=1, le=_MAX_INT64)]
_Count = Annotated[int, Meta(ge=0, le=_MAX_INT64)]
_Code = Annotated[int, Meta(ge=0, le=2**31 - 1)]

#: Seconds that a token lives when the response does not say, and the longest life that is believed.
DEFAULT_TOKEN_LIFETIME, MAX_TOKEN_LIFETIME = 3600.0, 86_400.0

#: .NET's zero date begins so: the job has not started yet.
_ZERO_DATE = "0001-01-01"


class _ValidationSummary(Struct):
    failures: _Count | UnsetType = msgspec.field(default=UNSET, name="NrOfValidationFailures")
    messages: list[str | None] | None = msgspec.field(default=None, name="Messages")


class _JobResponse(Struct):
    job_id: _Id = msgspec.field(name="JobId")
    summary: _ValidationSummary | None = msgspec.field(default=None, name="ValidationSummary")


class _JobReference(Struct):
    job_id: _Id = msgspec.field(name="JobId")


class _JobDto(Struct):
    job_id: _Id = msgspec.field(name="JobId")
    status: _Code = msgspec.field(name="StatusId")
    is_finished: bool = msgspec.field(name="IsFinished")
    total: _Count | UnsetType = msgspec.field(default=UNSET, name="Totals")
    failed: _Count | UnsetType = msgspec.field(default=UNSET, name="Fail")
    insert: _Count | UnsetType = msgspec.field(default=UNSET, name="Insert")
    inserts: _Count | UnsetType = msgspec.field(default=UNSET, name="Inserts")
    updates: _Count | UnsetType = msgspec.field(default=UNSET, name="Updates")
    start: str | UnsetType = msgspec.field(default=UNSET, name="Start")
    storage_name: str | None = msgspec.field(default=None, name="StorageName")


class _JobLogDto(Struct):
    severity: _Code = msgspec.field(default=1, name="SeverityId")
    message: str | None = msgspec.field(default=None, name="Message")
    imported_row: str | None = msgspec.field(default=None, name="ImportedRow")


class _Token(Struct):
    access_token: str
    expires_in: float | UnsetType | None = UNSET


_T = TypeVar("_T")


class _OddResponse(Exception):
    """A response that is not what the documentation says."""


class ThrottledError(ConnectError):
    """429: Connect took nothing; the request may be sent again after `delay` seconds."""

    def __init__(self, delay: float) -> None:
        super().__init__(
            "connect-rate-limited",
            f"Connect asks to wait {delay:.0f} s",
            hint="nothing to do; if it happens often, another program uses the same account: lower limits.requests",
        )
        self.delay = delay


class PayloadTooLargeError(ConnectError):
    """413: the body is too large for one request."""

    def __init__(self, size: int) -> None:
        super().__init__(
            "connect-too-large",
            f"Connect does not take a request of {size} bytes",
            hint="lower limits.max_bytes; the request is cut into smaller ones meanwhile",
        )
        self.size = size


def check_status(status: int, size: int, text: str = "", *, once_only: bool = False) -> None:
    """Raise what an HTTP status means; silent for 2xx. 429 and the first 401 are handled before.

    `size`: bytes of the request. `text`: the body of the response; it may name what is wrong, and goes to the hint,
    which is shown and not logged. `once_only`: a repeated request could be imported twice.
    """
    if 200 <= status < 300:
        return
    if status == 413:
        raise PayloadTooLargeError(size)
    if status >= 500 or status == 408:
        if once_only:  # a gateway answers 503 also when Connect breaks off after it has taken the request
            raise outcome_unknown(f"Connect answered {status} to an import")
        raise ConnectUnreachableError(
            "connect-unreachable", f"Connect answered {status}", hint="nothing to do; it is tried again"
        )
    if status == 401:
        raise ConnectHttpError(
            "connect-unauthorized",
            "Connect does not take a fresh token (HTTP 401)",
            hint="check connect.scope and which application the OAuth client belongs to",
        )
    if status == 403:
        raise ConnectHttpError(
            "connect-forbidden",
            "the client is not allowed to do this (HTTP 403)",
            hint="ask for the Connect rights of this application, or check connect.application_id",
        )
    if status == 404:
        raise ConnectHttpError(
            "connect-not-found", "there is nothing at this address (HTTP 404)", hint="check connect.base_url"
        )
    if 300 <= status < 400:
        raise ConnectHttpError(
            "connect-moved", f"Connect lives elsewhere (HTTP {status})", hint="check connect.base_url"
        )
    raise ConnectHttpError(
        "connect-refused",
        f"Connect denied the request (HTTP {status})",
        hint=f"Connect says: {' '.join(text.split())[:300] or 'nothing'}; look at the request with `etl preview`",
    )


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for (a number or an HTTP date); None without a usable one.

    `now`: epoch seconds, for a date in a response without a Date header.
    """
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        until = parsedate_to_datetime(text)
        server_time = headers.get("Date")
        since = parsedate_to_datetime(server_time) if server_time else datetime.fromtimestamp(now, UTC)
        return max(0.0, (_with_zone(until) - _with_zone(since)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def parse_submission(body: bytes) -> Submission:
    """Decode a JobResponse. Raises OutcomeUnknownError when it names no job.

    A response with a job and an odd summary counts like that of a job whose response was lost: the job itself tells
    how many records it has taken.
    """
    try:
        raw = _load(body)
        job_id = _convert(raw, _JobReference).job_id
    except _OddResponse as error:
        raise outcome_unknown(f"the answer to an import is odd ({error})") from None
    try:
        summary = _convert(raw, _JobResponse).summary
    except _OddResponse:
        return Submission(job_id)
    if summary is None:
        return Submission(job_id)
    return Submission(
        job_id=job_id,
        validation_failures=_known(summary.failures) or 0,
        messages=tuple(_clean(message) for message in summary.messages or () if message),
    )


def parse_restart(body: bytes, job_id: int) -> int:
    """Decode the response to the restart of a job: the id to follow, `job_id` when the response names none.

    Raises OutcomeUnknownError for an odd response.
    """
    try:
        raw = _load(body)
        if raw in (None, {}):
            return job_id
        return _convert(raw if isinstance(raw, dict) else {"JobId": raw}, _JobReference).job_id
    except _OddResponse as error:
        raise outcome_unknown(f"the answer to a restart is odd ({error})") from None


def parse_job(body: bytes, job_id: int) -> Job | None:
    """Decode the JobDto of a job; None for `null`. Raises ConnectUnreachableError for an odd one or another job's."""
    try:
        raw = _load(body)
        job = None if raw is None else _to_job(_convert(raw, _JobDto))
    except _OddResponse as error:
        raise malformed_response(f"Job/Get: {error}") from None
    if job is not None and job.id != job_id:
        raise malformed_response(f"Job/Get: job {job.id} instead of job {job_id}")
    return job


def parse_jobs(body: bytes) -> JobList:
    """Decode a list of JobDto. An odd entry costs only itself. Raises ConnectUnreachableError when it is no list."""
    try:
        raw = _load(body)
        if not isinstance(raw, list):
            raise _OddResponse("not a list")
    except _OddResponse as error:
        raise malformed_response(f"Job/List: {error}") from None
    jobs: list[Job] = []
    odd_ids: list[int | None] = []
    for entry in raw:
        try:
            jobs.append(_to_job(_convert(entry, _JobDto)))
        except _OddResponse:
            odd_ids.append(_find_id(entry))
    return JobList(tuple(jobs), tuple(odd_ids))


def parse_log(body: bytes) -> tuple[LogRow, ...] | None:
    """Decode a list of JobLogDto; None for `null`. Raises ConnectUnreachableError for an odd one."""
    try:
        raw = _load(body)
        rows = None if raw is None else _convert(raw, list[_JobLogDto])
    except _OddResponse as error:
        raise malformed_response(f"Job/GetLog: {error}") from None
    if rows is None:
        return None
    return tuple(
        LogRow(row.severity, _clean(row.message or ""), _clean(row.imported_row) if row.imported_row else None)
        for row in rows
    )


def parse_event(body: bytes) -> int | None:
    """Decode a JobCompletedEvent: the id of the job; None when it names none."""
    try:
        return _find_id(_load(body))
    except _OddResponse:
        return None


def parse_token(body: bytes) -> tuple[str, float]:
    """Decode an access token and its life in seconds. Raises ConnectUnreachableError for an odd response."""
    try:
        token = _convert(_load(body), _Token)
        if not token.access_token or not all("!" <= character <= "~" for character in token.access_token):
            raise _OddResponse("the token cannot be sent in a header")
    except _OddResponse as error:
        raise malformed_response(f"the token endpoint: {error}") from None
    lifetime = _known(token.expires_in)
    if lifetime is None or not math.isfinite(lifetime) or lifetime <= 0:
        lifetime = DEFAULT_TOKEN_LIFETIME
    return token.access_token, min(lifetime, MAX_TOKEN_LIFETIME)


def outcome_unknown(reason: str) -> OutcomeUnknownError:
    """Return the error for an import that Connect may or may not have taken."""
    return OutcomeUnknownError(
        "connect-outcome-unknown", reason, hint="nothing to do; whether a job exists is found out before anything else"
    )


def malformed_response(problem: str) -> ConnectUnreachableError:
    """Return the error for a response that is not what the documentation says: as good as no response."""
    return ConnectUnreachableError(
        "connect-garbled", f"Connect gave an odd response ({problem})", hint="nothing to do; it is asked again"
    )


def job_unknown(job_id: int) -> ConnectHttpError:
    """Return the error for a job that Connect does not know (any more)."""
    return ConnectHttpError(
        "connect-job-unknown",
        f"Connect does not know job {job_id}",
        hint="it may be older than two weeks, or belong to another environment",
    )


def _load(body: bytes) -> Any:
    """Decode JSON. Raises _OddResponse; constants that JSON does not have, and endless nesting, are odd."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise _OddResponse("nested too deeply") from None
    except ValueError:
        raise _OddResponse("not JSON") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _convert(raw: object, kind: type[_T]) -> _T:
    """Check decoded JSON against a type; numbers may be written as text. Raises _OddResponse with the place."""
    try:
        return msgspec.convert(raw, kind, strict=False)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise _OddResponse(str(error)) from None


def _find_id(entry: object) -> int | None:
    try:
        return _convert(entry, _JobReference).job_id
    except _OddResponse:
        return None


def _to_job(dto: _JobDto) -> Job:
    inserted = dto.insert if dto.insert is not UNSET else dto.inserts
    start = _known(dto.start)
    return Job(
        id=dto.job_id,
        status=dto.status,
        finished=dto.is_finished,
        total=_known(dto.total),
        failed=_known(dto.failed),
        inserted=_known(inserted),
        updated=_known(dto.updates),
        storage_name=_clean(dto.storage_name) if dto.storage_name else None,
        started=None if start is None or start.startswith(_ZERO_DATE) else _clean(start),
    )


def _known(value: _T | UnsetType) -> _T | None:
    return None if isinstance(value, UnsetType) else value


def _clean(text: str) -> str:
    """Replace lone surrogates, which a server sends that cuts a text within a character; nothing can store them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
