"""Everything that would happen to a file: pure, so that a preview is the plan and not a guess at it.

The same table, mapping, accepted state and limits give the same requests, byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from etl.errors import Defect, FileRefused
from etl.mapping import layout_builder as arrange
from etl.mapping.layout import Layout
from etl.mapping.model import Mapping
from etl.model.runs import ITEM, KEY, ROW, Counts, Reading, Records, Rejections, Table
from etl.parallel import Start, in_turn
from etl.plan.batches import batching as chunk
from etl.plan.batches.batching import Batch
from etl.plan.batches.packing import Packing
from etl.plan.changes import diff, guards, impact
from etl.plan.changes import impact_analysis as weigh
from etl.plan.changes import ownership as owners
from etl.plan.changes import pending as carry
from etl.plan.changes import previous_file as history
from etl.plan.changes import selection as named
from etl.plan.rows import transform, validate
from etl.plan.rows.cells import REJECTIONS
from etl.plan.rows.read_records import Sifted, sift
from etl.report import rejections


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan depends on besides file, mapping and *accepted*."""

    account_id: int
    max_records: int = 1000
    max_bytes: int = 4_000_000
    requests_per_minute: int = 60
    packing: Packing = "budget"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a file comes to. Requests are made one by one (`etl.plan.requests`), so that only one is in memory."""

    mapping: Mapping
    layout: Layout
    terms: Terms
    counts: Counts  #: without requests, records_sent and values_sent, which show while encoding
    rejections: Rejections
    batches: tuple[Batch, ...]
    impact: impact.Impact
    retired: pl.DataFrame  #: accepted records that FullFile=true switches off because the file lacks them
    withheld: int
    cleared: int
    full_file: bool = False  #: a full feed under FullFile=true, which retires what the file lacks
    sharing: tuple[str, ...] = ()  #: feeds for whose sake a full feed does without FullFile=true
    columns: tuple[str, ...] = ()  #: source columns in use
    unused: tuple[str, ...] = ()  #: source columns that the mapping does not mention
    before: history.Before | None = None
    spoiled: pl.DataFrame | None = None  #: of a workbook: cells of rejected rows as they came
    replaced: pl.DataFrame | None = None  #: what Norce has of the records that this run changes, for `etl.plan.undo`
    undoes: str | None = None  #: the run that it takes back
    stuck: tuple[dict[str, Any], ...] = ()  #: what cannot be taken back: field, reason, records, keys
    waiting: pl.DataFrame | None = None  #: of a file of changes: records held back, which no later file will repeat
    apart: bool = (
        False  #: what earlier files still owe has to be sent before this one (`etl.plan.changes.pending.apart`)
    )

    @property
    def verdicts(self) -> tuple[guards.Verdict, ...]:
        """What every guard says of it."""
        facts = guards.Facts(self.mapping, self.counts, self.impact, self.rejections.frame, self.full_file, self.before)
        return guards.judge(facts)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the run has to wait for a person's yes; empty when it may go."""
        asked = (f"takes back run {self.undoes}: look at it first",) if self.undoes and self.batches else ()
        return (*asked, *guards.reasons(self.verdicts))


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
    alive = diff.missing(Records(accepted.clear(), pl.Series(dtype=pl.Int64)), accepted)
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
    sharing = owners.sharing(records.frame, chunk.scope_columns(layout), foreign or {})
    full_file = full and not part and full_file_possible(mapping) and not sharing
    deactivate = whole and mapping.gone == "deactivate" and not full_file
    changes = diff.compare(
        records, accepted, layout, deactivate=deactivate, everything=full, mentioned=mentioned, barred=barred
    )
    absent = diff.missing(records, accepted)
    left = diff.missing(records, accepted, layout, mentioned)
    limits = chunk.Limits(terms.max_records, terms.requests_per_minute, terms.packing)
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
        scopes, changes = chunk.scopes(changes, layout, limits)
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
        new=changes.new - hopeless.filter(diff.NEW).height,
        changed=changes.changed - hopeless.filter(~pl.col(diff.NEW)).height,
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


def full_file_possible(mapping: Mapping) -> bool:
    """Whether `FullFile=true` may be used: the operation has it, the file is whole, and its scope is clear.

    Where the scope is not stated, or is the whole catalogue, the mapping's author has to say that it is meant.
    """
    full_file = mapping.operation.full_file
    if not full_file.supported or mapping.source.content != "full":
        return False
    return full_file.split == "scope" or mapping.destructive is not None


def too_large(mapping: Mapping, records: int, size: int, max_records: int, max_bytes: int) -> FileRefused:
    """A FullFile scope that one request does not hold; cut in two, each half would retire the other's rows."""
    what = f"{records} records" + (f" in {size} bytes" if size else "")
    return FileRefused(
        "full-scope-too-large",
        f"a full feed of {mapping.feed} needs a scope in one request, and one has {what}",
        where=f"limits.max_records = {max_records}, limits.max_bytes = {max_bytes}",
        hint="use `gone: deactivate` in the mapping and a normal run: it switches off what is gone, row by row",
    )


def _later(batches: list[Batch], waves: int) -> list[Batch]:
    return [chunk.delayed(batch, waves) for batch in batches]


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
