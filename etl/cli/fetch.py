"""`etl fetch`: fetches files from suppliers' servers now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from etl import filesystem, log
from etl.cli.progress import TransferDisplay
from etl.config.settings import Settings, resolve_state_folder
from etl.errors import EtlError, ExitStatus, UsageError
from etl.sources.poller import poll_source
from etl.state.files import lock
from etl.state.ledger.facade import Ledger


def fetch(settings: Settings, names: Sequence[str], *, as_json: bool, verbose: bool) -> ExitStatus:
    """Visit the named servers now, or all of them; an error at one does not stop the others."""
    from etl.cli.tables import print_json

    log.configure(verbose=verbose)
    settings = resolve_state_folder(settings)
    unknown = [name for name in names if name not in settings.fetch]
    if unknown or not settings.fetch:
        configured = ", ".join(settings.fetch) or "none"
        raise UsageError(
            "fetch-unknown",
            f"the settings have no [fetch.{unknown[0]}]" if unknown else "the settings have no [fetch.NAME]",
            hint=f"sources: {configured}; see docs/settings.md",
        )
    exit_status = ExitStatus.OK
    visits: list[dict[str, Any]] = []
    state = settings.paths.state
    with filesystem.translate_os_errors(state):
        filesystem.make_folder(state)
    with lock.lock_state_folder(state), Ledger.open(state) as ledger, TransferDisplay() as transfers:
        for name in names or settings.fetch:
            visit: dict[str, Any] = {"source": name, "fetched": [], "not_ready": [], "fetched_before": 0, "error": None}
            try:
                result = poll_source(settings, name, ledger, transfers.emit, lambda: False)
                assert result is not None
                visit["fetched"], visit["fetched_before"] = list(result.fetched_names), result.fetched_before
                visit["not_ready"] = [{"file": file, "reason": reason} for file, reason in result.not_ready]
            except EtlError as error:
                click.echo(str(error), err=True)
                visit["error"] = str(error)
                exit_status = ExitStatus.CANNOT_CONTINUE
            visits.append(visit)
    if as_json:
        print_json({"sources": visits})
        return exit_status
    for visit in (visit for visit in visits if visit["error"] is None):
        click.echo(f"{visit['source']}: {len(visit['fetched'])} fetched, {visit['fetched_before']} fetched before")
        for file in visit["fetched"]:
            click.echo(f"  {file}")
        for file in visit["not_ready"]:
            click.echo(f"  {file['file']} is not ready: {file['reason']}")
    return exit_status
