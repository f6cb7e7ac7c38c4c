"""Makes the complete requests of a plan one by one, so that only one is in memory. Pure."""

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
    """One complete request."""

    number: int
    wave: int
    header: dict[str, Any]
    payload: bytes
    digest: str
    records: int
    values: int
    changed_values: int  #: values that have changed; the others are sent again to save a request
    change_set_count: int
    bits: int
    frame: pl.DataFrame
    retired_records: pl.DataFrame | None  #: KEY and ITEM of the records that this request retires


def make_requests(plan: Plan, submit: Submit = run_inline) -> Iterator[Request]:
    """Yield the requests in the order of sending; batches with too many bytes are split.

    `submit` says how the encoding of the next batches is begun ahead.
    """
    number = 0
    for parts in ordered_results((partial(_encode_batch, plan, batch) for batch in plan.batches), submit):
        for part, payload in parts:
            number += 1
            values = changed_values = plan.layout.count_values(part.bits) * part.frame.height
            if VALUE_COUNT in part.frame.columns:
                values, changed_values = (
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
                changed_values=changed_values,
                change_set_count=part.change_set_count,
                bits=part.bits,
                frame=part.frame,
                retired_records=_retired_by(plan, part) if part.full_file else None,
            )


def _retired_by(plan: Plan, batch: Batch) -> pl.DataFrame:
    """Return the records that a request with the whole scope retires, because it leaves them out."""
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
