"""`etl preview`: the real plan of a file, shown and not sent."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import click

from etl import app, formats, thread_pool
from etl.cli import tables
from etl.config.settings import Settings, resolve_state_folder
from etl.errors import ExitStatus, InvalidFileError, UsageError
from etl.ingest import routing
from etl.mapping import load
from etl.mapping.model import Mapping
from etl.plan import build as plan
from etl.plan.batches import batching
from etl.plan.changes import impact
from etl.plan.inputs import PlanInputs
from etl.plan.model import Plan
from etl.plan.requests import make_requests
from etl.report import rejections, run_report
from etl.runs import plan_inputs
from etl.state import compaction
from etl.state.ledger.facade import Ledger
from etl.state.snapshots import accepted

#: Records of each request that are shown.
RECORDS_SHOWN = 3

#: A plan is made so often anew while another process moves *accepted*.
MAX_PLAN_ATTEMPTS = 3


def preview_file(settings: Settings, file: Path, feed: str | None, *, as_json: bool) -> ExitStatus:
    """Counts, rejections, every request's header and first records, and the minutes they need."""
    mapping = _choose_mapping(settings, file, feed)
    settings = resolve_state_folder(settings)
    for attempt in itertools.count():
        try:
            made = _plan_file(settings, file, mapping)
            break
        except FileNotFoundError:  # a process that works on the state has put a newer *accepted* in its place
            if attempt == MAX_PLAN_ATTEMPTS:
                raise
    shown = plan_json(made, file.name)
    if as_json:
        tables.print_json(shown)
    else:
        _print_plan(shown)
    if shown["hold_reasons"]:
        return ExitStatus.HELD
    return ExitStatus.ROWS_REJECTED if made.counts.rejected else ExitStatus.OK


def _plan_file(settings: Settings, file: Path, mapping: Mapping) -> Plan:
    state = settings.paths.state
    account_id, limits = app.account_id(settings), plan_inputs.make_request_limits(settings)
    with formats.open_table(file, mapping.source.dialect) as reading, thread_pool.thread_pool() as start:
        if not (state / "ledger.sqlite").exists():
            inputs = PlanInputs(accepted.scan(state, mapping.feed, None, ()), account_id, limits)
            return plan.build_plan(reading, mapping, inputs, submit=start)
        with Ledger.open_read_only(state) as ledger:
            inputs = PlanInputs(
                compaction.scan_accepted(ledger, state, mapping.feed),
                account_id,
                limits,
                reference_values=plan_inputs.load_reference_values(ledger, state, mapping),
                previous_file=plan_inputs.load_previous_file(ledger, mapping, file),
                pending_records=plan_inputs.load_pending_records(ledger, state, mapping),
                owner_records=plan_inputs.load_owner_records(ledger, state, mapping),
            )
            return plan.build_plan(reading, mapping, inputs, submit=start)


def plan_json(plan: Plan, file_name: str) -> dict[str, Any]:
    """The plan as `etl preview --json` gives it; see docs/cli.md."""
    listed = []
    records = values = exact = size = 0
    for request in make_requests(plan):
        records += request.records
        values += request.values
        exact += request.changed_values
        size += len(request.payload)
        listed.append(
            {
                "number": request.number,
                "wave": request.wave,
                "operation": plan.mapping.operation.id,
                "header": request.header,
                "records": request.records,
                "values": request.values,
                "bytes": len(request.payload),
                "digest": request.digest,
                "change_sets": request.change_set_count,
                "first": json.loads(request.payload)[:RECORDS_SHOWN],
            }
        )
    counts = plan.counts
    return {
        "file": file_name,
        "feed": plan.mapping.feed,
        "operation": plan.mapping.operation.id,
        "rows": counts.rows,
        "rejected": counts.rejected,
        "skipped": counts.skipped,
        "unchanged": counts.unchanged,
        "new": counts.new,
        "changed": counts.changed,
        "gone": counts.gone,
        "blocked": counts.blocked,
        "suppressed": plan.suppressed,
        "cleared": plan.cleared,
        "unused_columns": list(plan.unused_columns),
        "requests": len(listed),
        "records_sent": records,
        "values_sent": values,
        "values_changed": exact,
        "requests_apart": batching.unmerged_request_count(plan.batches, plan.request_limits.max_records),
        "bytes": size,
        "minutes": math.ceil(len(listed) / plan.request_limits.requests_per_minute),
        "hold_reasons": list(plan.hold_reasons),
        "guards": [verdict.to_json() for verdict in plan.guard_results],
        "summary": impact.impact_to_json(plan.impact),
        "rejections": rejections.group_rejections(plan.rejections.frame),
        "plan": listed,
    }


def _choose_mapping(settings: Settings, file: Path, feed: str | None) -> Mapping:
    good, bad = load.load_mappings(settings.paths.mappings)
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
        matching = routing.match_mappings(name, good)
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
    raise InvalidFileError(
        "feed-needed",
        f"the name of {file.name} fits no mapping",
        where=str(file),
        hint=f"choose with --feed: {', '.join(m.feed for m in good) or 'there are no mappings'}; "
        "`etl init` drafts a mapping, `etl preview --evidence` shows how the file is written",
    )


def _print_plan(facts: dict[str, Any]) -> None:
    number = "{:,}".format
    click.echo(f"{facts['file']} as {facts['feed']} ({facts['operation']}): nothing is sent")
    for word in (
        "rows",
        "rejected",
        "skipped",
        "unchanged",
        "new",
        "changed",
        "gone",
        "blocked",
        "cleared",
        "suppressed",
    ):
        if facts[word] or word == "rows":
            click.echo(f"  {word:10} {number(facts[word]).replace(',', ' '):>10}")
    for line in run_report.rejection_lines(facts["rejections"]):
        click.echo(f"  {line}")
    if facts["unused_columns"]:
        click.echo(f"  columns not mentioned in the mapping: {', '.join(facts['unused_columns'])}")
    tables.print_summary(facts["summary"])
    minutes = facts["minutes"]
    click.echo(
        f"  {facts['requests']} requests with {facts['records_sent']} records and {facts['values_sent']} values, "
        + (f"{minutes} minute{'s' if minutes != 1 else ''} at the limit" if minutes else "nothing to send")
    )
    if facts["values_sent"] > facts["values_changed"]:
        click.echo(
            f"  {facts['values_changed']} values have changed, {facts['values_sent'] - facts['values_changed']} go with"
            f" them so that records can share a request; apart it would be {facts['requests_apart']} requests"
        )
    for request in itertools.islice(facts["plan"], 20):
        joined = f", {request['change_sets']} change sets joined to save requests" if request["change_sets"] > 1 else ""
        wave = f", after the jobs before it (wave {request['wave']})" if request["wave"] else ""
        click.echo(
            f"\nrequest {request['number']}: {request['records']} records, {request['bytes']} bytes{joined}{wave}"
        )
        click.echo(f"  header {json.dumps(request['header'])}")
        for record in request["first"]:
            click.echo(f"  {json.dumps(record, ensure_ascii=False)}")
        if request["records"] > RECORDS_SHOWN:
            click.echo(f"  and {request['records'] - RECORDS_SHOWN} more")
    if len(facts["plan"]) > 20:
        click.echo(f"\nand {len(facts['plan']) - 20} more requests; --json has them all")
    tables.print_guards(facts["guards"])
    tables.print_hold_reasons("would be held", facts["hold_reasons"], facts["guards"])
