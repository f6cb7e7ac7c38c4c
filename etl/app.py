"""Brings settings, ledger, gate and Connect together, for as long as a command needs them.

Without settings for Connect the built-in sandbox is used, with a state of its own: what a sandbox accepted must
never count as accepted by Norce.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from etl import filesystem, log
from etl.apply import records
from etl.apply.sender import Sender
from etl.config import secrets
from etl.config.secrets import Secret
from etl.config.settings import ConnectSettings, Settings, resolve_state_folder
from etl.connect.job_events import JobEvents
from etl.events import EventSink
from etl.mapping.model import Mapping
from etl.runs import job_restart
from etl.runs.coordinator import Coordinator
from etl.runs.lifecycle import RunLifecycle
from etl.shutdown import ShutdownEvent
from etl.state import compaction, startup_check
from etl.state.files.lock import lock_state_folder
from etl.state.ledger.facade import Ledger


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with."""

    settings: Settings
    ledger: Ledger
    client: job_restart.JobClient
    lifecycle: RunLifecycle
    coordinator: Coordinator
    emit: EventSink
    shutdown: ShutdownEvent
    sandbox: Any  #: the built-in sandbox that runs for this session, or None


@contextlib.contextmanager
def open_session(
    settings: Settings,
    mappings: Sequence[Mapping],
    *,
    shutdown: ShutdownEvent | None = None,
    emit: EventSink = log.write_event,
    timeout: float | None = None,
    sandbox_settings: object | None = None,
    listen: bool = False,
) -> Iterator[Session]:
    """`listen`: to Norce's word that jobs have ended, where the settings say so. Raises SettingsError, StateError."""
    from etl.connect.client import ConnectClient
    from etl.connect.rate_limiter import RateLimiter

    shutdown = shutdown or ShutdownEvent()
    settings = resolve_state_folder(settings)
    state = settings.paths.state
    with contextlib.ExitStack() as stack:
        with filesystem.translate_os_errors(state):
            filesystem.make_folder(state)
        stack.enter_context(lock_state_folder(state))
        server, target, connect_settings = None, "sandbox", settings.connect
        if connect_settings is None:
            server, connect_settings, secret = _start_sandbox(stack, state, sandbox_settings)
        else:
            target, secret = connect_settings.target, secrets.load_client_secret()
        _warn_about_exposed_secrets(os.environ)
        ledger = stack.enter_context(Ledger.open(state, target=target))
        startup_check.check_startup(ledger, state)
        gate = RateLimiter(
            ledger.database,
            limit=settings.limits.requests,
            per_seconds=settings.limits.per_seconds,
            sleep=shutdown.wait,
            is_stopped=shutdown.is_set,
        )
        connect = stack.enter_context(ConnectClient(connect_settings, secret, gate, ledger))
        for mapping in mappings:  # what a crash kept an ended run from doing
            compaction.compact_feed(ledger, state, mapping.feed, is_changes_feed=mapping.source.content == "changes")
        pipeline = RunLifecycle(settings, connect_settings.account_id, ledger, mappings, emit)
        compaction.remove_orphans(ledger, state, (mapping.feed for mapping in mappings))
        pipeline.resume()
        tidings = JobEvents()
        flight = Sender(
            ledger,
            connect,
            settings.limits,
            lambda chunk: records.read_chunk_records(state, chunk),
            shutdown,
            emit=emit,
            timeout=timeout,
            job_events=tidings,
        )
        if listen and settings.webhook is not None:
            from etl.connect import webhook

            stack.enter_context(webhook.listen(settings.webhook, secrets.load_webhook_token(), tidings))
        barred = partial(job_restart.find_busy_key_spaces, ledger, connect, shutdown, emit)
        traffic = Coordinator(pipeline, ledger, stack.enter_context(flight), mappings, emit, barred)
        yield Session(settings, ledger, connect, pipeline, traffic, emit, shutdown, server)


def account_id(settings: Settings) -> int:
    """The account that writes are attributed to; the sandbox's own where there are no settings."""
    return settings.connect.account_id if settings.connect is not None else 1


def _warn_about_exposed_secrets(environ: Map[str, str]) -> None:
    """Files with secrets that others may read; containers mount them so, hence only a word."""
    for variable, name in environ.items():
        if variable.startswith("ETL_") and variable.endswith("_FILE"):
            with contextlib.suppress(OSError):
                if os.stat(name).st_mode & 0o077:
                    log.write_event("secret_exposed", variable=variable, reason="other users may read the file")


def _start_sandbox(
    stack: contextlib.ExitStack, state: Path, sandbox_settings: object | None
) -> tuple[Any, ConnectSettings, Secret]:
    from etl import sandbox

    chosen = (
        sandbox_settings
        if isinstance(sandbox_settings, sandbox.SandboxSettings)
        else sandbox.SandboxSettings(state=state / "norce")
    )
    if chosen.state is not None:
        filesystem.make_folder(chosen.state)
    running = stack.enter_context(sandbox.run_in_thread(chosen))
    made = ConnectSettings(
        base_url=running.url, scope="playground", application_id=1, account_id=1, client_id=chosen.client_id
    )
    return running.sandbox, made, Secret(chosen.client_secret)
