"""What people see: tables that fit a terminal, and the same as JSON. Quick: no polars, no httpx."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from etl import terminal
from etl.config.settings import Settings, state_settings
from etl.errors import Exit, UsageError
from etl.model.runs import Chunk, ChunkState, Run, RunState
from etl.report import run_report as report
from etl.report import summary
from etl.runs import alerts as notices
from etl.state.files import checksums as witness
from etl.state.files import run_folder
from etl.state.ledger.facade import Ledger

#: JobDto.StatusId, https://docs.norce.io/api-reference/schemas/connectjob
STATUS = {1: "initialized", 2: "succeeded", 3: "failed", 4: "not valid", 5: "validating", 6: "queued"}


def print_json(value: object) -> None:
    click.echo(terminal.escaped(json.dumps(value, ensure_ascii=False, indent=2)))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `short` is its head where room is scarce; a column of noughts goes first, if it may."""

    name: str
    cells: Sequence[str]
    short: str = ""
    number: bool = True
    may_go: bool = False  #: when it says nothing but 0
    gives_way: bool = False  #: cut, or left out, when there is no room for all of it

    @property
    def width(self) -> int:
        return max(len(self.name), *map(len, self.cells), 0)


#: Room between two columns, and the least room that is worth a cut cell.
_GAP, _LEAST = 2, 8


def runs_table(rows: Iterable[tuple[Run, Sequence[Chunk]]], title: str | None = None) -> None:
    """One line per run, numbers right, as wide as the terminal and no wider."""
    pairs = list(rows)
    counts = [run.counts for run, _ in pairs]
    jobs = [jobs_text(chunks) for _, chunks in pairs]
    columns = [
        Column("feed", [run.feed for run, _ in pairs], number=False),
        Column("state", [run.state.value for run, _ in pairs], number=False),
        Column("rows", [summary.number(c.rows) for c in counts]),
        Column("rejected", [summary.number(c.rejected) for c in counts], "rej.", may_go=True),
        Column("unchanged", [summary.number(c.unchanged) for c in counts], "same", may_go=True),
        Column("new", [summary.number(c.new) for c in counts], may_go=True),
        Column("changed", [summary.number(c.changed) for c in counts], "chg.", may_go=True),
        Column("gone", [summary.number(c.gone) for c in counts], may_go=True),
        Column("waiting", [summary.number(c.waiting) for c in counts], "wait", may_go=True),
        Column("requests", [summary.number(c.requests) for c in counts], "req."),
        Column("fields", [summary.number(c.values_sent) for c in counts], may_go=True),
        Column("refused", [summary.number(c.refused) for c in counts], "ref.", may_go=True),
    ]
    if any(jobs):
        columns.append(Column("jobs", jobs, number=False, gives_way=True))
    print_table(columns, title)


def print_table(columns: Sequence[Column], title: str | None = None) -> None:
    """No wider than the terminal (COLUMNS counts; 118 where there is none): see `fitted`. rich draws it, and stays."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = shutil.get_terminal_size((118, 24)).columns
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    shown = fitted(columns, width)
    for column in shown:
        table.add_column(column.name, justify="right" if column.number else "left", no_wrap=True, width=column.width)
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*(Text(terminal.printable(cell)) for cell in cells))
    Console(file=terminal.behind(sys.stdout), width=max(width, _room(shown)), highlight=False).print(table)


def fitted(columns: Sequence[Column], width: int) -> list[Column]:
    """What of a table fits: columns of noughts go first, then heads are shortened, then what gives way is cut."""
    shown = list(columns)
    if _room(shown) > width:
        shown = [column for column in shown if not (column.may_go and set(column.cells) <= {"0"})]
    if _room(shown) > width:
        shown = [replace(column, name=column.short or column.name) for column in shown]
    for column in [column for column in shown if column.gives_way]:
        left = width - _room([other for other in shown if other is not column]) - _GAP
        if left < min(_LEAST, column.width):
            shown.remove(column)
        elif left < column.width:
            cells = [cell if len(cell) <= left else cell[: left - 1] + "…" for cell in column.cells]
            shown[shown.index(column)] = replace(column, cells=cells)
    return shown


def summary_table(found: dict[str, Any]) -> None:
    """What a run does to the shop, and its largest changes before and after."""
    for line in summary.lines(found):
        click.echo(f"  {line}")
    largest = found.get("largest", [])
    if largest:
        _examples_table(largest, "largest changes")


def guards_table(verdicts: Sequence[dict[str, Any]]) -> None:
    """What each guard found, and what may pass."""
    click.echo()
    print_table(
        [
            Column("guard", [one["guard"] for one in verdicts], number=False),
            Column("found", [summary.number(one["found"]) for one in verdicts]),
            Column("of", [summary.number(one["of"]) for one in verdicts]),
            Column("may pass", [one["limit"] for one in verdicts]),
            Column("", ["HOLDS" if one["held"] else "" for one in verdicts], number=False),
        ]
    )


def held_tables(word: str, doubts: Sequence[str], verdicts: Sequence[dict[str, Any]]) -> None:
    """Why a run is held, each reason with the largest examples of its guard."""
    by_reason = {verdict["reason"]: verdict["examples"] for verdict in verdicts}
    for doubt in doubts:
        click.echo(f"{word}: {doubt}")
        if by_reason.get(doubt):
            _examples_table(by_reason[doubt], None)


def _examples_table(examples: Sequence[dict[str, Any]], title: str | None) -> None:
    heads = ("key", "field", "before", "after", "change")
    cells = list(zip(*summary.rows(examples), strict=True))
    columns = [Column(head, its, number=head == "change") for head, its in zip(heads, cells, strict=True)]
    print_table(evened(columns, shutil.get_terminal_size((118, 24)).columns), title)


def evened(columns: Sequence[Column], width: int) -> list[Column]:
    """No wider than that: the widest columns are cut until they fit beside the others."""
    room = width - _GAP * (len(columns) - 1)
    most = max((column.width for column in columns), default=0)
    while most > _LEAST and sum(min(column.width, most) for column in columns) > room:
        most -= 1
    return [
        replace(column, cells=[cell if len(cell) <= most else cell[: most - 1] + "…" for cell in column.cells])
        for column in columns
    ]


def _room(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def jobs_text(chunks: Iterable[Chunk]) -> str:
    """`3 succeeded, 1 failed`."""
    counted: dict[str, int] = {}
    for chunk in chunks:
        if chunk.job_id is not None:
            word = STATUS.get(chunk.job_status or 0, "running")
            counted[word] = counted.get(word, 0) + 1
    return ", ".join(f"{n} {word}" for word, n in counted.items())


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
    from etl.ingest import claims as folder

    return len(folder.scan(inbox)) if inbox.is_dir() else 0


def show(settings: Settings, run_id: str, *, as_json: bool) -> Exit:
    """One run, whole. A beginning of the id is enough where it is the only one."""
    settings = state_settings(settings)
    if not (settings.paths.state / "ledger.sqlite").exists():
        raise _no_run(run_id)
    with Ledger.read(settings.paths.state) as ledger:
        run = find_run(ledger, run_id)
        chunks = ledger.chunks(run.id)
        refusals = ledger.refusals(run.id)
        taken = ledger.carried_into(run.id)
        facts = _facts(ledger, settings.paths.state, run)
    if as_json:
        print_json(report.report_json(run, chunks, refusals, facts))
        return Exit.OK
    click.echo(f"{run.id}  {run.file}  ({run.operation})")
    runs_table([(run, chunks)])
    if run.error:
        click.echo(run.error)
    for line in report.carried(run, taken):
        click.echo(line)
    for chunk in chunks:
        if chunk.state is ChunkState.FAILED:
            click.echo(f"request {chunk.number} failed, {chunk.records} records are not accepted: {chunk.error}")
    for line in report.rejected_lines(facts.get("rejections", [])):
        click.echo(line)
    if refusals:
        click.echo(f"Connect refused {len(refusals)} records; they go again with the next run:")
    for refusal in refusals[:20]:
        click.echo(f"  {report.place(refusal)}: {report.shown(refusal.key)}: {refusal.message}")
    if len(refusals) > 20:
        click.echo(f"  and {len(refusals) - 20} more, see report.json")
    for one in facts.get("stuck", []):
        what = f"{summary.label(one['field'])} of " if one["field"] else ""
        keys = ", ".join(summary.printable(key) for key in one["keys"])
        more = " …" if one["records"] > len(one["keys"]) else ""
        click.echo(f"stays as it is: {what}{one['records']} records ({keys}{more}): {one['reason']}")
    if facts.get("undoes"):
        click.echo(f"takes back run {facts['undoes']}")
    summary_table(facts.get("summary", {}))
    held_tables("held" if run.state is RunState.HELD else "was held", facts.get("doubts", []), facts.get("guards", []))
    if facts.get("sharing"):
        click.echo(
            f"sent without FullFile=true: {', '.join(facts['sharing'])} has records in the same scope, "
            "which Norce would have switched off"
        )
    if facts.get("withheld"):
        click.echo(
            f"{facts['withheld']} values were not sent: Connect ignores a price of 0, and a price would "
            "switch an inactive row on"
        )
    if facts.get("cleared"):
        click.echo(f"{facts['cleared']} values were cleared in Norce")
    if facts.get("unused_columns"):
        click.echo(f"columns that the mapping does not mention: {', '.join(facts['unused_columns'])}")
    for folder in (run.archive, run_folder.path(settings.paths.state, run.id)):
        if folder is not None and (folder / "report.html").exists():
            click.echo(f"as a page: {folder / 'report.html'}")
            break
    if run.archive is not None:
        click.echo(f"kept in {run.archive}")
    return Exit.OK


def _facts(ledger: Ledger, state: Path, run: Run) -> dict[str, Any]:
    """What is kept of a run besides the ledger; what is damaged is left out with a word."""
    plan = state / "runs" / run.id / "plan.json"
    found = plan if run.archive is None else run.archive / "report.json"
    if not found.exists():
        return {}
    try:
        made = json.loads(found.read_bytes()) if witness.is_sound(ledger, found) else None
    except ValueError:
        made = None
    if not isinstance(made, dict):
        click.echo(f"{found} is damaged: what it said is left out", err=True)
        return {}
    if found == plan:
        return made
    facts = {**made.get("plan", {}), **{name: made.get(name, []) for name in ("rejections", "guards")}}
    return {**facts, "summary": made.get("summary", {})}


def find_run(ledger: Ledger, run_id: str) -> Run:
    """Raises UsageError when no run, or more than one, begins so."""
    run = ledger.run(run_id)
    if run is not None:
        return run
    found = [run for run in ledger.runs(1000) if run.id.startswith(run_id)]
    if len(found) == 1:
        return found[0]
    raise _no_run(run_id, several=bool(found))


def _no_run(run_id: str, *, several: bool = False) -> UsageError:
    sentence = f'several runs begin with "{run_id}"' if several else f'there is no run "{run_id}"'
    return UsageError("run-unknown", sentence, hint="`etl status` lists them")
