"""`etl preview`: the real plan of a file, shown and not sent."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import click

from etl import app as session
from etl import formats
from etl import thread_pool as abreast
from etl.cli import tables
from etl.config import settings as config
from etl.config.settings import Settings
from etl.errors import Exit, FileRefused, UsageError
from etl.ingest import routing
from etl.mapping import load as mapping_file
from etl.mapping.model import Mapping
from etl.plan import build as plan
from etl.plan.batches import batching as chunk
from etl.plan.changes import impact
from etl.plan.model import Plan
from etl.plan.requests import requests
from etl.report import rejections
from etl.report import run_report as report
from etl.runs import plan_inputs
from etl.state import compaction as compact
from etl.state.ledger.facade import Ledger
from etl.state.snapshots import accepted as store

#: Records of each request that are shown.
RECORDS = 3

#: A plan is made so often anew while another process moves *accepted*.
MOST_ATTEMPTS = 3


def show(settings: Settings, file: Path, feed: str | None, *, as_json: bool) -> Exit:
    """Counts, rejections, every request's header and first records, and the minutes they need."""
    mapping = _mapping(settings, file, feed)
    settings = config.state_settings(settings)
    for attempt in itertools.count():
        try:
            made = _plan(settings, file, mapping)
            break
        except FileNotFoundError:  # a process that works on the state has put a newer *accepted* in its place
            if attempt == MOST_ATTEMPTS:
                raise
    shown = describe(made, file.name)
    if as_json:
        tables.print_json(shown)
    else:
        _print(shown)
    if shown["held"]:
        return Exit.HELD
    return Exit.ROWS_REJECTED if made.counts.rejected else Exit.OK


def _plan(settings: Settings, file: Path, mapping: Mapping) -> Plan:
    state = settings.paths.state
    terms = plan_inputs.terms(settings, session.account_id(settings))
    with formats.reading(file, mapping.source.dialect) as reading, abreast.threads() as start:
        if not (state / "ledger.sqlite").exists():
            return plan.make(reading, mapping, store.scan(state, mapping.feed, None, ()), terms, start=start)
        with Ledger.read(state) as ledger:
            return plan.make(
                reading,
                mapping,
                compact.scan_accepted(ledger, state, mapping.feed),
                terms,
                known=plan_inputs.known_values(ledger, state, mapping),
                before=plan_inputs.file_before(ledger, mapping, file),
                pending=plan_inputs.pending_of(ledger, state, mapping),
                owned=plan_inputs.owned_by(ledger, state, mapping),
                start=start,
            )


def describe(made: Plan, name: str) -> dict[str, Any]:
    """The plan as `etl preview --json` gives it; see docs/cli.md."""
    listed = []
    records = values = exact = size = 0
    for request in requests(made):
        records += request.records
        values += request.values
        exact += request.exact
        size += len(request.payload)
        listed.append(
            {
                "number": request.number,
                "wave": request.wave,
                "operation": made.mapping.operation.id,
                "header": request.header,
                "records": request.records,
                "values": request.values,
                "bytes": len(request.payload),
                "digest": request.digest,
                "merged": request.merged,
                "first": json.loads(request.payload)[:RECORDS],
            }
        )
    counts = made.counts
    return {
        "file": name,
        "feed": made.mapping.feed,
        "operation": made.mapping.operation.id,
        "rows": counts.rows,
        "rejected": counts.rejected,
        "skipped": counts.skipped,
        "unchanged": counts.unchanged,
        "new": counts.new,
        "changed": counts.changed,
        "gone": counts.gone,
        "waiting": counts.waiting,
        "withheld": made.withheld,
        "cleared": made.cleared,
        "unused_columns": list(made.unused),
        "requests": len(listed),
        "records_sent": records,
        "values_sent": values,
        "values_changed": exact,
        "requests_apart": chunk.apart(made.batches, made.terms.max_records),
        "bytes": size,
        "minutes": math.ceil(len(listed) / made.terms.requests_per_minute),
        "held": list(made.doubts),
        "guards": [verdict.shown() for verdict in made.verdicts],
        "summary": impact.summary(made.impact),
        "rejections": rejections.grouped(made.rejections.frame),
        "plan": listed,
    }


def _mapping(settings: Settings, file: Path, feed: str | None) -> Mapping:
    good, bad = mapping_file.read_all(settings.paths.mappings)
    if feed is not None:
        found = [mapping for mapping in good if mapping.feed == feed]
        if found:
            return found[0]
        for problems in bad:
            click.echo(str(problems), err=True)
        raise UsageError(
            "feed-unknown",
            f'there is no usable mapping for the feed "{feed}"',
            where=str(settings.paths.mappings),
            hint=f"feeds: {', '.join(m.feed for m in good)}",
        )
    names = [file.name]
    path = file.resolve()
    names += ["/".join(path.parts[-depth:]) for depth in range(2, min(5, len(path.parts)) + 1)]
    for name in names:
        matching = routing.routes(name, good)
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise UsageError(
                "feed-needed",
                f"{file.name} belongs to several feeds",
                where=str(file),
                hint=f"choose with --feed: {', '.join(m.feed for m in matching)}",
            )
    for problems in bad:
        click.echo(str(problems), err=True)
    raise FileRefused(
        "feed-needed",
        f"the name of {file.name} fits no mapping",
        where=str(file),
        hint=f"choose with --feed: {', '.join(m.feed for m in good) or 'there are no mappings'}; "
        "`etl init` drafts a mapping, `etl preview --evidence` shows how the file is written",
    )


def _print(shown: dict[str, Any]) -> None:
    number = "{:,}".format
    click.echo(f"{shown['file']} as {shown['feed']} ({shown['operation']}): nothing is sent")
    for word in (
        "rows",
        "rejected",
        "skipped",
        "unchanged",
        "new",
        "changed",
        "gone",
        "waiting",
        "cleared",
        "withheld",
    ):
        if shown[word] or word == "rows":
            click.echo(f"  {word:10} {number(shown[word]).replace(',', ' '):>10}")
    for line in report.rejected_lines(shown["rejections"]):
        click.echo(f"  {line}")
    if shown["unused_columns"]:
        click.echo(f"  columns not mentioned in the mapping: {', '.join(shown['unused_columns'])}")
    tables.summary_table(shown["summary"])
    minutes = shown["minutes"]
    click.echo(
        f"  {shown['requests']} requests with {shown['records_sent']} records and {shown['values_sent']} values, "
        + (f"{minutes} minute{'s' if minutes != 1 else ''} at the limit" if minutes else "nothing to send")
    )
    if shown["values_sent"] > shown["values_changed"]:
        click.echo(
            f"  {shown['values_changed']} values have changed, {shown['values_sent'] - shown['values_changed']} go with"
            f" them so that records can share a request; apart it would be {shown['requests_apart']} requests"
        )
    for request in itertools.islice(shown["plan"], 20):
        merged = f", {request['merged']} change sets put together to save requests" if request["merged"] > 1 else ""
        wave = f", after the jobs before it (wave {request['wave']})" if request["wave"] else ""
        click.echo(
            f"\nrequest {request['number']}: {request['records']} records, {request['bytes']} bytes{merged}{wave}"
        )
        click.echo(f"  header {json.dumps(request['header'])}")
        for record in request["first"]:
            click.echo(f"  {json.dumps(record, ensure_ascii=False)}")
        if request["records"] > RECORDS:
            click.echo(f"  and {request['records'] - RECORDS} more")
    if len(shown["plan"]) > 20:
        click.echo(f"\nand {len(shown['plan']) - 20} more requests; --json has them all")
    tables.guards_table(shown["guards"])
    tables.held_tables("would be held", shown["held"], shown["guards"])
