"""Brings settings, ledger, gate and Connect together, for as long as a command needs them.

Without settings for Connect the built-in sandbox is used, with a state of its own: what a sandbox accepted must
never count as accepted by Norce.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from etl import filesystem as durable
from etl import log
from etl.apply import records
from etl.apply.sender import Flight
from etl.config import secrets
from etl.config import settings as config
from etl.config.secrets import Secret
from etl.config.settings import ConnectSettings, Settings
from etl.connect.job_events import Tidings
from etl.mapping.model import Mapping
from etl.runs import job_restart as restart
from etl.runs.coordinator import Traffic
from etl.runs.lifecycle import Pipeline
from etl.shutdown import Stop
from etl.state import compaction as compact
from etl.state import startup_check
from etl.state.files.lock import alone
from etl.state.ledger.facade import Ledger


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with."""

    settings: Settings
    ledger: Ledger
    connect: restart.Service
    pipeline: Pipeline
    traffic: Traffic
    tell: Callable[..., None]
    stop: Stop
    server: Any  #: the built-in sandbox that runs for this session, or None


@contextlib.contextmanager
def opened(
    settings: Settings,
    mappings: Sequence[Mapping],
    *,
    stop: Stop | None = None,
    tell: Callable[..., None] | None = None,
    patience: float | None = None,
    sandbox_settings: object | None = None,
    listen: bool = False,
) -> Iterator[Session]:
    """`listen`: to Norce's word that jobs have ended, where the settings say so. Raises SettingsError, StateError."""
    from etl.connect.client import Connect
    from etl.connect.rate_limiter import Gate

    stop = stop or Stop()
    settings = config.state_settings(settings)
    state = settings.paths.state
    with contextlib.ExitStack() as stack:
        with durable.translated(state):
            durable.make_folder(state)
        stack.enter_context(alone(state))
        server, target, connect_settings = None, "sandbox", settings.connect
        if connect_settings is None:
            server, connect_settings, secret = _sandbox(stack, state, sandbox_settings)
        else:
            target, secret = connect_settings.target, secrets.secret()
        _warn_of_open_secrets(os.environ)
        ledger = stack.enter_context(Ledger.open(state, target=target))
        startup_check.check_start(ledger, state)
        gate = Gate(
            ledger.database,
            limit=settings.limits.requests,
            per_seconds=settings.limits.per_seconds,
            sleep=stop.wait,
            stopped=stop.is_set,
        )
        connect = stack.enter_context(Connect(connect_settings, secret, gate, ledger))
        for mapping in mappings:  # what a crash kept an ended run from doing
            compact.runs_of(ledger, state, mapping.feed, changes=mapping.source.content == "changes")
        pipeline = Pipeline(settings, connect_settings.account_id, ledger, mappings, tell or _log)
        compact.sweep(ledger, state, (mapping.feed for mapping in mappings))
        pipeline.resume()
        tidings = Tidings()
        flight = Flight(
            ledger,
            connect,
            settings.limits,
            lambda chunk: records.records_of(state, chunk),
            stop,
            on_event=tell or _log,
            patience=patience,
            tidings=tidings,
        )
        if listen and settings.webhook is not None:
            from etl.connect import webhook

            stack.enter_context(webhook.listening(settings.webhook, secrets.webhook_token(), tidings))
        barred = partial(restart.unfinished, ledger, connect, stop, tell or _log)
        traffic = Traffic(pipeline, ledger, stack.enter_context(flight), mappings, tell or _log, barred)
        yield Session(settings, ledger, connect, pipeline, traffic, tell or _log, stop, server)


def account_id(settings: Settings) -> int:
    """The account that writes are attributed to; the sandbox's own where there are no settings."""
    return settings.connect.account_id if settings.connect is not None else 1


def _log(event: str, **facts: object) -> None:
    log.logger().info(event, **facts)


def _warn_of_open_secrets(environ: Map[str, str]) -> None:
    """Files with secrets that others may read; containers mount them so, hence only a word."""
    for variable, name in environ.items():
        if variable.startswith("ETL_") and variable.endswith("_FILE"):
            with contextlib.suppress(OSError):
                if os.stat(name).st_mode & 0o077:
                    log.logger().warning("secret_exposed", variable=variable, reason="other users may read the file")


def _sandbox(stack: contextlib.ExitStack, state: Path, given: object | None) -> tuple[Any, ConnectSettings, Secret]:
    from etl import sandbox

    chosen = given if isinstance(given, sandbox.Settings) else sandbox.Settings(state=state / "norce")
    if chosen.state is not None:
        durable.make_folder(chosen.state)
    running = stack.enter_context(sandbox.running(chosen))
    made = ConnectSettings(
        base_url=running.url, scope="playground", application_id=1, account_id=1, client_id=chosen.client_id
    )
    return running.sandbox, made, Secret(chosen.client_secret)
