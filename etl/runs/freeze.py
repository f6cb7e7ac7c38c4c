"""Writes a plan into its run folder, where it does not change any more."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from etl import filesystem
from etl.model.runs import Chunk, Run
from etl.parallel import Submit, run_inline

if TYPE_CHECKING:
    from etl.plan.model import Plan
from etl.state.files.run_folder import PREVIOUS_FILE, folder_path


def freeze_plan(
    state: Path, run: Run, plan: Plan, revision: int, merge_target: Run | None = None, submit: Submit = run_inline
) -> list[Chunk]:
    """Everything that sending needs, synced before the ledger hears of it.

    `moves`: how often *accepted* had moved when the plan was made from it. `carried`: the waiting run that the records
    are left to; then there are no requests. `start`: how what needs no disk is begun ahead.
    """
    import polars as pl

    from etl.plan.changes import impact
    from etl.plan.requests import make_requests
    from etl.report import rejections
    from etl.state.snapshots import accepted

    folder = folder_path(state, run.id)
    filesystem.make_folder(folder)
    for name in (accepted.sent_records_path(state, run.id).name, PREVIOUS_FILE, "rejections.csv", "rejections.xlsx"):
        (folder / name).unlink(missing_ok=True)  # of a plan that a crash has left: this one may lack them
    chunks: list[Chunk] = []
    parts: list[Callable[[], pl.DataFrame]] = []
    for number, batch in enumerate(plan.batches, 1) if merge_target is not None else ():
        parts.append(submit(partial(accepted.build_sent_records, batch.frame, batch.bits, number, plan.layout)))
    for request in make_requests(plan, submit) if merge_target is None else ():
        parts.append(
            submit(
                partial(
                    accepted.build_sent_records,
                    request.frame,
                    request.bits,
                    request.number,
                    plan.layout,
                    request.retired_records,
                )
            )
        )
        payload = folder / f"{request.number:05}.json"
        filesystem.write_atomically(payload, request.payload)
        chunks.append(
            Chunk(
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
        )
    if plan.blocked_records is not None and plan.blocked_records.height:
        parts.append(partial(accepted.build_blocked_records, plan.blocked_records, plan.layout))
    if parts:
        sent = pl.concat((part() for part in parts), how="diagonal")
        accepted.write_parquet(accepted.sent_records_path(state, run.id), sent)
    if plan.previous_records is not None and plan.previous_records.height:
        accepted.write_parquet(folder / PREVIOUS_FILE, plan.previous_records)
    rejected = plan.rejections.frame
    if rejected.height:
        filesystem.write_atomically(folder / "rejections.csv", rejections.to_csv(rejected))
        if plan.rejected_cells is not None:
            filesystem.write_atomically(
                folder / "rejections.xlsx", rejections.to_workbook(plan.rejected_cells, rejected)
            )
    made = {
        "suppressed": plan.suppressed,
        "cleared": plan.cleared,
        "hold_reasons": list(plan.hold_reasons),
        "guards": [verdict.to_json() for verdict in plan.guard_results],
        "summary": impact.impact_to_json(plan.impact),
        "full_file": plan.full_file,
        "scope_shared_with": list(plan.scope_shared_with),
        "revision": revision,
        "undoes": plan.undoes,
        "irreversible": list(plan.irreversible),
        "merge_target": {"run": merge_target.id, "file": merge_target.file} if merge_target is not None else None,
        "change_sets_joined": plan.change_sets_joined,
        "columns": list(plan.columns),
        "unused_columns": list(plan.unused_columns),
        "rejections": rejections.group_rejections(rejected),
    }
    filesystem.write_atomically(folder / "plan.json", json.dumps(made, ensure_ascii=False).encode())
    return chunks
