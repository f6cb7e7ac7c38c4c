"""Writes a plan into its run folder, where it does not change any more."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl import filesystem as durable
from etl.model.runs import Chunk, Run
from etl.parallel import Start, in_turn

if TYPE_CHECKING:
    from etl.plan.model import Plan
from etl.state.files.run_folder import BEFORE, path


def store(
    state: Path, run: Run, plan: Plan, moves: int, carried: Run | None = None, start: Start = in_turn
) -> tuple[list[Chunk], dict[str, Any]]:
    """Everything that sending needs, synced before the ledger hears of it.

    `moves`: how often *accepted* had moved when the plan was made from it. `carried`: the waiting run that the records
    are left to; then there are no requests. `start`: how what needs no disk is begun ahead.
    """
    import polars as pl

    from etl.plan.changes import impact
    from etl.plan.requests import requests
    from etl.report import rejections
    from etl.state.snapshots import accepted

    folder = path(state, run.id)
    durable.make_folder(folder)
    for name in (accepted.sent_path(state, run.id).name, BEFORE, "rejections.csv", "rejections.xlsx"):
        (folder / name).unlink(missing_ok=True)  # of a plan that a crash has left: this one may lack them
    chunks: list[Chunk] = []
    parts: list[Callable[[], pl.DataFrame]] = []
    for number, batch in enumerate(plan.batches, 1) if carried is not None else ():
        parts.append(start(partial(accepted.sent, batch.frame, batch.bits, number, plan.layout)))
    for request in requests(plan, start) if carried is None else ():
        parts.append(
            start(partial(accepted.sent, request.frame, request.bits, request.number, plan.layout, request.retired))
        )
        payload = folder / f"{request.number:05}.json"
        durable.write(payload, request.payload)
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
                origin=request.number,
            )
        )
    if plan.waiting is not None and plan.waiting.height:
        parts.append(partial(accepted.waiting, plan.waiting, plan.layout))
    if parts:
        sent = pl.concat((part() for part in parts), how="diagonal")
        accepted.write(accepted.sent_path(state, run.id), sent)
    if plan.replaced is not None and plan.replaced.height:
        accepted.write(folder / BEFORE, plan.replaced)
    rejected = plan.rejections.frame
    if rejected.height:
        durable.write(folder / "rejections.csv", rejections.csv(rejected))
        if plan.spoiled is not None:
            durable.write(folder / "rejections.xlsx", rejections.workbook(plan.spoiled, rejected))
    made = {
        "withheld": plan.withheld,
        "cleared": plan.cleared,
        "doubts": list(plan.doubts),
        "guards": [verdict.shown() for verdict in plan.verdicts],
        "summary": impact.summary(plan.impact),
        "full_file": plan.full_file,
        "sharing": list(plan.sharing),
        "moves": moves,
        "undoes": plan.undoes,
        "stuck": list(plan.stuck),
        "carried": {"run": carried.id, "file": carried.file} if carried is not None else None,
        "merged": sum(batch.merged - 1 for batch in plan.batches),
        "columns": list(plan.columns),
        "unused_columns": list(plan.unused),
        "rejections": rejections.grouped(rejected),
    }
    durable.write(folder / "plan.json", json.dumps(made, ensure_ascii=False).encode())
    return chunks, {key: made[key] for key in ("withheld", "cleared", "merged")}
