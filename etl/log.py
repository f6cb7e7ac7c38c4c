"""Structured logging: pretty lines on a terminal, JSON lines elsewhere, always to stderr.

`etl.events` lists the events. Cell values and secrets do not belong into any event above debug; `redact` is the net
below that rule, not the rule.

structlog writes the lines, and stays (docs/decisions/0016); it is loaded with the first of them.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO, cast

from etl import terminal
from etl.events import EVENTS

if TYPE_CHECKING:
    import structlog

_SECRET_KEY = re.compile(r"secret|password|token$|authorization|client_id_secret", re.IGNORECASE)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_QUERY = re.compile(r"(?i)\b(client_secret|access_token|password)=[^&\s]+")

#: Keys that may carry cell values: kept at debug, dropped above.
_CELL_KEYS = frozenset({"value", "values", "row_text", "imported_row", "message_text", "payload"})

_REDACTED = "[left out]"

#: What is still to be done before the first line can be written, and the turn of the threads that write it.
_deferred_setup: Callable[[], None] | None = None
_setup_lock = threading.Lock()


def redact(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank what looks like a secret at every level, and what may be a cell above debug."""
    for key, value in event.items():
        if _SECRET_KEY.search(key) or (method != "debug" and key in _CELL_KEYS):
            event[key] = _REDACTED
        elif isinstance(value, str):
            event[key] = terminal.printable(_QUERY.sub(r"\1=" + _REDACTED, _BEARER.sub(r"\1 " + _REDACTED, value)))
    return event


def configure(*, verbose: bool = False, json: bool | None = None, stream: TextIO | None = None) -> None:
    """How this process writes its lines. `json` None: JSON lines unless the stream is a terminal."""
    global _deferred_setup
    logging.getLogger("watchdog").addHandler(logging.NullHandler())  # it grumbles on stderr about late events
    out = terminal.raw_stream(stream or sys.stderr)
    lines = not out.isatty() if json is None else json
    _deferred_setup = partial(_configure_structlog, out, json_lines=lines, verbose=verbose)


def _configure_structlog(out: TextIO, *, json_lines: bool, verbose: bool) -> None:
    import structlog

    renderer: Any
    if json_lines:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=True, exception_formatter=structlog.dev.plain_traceback)
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    if json_lines:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def logger(**facts: Any) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that adds `facts` to every event, e.g. `logger(run=run.id, feed=run.feed)`."""
    global _deferred_setup
    import structlog

    with _setup_lock:
        if _deferred_setup is not None:
            _deferred_setup()
            _deferred_setup = None
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(**facts))


def write_event(event: str, /, **facts: object) -> None:
    """Write an event of `etl.events` as a log line of its level."""
    getattr(logger(), EVENTS[event].level)(event, **facts)
