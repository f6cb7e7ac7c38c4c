"""Composition root: opens a session with ledger, Connect client and runs, for as long as a command needs them.

Without settings for Connect the built-in sandbox is used, with a state folder of its own: what a sandbox accepted must
never count as accepted by Norce.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl import filesystem, log
from etl.apply import records
from etl.apply.import_client import ImportClient
from etl.apply.sender import ConnectServices, Sender, SenderOptions
from etl.config import secrets
from etl.config.secrets import Secret
from etl.config.settings import SANDBOX_ACCOUNT_ID, ConnectSettings, Settings, resolve_state_folder
from etl.events import EventSink
from etl.ingest.intake import Intake
from etl.mapping.model import Mapping
from etl.runs import job_restart
from etl.runs.coordinator import Coordinator
from etl.runs.follow_ups import FollowUps
from etl.runs.lifecycle import RunLifecycle
from etl.runs.queue import RunQueue
from etl.shutdown import ShutdownEvent
from etl.state import compaction, startup_check
from etl.state.files.lock import lock_state_folder
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    from etl.sandbox import SandboxSettings


@dataclass(frozen=True, slots=True)
class Session:
    """Everything that a command works with."""

    settings: Settings
    mappings: tuple[Mapping, ...]
    ledger: Ledger
    client: ImportClient
    intake: Intake
    lifecycle: RunLifecycle
    follow_ups: FollowUps
    coordinator: Coordinator
    emit: EventSink
    shutdown: ShutdownEvent
    sandbox: Any  #: the built-in sandbox that runs for this session, or None


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What differs between the commands that open a session."""

    shutdown: ShutdownEvent = field(default_factory=ShutdownEvent)
    emit: EventSink = log.write_event
    #: seconds without any response of Connect, or any change of a request or job, after which the rest is left open
    connect_timeout: float | None = None
    sandbox_settings: SandboxSettings | None = None  #: for a built-in sandbox other than the usual one
    listen: bool = False  #: for Norce's job events, where the settings have a webhook


@contextlib.contextmanager
def open_session(
    settings: Settings, mappings: Sequence[Mapping], options: SessionOptions | None = None
) -> Iterator[Session]:
    """Open a session; the state folder is locked and recovered. Raises SettingsError, StateError."""
    options = options or SessionOptions()
    settings = resolve_state_folder(settings)
    state = settings.paths.state
    with contextlib.ExitStack() as stack:
        with filesystem.translate_os_errors(state):
            filesystem.make_folder(state)
        stack.enter_context(lock_state_folder(state))
        endpoint = _connect_endpoint(stack, settings, options)
        _warn_about_exposed_secrets(os.environ)
        ledger = stack.enter_context(Ledger.open(state, target=endpoint.target))
        startup_check.check_startup(ledger, state)
        connect = _open_connect(stack, settings, endpoint, ledger, options.shutdown)
        _finish_compaction(ledger, state, mappings)
        intake = Intake(settings, ledger, mappings, options.emit)
        lifecycle = RunLifecycle(settings, endpoint.settings.account_id, ledger, mappings, intake, options.emit)
        compaction.remove_orphans(ledger, state, (mapping.feed for mapping in mappings))
        lifecycle.resume()
        follow_ups = FollowUps(ledger, mappings, intake)
        coordinator = Coordinator(
            lifecycle,
            follow_ups,
            RunQueue(ledger, mappings),
            _start_sender(stack, settings, ledger, connect, options),
            options.emit,
            partial(job_restart.find_busy_key_spaces, ledger, connect.client, options.shutdown, options.emit),
        )
        yield Session(
            settings=settings,
            mappings=tuple(mappings),
            ledger=ledger,
            client=connect.client,
            intake=intake,
            lifecycle=lifecycle,
            follow_ups=follow_ups,
            coordinator=coordinator,
            emit=options.emit,
            shutdown=options.shutdown,
            sandbox=endpoint.sandbox,
        )


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where requests go."""

    settings: ConnectSettings
    secret: Secret
    target: str  #: what the state folder belongs to
    sandbox: Any = None


def _connect_endpoint(stack: contextlib.ExitStack, settings: Settings, options: SessionOptions) -> _Endpoint:
    if settings.connect is None:
        return _start_sandbox(stack, settings.paths.state, options.sandbox_settings)
    return _Endpoint(settings.connect, secrets.load_client_secret(), settings.connect.target)


def _open_connect(
    stack: contextlib.ExitStack, settings: Settings, endpoint: _Endpoint, ledger: Ledger, shutdown: ShutdownEvent
) -> ConnectServices:
    """Open the client and its rate limiter; the stack closes the client."""
    from etl.connect.client import ConnectClient
    from etl.connect.rate_limiter import RateLimiter, RateLimits

    rate_limiter = RateLimiter(
        ledger.database,
        limits=RateLimits(settings.limits.requests, settings.limits.per_seconds),
        sleep=shutdown.wait,
        is_stopped=shutdown.is_set,
    )
    client = stack.enter_context(ConnectClient(endpoint.settings, endpoint.secret, rate_limiter, ledger.tokens))
    return ConnectServices(client=client, rate_limiter=rate_limiter)


def _finish_compaction(ledger: Ledger, state: Path, mappings: Sequence[Mapping]) -> None:
    """Merge ended runs that a crash has left beside their feed's base."""
    for mapping in mappings:
        compaction.compact_feed(ledger, state, mapping.feed)


def _start_sender(
    stack: contextlib.ExitStack, settings: Settings, ledger: Ledger, connect: ConnectServices, options: SessionOptions
) -> Sender:
    sender = Sender(
        ledger=ledger,
        connect=connect,
        read_chunk_records=partial(records.read_chunk_records, settings.paths.state),
        shutdown=options.shutdown,
        emit=options.emit,
        options=SenderOptions(limits=settings.limits, timeout=options.connect_timeout),
    )
    if options.listen and settings.webhook is not None:
        from etl.connect import webhook

        stack.enter_context(webhook.listen(settings.webhook, secrets.load_webhook_token(), connect.job_events))
    return stack.enter_context(sender)


def _warn_about_exposed_secrets(environ: Map[str, str]) -> None:
    """Warn of secret files that other users may read; containers mount them so, hence it is no error."""
    for variable, name in environ.items():
        if variable.startswith("ETL_") and variable.endswith("_FILE"):
            with contextlib.suppress(OSError):
                if os.stat(name).st_mode & 0o077:
                    log.write_event("secret_exposed", variable=variable, reason="other users may read the file")


def _start_sandbox(stack: contextlib.ExitStack, state: Path, sandbox_settings: SandboxSettings | None) -> _Endpoint:
    from etl import sandbox

    sandbox_settings = sandbox_settings or sandbox.SandboxSettings(state=state / "norce")
    if sandbox_settings.state is not None:
        filesystem.make_folder(sandbox_settings.state)
    running = stack.enter_context(sandbox.run_in_thread(sandbox_settings))
    connect_settings = ConnectSettings(
        base_url=running.url,
        scope="playground",
        application_id=1,
        account_id=SANDBOX_ACCOUNT_ID,
        client_id=sandbox_settings.client_id,
    )
    return _Endpoint(connect_settings, Secret(sandbox_settings.client_secret), "sandbox", running.sandbox)
