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
