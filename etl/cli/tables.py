"""Tables and JSON on the terminal."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from etl import terminal
from etl.model.runs import Chunk, Run
from etl.report import summary

#: JobDto.StatusId, https://docs.norce.io/api-reference/schemas/connectjob
JOB_STATUS_NAMES = {1: "initialized", 2: "succeeded", 3: "failed", 4: "not valid", 5: "validating", 6: "queued"}


def print_json(value: object) -> None:
    click.echo(terminal.escape_json(json.dumps(value, ensure_ascii=False, indent=2)))


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table. `short_name` replaces its name in a narrow terminal."""

    name: str
    cells: Sequence[str]
    short_name: str = ""
    is_number: bool = True
    drop_if_zero: bool = False  #: leave the column out of a narrow table if every cell is 0
    may_shrink: bool = False  #: cut, or left out, when there is no room for all of it

    @property
    def width(self) -> int:
        return max(len(self.name), *map(len, self.cells), 0)


#: Room between two columns, and the least room that is worth a cut cell.
_COLUMN_GAP, _MIN_WIDTH = 2, 8


def print_runs(rows: Iterable[tuple[Run, Sequence[Chunk]]], title: str | None = None) -> None:
    """Print one line per run, at most as wide as the terminal."""
    pairs = list(rows)
    counts = [run.counts for run, _ in pairs]
    jobs = [format_jobs(chunks) for _, chunks in pairs]
    columns = [
        TableColumn("feed", [run.feed for run, _ in pairs], is_number=False),
        TableColumn("state", [run.state.value for run, _ in pairs], is_number=False),
        TableColumn("rows", [summary.format_number(c.rows) for c in counts]),
        TableColumn("rejected", [summary.format_number(c.rejected) for c in counts], "rej.", drop_if_zero=True),
        TableColumn("unchanged", [summary.format_number(c.unchanged) for c in counts], "same", drop_if_zero=True),
        TableColumn("new", [summary.format_number(c.new) for c in counts], drop_if_zero=True),
        TableColumn("changed", [summary.format_number(c.changed) for c in counts], "chg.", drop_if_zero=True),
        TableColumn("gone", [summary.format_number(c.gone) for c in counts], drop_if_zero=True),
        TableColumn("blocked", [summary.format_number(c.blocked) for c in counts], "blk.", drop_if_zero=True),
        TableColumn("requests", [summary.format_number(c.requests) for c in counts], "req."),
        TableColumn("values", [summary.format_number(c.values_sent) for c in counts], drop_if_zero=True),
        TableColumn("failed", [summary.format_number(c.failed) for c in counts], "fail.", drop_if_zero=True),
    ]
    if any(jobs):
        columns.append(TableColumn("jobs", jobs, is_number=False, may_shrink=True))
    print_table(columns, title)


def print_table(columns: Sequence[TableColumn], title: str | None = None) -> None:
    """Print a table as wide as the terminal (`COLUMNS`, or 118 without a terminal), see `fit_columns`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = shutil.get_terminal_size((118, 24)).columns
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    shown = fit_columns(columns, width)
    for column in shown:
        table.add_column(column.name, justify="right" if column.is_number else "left", no_wrap=True, width=column.width)
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*(Text(terminal.printable(cell)) for cell in cells))
    Console(file=terminal.raw_stream(sys.stdout), width=max(width, _table_width(shown)), highlight=False).print(table)


def fit_columns(columns: Sequence[TableColumn], width: int) -> list[TableColumn]:
    """Return the columns that fit: drop columns of zeros, then shorten names, then cut cells that may shrink."""
    shown = list(columns)
    if _table_width(shown) > width:
        shown = [column for column in shown if not (column.drop_if_zero and set(column.cells) <= {"0"})]
    if _table_width(shown) > width:
        shown = [replace(column, name=column.short_name or column.name) for column in shown]
    for column in [column for column in shown if column.may_shrink]:
        room = width - _table_width([other for other in shown if other is not column]) - _COLUMN_GAP
        if room < min(_MIN_WIDTH, column.width):
            shown.remove(column)
        elif room < column.width:
            cells = [cell if len(cell) <= room else cell[: room - 1] + "…" for cell in column.cells]
            shown[shown.index(column)] = replace(column, cells=cells)
    return shown


def print_summary(impact_summary: dict[str, Any]) -> None:
    """Print what a run changes in the shop, and its largest changes before and after."""
    for line in summary.lines(impact_summary):
        click.echo(f"  {line}")
    largest = impact_summary.get("largest", [])
    if largest:
        _print_examples(largest, "largest changes")


def print_guards(guard_results: Sequence[dict[str, Any]]) -> None:
    """Print the count, total and limit of each guard."""
    click.echo()
    print_table(
        [
            TableColumn("guard", [result["guard"] for result in guard_results], is_number=False),
            TableColumn("count", [summary.format_number(result["count"]) for result in guard_results]),
            TableColumn("total", [summary.format_number(result["total"]) for result in guard_results]),
            TableColumn("limit", [result["limit"] for result in guard_results]),
            TableColumn("", ["HOLDS" if result["held"] else "" for result in guard_results], is_number=False),
        ]
    )


def print_hold_reasons(prefix: str, reasons: Sequence[str], guard_results: Sequence[dict[str, Any]]) -> None:
    """Print why a run is held, each reason with the largest examples of its guard."""
    examples_by_reason = {result["reason"]: result["examples"] for result in guard_results}
    for reason in reasons:
        click.echo(f"{prefix}: {reason}")
        if examples_by_reason.get(reason):
            _print_examples(examples_by_reason[reason], None)


def _print_examples(examples: Sequence[dict[str, Any]], title: str | None) -> None:
    heads = ("key", "field", "before", "after", "change")
    cells = list(zip(*summary.example_rows(examples), strict=True))
    columns = [TableColumn(head, column, is_number=head == "change") for head, column in zip(heads, cells, strict=True)]
    print_table(shrink_columns(columns, shutil.get_terminal_size((118, 24)).columns), title)


def shrink_columns(columns: Sequence[TableColumn], width: int) -> list[TableColumn]:
    """Return the columns with the cells of the widest ones cut so that the table fits into `width` characters."""
    room = width - _COLUMN_GAP * (len(columns) - 1)
    most = max((column.width for column in columns), default=0)
    while most > _MIN_WIDTH and sum(min(column.width, most) for column in columns) > room:
        most -= 1
    return [
        replace(column, cells=[cell if len(cell) <= most else cell[: most - 1] + "…" for cell in column.cells])
        for column in columns
    ]


def _table_width(columns: Sequence[TableColumn]) -> int:
    return sum(column.width for column in columns) + _COLUMN_GAP * (len(columns) - 1)


def format_jobs(chunks: Iterable[Chunk]) -> str:
    """Return the numbers of jobs as text, such as `3 succeeded, 1 failed`."""
    counted: dict[str, int] = {}
    for chunk in chunks:
        if chunk.job_id is not None:
            word = JOB_STATUS_NAMES.get(chunk.job_status or 0, "running")
            counted[word] = counted.get(word, 0) + 1
    return ", ".join(f"{n} {word}" for word, n in counted.items())
