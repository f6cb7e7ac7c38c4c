"""Logging: JSON lines, and a net below the rule that no secret is logged."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from etl import log


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    log._deferred_setup = None


def test_events_are_json_lines_without_secrets_or_cells() -> None:
    """Facts stay, secrets and cell values go, debug is silent unless asked for."""
    out = io.StringIO()
    log.configure(stream=out)
    logger = log.logger(run="r1")
    logger.debug("not_shown")
    logger.info(
        "request_sent", access_token="abc", value="cell", text="Bearer abcdefgh123", url="x?client_secret=s&a=1"
    )
    (line,) = out.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["run"], event["level"]) == ("request_sent", "r1", "info")
    assert "abc" not in line
    assert "cell" not in line
    assert "client_secret=s&" not in line
    assert "a=1" in line


def test_debug_may_show_values_but_no_secrets() -> None:
    """At debug a cell may be seen; a secret never."""
    out = io.StringIO()
    log.configure(stream=out, verbose=True)
    log.logger().debug("row_read", value="cell", password="pw")
    assert "cell" in out.getvalue()
    assert '"pw"' not in out.getvalue()


def test_the_watching_library_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """What watchdog has to say about events that come late does not reach stderr, by no handler of its own."""
    log.configure(stream=io.StringIO())
    handlers = logging.getLogger("watchdog").handlers
    assert handlers
    assert all(isinstance(handler, logging.NullHandler) for handler in handlers)
    logging.getLogger("watchdog").callHandlers(logging.makeLogRecord({"msg": "late", "levelno": logging.ERROR}))
    assert capfd.readouterr().err == ""


def test_what_was_said_last_counts_from_the_next_line_on() -> None:
    """The process may be set up more than once, before its first line and after it."""
    outs = [io.StringIO() for _ in range(3)]
    log.configure(stream=outs[0])
    log.configure(stream=outs[1])
    log.logger().info("one_done")
    log.configure(stream=outs[2])
    log.logger().info("two_done")
    assert ["one_done" in out.getvalue() for out in outs] == [False, True, False]
    assert ["two_done" in out.getvalue() for out in outs] == [False, False, True]
