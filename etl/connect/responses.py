"""What Connect's answers mean: statuses, jobs, logs. Pure; the exchange itself is `connect`'s matter.

Spellings and the meaning of numbers: https://docs.norce.io/api-reference/schemas/connectjob
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from etl.contract import spec
from etl.errors import ConnectError, ConnectHttpError, ConnectUnreachableError, OutcomeUnknownError
from etl.model.runs import Job, LogRow, Submission


class ThrottledError(ConnectError):
    """429: nothing was taken; come back after `delay` seconds."""

    def __init__(self, delay: float) -> None:
        super().__init__(
            "connect-rate-limited",
            f"Connect asks to wait {delay:.0f} s",
            hint="nothing to do; if it happens often, another program uses the same account: lower limits.requests",
        )
        self.delay = delay


class PayloadTooLargeError(ConnectError):
    """413: the body has to be cut."""

    def __init__(self, size: int) -> None:
        super().__init__(
            "connect-too-large",
            f"Connect does not take a request of {size} bytes",
            hint="lower limits.max_bytes; the request is cut into smaller ones meanwhile",
        )
        self.size = size


def check_status(status: int, method: str, size: int, text: str = "") -> None:
    """Raise what an HTTP status means; silent for 2xx. 429 and the first 401 are handled before.

    `text` is the answer's body: it may name what is wrong, and goes to the hint, which is shown and not logged.
    """
    if 200 <= status < 300:
        return
    if status == 413:
        raise PayloadTooLargeError(size)
    if status >= 500 or status == 408:
        if method == "POST" and status != 503:
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
    """Seconds a Retry-After header asks for (a number or an HTTP date), None without a usable one."""
    text = headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(text)
        said = headers.get("Date")
        since = parsedate_to_datetime(said) if said else datetime.fromtimestamp(now, UTC)
        return max(0.0, (_with_zone(until) - _with_zone(since)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def parse_submission(raw: Any) -> Submission:
    """A JobResponse. Raises OutcomeUnknown when it names no job."""
    job_id = parse_integer(raw.get("JobId")) if isinstance(raw, Mapping) else None
    if job_id is None:
        raise outcome_unknown("the answer to an import names no job")
    summary = raw.get("ValidationSummary") or {}
    messages = summary.get("Messages") or ()
    return Submission(
        job_id=job_id,
        validation_failures=parse_integer(summary.get("NrOfValidationFailures")) or 0,
        messages=tuple(str(message) for message in messages if message),
    )


def parse_job(raw: Any, job_id: int | None = None) -> Job:
    """A JobDto. `IsFinished` decides; status numbers we do not know mean that it goes on."""
    if not isinstance(raw, Mapping):
        raise malformed_response("Job/Get")
    found = parse_integer(raw.get("JobId"))
    status = parse_integer(raw.get("StatusId"))
    finished = raw.get("IsFinished")
    if (found or job_id) is None:
        raise malformed_response("Job/Get")
    return Job(
        id=found or job_id or 0,
        status=status,
        finished=finished if isinstance(finished, bool) else status in spec.load_contract().jobs["terminal"],
        total=parse_integer(raw.get("Totals")),
        failed=parse_integer(raw.get("Fail")),
        inserted=parse_integer(raw.get("Insert", raw.get("Inserts"))),
        updated=parse_integer(raw.get("Updates")),
        storage_name=raw.get("StorageName") or None,
        started=raw.get("Start") or None,
    )


def parse_log(raw: Any) -> tuple[LogRow, ...]:
    """A list of JobLogDto."""
    if not isinstance(raw, list):
        raise malformed_response("Job/GetLog")
    return tuple(
        LogRow(
            severity=parse_integer(item.get("SeverityId")) or 1,
            message=str(item.get("Message") or ""),
            imported_row=item.get("ImportedRow") or None,
        )
        for item in raw
        if isinstance(item, Mapping)
    )


def parse_integer(value: object) -> int | None:
    """A whole number however it is written, else None."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return int(str(value))
    except ValueError:
        return None


def outcome_unknown(reason: str) -> OutcomeUnknownError:
    """An import may or may not have been taken."""
    return OutcomeUnknownError(
        "connect-outcome-unknown", reason, hint="nothing to do; whether a job exists is found out before anything else"
    )


def malformed_response(source: str) -> ConnectUnreachableError:
    """An answer that is none: as good as no answer."""
    return ConnectUnreachableError(
        "connect-garbled", f"{source} gave an answer that makes no sense", hint="nothing to do; it is asked again"
    )


def job_unknown(job_id: int) -> ConnectHttpError:
    """There is no such job (any more)."""
    return ConnectHttpError(
        "connect-job-unknown",
        f"Connect does not know job {job_id}",
        hint="it may be older than two weeks, or belong to another environment",
    )


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
