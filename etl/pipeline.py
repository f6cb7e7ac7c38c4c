"""One file from the inbox to filed away, and whatever a crash has left of that.

Order of writes, by the numbers of the crash table in docs/ARCHITECTURE.md: 1 the file is claimed (rename); 2 a run
is opened for each feed it belongs to, then the plan is made: payloads, sent records and rejections are synced, then
the chunks are in the ledger; 3-7 are `etl.upload`'s; 8 report written, run closed; 9 file filed away. A start looks
at what there is and goes on from there; nothing is remembered anywhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from etl import durable, inbox, mapping_links, report, run_folder, upload
from etl.config import Settings
from etl.errors import FileRefused, StateError
from etl.history import Before
from etl.ledger import Ledger
from etl.mapping import Mapping
from etl.model import Run, RunState

if TYPE_CHECKING:
    from etl.plan import Plan


def routes(name: str, mappings: Iterable[Mapping]) -> list[Mapping]:
    """The feeds that a file belongs to by its name below the inbox, in the order in which they are to run."""
    known = list(mappings)
    order = mapping_links.ranks(known)
    found = [m for m in known if any(fnmatchcase(name, pattern) for pattern in m.source.files)]
    return sorted(found, key=lambda m: order[m.feed])


class Pipeline:
    """Carries files through. One per state folder at a time; see `etl.session`."""

    def __init__(
        self,
        settings: Settings,
        account_id: int,
        ledger: Ledger,
        connect: upload.Service,
        mappings: Sequence[Mapping],
        stop: threading.Event,
        tell: Callable[..., None],
        *,
        patience: float | None = None,
    ) -> None:
        self._settings = settings
        self._account_id = account_id
        self._ledger = ledger
        self._connect = connect
        self._mappings = {mapping.feed: mapping for mapping in mappings}
        self._ranks = mapping_links.ranks(mappings)
        self._stop = stop
        self._tell = tell
        self._patience = patience
        self._state = settings.paths.state

    # -- what there is to do ------------------------------------------------------------------------------------

    def claim(self, name: str) -> list[Run]:
        """Take a settled file out of the inbox and open its runs; nothing when it belongs to no feed."""
        feeds = routes(name, self._mappings.values())
        if not feeds:
            return []
        base = new_id()
        source = inbox.claim(self._settings.paths.inbox, name, self._state, base)
        if source is None:
            return []
        self._tell("file_claimed", file=name, bytes=source.size)
        return self._open(base, source.path, name, source.digest, feeds)

    def leftovers(self) -> list[Run]:
        """What a crash or a stop has left: claimed files without runs get them, open runs come back in order."""
        for base, path in inbox.claimed_files(self._state).items():
            name = path.relative_to(inbox.claim_folder(self._state, base)).as_posix()
            feeds = routes(name, self._mappings.values())
            known = [run for m in feeds if (run := self._ledger.run(f"{base}-{m.feed}")) is not None]
            if len(known) < len(feeds) and not base.endswith(("-full", "-rerun")):
                missing = [m for m in feeds if self._ledger.run(f"{base}-{m.feed}") is None]
                self._open(base, path, name, inbox.look_at(path).digest, missing)
            for run in known:
                if run.state.is_final:
                    self._file_away(run)
        return [run for run in self._ledger.open_runs() if run.state is not RunState.HELD]

    def again(self, feed: str, source: Run, kind: Literal["full", "rerun"]) -> Run:
        """A new run over the file of an older one. Raises StateError when that file is no longer there."""
        path = archived_file(source)
        if path is None:
            raise StateError(
                "file-not-kept",
                f"the file of run {source.id} is not in the archive",
                where=str(source.archive or self._state),
                hint="drop the file into the inbox again",
            )
        base = f"{new_id()}-{kind}"
        target = inbox.claim_folder(self._state, base) / path.name
        durable.make_folder(target.parent)
        shutil.copyfile(path, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        durable.sync_folder(target.parent)
        return self._open(base, target, source.file, source.digest, [self._mappings[feed]], kind)[0]

    def _open(
        self,
        base: str,
        path: Path,
        name: str,
        digest: str,
        feeds: Iterable[Mapping],
        kind: Literal["file", "full", "rerun"] = "file",
    ) -> list[Run]:
        runs = []
        for mapping in feeds:
            run = Run(
                id=f"{base}-{mapping.feed}",
                feed=mapping.feed,
                operation=mapping.operation.id,
                file=name,
                digest=digest,
                state=RunState.CLAIMED,
                kind=kind,
                started=datetime.now(UTC),
                claimed=path,
            )
            self._ledger.open_run(run)
            runs.append(run)
        return runs

    def rank(self, name: str) -> tuple[int, int, str] | None:
        """Where a file stands in the order of work; None when its name fits no mapping."""
        feeds = routes(name, self._mappings.values())
        return self._ranks[feeds[0].feed] if feeds else None

    def discard(self, run: Run) -> None:
        """File a held run away unsent."""
        facts = json.loads((run_folder.path(self._state, run.id) / "plan.json").read_bytes())
        self._end(run, RunState.DISCARDED, facts, None)

    def followers(self, run: Run) -> list[Run]:
        """New runs over the newest files of feeds that waited for what this run has had accepted."""
        if run.state is not RunState.DONE or not run.counts.records_sent:
            return []
        opened = []
        for mapping in self._mappings.values():
            if all(feed != run.feed for feed, _ in mapping.references.values()):
                continue
            newest = next(iter(self._ledger.runs(1, mapping.feed)), None)
            if newest is not None and newest.state is RunState.DONE and newest.counts.waiting:
                opened.append(self.again(mapping.feed, newest, "rerun"))
        return opened

    def due_full(self, now: datetime) -> list[Run]:
        """Full runs whose time has come, each over the newest file of its feed."""
        opened = []
        for mapping in self._mappings.values():
            if mapping.full is None:
                continue
            done = [run for run in self._ledger.runs(200, mapping.feed) if run.started is not None]
            last = next((run for run in done if run.kind == "full"), done[-1] if done else None)
            source = next((run for run in done if run.state is RunState.DONE and archived_file(run)), None)
            if last is None or source is None or last.started is None:
                continue
            if mapping_links.due(mapping.full, last.started, now):
                opened.append(self.again(mapping.feed, source, "full"))
        return opened

    # -- one run ------------------------------------------------------------------------------------------------

    def work(self, run: Run) -> Run:
        """Bring a run to its end, or as far as it goes: held, or open when stopped. Raises EtlError when Connect
        cannot be reached or refuses everything; the run stays open then and is gone on with later."""
        if run.state is RunState.CLAIMED:
            run = self._plan(run)
        if run.state in (RunState.PLANNED, RunState.SENDING):
            done = upload.carry_out(
                run.id,
                self._ledger,
                self._connect,
                self._settings.limits,
                lambda chunk: run_folder.records_of(self._state, chunk),
                self._stop,
                on_event=lambda event, **facts: self._tell(event, run=run.id, **facts),
                patience=self._patience,
            )
            if done:
                run = self._finish(run)
        return run

    def _plan(self, run: Run) -> Run:
        mapping = self._mappings.get(run.feed)
        if mapping is None:
            raise StateError(
                "feed-unknown",
                f"run {run.id} waits for the feed {run.feed}, which has no usable mapping",
                where=str(self._settings.paths.mappings),
                hint="bring the mapping back, or correct it; see `etl check`",
            )
        try:
            plan = self._made(run, mapping)
            chunks, facts = run_folder.store(self._state, run, plan)
        except FileRefused as error:
            self._tell("run_refused", run=run.id, code=error.code)
            self._end(run, RunState.REFUSED, {}, str(error))
            return self._again(run)
        counts = replace(
            plan.counts,
            requests=len(chunks),
            records_sent=sum(chunk.records for chunk in chunks),
            values_sent=sum(chunk.values for chunk in chunks),
        )
        state = RunState.HELD if plan.doubts else RunState.PLANNED
        self._ledger.planned(run.id, counts, chunks, state)
        self._tell(
            "plan_made",
            run=run.id,
            state=state.value,
            rows=counts.rows,
            rejected=counts.rejected,
            new=counts.new,
            changed=counts.changed,
            requests=len(chunks),
            **facts,
        )
        return self._again(run)

    def _made(self, run: Run, mapping: Mapping) -> Plan:
        from etl import formats, plan

        assert run.claimed is not None
        accepted = read_accepted(self._ledger, self._state, run.feed)
        terms = self.terms()
        if run.kind == "full" and mapping.source.content == "changes":
            columns = self._columns_of(run.feed)
            return plan.again(mapping, columns, accepted, terms)
        table = formats.read(run.claimed, mapping.source.dialect)
        known = known_values(self._ledger, self._state, mapping)
        before = file_before(self._ledger, mapping, run.claimed)
        return plan.make(
            table,
            mapping,
            accepted,
            terms,
            full=run.kind == "full",
            known=known,
            before=before,
            foreign=self._foreign(mapping, run),
        )

    def _foreign(self, mapping: Mapping, run: Run) -> dict[str, Any]:
        """What other feeds of the same import have had accepted; only a full feed needs to know."""
        others = [
            other
            for other in self._mappings.values()
            if other.operation.id == mapping.operation.id and other.feed != mapping.feed and run.kind == "full"
        ]
        return {other.feed: read_accepted(self._ledger, self._state, other.feed) for other in others}

    def terms(self) -> Any:
        """What plans depend on besides file, mapping and *accepted*."""
        return terms(self._settings, self._account_id)

    def _columns_of(self, feed: str) -> list[str]:
        """Source columns of the feed's newest planned run."""
        for run in self._ledger.runs(50, feed):
            if run.archive is not None:
                with contextlib.suppress(OSError, ValueError, KeyError):
                    made = json.loads((run.archive / "report.json").read_bytes())
                    return list(made["plan"]["columns"])
        return []

    def _finish(self, run: Run) -> Run:
        run = self._again(run)
        chunks = self._ledger.chunks(run.id)
        refusals = self._ledger.refusals(run.id)
        counts = report.totals(run.counts, chunks, refusals)
        folder = run_folder.path(self._state, run.id)
        facts = json.loads((folder / "plan.json").read_bytes())
        self._end(replace(run, counts=counts), RunState.DONE, facts, None)
        run = self._again(run)
        self._compact(run.feed)
        self._tell(
            "run_finished",
            run=run.id,
            rows=counts.rows,
            rejected=counts.rejected,
            refused=counts.refused,
            unchanged=counts.unchanged,
            new=counts.new,
            changed=counts.changed,
            gone=counts.gone,
            requests=counts.requests,
        )
        return run

    def _end(self, run: Run, state: RunState, facts: dict[str, Any], error: str | None) -> None:
        """Report written, run closed, file filed away, in this order."""
        day = (run.started or datetime.now(UTC)).date()
        archive = inbox.archive_folder(self._state, run.id, day)
        durable.make_folder(archive)
        for name in ("rejections.csv", "rejections.xlsx"):
            with contextlib.suppress(FileNotFoundError):
                durable.write(archive / name, (run_folder.path(self._state, run.id) / name).read_bytes())
        ended = replace(run, state=state, ended=datetime.now(UTC), error=error, archive=archive)
        made = report.report_json(ended, self._ledger.chunks(run.id), self._ledger.refusals(run.id), facts)
        durable.write(archive / "report.json", json.dumps(made, ensure_ascii=False, indent=2).encode())
        self._ledger.close(run.id, state, run.counts, error, archive)
        self._file_away(ended)

    def _file_away(self, run: Run) -> None:
        """Into the run's archive; while another open run needs the file, a second name of it."""
        if run.claimed is None or run.archive is None or not run.claimed.exists():
            return
        sharing = [other for other in self._ledger.open_runs() if other.claimed == run.claimed and other.id != run.id]
        if sharing:
            target = run.archive / run.claimed.name
            with contextlib.suppress(FileExistsError):
                os.link(run.claimed, target)
            durable.sync_folder(run.archive)
        else:
            inbox.archive(run.claimed, run.archive)

    def _compact(self, feed: str) -> None:
        """Bring the closed runs of a feed into a new base; what they needed on disk goes."""
        from etl import accepted

        overlays = self._ledger.overlays(feed)
        closed = [o.run for o in overlays if (r := self._ledger.run(o.run)) is not None and r.state.is_final]
        if not closed or len(closed) < len(overlays):
            return
        frame = accepted.read(self._state, feed, self._ledger.generation(feed), overlays)
        before = self._ledger.generation(feed)
        name = accepted.compact(self._state, feed, closed[-1], frame)
        self._ledger.compacted(feed, name, closed)
        for run in closed:
            shutil.rmtree(run_folder.path(self._state, run), ignore_errors=True)
        if before is not None and before != name:
            accepted.base_path(self._state, feed, before).unlink(missing_ok=True)

    def _again(self, run: Run) -> Run:
        found = self._ledger.run(run.id)
        if found is None:
            raise StateError("run-lost", f"run {run.id} is no longer in the ledger", hint="restore the state folder")
        return found


def terms(settings: Settings, account_id: int) -> Any:
    """The plan's terms out of the settings."""
    from etl.plan import Terms

    limits = settings.limits
    return Terms(
        account_id=account_id,
        max_records=limits.max_records,
        max_bytes=limits.max_bytes,
        requests_per_minute=max(1, int(limits.requests * 60 / limits.per_seconds)),
    )


def read_accepted(ledger: Ledger, state: Path, feed: str) -> Any:
    """What Norce has from a feed, as a frame."""
    from etl import accepted

    return accepted.read(state, feed, ledger.generation(feed), ledger.overlays(feed))


def known_values(ledger: Ledger, state: Path, mapping: Mapping) -> dict[str, Any]:
    """For each field with a reference: the values that are accepted in the feed it refers to, as text."""
    import polars as pl

    from etl.diff import GONE

    known: dict[str, pl.Series] = {}
    for field, (feed, target) in mapping.references.items():
        frame = read_accepted(ledger, state, feed)
        columns = [name for name in frame.columns if name.rpartition(".")[2] == target]
        alive = frame.filter(~pl.col(GONE).fill_null(False))
        parts = [alive[name].drop_nulls().cast(pl.String).rename("v") for name in columns]
        known[field] = pl.concat(parts) if parts else pl.Series("v", dtype=pl.String)
    return known


def file_before(ledger: Ledger, mapping: Mapping, path: Path) -> Before | None:
    """The newest file of the feed that went through. Sizes are compared where they are those of the text."""
    newest = next((r for r in ledger.runs(200, mapping.feed, RunState.DONE) if r.kind != "full"), None)
    if newest is None:
        return None
    kept = archived_file(newest)
    if kept is None or mapping.source.dialect.format == "excel" or {kept.suffix, path.suffix} & {".zip", ".gz"}:
        return Before(newest.id, newest.counts.rows)
    return Before(newest.id, newest.counts.rows, kept.stat().st_size, path.stat().st_size)


def archived_file(run: Run) -> Path | None:
    """Where the file of a finished run is kept."""
    if run.archive is None:
        return None
    path = run.archive / Path(run.file).name
    return path if path.exists() else None


def new_id() -> str:
    """Sortable by time, unique without asking anyone."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
