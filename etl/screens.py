"""What people see: tables that fit a terminal, and the same as JSON. Quick: no polars, no httpx."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from etl import report
from etl.config import Settings
from etl.errors import Exit, UsageError
from etl.ledger import Ledger
from etl.model import Chunk, ChunkState, Run, RunState
from etl.session import state_settings

#: JobDto.StatusId, https://docs.norce.io/api-reference/schemas/connectjob
STATUS = {1: "initialized", 2: "succeeded", 3: "failed", 4: "not valid", 5: "validating", 6: "queued"}


def print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def runs_table(rows: Iterable[tuple[Run, Sequence[Chunk]]], title: str | None = None) -> None:
    """One line per run, numbers right, as wide as the terminal and no wider."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("feed", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("rows", "rejected", "unchanged", "new", "changed", "gone", "requests", "fields", "refused"):
        table.add_column(name, justify="right")
    table.add_column("jobs")
    for run, chunks in rows:
        c = run.counts
        numbers = (c.rows, c.rejected, c.unchanged, c.new, c.changed, c.gone, c.requests, c.values_sent, c.refused)
        table.add_row(run.feed, run.state.value, *(f"{n:,}".replace(",", " ") for n in numbers), jobs_text(chunks))
    width = None if sys.stdout.isatty() else 118
    Console(width=width, highlight=False).print(table)


def jobs_text(chunks: Iterable[Chunk]) -> str:
    """`3 succeeded, 1 failed`."""
    counted: dict[str, int] = {}
    for chunk in chunks:
        if chunk.job_id is not None:
            word = STATUS.get(chunk.job_status or 0, "running")
            counted[word] = counted.get(word, 0) + 1
    return ", ".join(f"{n} {word}" for word, n in counted.items())


def status(settings: Settings, *, as_json: bool) -> Exit:
    """The newest runs, and what is open, held or waiting."""
    settings = state_settings(settings)
    if not (settings.paths.state / "ledger.sqlite").exists():
        if as_json:
            print_json({"runs": [], "open": 0, "held": 0, "waiting_files": waiting(settings.paths.inbox)})
        else:
            click.echo("nothing has been processed yet")
        return Exit.OK
    with Ledger.open(settings.paths.state) as ledger:
        runs = ledger.runs(20)
        pairs = [(run, ledger.chunks(run.id)) for run in runs]
        still_open = ledger.open_runs()
    held = [run for run in still_open if run.state is RunState.HELD]
    files = waiting(settings.paths.inbox)
    if as_json:
        print_json(
            {
                "runs": [report.run_json(run, chunks) for run, chunks in pairs],
                "open": len(still_open) - len(held),
                "held": len(held),
                "waiting_files": files,
            }
        )
        return Exit.OK
    _status_table(pairs)
    for run in held:
        click.echo(f"held: {run.id}: `etl show {run.id}`, then `etl approve {run.id}` or `etl discard {run.id}`")
    click.echo(f"{len(still_open) - len(held)} open, {len(held)} held, {files} files in the inbox")
    return Exit.OK


def _status_table(pairs: Sequence[tuple[Run, Sequence[Chunk]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("file", overflow="ellipsis", no_wrap=True, max_width=32)
    table.add_column("state", no_wrap=True)
    for name in ("rows", "rejected", "new", "changed", "refused", "requests"):
        table.add_column(name, justify="right")
    for run, _ in pairs:
        c = run.counts
        table.add_row(
            run.id,
            run.file,
            run.state.value,
            *(str(n) for n in (c.rows, c.rejected, c.new, c.changed, c.refused, c.requests)),
        )
    Console(width=None if sys.stdout.isatty() else 118, highlight=False).print(table)


def waiting(inbox: Path) -> int:
    """Files in the inbox."""
    from etl import inbox as folder

    return len(folder.scan(inbox)) if inbox.is_dir() else 0


def show(settings: Settings, run_id: str, *, as_json: bool) -> Exit:
    """One run, whole. A beginning of the id is enough where it is the only one."""
    settings = state_settings(settings)
    with Ledger.open(settings.paths.state) as ledger:
        run = find_run(ledger, run_id)
        chunks = ledger.chunks(run.id)
        refusals = ledger.refusals(run.id)
    facts: dict[str, Any] = {}
    for folder in (settings.paths.state / "runs" / run.id, run.archive):
        if folder is not None and (folder / "report.json").exists():
            facts = json.loads((folder / "report.json").read_bytes()).get("plan", {})
        elif folder is not None and (folder / "plan.json").exists():
            facts = json.loads((folder / "plan.json").read_bytes())
    if as_json:
        print_json(report.report_json(run, chunks, refusals, facts))
        return Exit.OK
    click.echo(f"{run.id}  {run.file}  ({run.operation})")
    runs_table([(run, chunks)])
    if run.error:
        click.echo(run.error)
    for chunk in chunks:
        if chunk.state is ChunkState.FAILED:
            click.echo(f"request {chunk.number} failed, {chunk.records} records are not accepted: {chunk.error}")
    if refusals:
        click.echo(f"Connect refused {len(refusals)} records; they go again with the next run:")
    for refusal in refusals[:20]:
        row = f"row {refusal.source_row}" if refusal.source_row else "no row"
        click.echo(f"  {row}: {report.shown(refusal.key)}: {refusal.message}")
    if len(refusals) > 20:
        click.echo(f"  and {len(refusals) - 20} more, see report.json")
    for doubt in facts.get("doubts", []):
        click.echo(f"{'held' if run.state is RunState.HELD else 'was held'}: {doubt}")
    if facts.get("withheld"):
        click.echo(
            f"{facts['withheld']} values were not sent: Connect ignores a price of 0, and a price would "
            "switch an inactive row on"
        )
    if facts.get("cleared"):
        click.echo(f"{facts['cleared']} values were cleared in Norce")
    if facts.get("unused_columns"):
        click.echo(f"columns that the mapping does not mention: {', '.join(facts['unused_columns'])}")
    if run.archive is not None:
        click.echo(f"kept in {run.archive}")
    return Exit.OK


def find_run(ledger: Ledger, run_id: str) -> Run:
    """Raises UsageError when no run, or more than one, begins so."""
    run = ledger.run(run_id)
    if run is not None:
        return run
    found = [run for run in ledger.runs(1000) if run.id.startswith(run_id)]
    if len(found) == 1:
        return found[0]
    raise UsageError(
        "run-unknown",
        f'there is no run "{run_id}"' if not found else f'several runs begin with "{run_id}"',
        hint="`etl status` lists them",
    )
