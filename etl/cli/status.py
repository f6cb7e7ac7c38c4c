"""`etl status`: recent runs, open and held runs, active alerts. Quick: no polars, no httpx."""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from etl.cli.tables import TableColumn, print_json, print_table
from etl.config.settings import Settings, resolve_state_folder
from etl.errors import ExitStatus
from etl.model.runs import Chunk, Run, RunState
from etl.report import run_report, summary
from etl.runs import alerts
from etl.state.ledger.alerts import Alert
from etl.state.ledger.facade import Ledger

#: Newest runs that are shown.
_RUNS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Recent runs, and everything that waits or needs attention."""

    pairs: Sequence[tuple[Run, Sequence[Chunk]]]  #: the newest runs with their chunks
    open_count: int  #: open runs that are not held
    held_runs: Sequence[Run]
    files_in_inbox: int
    files_by_feed: Map[str, int]  #: merged files whose records have not been sent, by feed
    alerts: Sequence[Alert]


def status(settings: Settings, *, as_json: bool, strict: bool = False) -> ExitStatus:
    """Print recent runs, open and held runs, and active alerts.

    With `strict` the exit status says whether a person has to act.
    """
    settings = resolve_state_folder(settings)
    is_new = not (settings.paths.state / "ledger.sqlite").exists()
    report = _read_status(settings, is_new=is_new)
    if as_json:
        print_json(_status_json(report))
    elif is_new:
        click.echo("nothing has been processed yet")
    else:
        _print_status(report)
    if strict and report.alerts:
        return ExitStatus.CANNOT_CONTINUE
    return ExitStatus.HELD if strict and report.held_runs else ExitStatus.OK


def _read_status(settings: Settings, *, is_new: bool) -> StatusReport:
    files_in_inbox = count_inbox_files(settings.paths.inbox)
    if is_new:
        return StatusReport((), 0, (), files_in_inbox, {}, ())
    with Ledger.open_read_only(settings.paths.state) as ledger:
        open_runs = ledger.runs.list_open()
        held_runs = [run for run in open_runs if run.state is RunState.HELD]
        return StatusReport(
            [(run, ledger.chunks.list_by_run(run.id)) for run in ledger.runs.list_recent(_RUNS_SHOWN)],
            len(open_runs) - len(held_runs),
            held_runs,
            files_in_inbox,
            ledger.runs.count_awaiting_merge(),
            alerts.find_active(ledger, datetime.now(UTC)),
        )


def _status_json(report: StatusReport) -> dict[str, Any]:
    return {
        "runs": [run_report.run_json(run, chunks) for run, chunks in report.pairs],
        "open": report.open_count,
        "held": len(report.held_runs),
        "inbox_files": report.files_in_inbox,
        "pending_files": dict(report.files_by_feed),
        "alerts": [
            {"alert": alert.name, "message": alert.message, "since": alert.since.isoformat()} for alert in report.alerts
        ],
    }


def _print_status(report: StatusReport) -> None:
    _print_runs([run for run, _ in report.pairs])
    for alert in report.alerts:
        click.echo(alert.message)
    for run in report.held_runs:
        click.echo(f"held: {run.id}: inspect it with `etl show`, then `etl approve` or `etl discard` it")
    for feed, count in report.files_by_feed.items():
        files = "a merged file" if count == 1 else f"{count} merged files"
        click.echo(f"pending: {feed}: records of {files} go with its next file, or with `etl retry {feed}`")
    click.echo(f"{report.open_count} open, {len(report.held_runs)} held, {report.files_in_inbox} files in the inbox")


def _print_runs(runs: Sequence[Run]) -> None:
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
    """Count the files in the inbox that may be exports."""
    from etl.ingest import scan

    return len(scan.scan(inbox_folder)) if inbox_folder.is_dir() else 0
