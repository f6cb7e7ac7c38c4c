"""HTTP exchanges against a server that misbehaves on the level of bytes."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from etl.connect import http_exchange
from etl.connect.http_exchange import Call, HttpExchange, HttpOptions, Response
from etl.errors import ConnectUnreachableError, OutcomeUnknownError

Respond = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(respond: Respond) -> Iterator[str]:
    """Accept connections and, when a request head has come, let `respond` write what it likes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            respond(connection)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextlib.contextmanager
def exchange(**options: float) -> Iterator[HttpExchange]:
    live = HttpExchange(HttpOptions(trust_env=False, **options))  # type: ignore[arg-type]
    try:
        yield live
    finally:
        live.close()


def write(head: str, body: bytes = b"", status: str = "200 OK") -> Respond:
    return lambda connection: connection.sendall(
        f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )


def drip(connection: socket.socket) -> None:
    """Send a byte now and then: no pause is long, and the response never ends."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b" " * 100_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def get(respond: Respond, **options: float) -> Response:
    with server(respond) as url, exchange(**options) as live:
        return live.send(Call("GET", url))


def test_a_response_that_drips_ends_at_the_deadline() -> None:
    """The pauses between two bytes are short; the exchange as a whole is bounded."""
    with pytest.raises(ConnectUnreachableError, match=r"0\.2 s"):
        get(drip, deadline=0.2)


def test_an_import_has_a_deadline_of_its_own(tmp_path: Path) -> None:
    """Connect may validate an import long before it answers."""
    payload = tmp_path / "payload.json"
    payload.write_bytes(b"[]")
    call = Call("POST", "", {"Content-Length": "2"}, payload=payload, size=2, once_only=True)
    with (
        server(drip) as url,
        exchange(deadline=30.0, import_deadline=0.2) as live,
        pytest.raises(OutcomeUnknownError),
    ):
        live.send(replace(call, url=url))


def test_a_response_has_a_longest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte more than the limit is too much; the limit itself is not."""
    monkeypatch.setattr(http_exchange, "MAX_RESPONSE_SIZE", 1000)
    assert len(get(write("", b"x" * 1000)).body) == 1000
    with pytest.raises(ConnectUnreachableError):
        get(write("", b"x" * 1001))


def test_a_compressed_response_counts_as_what_it_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size limit holds after decompression, and so does the ratio, also where one block becomes many."""
    head = "Content-Encoding: gzip\r\n"
    assert get(write(head, gzip.compress(b'{"JobId": 1}'))).body == b'{"JobId": 1}'
    bomb = gzip.compress(b"\0" * 20_000_000)
    with pytest.raises(ConnectUnreachableError, match="more than a server would"):
        get(write(head, bomb))
    monkeypatch.setattr(http_exchange, "MAX_RESPONSE_SIZE", 1_500_000)
    with pytest.raises(ConnectUnreachableError, match="longer than 1500000 bytes"):
        get(write(head, bomb))


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd", "x" * 100])
def test_other_compressions_are_odd(encoding: str) -> None:
    """Nobody asked for them, and one within another could grow without a bound."""
    with pytest.raises(ConnectUnreachableError, match="which nobody asked for"):
        get(write(f"Content-Encoding: {encoding}\r\n", b"abc"))


def test_what_cannot_be_decompressed_is_odd() -> None:
    with pytest.raises(ConnectUnreachableError, match="cannot be decompressed"):
        get(write("Content-Encoding: gzip\r\n", b"not gzip at all"))


def test_an_error_page_is_read_only_so_far() -> None:
    """Its beginning explains the status; its length does not matter."""
    response = get(write("", b"y" * 3_000_000, status="500 Internal Server Error"))
    assert response.status == 500
    assert response.text == "y" * http_exchange.MAX_ERROR_SIZE


def test_abort_ends_what_is_under_way() -> None:
    """A thread that waits for a response gets an error at once."""
    with server(lambda connection: time.sleep(30)) as url, exchange() as live:
        outcome: list[BaseException] = []

        def send() -> None:
            try:
                live.send(Call("GET", url))
            except ConnectUnreachableError as error:
                outcome.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        while not live._futures:
            time.sleep(0.001)
        live.abort()
        thread.join(5)
        assert len(outcome) == 1


def test_the_body_is_reported_as_sent_before_the_response(tmp_path: Path) -> None:
    """The rate limiter stamps a request when its body has left, however long the response takes."""
    payload, sent = tmp_path / "payload.json", threading.Event()
    payload.write_bytes(b"[1]")

    def respond(connection: socket.socket) -> None:
        assert sent.wait(10)
        write("", b"{}")(connection)

    with server(respond) as url, exchange() as live:
        call = Call("POST", url, {"Content-Length": "3"}, payload=payload, size=3)
        assert live.send(call, on_sent=sent.set).body == b"{}"
