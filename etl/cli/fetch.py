"""`etl fetch`: fetches files from suppliers' servers now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from etl import filesystem, log
from etl.cli.progress import TransferDisplay
from etl.config.settings import Settings, resolve_state_folder
from etl.errors import EtlError, ExitStatus, UsageError
from etl.state.files import lock
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    pass
from etl.sources.poller import _poll_source


def fetch(settings: Settings, names: Sequence[str], *, as_json: bool, verbose: bool) -> ExitStatus:
    """Visit these servers now, or all of them; trouble with one does not keep the others."""
    from etl.cli.tables import print_json

    log.configure(verbose=verbose)
    settings = resolve_state_folder(settings)
    unknown = [name for name in names if name not in settings.fetch]
    if unknown or not settings.fetch:
        known = ", ".join(settings.fetch) or "none"
        raise UsageError(
            "fetch-unknown",
            f"the settings have no [fetch.{unknown[0]}]" if unknown else "the settings have no [fetch.NAME]",
            hint=f"sources: {known}; see docs/settings.md",
        )
    worst = ExitStatus.OK
    shown: list[dict[str, Any]] = []
    state = settings.paths.state
    with filesystem.translate_os_errors(state):
        filesystem.make_folder(state)
    with lock.lock_state_folder(state), Ledger.open(state) as ledger, TransferDisplay() as transfers:
        for name in names or settings.fetch:
            visit: dict[str, Any] = {"source": name, "fetched": [], "not_ready": [], "fetched_before": 0, "error": None}
            try:
                made = _poll_source(settings, name, ledger, transfers.emit, lambda: False)
                assert made is not None
                visit["fetched"], visit["fetched_before"] = list(made.fetched_names), made.fetched_before
                visit["not_ready"] = [{"file": file, "reason": reason} for file, reason in made.not_ready]
            except EtlError as error:
                click.echo(str(error), err=True)
                visit["error"] = str(error)
                worst = ExitStatus.CANNOT_CONTINUE
            shown.append(visit)
    if as_json:
        print_json({"sources": shown})
        return worst
    for visit in (visit for visit in shown if visit["error"] is None):
        click.echo(f"{visit['source']}: {len(visit['fetched'])} fetched, {visit['fetched_before']} fetched before")
        for file in visit["fetched"]:
            click.echo(f"  {file}")
        for file in visit["not_ready"]:
            click.echo(f"  {file['file']} is not ready: {file['reason']}")
    return worst
