"""`etl preview`: builds the plan of a file and prints it; nothing is sent."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from etl import formats, thread_pool
from etl.cli import tables
from etl.config.settings import Settings, resolve_state_folder
from etl.errors import ExitStatus, InvalidFileError, UsageError
from etl.ingest import routing
from etl.mapping import load
from etl.mapping.model import Mapping
from etl.plan import build
from etl.plan.batches import batching
from etl.plan.changes import impact
from etl.plan.inputs import PlanInputs
from etl.plan.model import Plan
from etl.plan.requests import Request, make_requests
from etl.report import rejections, run_report, summary
from etl.runs.plan_inputs import InputLoader, make_request_limits
from etl.state.ledger.facade import Ledger
from etl.state.snapshots import accepted

#: Requests that are printed, and records of each request.
REQUESTS_SHOWN, RECORDS_SHOWN = 20, 3

#: How often a plan is built again while another process changes the accepted records.
MAX_PLAN_ATTEMPTS = 3

#: Counts that are printed when they are not 0; the rows always are.
_COUNTS_SHOWN = (
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
)

#: Parts of a path, counted from its end, that are matched with the patterns of mappings.
_MAX_NAME_PARTS = 5


def preview_file(settings: Settings, file: Path, feed: str | None, *, as_json: bool) -> ExitStatus:
    """Print the plan of a file: counts, rejections, requests with their first records, and the minutes they take."""
    mapping = _choose_mapping(settings, file, feed)
    settings = resolve_state_folder(settings)
    for attempt in itertools.count():
        try:
            plan = _plan_file(settings, file, mapping)
            break
        except FileNotFoundError:  # another process has compacted the accepted records and removed the old base
            if attempt == MAX_PLAN_ATTEMPTS:
                raise
    preview = plan_json(plan, file.name)
    if as_json:
        tables.print_json(preview)
    else:
        _print_plan(preview)
    if preview["hold_reasons"]:
        return ExitStatus.HELD
    return ExitStatus.ROWS_REJECTED if plan.counts.rejected else ExitStatus.OK


def _plan_file(settings: Settings, file: Path, mapping: Mapping) -> Plan:
    state, account_id = settings.paths.state, settings.account_id
    with contextlib.ExitStack() as stack:
        reading = stack.enter_context(formats.open_table(file, mapping.source.dialect))
        submit = stack.enter_context(thread_pool.thread_pool())
        if (state / "ledger.sqlite").exists():
            ledger = stack.enter_context(Ledger.open_read_only(state))
            inputs = InputLoader(settings, account_id, ledger).for_file(mapping, file)
        else:
            nothing = accepted.scan(state, mapping.feed, None, ())
            inputs = PlanInputs(nothing, account_id, make_request_limits(settings))
        return build.build_plan(reading, mapping, inputs, submit=submit)


def plan_json(plan: Plan, file_name: str) -> dict[str, Any]:
    """Return the plan as `etl preview --json` prints it; see docs/cli.md."""
    requests, values_changed = [], 0
    for request in make_requests(plan):
        requests.append(_request_json(plan, request))
        values_changed += request.changed_values
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
        "requests": len(requests),
        "records_sent": sum(request["records"] for request in requests),
        "values_sent": sum(request["values"] for request in requests),
        "values_changed": values_changed,
        "requests_apart": batching.unmerged_request_count(plan.batches, plan.request_limits.max_records),
        "bytes": sum(request["bytes"] for request in requests),
        "minutes": math.ceil(len(requests) / plan.request_limits.requests_per_minute),
        "hold_reasons": list(plan.hold_reasons),
        "guards": [result.to_json() for result in plan.guard_results],
        "summary": impact.impact_to_json(plan.impact),
        "rejections": rejections.group_rejections(plan.rejections.frame),
        "plan": requests,
    }


def _request_json(plan: Plan, request: Request) -> dict[str, Any]:
    return {
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


def _choose_mapping(settings: Settings, file: Path, feed: str | None) -> Mapping:
    mappings, mapping_errors = load.load_mappings(settings.paths.mappings)
    mapping = _find_by_feed(mappings, feed) if feed is not None else _find_by_name(mappings, file)
    if mapping is not None:
        return mapping
    for error in mapping_errors:
        click.echo(str(error), err=True)
    feeds = ", ".join(mapping.feed for mapping in mappings)
    if feed is not None:
        raise UsageError(
            "feed-unknown",
            f'there is no usable mapping for the feed "{feed}"',
            where=str(settings.paths.mappings),
            hint=f"feeds: {feeds}",
        )
    raise InvalidFileError(
        "feed-needed",
        f"the name of {file.name} fits no mapping",
        where=str(file),
        hint=f"choose with --feed: {feeds or 'there are no mappings'}; "
        "`etl init` drafts a mapping, `etl preview --evidence` shows how the file is written",
    )


def _find_by_feed(mappings: Sequence[Mapping], feed: str) -> Mapping | None:
    return next((mapping for mapping in mappings if mapping.feed == feed), None)


def _find_by_name(mappings: Sequence[Mapping], file: Path) -> Mapping | None:
    """Match the file name, then the name with one to four folders. Raises UsageError when several mappings fit."""
    parts = file.resolve().parts
    names = [file.name, *("/".join(parts[-depth:]) for depth in range(2, min(_MAX_NAME_PARTS, len(parts)) + 1))]
    for name in names:
        matching = routing.match_mappings(name, mappings)
        if len(matching) > 1:
            raise UsageError(
                "feed-needed",
                f"{file.name} belongs to several feeds",
                where=str(file),
                hint=f"choose with --feed: {', '.join(mapping.feed for mapping in matching)}",
            )
        if matching:
            return matching[0]
    return None


def _print_plan(preview: dict[str, Any]) -> None:
    click.echo(f"{preview['file']} as {preview['feed']} ({preview['operation']}): nothing is sent")
    for name in _COUNTS_SHOWN:
        if preview[name] or name == "rows":
            click.echo(f"  {name:10} {summary.format_number(preview[name]):>10}")
    for line in run_report.rejection_lines(preview["rejections"]):
        click.echo(f"  {line}")
    if preview["unused_columns"]:
        click.echo(f"  columns not mentioned in the mapping: {', '.join(preview['unused_columns'])}")
    tables.print_summary(preview["summary"])
    _print_totals(preview)
    for request in preview["plan"][:REQUESTS_SHOWN]:
        _print_request(request)
    if len(preview["plan"]) > REQUESTS_SHOWN:
        click.echo(f"\nand {len(preview['plan']) - REQUESTS_SHOWN} more requests; --json has them all")
    tables.print_guards(preview["guards"])
    tables.print_hold_reasons("would be held", preview["hold_reasons"], preview["guards"])


def _print_totals(preview: dict[str, Any]) -> None:
    minutes = preview["minutes"]
    click.echo(
        f"  {preview['requests']} requests with {preview['records_sent']} records and {preview['values_sent']} values, "
        + (f"{minutes} minute{'s' if minutes != 1 else ''} at the limit" if minutes else "nothing to send")
    )
    extra = preview["values_sent"] - preview["values_changed"]
    if extra > 0:
        click.echo(
            f"  {preview['values_changed']} values have changed, {extra} go with them so that records can share a"
            f" request; apart it would be {preview['requests_apart']} requests"
        )


def _print_request(request: dict[str, Any]) -> None:
    joined = f", {request['change_sets']} change sets joined to save requests" if request["change_sets"] > 1 else ""
    wave = f", after the jobs before it (wave {request['wave']})" if request["wave"] else ""
    click.echo(f"\nrequest {request['number']}: {request['records']} records, {request['bytes']} bytes{joined}{wave}")
    click.echo(f"  header {json.dumps(request['header'])}")
    for record in request["first"]:
        click.echo(f"  {json.dumps(record, ensure_ascii=False)}")
    if request["records"] > RECORDS_SHOWN:
        click.echo(f"  and {request['records'] - RECORDS_SHOWN} more")
