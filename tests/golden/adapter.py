"""Turns what the program plans into golden plans. A rename in the program is followed here, and nowhere else.

Nothing outside this module knows a name of the program; the golden files hold the names that `_golden` gives.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from etl import formats
from etl.cli import cases, init
from etl.errors import InvalidFileError
from etl.ingest import routing
from etl.mapping import load
from etl.mapping.model import Mapping
from etl.model.columns import DEACTIVATED, ITEM, KEY, ORIGIN, ROW
from etl.model.runs import AcceptedRange, Overlay
from etl.model.schemas import ORIGIN_TYPE, REJECTION_SCHEMA
from etl.model.tables import Dialect, Rejections, Table
from etl.plan import build as plan
from etl.plan import undo
from etl.plan.inputs import OriginalRun, PlanInputs, RequestLimits, SendMode
from etl.plan.model import Plan
from etl.plan.requests import make_requests
from etl.state.snapshots import accepted, record_overlay, sent_records
from tests.contract import every, strict
from tests.integration.formats.test_drafts import EXPORTS
from tests.support import strategies as drawn

Golden = dict[str, Any]
Row = Map[str, str | None]

#: Limits under which plans are made: the usual ones, and so small ones that requests are merged and cut.
LIMITS = {
    "usual": RequestLimits(),
    "small": RequestLimits(max_records=40, max_bytes=6_000, requests_per_minute=2),
    "apart": RequestLimits(max_records=40, requests_per_minute=10_000),
    "strict": RequestLimits(requests_per_minute=1, packing="strict"),
}


@dataclass(frozen=True)
class Sent:
    """What a plan sent, and what Norce took of it."""

    plan: Plan
    frame: pl.DataFrame | None
    taken: pl.DataFrame | None


class Feed:
    """A feed, and what Norce has accepted of it. Everything that is planned is given back as a golden plan."""

    def __init__(self, mapping: Mapping, limits: str = "usual") -> None:
        self.mapping = mapping
        self.limits = LIMITS[limits]
        self.accepted = pl.DataFrame(schema={KEY: pl.String, ITEM: pl.String, DEACTIVATED: pl.Boolean})
        self.pending: pl.DataFrame | None = None
        self.columns: Sequence[str] = ()
        self.last: Sent | None = None

    @property
    def name(self) -> str:
        return self.mapping.feed

    @property
    def brings_changes(self) -> bool:
        """Whether its files hold what has changed, and not everything."""
        return self.mapping.source.content == "changes"

    def file(self, source: Path | Iterable[Row], *, half: bool = False, **others: Any) -> Golden:
        """Plan a file and let Norce take it; `half`: every second record of each request."""
        made = self._plan(source, **others)
        if isinstance(made, str):
            return {"refused": made}
        golden = _golden(made)
        self._take(made, half=half)
        return golden

    def full(self, source: Path | Iterable[Row], **others: Any) -> Golden:
        """The plan that sends everything again; Norce takes nothing of it."""
        if self.brings_changes:
            return _shown(self._again)
        return _shown(lambda: self._plan(source, mode=SendMode.ALL, **others))

    def resend(self, source: Path | Iterable[Row], keys: Collection[str] | None = None) -> Golden:
        """The plan that sends two records by name; Norce takes nothing of it."""
        wanted = self._keys() if keys is None else keys
        if self.brings_changes:
            return _shown(lambda: self._again(wanted))
        return _shown(lambda: self._plan(source, mode=SendMode.SELECTED, selected_keys=wanted))

    def flush(self) -> Golden:
        """The plan without a file of what Norce has not accepted yet; Norce takes nothing of it."""
        return _shown(lambda: self._made(plan.empty_table(self.columns)))

    def undo(self) -> Golden:
        """The plan that reverts the last file that sent anything; Norce takes nothing of it."""
        if self.last is None or self.last.taken is None or self.last.plan.previous_records is None:
            return {"refused": "nothing to revert"}
        last, taken, previous = self.last, self.last.taken, self.last.plan.previous_records
        return _shown(
            lambda: undo.build_reverse_plan(
                self.mapping,
                OriginalRun("the last", last.plan.columns, taken, previous),
                self._inputs(),
            )
        )

    def known(self, field: str) -> dict[str, pl.Series]:
        """What Norce has accepted of this feed, for another one that refers to it."""
        return {field: self.accepted.filter(~pl.col(DEACTIVATED).fill_null(False))[field].cast(pl.String).rename("v")}

    def others(self) -> dict[str, pl.DataFrame]:
        """What Norce has accepted of this feed, for another one of the same import."""
        return {self.name: self.accepted}

    def _keys(self) -> list[str]:
        """A part of the keys of the second and of the fourth record."""
        words = [key.split("\x1f")[0].partition("=") for key in self.accepted[KEY].to_list()[1:4:2]]
        return [after if sign and re.fullmatch(r"[A-Za-z]+", before) else before for before, sign, after in words]

    def _plan(self, source: Path | Iterable[Row], **others: Any) -> Plan | str:
        try:
            table = _read(source, self.mapping.source.dialect) if isinstance(source, Path) else _table(source)
            return self._made(table, **others)
        except InvalidFileError as error:
            return error.code

    def _made(self, reading: Any, mode: SendMode = SendMode.CHANGED, **others: Any) -> Plan:
        return plan.build_plan(reading, self.mapping, self._inputs(pending_records=self.pending, **others), mode)

    def _again(self, only: Collection[str] = ()) -> Plan:
        inputs = self._inputs(pending_records=self.pending, selected_keys=only)
        return plan.build_resend_plan(self.mapping, self.columns, inputs)

    def _inputs(self, **others: Any) -> PlanInputs:
        return PlanInputs(self.accepted.lazy(), account_id=7, request_limits=self.limits, **others)

    def _take(self, made: Plan, *, half: bool) -> None:
        parts, ranges = [], []
        for request in make_requests(made):
            parts.append(
                sent_records.build_sent_records(
                    request.frame, request.bits, request.number, made.layout, request.retired_records
                )
            )
            ranges.append(
                AcceptedRange(request.number, tuple(range(0, request.records, 2 if half else 1)), frozenset())
            )
        if made.blocked_records is not None and made.blocked_records.height:
            parts.append(sent_records.build_blocked_records(made.blocked_records, made.layout))
        self.columns, self.pending = made.columns, None
        if not parts:
            return
        frame, overlay = pl.concat(parts, how="diagonal"), Overlay("run", tuple(ranges))
        taken = sent_records.select_accepted(frame, overlay)
        before = self.accepted
        self.accepted = record_overlay.overlay_records(before.lazy(), taken).collect()
        self.last = Sent(made, frame, taken)
        left = sent_records.select_unaccepted(frame, overlay)
        if self.brings_changes and left.height:
            known = self.accepted.join(left.select(KEY), on=KEY, how="semi", maintain_order="left")
            origin = pl.struct(
                pl.lit("run").alias("run"), pl.lit("file.csv").alias("file"), pl.col(ROW).cast(pl.Int64).alias("row")
            )
            came = left.select(KEY, origin.cast(ORIGIN_TYPE).alias(ORIGIN)).unique(
                KEY, keep="last", maintain_order=True
            )
            self.pending = accepted.build_pending_records(known, left).join(
                came, on=KEY, how="left", maintain_order="left"
            )


def _shown(planned: Any) -> Golden:
    try:
        made = planned()
    except InvalidFileError as error:
        return {"refused": error.code}
    return {"refused": made} if isinstance(made, str) else _golden(made)


def _golden(made: Plan) -> Golden:
    """The golden form of a plan: counts, then the requests in their order."""
    listed: list[dict[str, Any]] = []
    try:
        for request in make_requests(made):
            header = {"AccountId": made.account_id, **request.header}  # as the client sends it
            wrong = strict.Request(made.mapping.operation.id, json.dumps(header), request.payload).problems()
            assert wrong == []
            line: dict[str, Any] = {
                "wave": request.wave,
                "method": made.mapping.operation.id,
                "header": header,
                "records": request.records,
                "values": request.values,
                "sha256": hashlib.sha256(request.payload).hexdigest(),
            }
            if request.retired_records is not None and request.retired_records.height:
                line["switched_off"] = request.retired_records.height
            listed.append(line)
    except InvalidFileError as error:
        return {"refused": error.code}
    counts = made.counts
    numbers = {
        "rows": counts.rows,
        "rejected": counts.rejected,
        "skipped": counts.skipped,
        "unchanged": counts.unchanged,
        "new": counts.new,
        "changed": counts.changed,
        "gone": counts.gone,
        "waiting": counts.blocked,
        "withheld": made.suppressed,
        "cleared": made.cleared,
        "questions": len(made.hold_reasons),
        "irreversible": sum(found["records"] for found in made.irreversible),
        "requests": len(listed),
        "records": sum(line["records"] for line in listed),
        "values": sum(line["values"] for line in listed),
    }
    codes = made.rejections.frame["code"].value_counts().sort("code").rows() if made.rejections.frame.height else ()
    return {
        "counts": {name: number for name, number in numbers.items() if number},
        "rejections": dict(codes),
        "rejected_rows": _rejected(made),
        "requests": listed,
    }


def _rejected(made: Plan) -> str:
    """A digest of which cells were rejected and why; empty without any."""
    frame = made.rejections.frame
    if frame.is_empty():
        return ""
    rows = [list(row) for row in frame.select("row", "column", "code", "value").iter_rows()]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


@lru_cache(maxsize=4)
def _read(path: Path, dialect: Dialect) -> Table:
    return formats.read_table(path, dialect)


def _table(rows: Iterable[Row]) -> Table:
    cells = [dict(row) for row in rows]
    names = list(dict.fromkeys(name for row in cells for name in row))
    frame = pl.DataFrame(
        {ROW: list(range(2, len(cells) + 2)), **{name: [row.get(name) or None for row in cells] for name in names}},
        schema={ROW: pl.Int64, **dict.fromkeys(names, pl.String)},
    )
    return Table(frame, Rejections(pl.DataFrame(schema=REJECTION_SCHEMA)), frame.height)


def mapping(source: Path | str) -> Mapping:
    """A mapping from its file, or from its text."""
    if isinstance(source, Path):
        return load.load_mapping(source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feed.yaml"
        path.write_text(source, encoding="utf-8")
        return load.load_mapping(path)


def mappings(folder: Path) -> list[Mapping]:
    """All mappings of a folder, which have no mistakes."""
    found, problems = load.load_mappings(folder)
    assert not problems
    return sorted(found, key=lambda each: each.feed)


def belongs(name: str, feed: Mapping) -> bool:
    """Whether a file of this name, below the inbox, is one of the feed."""
    return bool(routing.match_mappings(name, [feed]))


def case_folders(feed: Mapping) -> list[Path]:
    """The folders with cases of a feed, by name."""
    return cases.case_folders(feed)


def drafted(path: Path) -> Mapping:
    """The mapping that `etl init` drafts for a real export, with its gaps filled."""
    _, filled = EXPORTS[path.name] or ("", {})
    text = init.draft_mapping(path, None)
    for field, value in filled.items():
        text = re.sub(rf"# TODO {field}: .*", f"{field}: {value}", text)
    return mapping(text)


def drafts(but: Collection[str]) -> list[str]:
    """Names of the real exports that have a draft for an import, except for these imports."""
    return sorted(name for name, known in EXPORTS.items() if known is not None and known[0] not in but)


def contract_files(
    is_wanted: Callable[[str, str, bool], bool],
) -> Iterator[tuple[str, Mapping, bool, list[list[Row]]]]:
    """For each import and each wanted way of writing its mapping: name, mapping, whether in full, files of two days.

    What is wanted is asked by import, name of the way, and whether it is in full: reading a mapping takes time.
    """
    for operation in every.CONTRACT.operations.values():
        for way in every.ways(operation):
            if not is_wanted(operation.id, way.name, way.full):
                continue
            made = every.make(operation, way)
            first, second = made.rows
            fixed = every.identities(operation, made)
            changed = {name: cell if name in fixed else second[name] for name, cell in first.items()}
            yield f"{operation.id}, {way.name}", mapping(made.text), way.full, [[first, second], [changed, second]]


def changes_of_each_field(but: Collection[str]) -> Iterator[tuple[str, Mapping, list[list[Row]]]]:
    """For each other import a mapping, and files of two days between which each record changes in another field."""
    for operation in every.CONTRACT.operations.values():
        if operation.id in but:
            continue
        made = every.make(operation, every.Way(), ("PriceRule", "PriceRuleValue"))
        before, after = every.one_change_each(operation, made)
        yield operation.id, mapping(made.text), [list(before), list(after)]


def drawn_files() -> Iterator[tuple[str, Mapping, list[list[Row]]]]:
    """Feeds with every turn that a change can take: what is special about it, mapping, and files of two days."""
    for name in drawn.FEEDS:
        case = drawn.Case(name, 1)
        yield name, case.feed, [list(case.drawn_rows()), list(case.drawn_rows())]
