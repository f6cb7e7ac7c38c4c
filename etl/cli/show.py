"""`etl show`: one run with its counts, rejected rows, failed requests and records. Quick: no polars, no httpx."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from etl.cli.tables import print_hold_reasons, print_json, print_runs, print_summary
from etl.config.settings import Settings, resolve_state_folder
from etl.errors import ExitStatus, UsageError
from etl.model import plan_facts
from etl.model.keys import display_key
from etl.model.plan_facts import PlanFacts
from etl.model.runs import Chunk, ChunkState, RecordError, Run, RunState
from etl.report import run_report, summary
from etl.state.files import checksums, run_folder
from etl.state.ledger.facade import Ledger

#: Failed records that are shown.
MAX_RECORD_ERRORS = 20

#: Runs that are searched for the beginning of an id.
_RUN_LOOKBACK = 1000


@dataclass(frozen=True, slots=True)
class _ShownRun:
    """A run with everything that is stored of it."""

    run: Run
    chunks: Sequence[Chunk]
    record_errors: Sequence[RecordError]
    merged_runs: Sequence[Run]  #: whose records went with this run
    facts: PlanFacts | None


def show(settings: Settings, run_id: str, *, as_json: bool) -> ExitStatus:
    """Print one run. The beginning of its id is enough where no other run begins so."""
    settings = resolve_state_folder(settings)
    if not (settings.paths.state / "ledger.sqlite").exists():
        raise _unknown_run_error(run_id)
    with Ledger.open_read_only(settings.paths.state) as ledger:
        run = find_run(ledger, run_id)
        shown = _ShownRun(
            run,
            ledger.chunks.list_by_run(run.id),
            ledger.record_errors.list_by_run(run.id),
            ledger.runs.list_merged_into(run.id),
            _load_facts(ledger, settings.paths.state, run),
        )
    if as_json:
        print_json(run_report.report_json(run, shown.chunks, shown.record_errors, shown.facts))
    else:
        _print_run(shown, settings.paths.state)
    return ExitStatus.OK


def _load_facts(ledger: Ledger, state: Path, run: Run) -> PlanFacts | None:
    """Read the facts of a run's plan from its folder or its archive; a damaged file is reported and left out."""
    plan_file = run_folder.folder_path(state, run.id) / run_folder.PLAN_FILE
    path = plan_file if run.archive is None else run.archive / run_folder.REPORT_FILE
    if not path.exists():
        return None
    try:
        if checksums.matches_digest(ledger, path):
            content = json.loads(path.read_bytes())
            return plan_facts.parse_facts(content) if path == plan_file else plan_facts.facts_of_report(content)
    except (ValueError, AttributeError):  # no JSON, or not that of a plan
        pass
    click.echo(f"{path} is damaged; its facts are left out", err=True)
    return None


def _print_run(shown: _ShownRun, state: Path) -> None:
    run, facts = shown.run, shown.facts or PlanFacts()
    click.echo(f"{run.id}  {run.file}  ({run.operation})")
    print_runs([(run, shown.chunks)])
    if run.error:
        click.echo(run.error)
    for line in (
        *run_report.merge_lines(run, shown.merged_runs),
        *_failed_request_lines(shown.chunks),
        *run_report.rejection_lines(facts.rejections),
        *_record_error_lines(shown.record_errors),
        *_job_warning_lines(shown.chunks),
        *_undo_lines(facts),
    ):
        click.echo(line)
    print_summary(facts.summary)
    print_hold_reasons("held" if run.state is RunState.HELD else "was held", facts.hold_reasons, facts.guards)
    for line in (*_plan_note_lines(facts), *_path_lines(run, state)):
        click.echo(line)


def _failed_request_lines(chunks: Sequence[Chunk]) -> Iterator[str]:
    for chunk in chunks:
        if chunk.state is ChunkState.FAILED:
            yield f"request {chunk.number} failed, {chunk.records} records are not accepted: {chunk.error}"


def _record_error_lines(record_errors: Sequence[RecordError]) -> Iterator[str]:
    if record_errors:
        yield f"{len(record_errors)} records failed in Norce; the next run sends them again:"
    for error in record_errors[:MAX_RECORD_ERRORS]:
        yield f"  {run_report.describe_row(error)}: {display_key(error.key)}: {error.message}"
    if len(record_errors) > MAX_RECORD_ERRORS:
        yield f"  and {len(record_errors) - MAX_RECORD_ERRORS} more, see report.json"


def _job_warning_lines(chunks: Sequence[Chunk]) -> Iterator[str]:
    for text in dict.fromkeys(text for chunk in chunks for text in chunk.warnings):
        jobs = sum(text in chunk.warnings for chunk in chunks)
        yield f"warning of {jobs} {'job' if jobs == 1 else 'jobs'}, about no record: {text}"


def _undo_lines(facts: PlanFacts) -> Iterator[str]:
    for entry in facts.irreversible:
        field = f"{summary.field_label(entry['field'])} of " if entry["field"] else ""
        keys = ", ".join(summary.format_cell(key) for key in entry["keys"])
        more = " …" if entry["records"] > len(entry["keys"]) else ""
        yield f"irreversible: {field}{entry['records']} records ({keys}{more}): {entry['reason']}"
    if facts.undoes:
        yield f"undoes run {facts.undoes}"


def _plan_note_lines(facts: PlanFacts) -> Iterator[str]:
    if facts.scope_shared_with:
        yield (
            f"sent without FullFile=true: {', '.join(facts.scope_shared_with)} has records in the same scope, "
            "which Norce would deactivate"
        )
    if facts.suppressed:
        yield (
            f"{facts.suppressed} values were suppressed: Connect ignores a price of 0, and a price would "
            "activate an inactive row"
        )
    if facts.cleared:
        yield f"{facts.cleared} values were cleared in Norce"
    if facts.unused_columns:
        yield f"columns that the mapping does not mention: {', '.join(facts.unused_columns)}"


def _path_lines(run: Run, state: Path) -> Iterator[str]:
    folders = (run.archive, run_folder.folder_path(state, run.id))
    pages = (folder / run_folder.PAGE_FILE for folder in folders if folder is not None)
    page = next((page for page in pages if page.exists()), None)
    if page is not None:
        yield f"as a page: {page}"
    if run.archive is not None:
        yield f"archived in {run.archive}"


def find_run(ledger: Ledger, run_id: str) -> Run:
    """Return a run by its id or the beginning of it. Raises UsageError when none, or more than one, begins so."""
    run = ledger.runs.find(run_id)
    if run is not None:
        return run
    matches = [run for run in ledger.runs.list_recent(_RUN_LOOKBACK) if run.id.startswith(run_id)]
    if len(matches) == 1:
        return matches[0]
    raise _unknown_run_error(run_id, is_ambiguous=bool(matches))


def _unknown_run_error(run_id: str, *, is_ambiguous: bool = False) -> UsageError:
    sentence = f'several runs begin with "{run_id}"' if is_ambiguous else f'there is no run "{run_id}"'
    return UsageError("run-unknown", sentence, hint="`etl status` lists them")
