"""Runs the sandbox: in the foreground for `etl sandbox`, in a thread for tests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn

from etl.http_server import server_config
from etl.sandbox import webhook_events
from etl.sandbox.asgi import make_app
from etl.sandbox.core import Sandbox
from etl.sandbox.settings import SandboxSettings

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    """A sandbox that answers requests."""

    url: str
    token_url: str
    sandbox: Sandbox


def serve(sandbox: Sandbox, port: int, host: str = _HOST) -> None:
    """Answer until a signal comes; prints nothing."""
    with webhook_events.post_job_events(sandbox, sandbox.settings.events):
        uvicorn.Server(server_config(make_app(sandbox), host=host, port=port)).run()


@contextlib.contextmanager
def run_in_thread(
    settings: SandboxSettings | None = None, port: int = 0, sandbox: Sandbox | None = None
) -> Iterator[RunningSandbox]:
    """Answer from a daemon thread, on a free port unless one is given."""
    sandbox = sandbox or Sandbox(settings)
    sandbox.closing = False
    with socket.create_server((_HOST, port)) as listening:
        server = uvicorn.Server(server_config(make_app(sandbox), host=_HOST, port=port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="sandbox", daemon=True)
        thread.start()
        url = f"http://{_HOST}:{listening.getsockname()[1]}"
        try:
            with webhook_events.post_job_events(sandbox, sandbox.settings.events):
                yield RunningSandbox(url, url + sandbox.contract.token_path, sandbox)
        finally:
            sandbox.closing = True
            server.should_exit = True
            thread.join()
