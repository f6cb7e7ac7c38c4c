"""An HTTP server that takes every import at once and says that its job has ended.

`python -m tests.benchmarks.sink [FOLDER]` prints its port, then, when its standard input ends, how many part numbers
and bytes came, and when the first did. What came is in the folder then, one file for each import.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar


class Sink(BaseHTTPRequestHandler):
    """Answers as Connect would on a good day."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    lock = threading.Lock()
    imports = 0
    size = 0
    first = 0.0
    totals: ClassVar[list[int]] = []
    bodies: ClassVar[list[bytes]] = []
    keep: ClassVar[list[Path]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/token"):
            self.answer({"access_token": "t", "token_type": "Bearer", "expires_in": 86400})
            return
        with Sink.lock:
            Sink.first = Sink.first or time.time()
            Sink.imports += 1
            Sink.size += len(body)
            Sink.bodies += [body] if Sink.keep else []
            Sink.totals.append(body.count(b'"PartNo":'))
            number = Sink.imports
        self.answer({"JobId": number})

    def do_GET(self) -> None:
        if "GetLog" in self.path:
            self.answer([])
        elif "List" in self.path:
            with Sink.lock:
                newest = range(max(1, Sink.imports - 999), Sink.imports + 1)
            self.answer([job(number) for number in newest])
        else:
            self.answer(job(int(self.path.rpartition("=")[2])))

    def answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def job(number: int) -> dict[str, object]:
    """A job that has succeeded."""
    return {"JobId": number, "StatusId": 2, "IsFinished": True, "Totals": Sink.totals[number - 1], "Fail": 0}


def main() -> None:
    """Serves until standard input ends."""
    Sink.keep += map(Path, sys.argv[1:])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    for folder in Sink.keep:
        for number, body in enumerate(Sink.bodies, 1):
            (folder / f"{number:05}.json").write_bytes(body)
    print(json.dumps({"imports": Sink.imports, "records": sum(Sink.totals), "bytes": Sink.size, "first": Sink.first}))


if __name__ == "__main__":
    main()
