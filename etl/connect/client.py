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
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from etl.config.secrets import Secret
from etl.config.settings import ConnectSettings
from etl.connect.rate_limiter import Lane, RateLimiter
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
    """Where access tokens are kept, so that processes share them."""

    def find_token(self, name: str) -> tuple[str, float, float] | None: ...

    def save_token(self, name: str, value: str, obtained: float, expires: float) -> None: ...


class ConnectClient:
    """One customer's Connect. Safe to share between threads."""

    def __init__(
        self,
        settings: ConnectSettings,
        secret: Secret,
        rate_limiter: RateLimiter,
        token_store: TokenStore,
        *,
        timeout: httpx.Timeout | tuple[float, float, float, float] = TIMEOUT,
        clock: Callable[[], float] = time.time,
        transport: httpx.BaseTransport | None = None,
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
        self._timeout, self._transport = timeout, transport
        self._http_client_lock = threading.Lock()
        self._open_http_client: httpx.Client | None = None

    @property
    def _http_client(self) -> httpx.Client:
        """Opened when there is something to say: httpx and the certificates take longer to load than a day's plan."""
        import httpx

        with self._http_client_lock:
            if self._open_http_client is None:
                self._open_http_client = httpx.Client(
                    timeout=self._timeout,
                    transport=self._transport,
                    trust_env=not self._is_local,  # no proxy to ourselves
                    follow_redirects=False,
                    headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "connect-etl"},
                )
            return self._open_http_client

    def close(self) -> None:
        """Give back the connections."""
        if self._open_http_client is not None:
            self._open_http_client.close()

    def __enter__(self) -> ConnectClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, chunk: Chunk, on_permit: Callable[[], None] = lambda: None) -> Submission:
        """Send a chunk; `leaving` is called when nothing is left to wait for, just before the request goes.

        Raises RateLimited, TooLarge, ConnectRefused, ConnectUnreachable, OutcomeUnknown, gate.Stopped.
        """
        size = _verify_payload(chunk)
        header = {"AccountId": self._settings.account_id, **chunk.header}
        response = self._send(
            "POST",
            self._import_url + chunk.operation,
            headers={
                "X-StormConnect-Header": json.dumps(header, ensure_ascii=True, separators=(",", ":")),
                "Content-Type": "application/json",
                "Content-Length": str(size),
            },
            body=lambda: _read_blocks(chunk.payload),
            size=size,
            on_permit=on_permit,
        )
        return parse_submission(_parse_json(response, once_only=True))

    def get_job(self, job_id: int, on_permit: Callable[[], None] = lambda: None) -> Job:
        """What Job/Get says now. ConnectRefused with code `connect-job-unknown` when there is no such job."""
        return parse_job(self._get_of_job("get", job_id, on_permit), job_id)

    def get_job_log(self, job_id: int, on_permit: Callable[[], None] = lambda: None) -> tuple[LogRow, ...]:
        """The job's log as it stands."""
        return parse_log(self._get_of_job("log", job_id, on_permit))

    def list_jobs(self, on_permit: Callable[[], None] = lambda: None) -> tuple[Job, ...]:
        """The jobs that Connect lists; nothing promises that all are there."""
        found = _parse_json(self._send("GET", self._job_url("list"), on_permit=on_permit))
        if not isinstance(found, list):
            raise malformed_response("Job/List")
        return tuple(parse_job(item) for item in found if isinstance(item, Mapping))

    def restart_job(self, job_id: int) -> int:
        """Let an ended job run again with its old payload; the id to follow (it may be a new one)."""
        answer = _parse_json(self._send("POST", self._job_url("restart"), params={"id": job_id}), once_only=True)
        found = answer.get("JobId") if isinstance(answer, Mapping) else answer
        return parse_integer(found) or job_id

    # -- inside -------------------------------------------------------------------------------------------------

    def _job_url(self, endpoint: str) -> str:
        return self._job_base_url + str(self._contract.jobs[endpoint])

    def _get_of_job(self, endpoint: str, job_id: int, on_permit: Callable[[], None]) -> Any:
        try:
            response = self._send("GET", self._job_url(endpoint), params={"id": job_id}, on_permit=on_permit)
        except ConnectHttpError as error:
            if error.code == "connect-not-found":
                raise job_unknown(job_id) from error
            raise
        found = _parse_json(response)
        if found is None:
            raise job_unknown(job_id)
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
        on_permit: Callable[[], None] = lambda: None,
    ) -> httpx.Response:
        token = self._access_token()
        for again in (True, False):
            request = self._http_client.build_request(
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
            response = self._exchange(request, "connect", on_permit)
            if response.status_code == 401 and again:
                token = self._access_token(stale_token=token)
                continue
            break
        check_status(response.status_code, method, size, response.text)
        return response

    def _exchange(self, request: httpx.Request, lane: Lane, on_permit: Callable[[], None]) -> httpx.Response:
        """One request through the gate. 429 becomes RateLimited here, where the gate can be told."""
        import httpx

        once_only = request.method == "POST" and lane == "connect"
        ticket = self._rate_limiter.acquire(lane)

        def follow(event: str, _info: Mapping[str, Any]) -> None:
            if event == "http11.send_request_body.complete":
                self._rate_limiter.mark_sent(ticket)

        request.extensions["trace"] = follow
        on_permit()
        try:
            response = self._http_client.send(request)
        except httpx.HTTPError as error:
            self._rate_limiter.mark_sent(ticket)
            raise translate_http_error(error, once_only=once_only) from error
        if response.status_code == 429:
            named = parse_retry_after(response.headers, self._clock())
            raise ThrottledError(self._rate_limiter.pause_lane(ticket, named))
        self._rate_limiter.clear_strikes(ticket)
        return response

    def _access_token(self, stale_token: str | None = None) -> str:
        """The shared access token; a new one when it ends soon or is the one just refused."""
        kept = self._cached_token(stale_token)
        if kept is not None:
            return kept
        with self._token_lock:
            kept = self._cached_token(stale_token)  # another thread or process may have been faster
            return kept if kept is not None else self._fetch_token()

    def _cached_token(self, stale_token: str | None) -> str | None:
        found = self._token_store.find_token(self._token_name)
        if found is None or found[0] == stale_token:
            return None
        value, obtained, expires = found
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
        response = self._exchange(request, "token", lambda: None)
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
        life = answer.get("expires_in")
        seconds = float(life) if isinstance(life, int | float) and life > 0 else DEFAULT_TOKEN_LIFETIME
        self._token_store.save_token(self._token_name, answer["access_token"], obtained, obtained + seconds)
        return str(answer["access_token"])


def translate_http_error(error: httpx.HTTPError, *, once_only: bool) -> ConnectError:
    """What a failed exchange means. `once_only`: it must not simply be sent twice (an import)."""
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
    """What is wrong with the server's certificate, when that is what went wrong."""
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


def _verify_payload(chunk: Chunk) -> int:
    """Bytes of the payload, after a look that it is the one that was planned."""
    try:
        with chunk.payload.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise _damaged_payload_error(chunk, f"cannot be read: {error.strerror}") from error
    if digest != chunk.digest:
        raise _damaged_payload_error(chunk, "is not as it was planned")
    return size


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
