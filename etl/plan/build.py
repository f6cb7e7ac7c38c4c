"""Everything that would happen to a file: pure, so that a preview is the plan and not a guess at it.

The same table, mapping, accepted state and limits give the same requests, byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Mapping as Map
from dataclasses import replace

import polars as pl

from etl.errors import Defect, FileRefused
from etl.mapping import layout_builder as arrange
from etl.mapping.layout import Layout
from etl.mapping.model import Mapping
from etl.model import columns as columns_module
from etl.model.columns import ITEM, KEY, ROW
from etl.model.runs import Counts
from etl.model.schemas import REJECTIONS
from etl.model.tables import Reading, Records, Rejections, Table
from etl.parallel import Start, in_turn
from etl.plan.batches import batch as batch_module
from etl.plan.batches import batching as chunk
from etl.plan.batches import full_file as full_file_module
from etl.plan.batches.batch import Batch
from etl.plan.batches.full_file import full_file_possible, too_large
from etl.plan.changes import absence, diff
from etl.plan.changes import impact_analysis as weigh
from etl.plan.changes import ownership as owners
from etl.plan.changes import pending as carry
from etl.plan.changes import previous_file as history
from etl.plan.changes import selection as named
from etl.plan.model import Plan, Terms
from etl.plan.rows import transform, validate
from etl.plan.rows.read_records import Sifted, sift
from etl.report import rejections


def make(
    reading: Reading,
    mapping: Mapping,
    accepted: pl.DataFrame | pl.LazyFrame,
    terms: Terms,
    *,
    full: bool = False,
    known: Map[str, pl.Series] | None = None,
    before: history.Before | None = None,
    foreign: Map[str, pl.DataFrame] | None = None,
    pending: pl.DataFrame | None = None,
    only: Collection[str] = (),
    owned: Map[str, pl.DataFrame] | None = None,
    start: Start = in_turn,
) -> Plan:
    """The plan of a file.

    `only`: the part numbers (or other keys) whose records are sent, whatever was accepted, and no others.
    `known`: for each field with a reference the values that are accepted there. `foreign`: what other feeds of the
    same import have had accepted. `pending`: what earlier files of changes said and Norce has not taken yet.
    `owned`: what the feeds that this one yields to have had accepted.
    `start`: how work on pieces of the file is begun (`etl.thread_pool`); the plan does not depend on it.
    Raises FileRefused for a file that lacks columns, or a scope that no request holds.
    """
    everything = full or bool(only)
    columns = validate.columns(reading.columns, mapping)
    layout = arrange.layout(mapping, columns.used)
    waits = _waits(known or {})
    owed = pending[KEY] if pending is not None else pl.Series(dtype=pl.String)
    sifted = sift(
        reading,
        columns,
        mapping,
        layout,
        accepted.lazy(),
        everything=everything,
        waits=waits,
        pending=owed,
        start=start,
    )
    _balance(reading, sifted)
    counts = Counts(rows=reading.rows, skipped=sifted.skipped)
    records, held = _waiting(carry.under(sifted.records, pending, layout), waits)
    waiting = held[next(iter(known))].cast(pl.String) if known else pl.Series(dtype=pl.String)
    counts = replace(counts, waiting=waiting.len())
    unsure = pl.concat([transform.pieces(reading.malformed), sifted.mentioned, waiting.rename("v")])
    rejected = pl.concat([reading.malformed.frame, sifted.rejected])
    was = sifted.accepted
    if only:
        records = named.only(records, only, mapping.feed)
        was = was.join(records.frame.select(KEY), on=KEY, how="semi", maintain_order="left")
        rejected = rejected.clear()
    plan = _planned(
        records,
        layout,
        mapping,
        was,
        terms,
        rejected,
        counts,
        alive=sifted.alive,
        lines=sifted.lines,
        full=everything,
        mentioned=unsure,
        foreign=foreign,
        part=bool(only),
        owned=owned,
    )
    counts = replace(plan.counts, unchanged=plan.counts.unchanged + sifted.held.len())
    plan = replace(plan, counts=counts, withheld=plan.withheld + sifted.withheld)
    excel = mapping.source.dialect.format == "excel" and plan.rejections.frame.height > 0
    spoiled = rejections.spoiled(reading.frames(), plan.rejections.frame) if excel else None
    kept = held if mapping.source.content == "changes" else None
    return replace(
        plan,
        columns=columns.used,
        unused=columns.unused,
        before=before,
        spoiled=spoiled,
        waiting=kept,
        apart=carry.apart(sifted.records, pending, layout),
    )


def nothing(columns: Sequence[str]) -> Table:
    """A file with these columns and without rows: what is owed is all there is."""
    frame = pl.DataFrame(schema={ROW: pl.Int64, **dict.fromkeys(columns, pl.String)})
    return Table(frame, Rejections(pl.DataFrame(schema=REJECTIONS)), 0)


def _waits(known: Map[str, pl.Series]) -> pl.Expr:
    """Whether a record refers to what is not accepted yet.

    Connect ignores stock and prices of a product that it does not have, and does not say so
    (https://docs.norce.io/api-reference/connect/productservice/openapi/product/importonhands.md).
    """
    missing = pl.lit(False)
    for field, values in known.items():
        missing = missing | (pl.col(field).is_not_null() & ~pl.col(field).cast(pl.String).is_in(values.implode()))
    return missing


def _waiting(records: Records, waits: pl.Expr) -> tuple[Records, pl.DataFrame]:
    """Without the records that have to wait, and those."""
    return Records(records.frame.filter(~waits), records.rows), records.frame.filter(waits)


def again(
    mapping: Mapping,
    columns: Sequence[str],
    accepted: pl.DataFrame,
    terms: Terms,
    pending: pl.DataFrame | None = None,
    only: Collection[str] = (),
    owned: Map[str, pl.DataFrame] | None = None,
) -> Plan:
    """Everything that was accepted, sent again: the full feed of a source that only exports changes.

    `only`: the part numbers (or other keys) that are sent again; what is pending goes along in any case, because it is
    remembered by the newest run alone.
    """
    layout = arrange.layout(mapping, columns)
    alive = absence.missing(Records(accepted.clear(), pl.Series(dtype=pl.Int64)), accepted)
    names = dict.fromkeys(leaf.column for leaf in layout.leaves)
    kinds = transform.empty(mapping, layout).schema
    frame = alive.select(
        KEY,
        ITEM,
        pl.lit(None, dtype=pl.Int64).alias(ROW),
        *((pl.col(name) if name in alive.columns else pl.lit(None, dtype=kinds[name]).alias(name)) for name in names),
    )
    owed = pending if pending is not None else frame.clear()
    if only:
        found = named.only(
            Records(pl.concat([frame.select(KEY), owed.select(KEY)]), pl.Series(dtype=pl.Int64)), only, mapping.feed
        )
        frame = frame.join(found.frame, on=KEY, how="semi", maintain_order="left")
        accepted = accepted.join(
            pl.concat([frame.select(KEY), owed.select(KEY)]), on=KEY, how="semi", maintain_order="left"
        )
    frame = frame.join(owed.select(KEY), on=KEY, how="anti", maintain_order="left")
    records = carry.under(Records(frame, pl.Series(dtype=pl.Int64)), pending, layout)
    nothing = pl.DataFrame(schema=REJECTIONS)
    counts = Counts(rows=frame.height)
    return _planned(
        records, layout, mapping, accepted, terms, nothing, counts, alive=alive.height, full=True, owned=owned
    )


def _planned(
    records: Records,
    layout: Layout,
    mapping: Mapping,
    accepted: pl.DataFrame,
    terms: Terms,
    rejected: pl.DataFrame,
    counts: Counts,
    *,
    alive: int,
    full: bool,
    lines: pl.DataFrame | None = None,
    mentioned: pl.Series | None = None,
    foreign: Map[str, pl.DataFrame] | None = None,
    part: bool = False,
    owned: Map[str, pl.DataFrame] | None = None,
) -> Plan:
    barred = owners.barred(layout, owned or {})
    accepted = owners.ours(accepted, records.frame, barred)
    whole = mapping.source.content == "full" and not part
    sharing = owners.sharing(records.frame, full_file_module.scope_columns(layout), foreign or {})
    full_file = full and not part and full_file_possible(mapping) and not sharing
    deactivate = whole and mapping.gone == "deactivate" and not full_file
    changes = diff.compare(
        records, accepted, layout, deactivate=deactivate, everything=full, mentioned=mentioned, barred=barred
    )
    absent = absence.missing(records, accepted)
    left = absence.missing(records, accepted, layout, mentioned)
    limits = batch_module.Limits(terms.max_records, terms.requests_per_minute, terms.packing)
    off = full_file or (deactivate and layout.retiring is not None)
    lost = left if whole else left.clear()
    effect = weigh.weigh(changes, accepted, layout, lost, alive=alive, off=off, by=mapping.guards.price_by)
    touched = pl.concat([changes.frame.select(KEY), *([left.select(KEY)] if full_file else [])])
    replaced = accepted.join(touched, on=KEY, how="semi", maintain_order="left")
    batches: list[Batch] = []
    if full_file:
        if absent.height > left.height:
            raise FileRefused(
                "full-with-rejections",
                f"{absent.height - left.height} records whose rows were rejected would be switched off",
                where=mapping.feed,
                hint="correct the rejected rows (see rejections.csv) and drop the file again before `etl full`",
            )
        scopes, changes = full_file_module.scopes(changes, layout, limits)
        for batch in scopes:
            if batch.records > terms.max_records:
                raise too_large(mapping, batch.records, 0, terms.max_records, terms.max_bytes)
        batches.extend(scopes)
    more, hopeless = chunk.split(changes, layout, limits)
    batches.extend(_later(more, 1) if batches else more)
    uneven = chunk.uneven(hopeless, lines)
    found = Rejections(pl.concat([rejected, uneven.frame]).sort("row", maintain_order=True, nulls_last=True))
    counts = replace(
        counts,
        rejected=found.rows,
        unchanged=changes.unchanged,
        new=changes.new - hopeless.filter(columns_module.NEW).height,
        changed=changes.changed - hopeless.filter(~pl.col(columns_module.NEW)).height,
        gone=left.height if whole else 0,
    )
    return Plan(
        mapping=mapping,
        layout=layout,
        terms=terms,
        counts=counts,
        rejections=found,
        batches=tuple(batches),
        retired=left,
        impact=effect,
        withheld=changes.withheld,
        cleared=changes.cleared,
        full_file=full_file,
        sharing=sharing if full else (),
        replaced=replaced,
    )


def _later(batches: list[Batch], waves: int) -> list[Batch]:
    return [batch_module.delayed(batch, waves) for batch in batches]


def _balance(reading: Reading, sifted: Sifted) -> None:
    """Every row of the file is in a record, or rejected, or left out on purpose. Raises Defect."""
    read = sifted.read + reading.malformed.rows
    if read != reading.rows:
        raise Defect(f"the file has {reading.rows} rows, of which {read} were read")
    good = sifted.read - sifted.skipped - sifted.unfit
    if good != sifted.good:
        raise Defect(f"{good} rows passed the checks, {sifted.good} went on")
    ended = pl.concat([sifted.records.rows.cast(pl.UInt32), sifted.held])
    both = ended.filter(ended.is_in(sifted.refused.implode()))
    count = ended.n_unique() + sifted.refused.len() - both.n_unique()
    if count != good:
        raise Defect(f"of {good} good rows {count} ended in a record or a rejection")
