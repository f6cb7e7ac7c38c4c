"""Servers to test with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sftp.servers import SSHD, Server, running

KINDS = [
    "asyncssh",
    pytest.param("openssh", marks=pytest.mark.skipif(SSHD is None, reason="OpenSSH's sshd is not installed")),
]

#: `make sftp` sets it: long campaigns as a whole, and against each kind of server.
CAMPAIGN = "SFTP_CAMPAIGN" in os.environ


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Each kind of server that is installed."""
    with running(request.param, tmp_path / "server") as opened:
        yield opened


@pytest.fixture(params=KINDS if CAMPAIGN else KINDS[:1])
def any_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """One kind of server; in a campaign each."""
    with running(request.param, tmp_path / "server") as opened:
        yield opened
