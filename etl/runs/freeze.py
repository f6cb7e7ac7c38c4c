"""Writes a plan into its run folder, where it does not change any more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl

from etl import filesystem
from etl.model.plan_facts import PlanFacts
from etl.model.runs import Chunk, Counts, Run
from etl.parallel import Submit, run_inline
from etl.plan.changes import impact
from etl.plan.model import Plan
from etl.plan.requests import Request, make_requests
from etl.report import rejections
from etl.state.files.parquet import write_parquet
from etl.state.files.run_folder import PLAN_FILE, PREVIOUS_FILE, folder_path, sent_records_path
from etl.state.snapshots.sent_records import build_blocked_records, build_sent_records

#: Makes a part of the sent records; the work may have begun in a thread.
SentPart = Callable[[], pl.DataFrame]

_REJECTIONS_CSV, _REJECTIONS_WORKBOOK = "rejections.csv", "rejections.xlsx"


@dataclass(frozen=True, slots=True)
class FrozenPlan:
    """A plan whose files are on disk."""

    chunks: list[Chunk]
    counts: Counts  #: with what the requests hold
    facts: PlanFacts
    merge_target: Run | None  #: the waiting run that takes the records along; then there are no requests


def freeze_plan(
    state: Path, run: Run, plan: Plan, revision: int, merge_target: Run | None = None, submit: Submit = run_inline
) -> FrozenPlan:
    """Write and sync everything that sending needs; the ledger does not know of it yet.

    Args:
        revision: of the accepted records, read before the plan was made from them.
        merge_target: the waiting run that takes the records along; no requests are made then.
        submit: begins work that needs no disk ahead of its turn.
    """
    folder = folder_path(state, run.id)
    filesystem.make_folder(folder)
    _delete_leftovers(state, run.id)
    if merge_target is None:
        chunks, sent_parts = _write_payloads(folder, run, plan, submit)
    else:
        chunks, sent_parts = [], _parts_to_merge(plan, submit)
    _write_sent_records(state, run.id, plan, sent_parts)
    _write_previous_records(folder, plan)
    _write_rejections(folder, plan)
    facts = make_facts(plan, revision, merge_target)
    filesystem.write_atomically(folder / PLAN_FILE, json.dumps(facts.to_json(), ensure_ascii=False).encode())
    counts = replace(
        plan.counts,
        requests=len(chunks),
        records_sent=sum(chunk.records for chunk in chunks),
        values_sent=sum(chunk.values for chunk in chunks),
    )
    return FrozenPlan(chunks, counts, facts, merge_target)


def make_facts(plan: Plan, revision: int, merge_target: Run | None) -> PlanFacts:
    """Collect what people and later commands ask of a plan."""
    return PlanFacts(
        suppressed=plan.suppressed,
        cleared=plan.cleared,
        hold_reasons=list(plan.hold_reasons),
        guards=[result.to_json() for result in plan.guard_results],
        summary=impact.impact_to_json(plan.impact),
        full_file=plan.full_file,
        scope_shared_with=list(plan.scope_shared_with),
        revision=revision,
        undoes=plan.undoes,
        irreversible=list(plan.irreversible),
        merge_target={"run": merge_target.id, "file": merge_target.file} if merge_target is not None else None,
        change_sets_joined=plan.change_sets_joined,
        columns=list(plan.columns),
        unused_columns=list(plan.unused_columns),
        rejections=rejections.group_rejections(plan.rejections.frame),
    )


def _delete_leftovers(state: Path, run_id: str) -> None:
    """Delete files of a plan that a crash interrupted: the new plan may not write all of them."""
    folder = folder_path(state, run_id)
    for name in (
        sent_records_path(state, run_id).name,
        PREVIOUS_FILE,
        _REJECTIONS_CSV,
        _REJECTIONS_WORKBOOK,
    ):
        (folder / name).unlink(missing_ok=True)


def _write_payloads(folder: Path, run: Run, plan: Plan, submit: Submit) -> tuple[list[Chunk], list[SentPart]]:
    chunks: list[Chunk] = []
    sent_parts: list[SentPart] = []
    for request in make_requests(plan, submit):
        build_part = partial(
            build_sent_records,
            request.frame,
            request.bits,
            request.number,
            plan.layout,
            request.retired_records,
        )
        sent_parts.append(submit(build_part))
        payload = folder / f"{request.number:05}.json"
        filesystem.write_atomically(payload, request.payload)
        chunks.append(_chunk(run, request, payload))
    return chunks, sent_parts


def _chunk(run: Run, request: Request, payload: Path) -> Chunk:
    return Chunk(
        run=run.id,
        number=request.number,
        wave=request.wave,
        operation=run.operation,
        header=request.header,
        payload=payload,
        digest=request.digest,
        records=request.records,
        values=request.values,
        origin_chunk=request.number,
    )


def _parts_to_merge(plan: Plan, submit: Submit) -> list[SentPart]:
    """Begin the records of a run without requests: none of them will be accepted, so all of them stay pending."""
    return [
        submit(partial(build_sent_records, batch.frame, batch.bits, number, plan.layout))
        for number, batch in enumerate(plan.batches, 1)
    ]


def _write_sent_records(state: Path, run_id: str, plan: Plan, sent_parts: list[SentPart]) -> None:
    if plan.blocked_records is not None and plan.blocked_records.height:
        sent_parts = [*sent_parts, partial(build_blocked_records, plan.blocked_records, plan.layout)]
    if sent_parts:
        sent_records = pl.concat((build_part() for build_part in sent_parts), how="diagonal")
        write_parquet(sent_records_path(state, run_id), sent_records)


def _write_previous_records(folder: Path, plan: Plan) -> None:
    if plan.previous_records is not None and plan.previous_records.height:
        write_parquet(folder / PREVIOUS_FILE, plan.previous_records)


def _write_rejections(folder: Path, plan: Plan) -> None:
    rejected = plan.rejections.frame
    if not rejected.height:
        return
    filesystem.write_atomically(folder / _REJECTIONS_CSV, rejections.to_csv(rejected))
    if plan.rejected_cells is not None:
        workbook = rejections.to_workbook(plan.rejected_cells, rejected)
        filesystem.write_atomically(folder / _REJECTIONS_WORKBOOK, workbook)
