"""HTTP exchanges, each with a deadline and a bound for the size of its response. The only module that imports httpx.

httpx bounds the pause between two reads, but neither the whole exchange nor the size of a response: a server that sends
a byte every minute would hold a thread for ever. So the exchanges run as tasks of an event loop, which can cancel a
task at any point; callers are threads and wait for theirs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ssl
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.connect.responses import malformed_response, outcome_unknown
from etl.errors import ConnectError, ConnectHttpError, ConnectUnreachableError

if TYPE_CHECKING:
    import httpx

#: Longest response in bytes, after decompression.
MAX_RESPONSE_SIZE = 64 * 1024 * 1024

#: Bytes that are read of a response which is not a success: its text only explains the status.
MAX_ERROR_SIZE = 16 * 1024

#: Bytes of a decompressed response for each byte that was received; JSON seldom reaches 30.
MAX_COMPRESSION_RATIO = 200

#: Bytes from which on the ratio counts: a few hundred zeros compress to almost nothing.
_RATIO_FLOOR = 1024 * 1024

_BLOCK_SIZE = 64 * 1024


class _ResponseLimitError(Exception):
    """A response that is too large, or compressed in a way that nobody asked for."""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How the HTTP client connects. Times in seconds."""

    #: to connect, between two reads (Connect may validate long before it answers), between two writes, for a connection
    timeout: httpx.Timeout | tuple[float, float, float, float] = (10.0, 120.0, 60.0, 10.0)
    #: for a whole exchange: an import sends up to 10 MB, and Connect validates it before it answers
    import_deadline: float = 300.0
    deadline: float = 60.0  #: for a whole exchange of any other kind
    transport: httpx.AsyncBaseTransport | None = None  #: None: the network
    trust_env: bool = True  #: use the proxies and certificates that the environment names


DEFAULT_OPTIONS = HttpOptions()


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    payload: Path | None = None  #: the file to send as the body
    size: int = 0  #: bytes of the payload
    once_only: bool = False  #: a repeated request could be imported twice


@dataclass(frozen=True, slots=True)
class Response:
    """A response that was read to its end, or as far as MAX_ERROR_SIZE if it is not a success."""

    status: int
    headers: Mapping[str, str]  #: case does not count
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text; bytes that are not UTF-8 become U+FFFD."""
        return self.body.decode("utf-8", "replace")


class HttpExchange:
    """An HTTP client for many threads. It opens with the first request, because httpx takes long to load."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: httpx.AsyncClient | None = None
        self._futures: set[concurrent.futures.Future[Response]] = set()

    def send(self, call: Call, *, on_sent: Callable[[], None] = lambda: None) -> Response:
        """Send a request and read its response.

        `on_sent` is called in a thread of its own as soon as the body has left. Raises OutcomeUnknownError when a
        request that must not be repeated may have arrived; else ConnectUnreachableError, or ConnectHttpError for an
        address or a certificate that does not work.
        """
        import httpx

        loop, client = self._open()
        deadline = self._options.deadline if call.payload is None else self._options.import_deadline
        future = self._submit(loop, _exchange(client, call, on_sent, deadline))
        try:
            return future.result()
        except httpx.HTTPError as error:
            raise translate_http_error(error, once_only=call.once_only) from error
        except _ResponseLimitError as error:
            raise outcome_unknown(str(error)) if call.once_only else malformed_response(str(error)) from error
        except concurrent.futures.CancelledError:
            raise _no_response(call, "the program was told to stop") from None
        except TimeoutError:
            raise _no_response(call, f"no response within {deadline:g} s") from None
        finally:
            with self._lock:
                self._futures.discard(future)

    def abort(self) -> None:
        """End all exchanges under way; those of imports have an unknown outcome then."""
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def close(self) -> None:
        """End what is under way and close the connections."""
        self.abort()
        with self._lock:
            loop, thread, client = self._loop, self._thread, self._client
            self._loop = self._thread = self._client = None
        if loop is None or thread is None or client is None:
            return
        asyncio.run_coroutine_threadsafe(client.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _submit(
        self, loop: asyncio.AbstractEventLoop, exchange: Coroutine[Any, Any, Response]
    ) -> concurrent.futures.Future[Response]:
        with self._lock:
            future = asyncio.run_coroutine_threadsafe(exchange, loop)
            self._futures.add(future)
        return future

    def _open(self) -> tuple[asyncio.AbstractEventLoop, httpx.AsyncClient]:
        import httpx

        with self._lock:
            if self._loop is None or self._client is None:
                self._client = httpx.AsyncClient(
                    timeout=self._options.timeout,
                    transport=self._options.transport,
                    trust_env=self._options.trust_env,
                    follow_redirects=False,
                    headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "connect-etl"},
                )
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
                self._thread.start()
            return self._loop, self._client


async def _exchange(client: httpx.AsyncClient, call: Call, on_sent: Callable[[], None], deadline: float) -> Response:
    async def trace(event: str, _info: Mapping[str, Any]) -> None:
        if event == "http11.send_request_body.complete":
            await asyncio.to_thread(on_sent)

    request = client.build_request(
        call.method,
        call.url,
        params=call.params,
        data=dict(call.form) if call.form is not None else None,
        content=_read_blocks(call.payload) if call.payload is not None else None,
        headers=dict(call.headers),
        extensions={"trace": trace},
    )
    async with asyncio.timeout(deadline):
        response = await client.send(request, stream=True)
        try:
            return Response(response.status_code, response.headers, await _read_body(response))
        finally:
            await response.aclose()


async def _read_body(response: httpx.Response) -> bytes:
    limit = MAX_RESPONSE_SIZE if response.is_success else MAX_ERROR_SIZE
    decompress = _choose_decompressor(response.headers.get("Content-Encoding", ""))
    body = bytearray()
    received = 0
    async for block in response.aiter_raw():
        received += len(block)
        body += decompress(block, limit + 1 - len(body))
        if len(body) > limit:
            if not response.is_success:
                break
            raise _ResponseLimitError(f"the response is longer than {limit} bytes")
        if len(body) > max(_RATIO_FLOOR, received * MAX_COMPRESSION_RATIO):
            raise _ResponseLimitError("the response is compressed more than a server would")
    return bytes(body[:limit])


def _choose_decompressor(encoding: str) -> Callable[[bytes, int], bytes]:
    """Return the function that decompresses a block to at most so many bytes."""
    match encoding.strip().lower():
        case "" | "identity":
            return lambda block, _: block
        case "gzip" | "x-gzip":
            return _Inflater(zlib.MAX_WBITS | 16)
        case "deflate":
            return _Inflater(zlib.MAX_WBITS)
    raise _ResponseLimitError(f"the response is compressed with {encoding[:40]!r}, which nobody asked for")


class _Inflater:
    """Decompresses zlib data up to a bound."""

    def __init__(self, window_bits: int) -> None:
        self._inflater = zlib.decompressobj(window_bits)

    def __call__(self, block: bytes, limit: int) -> bytes:
        try:
            return self._inflater.decompress(self._inflater.unconsumed_tail + block, max(1, limit))
        except zlib.error as error:
            raise _ResponseLimitError(f"the response cannot be decompressed: {error}") from None


async def _read_blocks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_SIZE):
            yield block


def _no_response(call: Call, reason: str) -> ConnectError:
    if call.once_only:
        return outcome_unknown(reason)
    return ConnectUnreachableError(
        "connect-unreachable", f"Connect has not answered: {reason}", hint="nothing to do; the request is made again"
    )


def translate_http_error(error: httpx.HTTPError, *, once_only: bool) -> ConnectError:
    """Return the error that a failed exchange means."""
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
