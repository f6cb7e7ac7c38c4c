"""The requests of a plan, complete, made one by one so that only one is in memory. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from etl.parallel import Start, in_order, in_turn
from etl.plan.batches import batch as batch_module
from etl.plan.batches import encode, full_file
from etl.plan.batches.batch import Batch
from etl.plan.batches.full_file import too_large
from etl.plan.model import Plan


@dataclass(frozen=True, slots=True)
class Request:
    """One request, complete."""

    number: int
    wave: int
    header: dict[str, Any]
    payload: bytes
    digest: str
    records: int
    values: int
    exact: int  #: values of which it cannot be without; the others are sent again to save a request
    merged: int
    bits: int
    frame: pl.DataFrame
    retired: pl.DataFrame | None  #: KEY and ITEM of what this request switches off by leaving it out


def requests(plan: Plan, start: Start = in_turn) -> Iterator[Request]:
    """The requests in the order in which they are sent; batches are cut where they are too large in bytes.

    `start`: how encoding the next ones is begun ahead.
    """
    number = 0
    for cut in in_order((partial(_cut, plan, batch) for batch in plan.batches), start):
        for part, payload in cut:
            number += 1
            values = exact = plan.layout.values(part.bits) * part.frame.height
            if batch_module.VALUES in part.frame.columns:
                values, exact = int(part.frame[batch_module.VALUES].sum()), int(part.frame[batch_module.CHANGED].sum())
            yield Request(
                number=number,
                wave=part.wave,
                header=encode.header(
                    plan.layout,
                    part.bits,
                    account_id=plan.terms.account_id,
                    supplier=plan.mapping.supplier,
                    full_file=part.whole,
                ),
                payload=payload,
                digest=hashlib.sha256(payload).hexdigest(),
                records=part.records,
                values=values,
                exact=exact,
                merged=part.merged,
                bits=part.bits,
                frame=part.frame,
                retired=_retired(plan, part) if part.whole else None,
            )


def _retired(plan: Plan, batch: Batch) -> pl.DataFrame:
    """What leaves its scope because this request, which holds the scope whole, does not name it."""
    names = [name for name in full_file.scope_columns(plan.layout) if name in plan.retired.columns]
    if not names:
        return plan.retired
    return plan.retired.join(batch.frame.select(names).unique(), on=names, how="semi", maintain_order="left")


def _cut(plan: Plan, batch: Batch) -> list[tuple[Batch, bytes]]:
    payload = encode.payload(batch.frame, batch.bits, plan.layout)
    if len(payload) <= plan.terms.max_bytes or batch.records == 1:
        return [(batch, payload)]
    if batch.whole:
        raise too_large(plan.mapping, batch.records, len(payload), plan.terms.max_records, plan.terms.max_bytes)
    return [piece for half in batch_module.halves(batch) for piece in _cut(plan, half)]
