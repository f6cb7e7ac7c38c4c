"""What a run keeps on disk while it is open: payloads, what was sent, rejections, facts of the plan.

All of it is synced before the ledger hears of it, and nothing of it counts before that.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl import filesystem as durable
from etl.model.runs import Chunk, Run
from etl.parallel import Start, in_turn

if TYPE_CHECKING:
    from etl.apply.job_log import TracedRecord
    from etl.plan.build import Plan

#: What Norce had of the records that a run changes, and the run that an undo takes back.
BEFORE, UNDOES = "before.parquet", "undoes.json"

#: Folder within a run's archive that an undo needs.
KEPT = "undo"

#: How the key of a record begins where the first identifier given decides.
_NAMED = ("Id=", "Code=", "EmailAddress=", "OrganizationNo=")


def path(state: Path, run: str) -> Path:
    """The folder of an open run."""
    return state / "runs" / run


def files(state: Path, run: str) -> list[Path]:
    """What is in it besides payloads, whose digests are with their chunks."""
    return [file for file in sorted(path(state, run).glob("*")) if not file.stem.isdecimal() and file.is_file()]


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


def keep(state: Path, run: str, archive: Path) -> None:
    """What an undo of the run will need goes on in its archive: what was sent, and what Norce had before."""
    from etl.state.snapshots import accepted

    folder = archive / KEPT
    kept = [name for name in (accepted.sent_path(state, run), path(state, run) / BEFORE) if name.exists()]
    if kept:
        durable.make_folder(folder)
        for found in kept:
            with contextlib.suppress(FileExistsError):
                os.link(found, folder / found.name)
        durable.sync_folder(folder)


def archived(archive: Path) -> list[Path]:
    """What in an archived run's folder an undo reads."""
    return [archive / "report.json", *sorted((archive / KEPT).glob("*"))]


def facts(state: Path, run: str) -> dict[str, Any]:
    """What was remarkable about the plan of an open run."""
    return dict(json.loads((path(state, run) / "plan.json").read_bytes()))


def records_of(state: Path, chunk: Chunk) -> list[TracedRecord]:
    """The records of a chunk as a job's log may name them, in the order of its payload.

    Records are told apart by ITEM: a product with several variants is one record with several part numbers.
    """
    import polars as pl

    from etl.apply.job_log import TracedRecord
    from etl.model.runs import CAME, ITEM, KEY, ROW
    from etl.plan.changes import pending as carry
    from etl.state.snapshots import accepted

    names = [KEY, ITEM, ROW, accepted.CHUNK, accepted.RECORD, accepted.SILENT]
    frame = pl.scan_parquet(accepted.sent_path(state, chunk.run))
    if CAME not in frame.collect_schema():
        frame = frame.with_columns(carry.nowhere())
    rows = frame.select(*names, CAME).filter(
        (pl.col(accepted.CHUNK) == chunk.origin)
        & pl.col(accepted.RECORD).is_in(list(chunk.indexes))
        & ~pl.col(accepted.SILENT)
    )
    items = rows.group_by(accepted.RECORD).agg(
        pl.col(ITEM).first(), KEY, pl.col(ROW).min(), pl.col(CAME).drop_nulls().first()
    )
    made = []
    for item, keys, row, came in items.sort(accepted.RECORD).select(ITEM, KEY, ROW, CAME).collect().iter_rows():
        parts = [part for key in keys for part in str(key).split("\x1f")]
        if str(item).startswith("Code=") and parts != [item]:
            parts.append(str(item))
        values = [part.partition("=")[2] if part.startswith(_NAMED) else part for part in parts]
        if row is None and came is not None:
            made.append(TracedRecord(item, tuple(values), came["row"], came["file"], came["run"]))
        else:
            made.append(TracedRecord(item, tuple(values), row))
    return made
