"""`etl fetch`: fetches files from suppliers' servers now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from etl import filesystem as durable
from etl import log
from etl.cli.progress import Transfers
from etl.config import settings as config
from etl.config.settings import Settings
from etl.errors import EtlError, Exit, UsageError
from etl.state.files import lock
from etl.state.ledger.facade import Ledger

if TYPE_CHECKING:
    pass
from etl.sources.poller import _visit


def fetch(settings: Settings, names: Sequence[str], *, as_json: bool, verbose: bool) -> Exit:
    """Visit these servers now, or all of them; trouble with one does not keep the others."""
    from etl.cli.tables import print_json

    log.set_up(verbose=verbose)
    settings = config.state_settings(settings)
    unknown = [name for name in names if name not in settings.fetch]
    if unknown or not settings.fetch:
        known = ", ".join(settings.fetch) or "none"
        raise UsageError(
            "fetch-unknown",
            f"the settings have no [fetch.{unknown[0]}]" if unknown else "the settings have no [fetch.NAME]",
            hint=f"known are: {known}; see docs/settings.md",
        )
    worst = Exit.OK
    shown: list[dict[str, Any]] = []
    state = settings.paths.state
    with durable.translated(state):
        durable.make_folder(state)
    with lock.alone(state), Ledger.open(state) as ledger, Transfers() as transfers:
        for name in names or settings.fetch:
            visit: dict[str, Any] = {"source": name, "fetched": [], "waiting": [], "known": 0, "error": None}
            try:
                made = _visit(settings, name, ledger, transfers.tell, lambda: False)
                assert made is not None
                visit["fetched"], visit["known"] = list(made.arrived), made.known
                visit["waiting"] = [{"file": file, "reason": reason} for file, reason in made.waiting]
            except EtlError as error:
                click.echo(str(error), err=True)
                visit["error"] = str(error)
                worst = Exit.CANNOT_GO_ON
            shown.append(visit)
    if as_json:
        print_json({"sources": shown})
        return worst
    for visit in (visit for visit in shown if visit["error"] is None):
        click.echo(f"{visit['source']}: {len(visit['fetched'])} fetched, {visit['known']} known before")
        for file in visit["fetched"]:
            click.echo(f"  {file}")
        for waiting in visit["waiting"]:
            click.echo(f"  {waiting['file']} waits: {waiting['reason']}")
    return worst
