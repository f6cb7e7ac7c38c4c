"""The requests of a plan, complete, made one by one so that only one is in memory. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from etl.parallel import Submit, ordered_results, run_inline
from etl.plan.batches import encode, full_file
from etl.plan.batches.batch import CHANGED_COUNT, VALUE_COUNT, Batch, halve_batch
from etl.plan.batches.full_file import scope_too_large_error
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
    changed_values: int  #: values of which it cannot be without; the others are sent again to save a request
    change_set_count: int
    bits: int
    frame: pl.DataFrame
    retired_records: pl.DataFrame | None  #: KEY and ITEM of what this request switches off by leaving it out


def make_requests(plan: Plan, submit: Submit = run_inline) -> Iterator[Request]:
    """The requests in the order in which they are sent; batches are cut where they are too large in bytes.

    `start`: how encoding the next ones is begun ahead.
    """
    number = 0
    for cut in ordered_results((partial(_encode_batch, plan, batch) for batch in plan.batches), submit):
        for part, payload in cut:
            number += 1
            values = exact = plan.layout.count_values(part.bits) * part.frame.height
            if VALUE_COUNT in part.frame.columns:
                values, exact = (
                    int(part.frame[VALUE_COUNT].sum()),
                    int(part.frame[CHANGED_COUNT].sum()),
                )
            yield Request(
                number=number,
                wave=part.wave,
                header=encode.encode_header(
                    plan.layout,
                    part.bits,
                    account_id=plan.account_id,
                    supplier=plan.mapping.supplier,
                    full_file=part.full_file,
                ),
                payload=payload,
                digest=hashlib.sha256(payload).hexdigest(),
                records=part.records,
                values=values,
                changed_values=exact,
                change_set_count=part.change_set_count,
                bits=part.bits,
                frame=part.frame,
                retired_records=_retired_by(plan, part) if part.full_file else None,
            )


def _retired_by(plan: Plan, batch: Batch) -> pl.DataFrame:
    """What leaves its scope because this request, which holds the scope whole, does not name it."""
    names = [name for name in full_file.scope_columns(plan.layout) if name in plan.missing_records.columns]
    if not names:
        return plan.missing_records
    return plan.missing_records.join(batch.frame.select(names).unique(), on=names, how="semi", maintain_order="left")


def _encode_batch(plan: Plan, batch: Batch) -> list[tuple[Batch, bytes]]:
    payload = encode.encode_payload(batch.frame, batch.bits, plan.layout)
    if len(payload) <= plan.request_limits.max_bytes or batch.records == 1:
        return [(batch, payload)]
    if batch.full_file:
        raise scope_too_large_error(
            plan.mapping, batch.records, len(payload), plan.request_limits.max_records, plan.request_limits.max_bytes
        )
    return [piece for half in halve_batch(batch) for piece in _encode_batch(plan, half)]
