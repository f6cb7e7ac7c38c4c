"""`etl status`: recent runs, open and held runs, active alerts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from etl.cli.tables import TableColumn, print_json, print_table
from etl.config.settings import Settings, resolve_state_folder
from etl.errors import ExitStatus
from etl.model.runs import Chunk, Run, RunState
from etl.report import run_report, summary
from etl.runs import alerts
from etl.state.ledger.facade import Ledger


def status(settings: Settings, *, as_json: bool, strict: bool = False) -> ExitStatus:
    """The newest runs, what is open, held or waiting, and what somebody should know of.

    With `strict` the exit status says whether somebody has to act.
    """
    settings = resolve_state_folder(settings)
    if not (settings.paths.state / "ledger.sqlite").exists():
        if as_json:
            files = count_inbox_files(settings.paths.inbox)
            print_json({"runs": [], "open": 0, "held": 0, "inbox_files": files, "pending_files": {}, "alerts": []})
        else:
            click.echo("nothing has been processed yet")
        return ExitStatus.OK
    with Ledger.open_read_only(settings.paths.state) as ledger:
        runs = ledger.list_runs(20)
        pairs = [(run, ledger.list_chunks(run.id)) for run in runs]
        still_open = ledger.list_open_runs()
        standing = alerts.find_active(ledger, datetime.now(UTC))
        pending_files = ledger.count_awaiting_merge()
    held = [run for run in still_open if run.state is RunState.HELD]
    files = count_inbox_files(settings.paths.inbox)
    outcome = ExitStatus.OK
    if strict and (standing or held):
        outcome = ExitStatus.CANNOT_CONTINUE if standing else ExitStatus.HELD
    if as_json:
        print_json(
            {
                "runs": [run_report.run_json(run, chunks) for run, chunks in pairs],
                "open": len(still_open) - len(held),
                "held": len(held),
                "inbox_files": files,
                "pending_files": pending_files,
                "alerts": [
                    {"alert": one.name, "message": one.message, "since": one.since.isoformat()} for one in standing
                ],
            }
        )
        return outcome
    _print_status(pairs)
    for one in standing:
        click.echo(one.message)
    for run in held:
        click.echo(f"held: {run.id}: inspect it with `etl show`, then `etl approve` or `etl discard` it")
    for feed, count in pending_files.items():
        files_of = "a merged file" if count == 1 else f"{count} merged files"
        click.echo(f"pending: {feed}: records of {files_of} go with its next file, or with `etl retry {feed}`")
    click.echo(f"{len(still_open) - len(held)} open, {len(held)} held, {files} files in the inbox")
    return outcome


def _print_status(pairs: Sequence[tuple[Run, Sequence[Chunk]]]) -> None:
    runs = [run for run, _ in pairs]
    counts = [run.counts for run in runs]
    print_table(
        [
            TableColumn("run", [run.id for run in runs], is_number=False),
            TableColumn("state", [run.state.value for run in runs], is_number=False),
            TableColumn("rows", [summary.format_number(c.rows) for c in counts]),
            TableColumn("rejected", [summary.format_number(c.rejected) for c in counts], "rej.", drop_if_zero=True),
            TableColumn("new", [summary.format_number(c.new) for c in counts], drop_if_zero=True),
            TableColumn("changed", [summary.format_number(c.changed) for c in counts], "chg.", drop_if_zero=True),
            TableColumn("gone", [summary.format_number(c.gone) for c in counts], drop_if_zero=True),
            TableColumn("failed", [summary.format_number(c.failed) for c in counts], "fail.", drop_if_zero=True),
            TableColumn("requests", [summary.format_number(c.requests) for c in counts], "req."),
            TableColumn("file", [run.file for run in runs], is_number=False, may_shrink=True),
        ]
    )


def count_inbox_files(inbox_folder: Path) -> int:
    """Files in the inbox."""
    from etl.ingest import scan

    return len(scan.scan(inbox_folder)) if inbox_folder.is_dir() else 0
