"""`etl status`: recent runs, open and held runs, active alerts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from etl.cli.tables import Column, print_json, print_table
from etl.config.settings import Settings, state_settings
from etl.errors import Exit
from etl.model.runs import Chunk, Run, RunState
from etl.report import run_report as report
from etl.report import summary
from etl.runs import alerts as notices
from etl.state.ledger.facade import Ledger


def status(settings: Settings, *, as_json: bool, strict: bool = False) -> Exit:
    """The newest runs, what is open, held or waiting, and what somebody should know of.

    With `strict` the exit status says whether somebody has to act.
    """
    settings = state_settings(settings)
    if not (settings.paths.state / "ledger.sqlite").exists():
        if as_json:
            files = waiting(settings.paths.inbox)
            print_json({"runs": [], "open": 0, "held": 0, "waiting_files": files, "owed": {}, "notices": []})
        else:
            click.echo("nothing has been processed yet")
        return Exit.OK
    with Ledger.read(settings.paths.state) as ledger:
        runs = ledger.runs(20)
        pairs = [(run, ledger.chunks(run.id)) for run in runs]
        still_open = ledger.open_runs()
        standing = notices.standing(ledger, datetime.now(UTC))
        left_over = ledger.left_over()
    held = [run for run in still_open if run.state is RunState.HELD]
    files = waiting(settings.paths.inbox)
    outcome = Exit.OK
    if strict and (standing or held):
        outcome = Exit.CANNOT_GO_ON if standing else Exit.HELD
    if as_json:
        print_json(
            {
                "runs": [report.run_json(run, chunks) for run, chunks in pairs],
                "open": len(still_open) - len(held),
                "held": len(held),
                "waiting_files": files,
                "owed": left_over,
                "notices": [
                    {"notice": one.name, "sentence": one.sentence, "since": one.since.isoformat()} for one in standing
                ],
            }
        )
        return outcome
    _status_table(pairs)
    for one in standing:
        click.echo(one.sentence)
    for run in held:
        click.echo(f"held: {run.id}: look with `etl show`, then `etl approve` or `etl discard` it")
    for feed, count in left_over.items():
        files_of = "a carried file" if count == 1 else f"{count} carried files"
        click.echo(f"owed: {feed}: records of {files_of} go with its next file, or with `etl retry {feed}`")
    click.echo(f"{len(still_open) - len(held)} open, {len(held)} held, {files} files in the inbox")
    return outcome


def _status_table(pairs: Sequence[tuple[Run, Sequence[Chunk]]]) -> None:
    runs = [run for run, _ in pairs]
    counts = [run.counts for run in runs]
    print_table(
        [
            Column("run", [run.id for run in runs], number=False),
            Column("state", [run.state.value for run in runs], number=False),
            Column("rows", [summary.number(c.rows) for c in counts]),
            Column("rejected", [summary.number(c.rejected) for c in counts], "rej.", may_go=True),
            Column("new", [summary.number(c.new) for c in counts], may_go=True),
            Column("changed", [summary.number(c.changed) for c in counts], "chg.", may_go=True),
            Column("gone", [summary.number(c.gone) for c in counts], may_go=True),
            Column("refused", [summary.number(c.refused) for c in counts], "ref.", may_go=True),
            Column("requests", [summary.number(c.requests) for c in counts], "req."),
            Column("file", [run.file for run in runs], number=False, gives_way=True),
        ]
    )


def waiting(inbox: Path) -> int:
    """Files in the inbox."""
    from etl.ingest import scan

    return len(scan.scan(inbox)) if inbox.is_dir() else 0
