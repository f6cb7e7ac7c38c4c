"""`etl sandbox`: a local server that behaves as the Connect documentation says."""

from __future__ import annotations

from pathlib import Path

import click

from etl import sandbox
from etl.config import secrets
from etl.config.settings import WebhookSettings
from etl.errors import ExitStatus


def serve(port: int, state: Path | None, webhook_url: str | None) -> ExitStatus:
    """Serve until stopped. `state` keeps the catalogue; `webhook_url` receives an event for every job that ends."""
    events = None
    if webhook_url is not None:
        headers = {WebhookSettings(port=0).header: secrets.load_webhook_token().reveal()}
        events = sandbox.EventSettings(url=webhook_url, headers=headers)
    if state is not None:
        state.mkdir(parents=True, exist_ok=True)
    click.echo(f"sandbox on http://127.0.0.1:{port} (client id and secret: sandbox); stop with Ctrl-C", err=True)
    sandbox.serve(sandbox.Sandbox(sandbox.SandboxSettings(state=state, events=events)), port)
    return ExitStatus.OK
