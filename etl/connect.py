"""Speaks HTTP to Connect: token, imports, jobs. The only module that knows httpx.

Every request passes the gate, and every failure is translated here into one of four answers, because they ask for
four different things: RateLimited (wait so long), ConnectUnreachable (it did not arrive: try again),
OutcomeUnknown (it may have arrived: find out first), ConnectRefused (a final no). TooLarge is a no that cutting helps.

Facts: https://docs.norce.io/developer-portal/system-integration/calling-norce-commerce-connect and, for tokens,
https://docs.norce.io/api-reference/accessing-apis-with-oauth2-accounts.md
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from etl import contract
from etl.config import ConnectSettings, Secret
from etl.errors import ConnectError, ConnectRefused, ConnectUnreachable, Defect, OutcomeUnknown, StateError
from etl.gate import Gate, Lane
from etl.model import Chunk, Job, LogRow, Submission

#: Seconds before its end at which a token is no longer used, and the life of one that does not say.
TOKEN_MARGIN, TOKEN_LIFE = 60.0, 3600.0

#: Seconds: to connect, between two reads (Connect may validate long before it answers), between two writes.
TIMEOUT = httpx.Timeout(connect=10.0, read=120.0, write=60.0, pool=10.0)

_BLOCK = 64 * 1024


class RateLimited(ConnectError):
    """429: nothing was taken; come back after `delay` seconds."""

    def __init__(self, delay: float) -> None:
        super().__init__(
            "connect-rate-limited",
            f"Connect asks to wait {delay:.0f} s",
            hint="nothing to do; if it happens often, another program uses the same account: lower limits.requests",
        )
        self.delay = delay


class TooLarge(ConnectError):
    """413: the body has to be cut."""

    def __init__(self, size: int) -> None:
        super().__init__(
            "connect-too-large",
            f"Connect does not take a request of {size} bytes",
            hint="lower limits.max_bytes; it is cut by itself meanwhile",
        )
        self.size = size


class Tokens(Protocol):
    """Where access tokens are kept, so that processes share them."""

    def token(self, name: str) -> tuple[str, float, float] | None: ...

    def keep_token(self, name: str, value: str, obtained: float, expires: float) -> None: ...


class Connect:
    """One customer's Connect. Safe to share between threads."""

    def __init__(
        self,
        settings: ConnectSettings,
        secret: Secret,
        gate: Gate,
        tokens: Tokens,
        *,
        timeout: httpx.Timeout = TIMEOUT,
        clock: Callable[[], float] = time.time,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._gate = gate
        self._tokens = tokens
        self._clock = clock
        self._contract = contract.load()
        base = settings.base_url.rstrip("/")
        self._imports = base + self._contract.prefix
        self._jobs = base + "/" + (settings.job_prefix or self._contract.prefix).strip("/") + "/"
        self._token_name = f"{settings.token_endpoint} {settings.client_id} {settings.scope}"
        self._renewing = threading.Lock()
        self._client = httpx.Client(
            timeout=timeout,
            transport=transport,
            trust_env=urlsplit(base).hostname not in ("127.0.0.1", "localhost", "::1"),  # no proxy to ourselves
            follow_redirects=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "connect-etl"},
        )

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    def __enter__(self) -> Connect:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, chunk: Chunk, leaving: Callable[[], None] = lambda: None) -> Submission:
        """Send a chunk; `leaving` is called when nothing is left to wait for, just before the request goes.

        Raises RateLimited, TooLarge, ConnectRefused, ConnectUnreachable, OutcomeUnknown, gate.Stopped.
        """
        size = _checked_size(chunk)
        header = {"AccountId": self._settings.account_id, **chunk.header}
        response = self._send(
            "POST",
            self._imports + chunk.operation,
            headers={
                "X-StormConnect-Header": json.dumps(header, ensure_ascii=True, separators=(",", ":")),
                "Content-Type": "application/json",
                "Content-Length": str(size),
            },
            body=lambda: _blocks(chunk.payload),
            size=size,
            leaving=leaving,
        )
        return read_submission(_json(response, once_only=True))

    def job(self, job_id: int) -> Job:
        """What Job/Get says now. ConnectRefused with code `connect-job-unknown` when there is no such job."""
        return read_job(self._ask("get", job_id), job_id)

    def log(self, job_id: int) -> tuple[LogRow, ...]:
        """The job's log as it stands."""
        return read_log(self._ask("log", job_id))

    def jobs(self) -> tuple[Job, ...]:
        """The jobs that Connect lists; nothing promises that all are there."""
        found = _json(self._send("GET", self._job_url("list")))
        if not isinstance(found, list):
            raise _garbled("Job/List")
        return tuple(read_job(item) for item in found if isinstance(item, Mapping))

    def restart(self, job_id: int) -> int:
        """Let an ended job run again with its old payload; the id to follow (it may be a new one)."""
        answer = _json(self._send("POST", self._job_url("restart"), params={"id": job_id}), once_only=True)
        found = answer.get("JobId") if isinstance(answer, Mapping) else answer
        return _integer(found) or job_id

    # -- inside -------------------------------------------------------------------------------------------------

    def _job_url(self, what: str) -> str:
        return self._jobs + str(self._contract.jobs[what])

    def _ask(self, what: str, job_id: int) -> Any:
        try:
            response = self._send("GET", self._job_url(what), params={"id": job_id})
        except ConnectRefused as error:
            if error.code == "connect-not-found":
                raise _job_unknown(job_id) from error
            raise
        found = _json(response)
        if found is None:
            raise _job_unknown(job_id)
        return found

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        body: Callable[[], Iterator[bytes]] | None = None,
        size: int = 0,
        leaving: Callable[[], None] = lambda: None,
    ) -> httpx.Response:
        token = self._token()
        for again in (True, False):
            request = self._client.build_request(
                method,
                url,
                params=params,
                content=body() if body else None,
                headers={
                    "Authorization": f"Bearer {token}",
                    "application-id": str(self._settings.application_id),
                    **(headers or {}),
                },
            )
            response = self._exchange(request, "connect", leaving)
            if response.status_code == 401 and again:
                token = self._token(refused=token)
                continue
            break
        check_status(response.status_code, method, size, response.text)
        return response

    def _exchange(self, request: httpx.Request, lane: Lane, leaving: Callable[[], None]) -> httpx.Response:
        """One request through the gate. 429 becomes RateLimited here, where the gate can be told."""
        once_only = request.method == "POST" and lane == "connect"
        ticket = self._gate.enter(lane)

        def follow(event: str, _info: Mapping[str, Any]) -> None:
            if event == "http11.send_request_body.complete":
                self._gate.left(ticket)

        request.extensions["trace"] = follow
        leaving()
        try:
            response = self._client.send(request)
        except httpx.HTTPError as error:
            self._gate.left(ticket)
            raise translate(error, once_only=once_only) from error
        if response.status_code == 429:
            named = retry_after(response.headers, self._clock())
            raise RateLimited(self._gate.refused(ticket, named))
        self._gate.answered(ticket)
        return response

    def _token(self, refused: str | None = None) -> str:
        """The shared access token; a new one when it ends soon or is the one just refused."""
        kept = self._kept(refused)
        if kept is not None:
            return kept
        with self._renewing:
            kept = self._kept(refused)  # another thread or process may have been faster
            return kept if kept is not None else self._fetch_token()

    def _kept(self, refused: str | None) -> str | None:
        found = self._tokens.token(self._token_name)
        if found is None or found[0] == refused:
            return None
        value, obtained, expires = found
        margin = min(TOKEN_MARGIN, (expires - obtained) / 4)
        return value if obtained <= self._clock() < expires - margin else None

    def _fetch_token(self) -> str:
        request = self._client.build_request(
            "POST",
            self._settings.token_endpoint,
            data={
                "grant_type": "client_credentials",
                "client_id": self._settings.client_id,
                "client_secret": self._secret.reveal(),
                "scope": self._settings.scope,
            },
        )
        obtained = self._clock()
        response = self._exchange(request, "token", lambda: None)
        if response.status_code in (400, 401, 403):
            raise ConnectRefused(
                "connect-credentials",
                f"the token endpoint refused the client (HTTP {response.status_code})",
                where=self._settings.token_endpoint,
                hint="check connect.client_id, connect.scope and the secret in ETL_CLIENT_SECRET",
            )
        check_status(response.status_code, "GET", 0)
        answer = _json(response)
        if not isinstance(answer, Mapping) or not isinstance(answer.get("access_token"), str):
            raise _garbled("the token endpoint")
        life = answer.get("expires_in")
        seconds = float(life) if isinstance(life, int | float) and life > 0 else TOKEN_LIFE
        self._tokens.keep_token(self._token_name, answer["access_token"], obtained, obtained + seconds)
        return str(answer["access_token"])


def translate(error: httpx.HTTPError, *, once_only: bool) -> ConnectError:
    """What a failed exchange means. `once_only`: it must not simply be sent twice (an import)."""
    kind = type(error).__name__
    if isinstance(error, httpx.UnsupportedProtocol | httpx.TooManyRedirects):
        return ConnectRefused("connect-address", f"the address does not work: {kind}", hint="check connect.base_url")
    before_leaving = (
        isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError)
        or type(error) is httpx.LocalProtocolError
    )
    if once_only and not before_leaving:
        return _unknown(f"the connection broke ({kind})")
    return ConnectUnreachable(
        "connect-unreachable",
        f"Connect cannot be reached ({kind})",
        hint="check the network and connect.base_url; the work goes on by itself where it stopped",
    )


def check_status(status: int, method: str, size: int, text: str = "") -> None:
    """Raise what an HTTP status means; silent for 2xx. 429 and the first 401 are handled before.

    `text` is the answer's body: it may name what is wrong, and goes to the hint, which is shown and not logged.
    """
    if 200 <= status < 300:
        return
    if status == 413:
        raise TooLarge(size)
    if status >= 500 or status == 408:
        if method == "POST" and status != 503:
            raise _unknown(f"Connect answered {status} to an import")
        raise ConnectUnreachable(
            "connect-unreachable", f"Connect answered {status}", hint="nothing to do; it is tried again"
        )
    if status == 401:
        raise ConnectRefused(
            "connect-unauthorized",
            "Connect does not take a fresh token (HTTP 401)",
            hint="check connect.scope and which application the OAuth client belongs to",
        )
    if status == 403:
        raise ConnectRefused(
            "connect-forbidden",
            "the client is not allowed to do this (HTTP 403)",
            hint="ask for the Connect rights of this application, or check connect.application_id",
        )
    if status == 404:
        raise ConnectRefused(
            "connect-not-found", "there is nothing at this address (HTTP 404)", hint="check connect.base_url"
        )
    if 300 <= status < 400:
        raise ConnectRefused("connect-moved", f"Connect lives elsewhere (HTTP {status})", hint="check connect.base_url")
    raise ConnectRefused(
        "connect-refused",
        f"Connect refused the request (HTTP {status})",
        hint=f"Connect says: {' '.join(text.split())[:300] or 'nothing'}; look at the request with `etl preview`",
    )


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
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
        return max(0.0, (_zoned(until) - _zoned(since)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def read_submission(raw: Any) -> Submission:
    """A JobResponse. Raises OutcomeUnknown when it names no job."""
    job_id = _integer(raw.get("JobId")) if isinstance(raw, Mapping) else None
    if job_id is None:
        raise _unknown("the answer to an import names no job")
    summary = raw.get("ValidationSummary") or {}
    messages = summary.get("Messages") or ()
    return Submission(
        job_id=job_id,
        validation_failures=_integer(summary.get("NrOfValidationFailures")) or 0,
        messages=tuple(str(message) for message in messages if message),
    )


def read_job(raw: Any, job_id: int | None = None) -> Job:
    """A JobDto. `IsFinished` decides; status numbers we do not know mean that it goes on."""
    if not isinstance(raw, Mapping):
        raise _garbled("Job/Get")
    found = _integer(raw.get("JobId"))
    status = _integer(raw.get("StatusId"))
    finished = raw.get("IsFinished")
    if (found or job_id) is None:
        raise _garbled("Job/Get")
    return Job(
        id=found or job_id or 0,
        status=status,
        finished=finished if isinstance(finished, bool) else status in contract.load().jobs["terminal"],
        total=_integer(raw.get("Totals")),
        failed=_integer(raw.get("Fail")),
        inserted=_integer(raw.get("Insert", raw.get("Inserts"))),
        updated=_integer(raw.get("Updates")),
        storage_name=raw.get("StorageName") or None,
        started=raw.get("Start") or None,
    )


def read_log(raw: Any) -> tuple[LogRow, ...]:
    """A list of JobLogDto."""
    if not isinstance(raw, list):
        raise _garbled("Job/GetLog")
    return tuple(
        LogRow(
            severity=_integer(item.get("SeverityId")) or 1,
            message=str(item.get("Message") or ""),
            imported_row=item.get("ImportedRow") or None,
        )
        for item in raw
        if isinstance(item, Mapping)
    )


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return int(str(value))
    except ValueError:
        return None


def _json(response: httpx.Response, *, once_only: bool = False) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        if once_only:
            raise _unknown("the answer to an import is not JSON") from None
        raise _garbled("Connect") from None


def _unknown(why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        "connect-outcome-unknown", why, hint="nothing to do; whether a job exists is found out before anything else"
    )


def _garbled(who: str) -> ConnectUnreachable:
    return ConnectUnreachable(
        "connect-garbled", f"{who} gave an answer that makes no sense", hint="nothing to do; it is asked again"
    )


def _job_unknown(job_id: int) -> ConnectRefused:
    return ConnectRefused(
        "connect-job-unknown",
        f"Connect does not know job {job_id}",
        hint="it may be older than two weeks, or belong to another environment",
    )


def _zoned(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _checked_size(chunk: Chunk) -> int:
    """Bytes of the payload, after a look that it is the one that was planned."""
    try:
        with chunk.payload.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise StateError(
            "state-payload-missing",
            f"a planned request cannot be read: {error.strerror}",
            where=str(chunk.payload),
            hint="restore the state folder from a backup, or discard the run and drop its file again",
        ) from error
    if digest != chunk.digest:
        raise Defect("a planned request was changed after planning", where=str(chunk.payload))
    return size


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
