"""HTTP client of Connect: access token, imports, jobs. The only module that imports httpx.

Every request needs a permit of the rate limiter: the caller passes one, or the client waits for one. Every failure is
translated into one of five errors, because the caller reacts to each in another way: ThrottledError (wait),
ConnectUnreachableError (the request did not arrive: send it again), OutcomeUnknownError (the request may have arrived:
look for its job first), ConnectHttpError (a final error), PayloadTooLargeError (send the records in smaller requests).

Facts: https://docs.norce.io/developer-portal/system-integration/calling-norce-commerce-connect and, for tokens,
https://docs.norce.io/api-reference/accessing-apis-with-oauth2-accounts.md
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from etl.config.secrets import Secret
from etl.config.settings import ConnectSettings
from etl.connect.rate_limiter import Permit, RateLimiter
from etl.connect.responses import (
    ThrottledError,
    check_status,
    job_unknown,
    malformed_response,
    outcome_unknown,
    parse_integer,
    parse_job,
    parse_log,
    parse_retry_after,
    parse_submission,
)
from etl.contract import spec
from etl.errors import ConnectError, ConnectHttpError, ConnectUnreachableError, StateError
from etl.model.runs import Chunk, Job, LogRow, Submission

if TYPE_CHECKING:
    import httpx

#: Seconds before its end at which a token is no longer used, and the life of one that does not say.
TOKEN_MARGIN, DEFAULT_TOKEN_LIFETIME = 60.0, 3600.0

#: Seconds: to connect, between two reads (Connect may validate long before it answers), between two writes,
#: and for a connection of the pool.
TIMEOUT = (10.0, 120.0, 60.0, 10.0)

_BLOCK_SIZE = 64 * 1024


class TokenStore(Protocol):
    """Storage of access tokens that all processes of a state folder share."""

    def find_token(self, name: str) -> tuple[str, float, float] | None: ...

    def save_token(self, name: str, value: str, obtained: float, expires: float) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How the HTTP client connects."""

    timeout: httpx.Timeout | tuple[float, float, float, float] = TIMEOUT
    transport: httpx.BaseTransport | None = None  #: None: the network


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the API, before authorization."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] | None = None
    payload: Path | None = None
    size: int = 0  #: bytes of the payload


class ConnectClient:
    """Client of one customer's Connect. Threads may share it."""

    def __init__(
        self,
        settings: ConnectSettings,
        secret: Secret,
        rate_limiter: RateLimiter,
        token_store: TokenStore,
        *,
        http: HttpOptions = HttpOptions(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._rate_limiter = rate_limiter
        self._token_store = token_store
        self._clock = clock
        self._contract = spec.load_contract()
        base = settings.base_url.rstrip("/")
        self._import_url = base + self._contract.path_prefix
        self._job_base_url = base + "/" + (settings.job_prefix or self._contract.path_prefix).strip("/") + "/"
        self._token_name = f"{settings.token_endpoint} {settings.client_id} {settings.scope}"
        self._token_lock = threading.Lock()
        self._is_local = urlsplit(base).hostname in ("127.0.0.1", "localhost", "::1")
        self._http_options = http
        self._http_client_lock = threading.Lock()
        self._open_http_client: httpx.Client | None = None

    @property
    def _http_client(self) -> httpx.Client:
        """The HTTP client, opened by the first request: httpx and the certificates take long to load."""
        import httpx

        with self._http_client_lock:
            if self._open_http_client is None:
                self._open_http_client = httpx.Client(
                    timeout=self._http_options.timeout,
                    transport=self._http_options.transport,
                    trust_env=not self._is_local,  # a proxy cannot reach this machine
                    follow_redirects=False,
                    headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "connect-etl"},
                )
            return self._open_http_client

    def close(self) -> None:
        """Close the connections."""
        if self._open_http_client is not None:
            self._open_http_client.close()

    def __enter__(self) -> ConnectClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self, chunk: Chunk | None = None) -> None:
        """Get an access token and, for a chunk, verify its payload: whatever can fail or wait before a permit is taken.

        Raises StateError for a payload that is not the planned one; ThrottledError, ConnectHttpError,
        ConnectUnreachableError and Stopped of the token endpoint.
        """
        if chunk is not None:
            _verify_payload(chunk)
        self._access_token()

    def submit(self, chunk: Chunk, permit: Permit | None = None) -> Submission:
        """Send a chunk whose payload `prepare` has verified.

        Raises ThrottledError, PayloadTooLargeError, ConnectHttpError, ConnectUnreachableError, OutcomeUnknownError, and
        Stopped when the wait for another permit was ended; then Connect has refused the first request (401).
        """
        header = {"AccountId": self._settings.account_id, **chunk.header}
        size = chunk.payload.stat().st_size
        headers = {
            "X-StormConnect-Header": json.dumps(header, ensure_ascii=True, separators=(",", ":")),
            "Content-Type": "application/json",
            "Content-Length": str(size),
        }
        call = _Call("POST", self._import_url + chunk.operation, headers, payload=chunk.payload, size=size)
        return parse_submission(_parse_json(self._send(call, permit), once_only=True))

    def get_job(self, job_id: int, permit: Permit | None = None) -> Job:
        """Return the job as Job/Get shows it. Raises ConnectHttpError `connect-job-unknown` when it does not exist."""
        return parse_job(self._get_of_job("get", job_id, permit), job_id)

    def get_job_log(self, job_id: int, permit: Permit | None = None) -> tuple[LogRow, ...]:
        """Return the job's log so far."""
        return parse_log(self._get_of_job("log", job_id, permit))

    def list_jobs(self, permit: Permit | None = None) -> tuple[Job, ...]:
        """Return the jobs that Connect lists; it does not promise to list all of them."""
        raw_jobs = _parse_json(self._send(_Call("GET", self._job_url("list")), permit))
        if not isinstance(raw_jobs, list):
            raise malformed_response("Job/List")
        return tuple(parse_job(raw_job) for raw_job in raw_jobs if isinstance(raw_job, Mapping))

    def restart_job(self, job_id: int) -> int:
        """Restart an ended job with the payload that Norce stored; return the id to follow, which may be a new one."""
        call = _Call("POST", self._job_url("restart"), params={"id": job_id})
        answer = _parse_json(self._send(call, None), once_only=True)
        new_id = answer.get("JobId") if isinstance(answer, Mapping) else answer
        return parse_integer(new_id) or job_id

    # -- inside -------------------------------------------------------------------------------------------------

    def _job_url(self, endpoint: str) -> str:
        return self._job_base_url + str(self._contract.jobs[endpoint])

    def _get_of_job(self, endpoint: str, job_id: int, permit: Permit | None) -> Any:
        try:
            response = self._send(_Call("GET", self._job_url(endpoint), params={"id": job_id}), permit)
        except ConnectHttpError as error:
            if error.code == "connect-not-found":
                raise job_unknown(job_id) from error
            raise
        raw = _parse_json(response)
        if raw is None:
            raise job_unknown(job_id)
        return raw

    def _send(self, call: _Call, permit: Permit | None) -> httpx.Response:
        """Send a call and check the status of its response. Without a permit it waits for one.

        After a 401 the call is sent once more with a new token and another permit.
        """
        token = self._access_token()
        response = self._exchange(self._build_request(call, token), permit or self._rate_limiter.acquire())
        if response.status_code == 401:
            token = self._access_token(stale_token=token)
            response = self._exchange(self._build_request(call, token), self._rate_limiter.acquire())
        check_status(response.status_code, call.method, call.size, response.text)
        return response

    def _build_request(self, call: _Call, token: str) -> httpx.Request:
        return self._http_client.build_request(
            call.method,
            call.url,
            params=call.params,
            content=_read_blocks(call.payload) if call.payload is not None else None,
            headers={
                "Authorization": f"Bearer {token}",
                "application-id": str(self._settings.application_id),
                **call.headers,
            },
        )

    def _exchange(self, request: httpx.Request, permit: Permit) -> httpx.Response:
        """Send one request and report to the rate limiter. Raises ThrottledError for a 429: its lane pauses."""
        import httpx

        once_only = request.method == "POST" and permit.lane == "connect"

        def trace(event: str, _info: Mapping[str, Any]) -> None:
            if event == "http11.send_request_body.complete":
                self._rate_limiter.mark_sent(permit)

        request.extensions["trace"] = trace
        try:
            response = self._http_client.send(request)
        except httpx.HTTPError as error:
            self._rate_limiter.mark_sent(permit)
            raise translate_http_error(error, once_only=once_only) from error
        if response.status_code == 429:
            delay = parse_retry_after(response.headers, self._clock())
            raise ThrottledError(self._rate_limiter.pause_lane(permit, delay))
        self._rate_limiter.clear_strikes(permit)
        return response

    def _access_token(self, stale_token: str | None = None) -> str:
        """Return the shared access token, or a new one when it ends soon or equals the token that Connect refused."""
        token = self._cached_token(stale_token)
        if token is not None:
            return token
        with self._token_lock:
            token = self._cached_token(stale_token)  # another thread or process may have fetched it meanwhile
            return token if token is not None else self._fetch_token()

    def _cached_token(self, stale_token: str | None) -> str | None:
        entry = self._token_store.find_token(self._token_name)
        if entry is None or entry[0] == stale_token:
            return None
        value, obtained, expires = entry
        margin = min(TOKEN_MARGIN, (expires - obtained) / 4)
        return value if obtained <= self._clock() < expires - margin else None

    def _fetch_token(self) -> str:
        request = self._http_client.build_request(
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
        response = self._exchange(request, self._rate_limiter.acquire("token"))
        if response.status_code in (400, 401, 403):
            raise ConnectHttpError(
                "connect-credentials",
                f"the token endpoint denied the client (HTTP {response.status_code})",
                where=self._settings.token_endpoint,
                hint="check connect.client_id, connect.scope and the secret in ETL_CLIENT_SECRET",
            )
        check_status(response.status_code, "GET", 0)
        answer = _parse_json(response)
        if not isinstance(answer, Mapping) or not isinstance(answer.get("access_token"), str):
            raise malformed_response("the token endpoint")
        lifetime = answer.get("expires_in")
        seconds = float(lifetime) if isinstance(lifetime, int | float) and lifetime > 0 else DEFAULT_TOKEN_LIFETIME
        self._token_store.save_token(self._token_name, answer["access_token"], obtained, obtained + seconds)
        return str(answer["access_token"])


def translate_http_error(error: httpx.HTTPError, *, once_only: bool) -> ConnectError:
    """Return the error that a failed exchange means. `once_only`: a repeated request could be imported twice."""
    import httpx

    kind = type(error).__name__
    if isinstance(error, httpx.UnsupportedProtocol | httpx.TooManyRedirects):
        return ConnectHttpError("connect-address", f"the address does not work: {kind}", hint="check connect.base_url")
    untrusted = _certificate_problem(error)
    if untrusted is not None:
        return ConnectHttpError(
            "connect-certificate",
            f"the TLS certificate of the server is not trusted: {untrusted}",
            hint="nothing was sent, not even the secret; check connect.base_url and this machine's certificates "
            "(SSL_CERT_FILE names those of a company's own authority)",
        )
    before_leaving = (
        isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError)
        or type(error) is httpx.LocalProtocolError
    )
    if once_only and not before_leaving:
        return outcome_unknown(f"the connection broke ({kind})")
    return ConnectUnreachableError(
        "connect-unreachable",
        f"Connect cannot be reached ({kind})",
        hint="check the network and connect.base_url; the next run continues where this one stopped",
    )


def _certificate_problem(error: BaseException) -> str | None:
    """Return what is wrong with the server's certificate; None when the failure has another cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return None


def _parse_json(response: httpx.Response, *, once_only: bool = False) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        if once_only:
            raise outcome_unknown("the answer to an import is not JSON") from None
        raise malformed_response("Connect") from None


def _verify_payload(chunk: Chunk) -> None:
    """Raise StateError unless the payload on disk is the planned one."""
    try:
        with chunk.payload.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _damaged_payload_error(chunk, f"cannot be read: {error.strerror}") from error
    if digest != chunk.digest:
        raise _damaged_payload_error(chunk, "is not as it was planned")


def _damaged_payload_error(chunk: Chunk, problem: str) -> StateError:
    return StateError(
        "state-payload-damaged",
        f"a planned request {problem}",
        where=str(chunk.payload),
        hint=f"`etl state rebuild {chunk.run}`, then start again; nothing of the request was sent",
    )


def _read_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_SIZE):
            yield block
