"""Client of Connect: access token, imports, jobs.

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
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from etl.config.secrets import Secret
from etl.config.settings import ConnectSettings
from etl.connect.http_exchange import DEFAULT_OPTIONS, Call, HttpExchange, HttpOptions, Response
from etl.connect.rate_limiter import Permit, RateLimiter
from etl.connect.responses import (
    ThrottledError,
    check_status,
    job_unknown,
    parse_job,
    parse_jobs,
    parse_log,
    parse_restart,
    parse_retry_after,
    parse_submission,
    parse_token,
)
from etl.contract import spec
from etl.errors import ConnectError, ConnectHttpError, StateError
from etl.model.runs import Chunk, Job, JobList, LogRow, Submission
from etl.state.ledger.tokens import TokenStore

#: Seconds before its end at which a token is no longer used.
TOKEN_MARGIN = 60.0


class ConnectClient:
    """Client of one customer's Connect. Threads may share it."""

    def __init__(
        self,
        settings: ConnectSettings,
        secret: Secret,
        rate_limiter: RateLimiter,
        token_store: TokenStore,
        *,
        http: HttpOptions = DEFAULT_OPTIONS,
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
        is_local = urlsplit(base).hostname in ("127.0.0.1", "localhost", "::1")
        self._http = HttpExchange(replace(http, trust_env=not is_local))  # a proxy cannot reach this machine

    def close(self) -> None:
        """End the exchanges under way and close the connections."""
        self._http.close()

    def abort(self) -> None:
        """End the exchanges under way: imports among them raise OutcomeUnknownError, others ConnectUnreachableError."""
        self._http.abort()

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
        call = Call(
            "POST", self._import_url + chunk.operation, headers, payload=chunk.payload, size=size, once_only=True
        )
        return parse_submission(self._send(call, permit).body)

    def get_job(self, job_id: int, permit: Permit | None = None) -> Job:
        """Return the job as Job/Get shows it. Raises ConnectHttpError `connect-job-unknown` when it does not exist."""
        job = parse_job(self._get_of_job("get", job_id, permit), job_id)
        if job is None:
            raise job_unknown(job_id)
        return job

    def get_job_log(self, job_id: int, permit: Permit | None = None) -> tuple[LogRow, ...]:
        """Return the job's log so far. Raises ConnectHttpError `connect-job-unknown` when the job does not exist."""
        log = parse_log(self._get_of_job("log", job_id, permit))
        if log is None:
            raise job_unknown(job_id)
        return log

    def list_jobs(self, permit: Permit | None = None) -> JobList:
        """Return the jobs that Connect lists; it does not promise to list all of them."""
        return parse_jobs(self._send(Call("GET", self._job_url("list")), permit).body)

    def restart_job(self, job_id: int) -> int:
        """Restart an ended job with the payload that Norce stored; return the id to follow, which may be a new one."""
        call = Call("POST", self._job_url("restart"), params={"id": job_id}, once_only=True)
        return parse_restart(self._send(call, None).body, job_id)

    # -- inside -------------------------------------------------------------------------------------------------

    def _job_url(self, endpoint: str) -> str:
        return self._job_base_url + str(self._contract.jobs[endpoint])

    def _get_of_job(self, endpoint: str, job_id: int, permit: Permit | None) -> bytes:
        try:
            return self._send(Call("GET", self._job_url(endpoint), params={"id": job_id}), permit).body
        except ConnectHttpError as error:
            if error.code == "connect-not-found":
                raise job_unknown(job_id) from error
            raise

    def _send(self, call: Call, permit: Permit | None) -> Response:
        """Send a call and check the status of its response. Without a permit it waits for one.

        After a 401 the call is sent once more with a new token and another permit.
        """
        token = self._access_token()
        response = self._exchange(self._authorize(call, token), permit or self._rate_limiter.acquire())
        if response.status == 401:
            token = self._access_token(stale_token=token)
            response = self._exchange(self._authorize(call, token), self._rate_limiter.acquire())
        check_status(response.status, call.size, response.text, once_only=call.once_only)
        return response

    def _authorize(self, call: Call, token: str) -> Call:
        authorization = {"Authorization": f"Bearer {token}", "application-id": str(self._settings.application_id)}
        return replace(call, headers={**authorization, **call.headers})

    def _exchange(self, call: Call, permit: Permit) -> Response:
        """Send one request and report to the rate limiter. Raises ThrottledError for a 429: its lane pauses."""
        try:
            response = self._http.send(call, on_sent=lambda: self._rate_limiter.mark_sent(permit))
        except ConnectError:
            self._rate_limiter.mark_sent(permit)
            raise
        if response.status == 429:
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
        entry = self._token_store.find(self._token_name)
        if entry is None or entry[0] == stale_token:
            return None
        value, obtained, expires = entry
        margin = min(TOKEN_MARGIN, (expires - obtained) / 4)
        return value if obtained <= self._clock() < expires - margin else None

    def _fetch_token(self) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            "client_secret": self._secret.reveal(),
            "scope": self._settings.scope,
        }
        obtained = self._clock()
        call = Call("POST", self._settings.token_endpoint, form=form)
        response = self._exchange(call, self._rate_limiter.acquire("token"))
        if response.status in (400, 401, 403):
            raise ConnectHttpError(
                "connect-credentials",
                f"the token endpoint denied the client (HTTP {response.status})",
                where=self._settings.token_endpoint,
                hint="check connect.client_id, connect.scope and the secret in ETL_CLIENT_SECRET",
            )
        check_status(response.status, 0)
        token, lifetime = parse_token(response.body)
        self._token_store.save(self._token_name, token, obtained, obtained + lifetime)
        return token


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
