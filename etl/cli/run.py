"""The commands that work: watch, once, again. Each ends with a status that says how it went."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from etl import app as session
from etl import log
from etl.app import Session
from etl.apply import job_outcome as verdict
from etl.cli import show as screens
from etl.cli import tables
from etl.cli.progress import Progress
from etl.config.settings import Settings
from etl.errors import EtlError, Exit, MappingInvalid, StateError, UsageError
from etl.ingest import scan
from etl.maintenance import retention
from etl.mapping import conflicts as mapping_owners
from etl.mapping import load as mapping_file
from etl.model.runs import Chunk, ChunkState, Run, RunState
from etl.report import run_report as report
from etl.runs import alerts as notices
from etl.runs import job_restart as restart
from etl.shutdown import Stop, on_signals
from etl.sources import poller as rounds
from etl.state.files import run_folder

#: Seconds without any answer from Connect after which `once` leaves the rest for later.
PATIENCE = 120.0

#: Seconds between two looks at what may go now, when nothing is heard.
_LOOK = 5.0

#: What counts most when several runs ended differently.
WORST = (Exit.DEFECT, Exit.CANNOT_GO_ON, Exit.CONNECT, Exit.HELD, Exit.ROWS_REJECTED, Exit.OK)


def once(settings: Settings, *, as_json: bool, verbose: bool) -> Exit:
    """What is in the inbox, to its end."""
    with working(settings, verbose, PATIENCE) as work:
        seen: set[str] = set()
        folder, traffic, lacking = settings.paths.inbox, work.traffic, work.pipeline.intake.lacking
        for ready in _looks(work):
            _claim(work, ready, seen)
            if _step(work):
                traffic.news.set()
            elif not traffic.busy and (traffic.closed or not scan.scan(folder).keys() - seen - lacking.keys()):
                owing = [] if traffic.closed else work.pipeline.owing({run.feed for run in traffic.results()})
                owing += [] if traffic.closed else work.pipeline.woken()
                if not owing:
                    break
                traffic.add(owing)
        _notice(work)
        _retaining(work).look(datetime.now(UTC))
        for name, reason in sorted(lacking.items()):
            click.echo(f"{name} stays in the inbox: {reason}", err=True)
    return conclude(work, as_json=as_json)


def run(settings: Settings, *, verbose: bool) -> Exit:
    """Until stopped. Trouble with Connect keeps the run open and is tried again at every look."""
    with (
        working(settings, verbose, None, listen=True) as work,
        rounds.beside(work.settings, work.ledger, work.stop, work.tell),
    ):
        unknown: set[str] = set()
        folder, traffic = settings.paths.inbox, work.traffic
        looked, retaining = -math.inf, _retaining(work)
        for ready in _looks(work):
            if time.monotonic() - looked >= settings.watch.rescan_seconds:
                looked = time.monotonic()
                traffic.add(work.pipeline.due_full(datetime.now(UTC)))
                traffic.add(work.pipeline.woken())
                traffic.retry()
                _notice(work)
                unknown &= scan.scan(folder).keys()
            _claim(work, ready, unknown)
            if _step(work):
                traffic.news.set()
            elif not traffic.busy:
                retaining.look(datetime.now(UTC))
            traffic.forget()
        log.logger().info("service_stopped")
    return Exit.OK


def undo(settings: Settings, run_id: str, *, as_json: bool, verbose: bool) -> Exit:
    """Plan the way back before a run, and wait for a yes."""
    with working(settings, verbose, PATIENCE) as work:
        opened = work.pipeline.undo(screens.find_run(work.ledger, run_id))
        to_the_end(work, opened)
    status = conclude(work, as_json=as_json)
    if not as_json:
        screens.show(settings, opened.id, as_json=False)
    return status


def approve(settings: Settings, run_id: str, *, as_json: bool, verbose: bool) -> Exit:
    """Send what was held, as it was planned."""
    with working(settings, verbose, PATIENCE) as work:
        held = _held(work, run_id)
        _refuse_outdated(work, held)
        work.ledger.release(held.id)
        to_the_end(work, screens.find_run(work.ledger, held.id))
    return conclude(work, as_json=as_json)


def restart_job(settings: Settings, job_id: int, *, verbose: bool) -> Exit:
    """Let an ended job run again with its old payload, and follow it to its end."""
    with working(settings, verbose, PATIENCE) as work:
        made = restart.begin(work.ledger, work.connect, job_id, time.time())
        click.echo(f"job {job_id} runs again" + (f" as job {made.again}" if made.again != job_id else ""))
        job = restart.follow(work.ledger, work.connect, made, work.stop)
    if job is None:
        return Exit.INTERRUPTED
    failed = f", {job.failed} of {job.total} records failed" if job.failed else ""
    click.echo(f"it has ended: {tables.STATUS.get(job.status or 0, 'unknown')}{failed}")
    return Exit.OK if job.status == verdict.SUCCEEDED and not job.failed else Exit.CONNECT


def discard(settings: Settings, run_id: str) -> Exit:
    """File a held run away unsent."""
    with working(settings, False, PATIENCE) as work:
        held = _held(work, run_id)
        work.pipeline.discard(held)
        click.echo(f"{held.id} is discarded; its file is kept in the archive")
    return Exit.OK


def _refuse_outdated(work: Session, held: Run) -> None:
    """What was planned holds against what was accepted then; sent over something newer it would roll that back."""
    planned = run_folder.facts(work.settings.paths.state, held.id).get("moves", 0)
    if work.ledger.moves(held.feed) == planned:
        return
    others = (run for run in work.ledger.runs(1000, held.feed) if run.id != held.id)
    newer = next(
        (run for run in others if any(c.state is ChunkState.ACCEPTED for c in work.ledger.chunks(run.id))), None
    )
    who = f"run {newer.id} has changed" if newer is not None else "something has changed"
    raise StateError(
        "plan-outdated",
        f"{who} what Norce has of {held.feed} since {held.id} was planned",
        where=held.id,
        hint=f"`etl discard {held.id}`; if its file is still wanted, drop it into the inbox again",
    )


def _held(work: Session, run_id: str) -> Run:
    found = screens.find_run(work.ledger, run_id)
    if found.state is not RunState.HELD:
        raise UsageError("run-not-held", f"run {found.id} is {found.state.value}, not held", hint="`etl status`")
    return found


@contextmanager
def working(settings: Settings, verbose: bool, patience: float | None, *, listen: bool = False) -> Iterator[Session]:
    """A session with its mappings, signals, log and progress. Raises MappingInvalid when no mapping is usable."""
    log.set_up(verbose=verbose)
    good, bad = mapping_file.read_all(settings.paths.mappings)
    if not good:
        raise _no_mapping(settings, bad)
    for error in (*bad, *mapping_owners.conflicts(good).values()):
        click.echo(str(error), err=True)
    settings.paths.inbox.mkdir(parents=True, exist_ok=True)
    if settings.connect is None:
        click.echo("no [connect] settings: the built-in sandbox is used, nothing reaches Norce", err=True)
    stop = Stop()
    progress = Progress()
    with on_signals(stop):
        tell = progress.tell
        opened = session.opened(settings, good, stop=stop, tell=tell, patience=patience, listen=listen)
        with opened as work, progress:
            yield work


def _no_mapping(settings: Settings, bad: Sequence[MappingInvalid]) -> EtlError:
    """Why there is nothing to work by: no mapping at all, or none without mistakes."""
    if bad:
        return MappingInvalid([problem for error in bad for problem in error.problems])
    return UsageError(
        "no-mappings",
        "there is no mapping file",
        where=str(settings.paths.mappings),
        hint="write one (docs/mapping.md), and check it with `etl check`",
    )


def _ordered(names: frozenset[str] | set[str], work: Session, unknown: set[str]) -> list[str]:
    """Files in the order of what they feed; what feeds nothing is left where it is and said once."""
    ranked = []
    for name in names:
        rank = work.pipeline.intake.rank(name)
        if rank is None:
            unknown.add(name)
            if work.pipeline.intake.is_companion(name):
                continue
            reason = scan.unfit(name) or "its name fits no mapping; it stays where it is"
            log.logger().warning("file_unclaimed", file=name, reason=reason)
        else:
            ranked.append((rank, scan.scan_time(work.settings.paths.inbox / name), name))
    return [name for *_, name in sorted(ranked)]


def _retaining(work: Session) -> retention.Retaining:
    return retention.Retaining(work.ledger, work.settings.paths.state, work.settings.retention, work.tell)


def _looks(work: Session) -> Iterator[dict[str, scan.Look]]:
    """Settled names, whenever there is something to see or to do."""
    watch = work.settings.watch
    return scan.watch(
        work.settings.paths.inbox, watch.settle_seconds, watch.rescan_seconds, work.stop, wake=work.traffic.news
    )


def _notice(work: Session) -> None:
    """Tell what is late, waits and the like."""
    pipeline = work.pipeline
    notices.refresh(work.ledger, pipeline.mappings, datetime.now(UTC), work.tell, pipeline.intake.waiting())


def _claim(work: Session, ready: dict[str, scan.Look], unknown: set[str]) -> None:
    for name in _ordered(ready.keys() - unknown, work, unknown):
        if work.stop.is_set():
            break
        work.traffic.add(work.pipeline.intake.claim(name, ready[name]))


def _step(work: Session) -> bool:
    """One step, and what is to be said of it."""
    known = len(work.traffic.trouble)
    more = work.traffic.step()
    said: set[str] = set()
    for opened, error in work.traffic.trouble[known:]:
        stays = f"run {opened.id} stays open and is gone on with later"
        click.echo(stays if str(error) in said else f"{stays}\n{error}", err=True)
        said.add(str(error))
    return more


def to_the_end(work: Session, opened: Run) -> None:
    """One run, and what follows from it."""
    traffic = work.traffic
    traffic.only(opened)
    while not work.stop.is_set():
        if _step(work):
            continue
        if not traffic.busy:
            break
        traffic.news.wait(_LOOK)
        traffic.news.clear()


def conclude(work: Session, *, as_json: bool) -> Exit:
    """Print how it went; the status."""
    from etl.state.ledger.facade import Ledger

    ended, trouble = work.traffic.results(), [error for _, error in work.traffic.trouble]

    with Ledger.read(work.settings.paths.state) as ledger:
        pairs = [(ledger.run(run.id) or run, ledger.chunks(run.id)) for run in ended]
    if as_json:
        tables.print_json({"runs": [report.run_json(run, chunks) for run, chunks in pairs]})
    elif pairs:
        tables.runs_table(pairs)
        for run, chunks in pairs:
            _advise(run, chunks)
    else:
        click.echo("nothing to do")
    states = {status_of(run, chunks) for run, chunks in pairs} | {error.exit_status for error in trouble}
    if work.stop.is_set():
        return Exit.INTERRUPTED
    return next((status for status in WORST if status in states), Exit.OK)


def _advise(run: Run, chunks: Sequence[Chunk]) -> None:
    if run.state is RunState.REFUSED and run.error:
        click.echo(f"{run.file}: {run.error}", err=True)
    if run.state is RunState.HELD:
        click.echo(f"held: {run.id}: look with `etl show`, then `etl approve` or `etl discard` it")
    elif run.counts.rejected or run.counts.refused or any(c.state is ChunkState.FAILED for c in chunks):
        click.echo(f"more: `etl show {run.id}`")
    if run.counts.rejected and run.archive:
        click.echo(f"      {os.path.relpath(run.archive / 'rejections.csv')}")


def status_of(run: Run, chunks: Sequence[Chunk]) -> Exit:
    """How one run went."""
    if run.state is RunState.REFUSED:
        return Exit.CANNOT_GO_ON
    if run.state is RunState.HELD:
        return Exit.HELD
    if any(chunk.state is ChunkState.FAILED for chunk in chunks) or run.counts.refused:
        return Exit.CONNECT
    return Exit.ROWS_REJECTED if run.counts.rejected else Exit.OK
