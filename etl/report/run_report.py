"""The result of a run, for people and programs: the run as JSON, its report.

The JSON of a run is documented in docs/cli.md and stable. No polars here: `etl status` and `etl show` are quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from etl.model.keys import display_key
from etl.model.plan_facts import PlanFacts
from etl.model.runs import Chunk, ChunkState, Counts, RecordError, Run, RunState

#: Most names of files that are shown of the runs merged into a run.
MERGED_FILES_SHOWN = 10


def run_json(run: Run, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """Return one run as `etl status --json` and `etl show --json` give it."""
    counts = run.counts
    return {
        "run": run.id,
        "feed": run.feed,
        "operation": run.operation,
        "file": run.file,
        "kind": run.kind,
        "state": run.state.value,
        "rows": counts.rows,
        "rejected": counts.rejected,
        "skipped": counts.skipped,
        "blocked": counts.blocked,
        "unchanged": counts.unchanged,
        "new": counts.new,
        "changed": counts.changed,
        "gone": counts.gone,
        "failed": counts.failed,
        "requests": counts.requests,
        "records_sent": counts.records_sent,
        "values_sent": counts.values_sent,
        "jobs": [
            {"id": chunk.job_id, "status": chunk.job_status, "records": chunk.records, "state": chunk.state.value}
            for chunk in chunks
            if chunk.job_id is not None
        ],
        "started": run.started.isoformat() if run.started else None,
        "ended": run.ended.isoformat() if run.ended else None,
        "error": run.error,
        "merged_into": run.merged_into,
    }


def report_json(
    run: Run, chunks: Sequence[Chunk], record_errors: Sequence[RecordError], facts: PlanFacts | None
) -> dict[str, Any]:
    """Return the whole report: the run, the facts of its plan, and the records and requests that failed.

    Args:
        facts: None for a run that was closed without a plan.
    """
    report = run_json(run, chunks)
    report |= facts.to_report() if facts is not None else {"summary": {}, "guards": [], "plan": {}, "rejections": []}
    report["job_warnings"] = list(dict.fromkeys(text for chunk in chunks for text in chunk.warnings))
    report["record_errors"] = [_record_error_json(error, run) for error in record_errors]
    report["failed_requests"] = [
        {"chunk": chunk.number, "records": chunk.records, "reason": chunk.error}
        for chunk in chunks
        if chunk.state is ChunkState.FAILED
    ]
    return report


def _record_error_json(error: RecordError, run: Run) -> dict[str, Any]:
    return {
        "key": display_key(error.key),
        "file": error.source_file or run.file,
        "run": error.source_run or run.id,
        "row": error.source_row,
        "severity": error.severity,
        "message": error.message,
    }


def final_counts(counts: Counts, chunks: Iterable[Chunk], record_errors: Sequence[RecordError]) -> Counts:
    """Return the counts of an ended run: those of its plan, with what was sent and what failed."""
    from dataclasses import replace

    sent_chunks = [chunk for chunk in chunks if chunk.attempts > 0]
    return replace(
        counts,
        requests=sum(chunk.attempts for chunk in sent_chunks),
        records_sent=sum(chunk.records for chunk in sent_chunks),
        values_sent=sum(chunk.values for chunk in sent_chunks),
        failed=len(record_errors),
    )


def merge_lines(run: Run, merged_runs: Sequence[Run]) -> Iterable[str]:
    """Say in words into which run a run was merged, and which runs were merged into it."""
    if run.state is RunState.MERGED:
        yield (
            f"merged: its records were sent with run {run.merged_into}"
            if run.merged_into
            else "merged: its records go with the feed's next run"
        )
    if merged_runs:
        files = ", ".join(other.file for other in merged_runs[:MERGED_FILES_SHOWN])
        more = f" and {len(merged_runs) - MERGED_FILES_SHOWN} more" if len(merged_runs) > MERGED_FILES_SHOWN else ""
        yield f"merged into this run: the records of {files}{more}"


def describe_row(record_error: RecordError) -> str:
    """Say where a failed record is: its row in the run's file, or in the earlier file that brought it."""
    row = f"row {record_error.source_row}" if record_error.source_row else "no row"
    return f"{record_error.source_file}, {row}" if record_error.source_file else row


def rejection_lines(groups: Iterable[dict[str, Any]]) -> Iterable[str]:
    """Yield one sentence for each group of rejections."""
    for group in groups:
        rows = [str(row) for row in group["rows"] if row is not None]
        more = " …" if group["count"] > len(rows) else ""
        place = f"{group['column']}: " if group["column"] else ""
        has_place = not rows or "(rows " in group["message"]
        at = "" if has_place else f" (row{'s' if group['count'] > 1 else ''} {', '.join(rows)}{more})"
        yield f"rejected {group['count']}: {place}{group['message']}{at}; {group['hint']}"
