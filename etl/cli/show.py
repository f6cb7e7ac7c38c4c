"""What people see: tables that fit a terminal, and the same as JSON. Quick: no polars, no httpx."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from etl.cli.tables import print_hold_reasons, print_json, print_runs, print_summary
from etl.config.settings import Settings, resolve_state_folder
from etl.errors import ExitStatus, UsageError
from etl.model.keys import display_key
from etl.model.runs import ChunkState, Run, RunState
from etl.report import run_report, summary
from etl.state.files import checksums, run_folder
from etl.state.ledger.facade import Ledger


def show(settings: Settings, run_id: str, *, as_json: bool) -> ExitStatus:
    """One run, whole. A beginning of the id is enough where it is the only one."""
    settings = resolve_state_folder(settings)
    if not (settings.paths.state / "ledger.sqlite").exists():
        raise _unknown_run_error(run_id)
    with Ledger.open_read_only(settings.paths.state) as ledger:
        run = find_run(ledger, run_id)
        chunks = ledger.list_chunks(run.id)
        refusals = ledger.list_record_errors(run.id)
        taken = ledger.runs_merged_into(run.id)
        facts = _load_facts(ledger, settings.paths.state, run)
    if as_json:
        print_json(run_report.report_json(run, chunks, refusals, facts))
        return ExitStatus.OK
    click.echo(f"{run.id}  {run.file}  ({run.operation})")
    print_runs([(run, chunks)])
    if run.error:
        click.echo(run.error)
    for line in run_report.merge_lines(run, taken):
        click.echo(line)
    for chunk in chunks:
        if chunk.state is ChunkState.FAILED:
            click.echo(f"request {chunk.number} failed, {chunk.records} records are not accepted: {chunk.error}")
    for line in run_report.rejection_lines(facts.get("rejections", [])):
        click.echo(line)
    if refusals:
        click.echo(f"{len(refusals)} records failed in Norce; the next run sends them again:")
    for refusal in refusals[:20]:
        click.echo(f"  {run_report.describe_row(refusal)}: {display_key(refusal.key)}: {refusal.message}")
    if len(refusals) > 20:
        click.echo(f"  and {len(refusals) - 20} more, see report.json")
    for one in facts.get("irreversible", []):
        what = f"{summary.field_label(one['field'])} of " if one["field"] else ""
        keys = ", ".join(summary.format_cell(key) for key in one["keys"])
        more = " …" if one["records"] > len(one["keys"]) else ""
        click.echo(f"irreversible: {what}{one['records']} records ({keys}{more}): {one['reason']}")
    if facts.get("undoes"):
        click.echo(f"undoes run {facts['undoes']}")
    print_summary(facts.get("summary", {}))
    print_hold_reasons(
        "held" if run.state is RunState.HELD else "was held", facts.get("hold_reasons", []), facts.get("guards", [])
    )
    if facts.get("scope_shared_with"):
        click.echo(
            f"sent without FullFile=true: {', '.join(facts['scope_shared_with'])} has records in the same scope, "
            "which Norce would deactivate"
        )
    if facts.get("suppressed"):
        click.echo(
            f"{facts['suppressed']} values were suppressed: Connect ignores a price of 0, and a price would "
            "activate an inactive row"
        )
    if facts.get("cleared"):
        click.echo(f"{facts['cleared']} values were cleared in Norce")
    if facts.get("unused_columns"):
        click.echo(f"columns that the mapping does not mention: {', '.join(facts['unused_columns'])}")
    for folder in (run.archive, run_folder.folder_path(settings.paths.state, run.id)):
        if folder is not None and (folder / "report.html").exists():
            click.echo(f"as a page: {folder / 'report.html'}")
            break
    if run.archive is not None:
        click.echo(f"archived in {run.archive}")
    return ExitStatus.OK


def _load_facts(ledger: Ledger, state: Path, run: Run) -> dict[str, Any]:
    """What is kept of a run besides the ledger; what is damaged is left out with a word."""
    plan = state / "runs" / run.id / "plan.json"
    found = plan if run.archive is None else run.archive / "report.json"
    if not found.exists():
        return {}
    try:
        made = json.loads(found.read_bytes()) if checksums.matches_digest(ledger, found) else None
    except ValueError:
        made = None
    if not isinstance(made, dict):
        click.echo(f"{found} is damaged; its facts are left out", err=True)
        return {}
    if found == plan:
        return made
    facts = {**made.get("plan", {}), **{name: made.get(name, []) for name in ("rejections", "guards")}}
    return {**facts, "summary": made.get("summary", {})}


def find_run(ledger: Ledger, run_id: str) -> Run:
    """Raises UsageError when no run, or more than one, begins so."""
    run = ledger.find_run(run_id)
    if run is not None:
        return run
    found = [run for run in ledger.list_runs(1000) if run.id.startswith(run_id)]
    if len(found) == 1:
        return found[0]
    raise _unknown_run_error(run_id, is_ambiguous=bool(found))


def _unknown_run_error(run_id: str, *, is_ambiguous: bool = False) -> UsageError:
    sentence = f'several runs begin with "{run_id}"' if is_ambiguous else f'there is no run "{run_id}"'
    return UsageError("run-unknown", sentence, hint="`etl status` lists them")
