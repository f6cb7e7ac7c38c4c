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
from etl.apply import job_outcome
from etl.cli import show, tables
from etl.cli.progress import RunDisplay
from etl.config.settings import Settings
from etl.errors import EtlError, ExitStatus, InvalidMappingError, StateError, UsageError
from etl.ingest import scan
from etl.maintenance import retention
from etl.mapping import conflicts, load
from etl.model.runs import Chunk, ChunkState, Run, RunState
from etl.report import run_report
from etl.runs import alerts, job_restart
from etl.shutdown import ShutdownEvent, set_on_signals
from etl.sources import poller
from etl.state.files import run_folder

#: Seconds without any answer from Connect after which `once` leaves the rest for later.
CONNECT_TIMEOUT = 120.0

#: Seconds between two looks at what may go now, when nothing is heard.
_STEP_INTERVAL = 5.0

#: What counts most when several runs ended differently.
EXIT_PRECEDENCE = (
    ExitStatus.INTERNAL_ERROR,
    ExitStatus.CANNOT_CONTINUE,
    ExitStatus.CONNECT_ERROR,
    ExitStatus.HELD,
    ExitStatus.ROWS_REJECTED,
    ExitStatus.OK,
)


def once(settings: Settings, *, as_json: bool, verbose: bool) -> ExitStatus:
    """What is in the inbox, to its end."""
    with worker_session(settings, verbose, CONNECT_TIMEOUT) as work:
        seen: set[str] = set()
        folder, traffic, lacking = settings.paths.inbox, work.coordinator, work.lifecycle.intake.not_ready
        for ready in _watch_inbox(work):
            _claim_files(work, ready, seen)
            if _step_and_report(work):
                traffic.wake_event.set()
            elif not traffic.is_busy and (
                traffic.connect_unavailable or not scan.scan(folder).keys() - seen - lacking.keys()
            ):
                owing = (
                    []
                    if traffic.connect_unavailable
                    else work.lifecycle.flush_pending({run.feed for run in traffic.results()})
                )
                owing += [] if traffic.connect_unavailable else work.lifecycle.open_unblocked()
                if not owing:
                    break
                traffic.add(owing)
        _refresh_alerts(work)
        _make_retention(work).apply(datetime.now(UTC))
        for name, reason in sorted(lacking.items()):
            click.echo(f"{name} stays in the inbox: {reason}", err=True)
    return print_results(work, as_json=as_json)


def run(settings: Settings, *, verbose: bool) -> ExitStatus:
    """Until stopped. Trouble with Connect keeps the run open and is tried again at every look."""
    with (
        worker_session(settings, verbose, None, listen=True) as work,
        poller.poll_in_background(work.settings, work.ledger, work.shutdown, work.emit),
    ):
        unknown: set[str] = set()
        folder, traffic = settings.paths.inbox, work.coordinator
        looked, retaining = -math.inf, _make_retention(work)
        for ready in _watch_inbox(work):
            if time.monotonic() - looked >= settings.watch.rescan_seconds:
                looked = time.monotonic()
                traffic.add(work.lifecycle.open_due_full_runs(datetime.now(UTC)))
                traffic.add(work.lifecycle.open_unblocked())
                traffic.retry_stalled()
                _refresh_alerts(work)
                unknown &= scan.scan(folder).keys()
            _claim_files(work, ready, unknown)
            if _step_and_report(work):
                traffic.wake_event.set()
            elif not traffic.is_busy:
                retaining.apply(datetime.now(UTC))
            traffic.clear_results()
        log.write_event("service_stopped")
    return ExitStatus.OK


def undo(settings: Settings, run_id: str, *, as_json: bool, verbose: bool) -> ExitStatus:
    """Plan the way back before a run, and wait for a yes."""
    with worker_session(settings, verbose, CONNECT_TIMEOUT) as work:
        opened = work.lifecycle.undo(show.find_run(work.ledger, run_id))
        run_to_completion(work, opened)
    status = print_results(work, as_json=as_json)
    if not as_json:
        show.show(settings, opened.id, as_json=False)
    return status


def approve(settings: Settings, run_id: str, *, as_json: bool, verbose: bool) -> ExitStatus:
    """Send what was held, as it was planned."""
    with worker_session(settings, verbose, CONNECT_TIMEOUT) as work:
        held = _find_held_run(work, run_id)
        _check_plan_is_current(work, held)
        work.ledger.release_run(held.id)
        run_to_completion(work, show.find_run(work.ledger, held.id))
    return print_results(work, as_json=as_json)


def restart_job(settings: Settings, job_id: int, *, verbose: bool) -> ExitStatus:
    """Let an ended job run again with its old payload, and follow it to its end."""
    with worker_session(settings, verbose, CONNECT_TIMEOUT) as work:
        made = job_restart.begin_restart(work.ledger, work.client, job_id, time.time())
        click.echo(f"job {job_id} runs again" + (f" as job {made.new_job}" if made.new_job != job_id else ""))
        job = job_restart.wait_for_job(work.ledger, work.client, made, work.shutdown)
    if job is None:
        return ExitStatus.INTERRUPTED
    failed = f", {job.failed} of {job.total} records failed" if job.failed else ""
    click.echo(f"it has ended: {tables.JOB_STATUS_NAMES.get(job.status or 0, 'unknown')}{failed}")
    return ExitStatus.OK if job.status == job_outcome.SUCCEEDED and not job.failed else ExitStatus.CONNECT_ERROR


def discard(settings: Settings, run_id: str) -> ExitStatus:
    """File a held run away unsent."""
    with worker_session(settings, False, CONNECT_TIMEOUT) as work:
        held = _find_held_run(work, run_id)
        work.lifecycle.discard(held)
        click.echo(f"{held.id} is discarded; its file is kept in the archive")
    return ExitStatus.OK


def _check_plan_is_current(session: Session, held_run: Run) -> None:
    """What was planned holds against what was accepted then; sent over something newer it would roll that back."""
    planned = run_folder.load_plan_facts(session.settings.paths.state, held_run.id).get("revision", 0)
    if session.ledger.revision(held_run.feed) == planned:
        return
    others = (run for run in session.ledger.list_runs(1000, held_run.feed) if run.id != held_run.id)
    newer = next(
        (run for run in others if any(c.state is ChunkState.ACCEPTED for c in session.ledger.list_chunks(run.id))), None
    )
    who = f"run {newer.id} has changed" if newer is not None else "something has changed"
    raise StateError(
        "plan-outdated",
        f"{who} what Norce has of {held_run.feed} since {held_run.id} was planned",
        where=held_run.id,
        hint=f"`etl discard {held_run.id}`; if its file is still wanted, drop it into the inbox again",
    )


def _find_held_run(session: Session, run_id: str) -> Run:
    found = show.find_run(session.ledger, run_id)
    if found.state is not RunState.HELD:
        raise UsageError("run-not-held", f"run {found.id} is {found.state.value}, not held", hint="`etl status`")
    return found


@contextmanager
def worker_session(
    settings: Settings, verbose: bool, timeout: float | None, *, listen: bool = False
) -> Iterator[Session]:
    """A session with its mappings, signals, log and progress. Raises MappingInvalid when no mapping is usable."""
    log.configure(verbose=verbose)
    good, bad = load.load_mappings(settings.paths.mappings)
    if not good:
        raise _no_mapping_error(settings, bad)
    for error in (*bad, *conflicts.find_conflicts(good).values()):
        click.echo(str(error), err=True)
    settings.paths.inbox.mkdir(parents=True, exist_ok=True)
    if settings.connect is None:
        click.echo("no [connect] settings: the built-in sandbox is used, nothing reaches Norce", err=True)
    stop = ShutdownEvent()
    progress = RunDisplay()
    with set_on_signals(stop):
        tell = progress.emit
        opened = session.open_session(settings, good, shutdown=stop, emit=tell, timeout=timeout, listen=listen)
        with opened as work, progress:
            yield work


def _no_mapping_error(settings: Settings, mapping_errors: Sequence[InvalidMappingError]) -> EtlError:
    """Why there is nothing to work by: no mapping at all, or none without mistakes."""
    if mapping_errors:
        return InvalidMappingError([problem for error in mapping_errors for problem in error.problems])
    return UsageError(
        "no-mappings",
        "there is no mapping file",
        where=str(settings.paths.mappings),
        hint="write one (docs/mapping.md), and check it with `etl check`",
    )


def _order_files(names: frozenset[str] | set[str], session: Session, unmatched: set[str]) -> list[str]:
    """Files in the order of what they feed; what feeds nothing is left where it is and said once."""
    ranked = []
    for name in names:
        rank = session.lifecycle.intake.rank(name)
        if rank is None:
            unmatched.add(name)
            if session.lifecycle.intake.is_companion_file(name):
                continue
            reason = scan.unusable_name_reason(name) or "its name fits no mapping; it stays where it is"
            log.write_event("file_unclaimed", file=name, reason=reason)
        else:
            ranked.append((rank, scan.modification_time(session.settings.paths.inbox / name), name))
    return [name for *_, name in sorted(ranked)]


def _make_retention(session: Session) -> retention.Retention:
    return retention.Retention(session.ledger, session.settings.paths.state, session.settings.retention, session.emit)


def _watch_inbox(session: Session) -> Iterator[dict[str, scan.FileStat]]:
    """Settled names, whenever there is something to see or to do."""
    watch = session.settings.watch
    return scan.watch(
        session.settings.paths.inbox,
        watch.stable_seconds,
        watch.rescan_seconds,
        session.shutdown,
        wake_event=session.coordinator.wake_event,
    )


def _refresh_alerts(session: Session) -> None:
    """Tell what is late, waits and the like."""
    pipeline = session.lifecycle
    alerts.refresh(
        session.ledger, pipeline.mappings, datetime.now(UTC), session.emit, pipeline.intake.files_not_ready()
    )


def _claim_files(session: Session, stable_files: dict[str, scan.FileStat], unmatched: set[str]) -> None:
    for name in _order_files(stable_files.keys() - unmatched, session, unmatched):
        if session.shutdown.is_set():
            break
        session.coordinator.add(session.lifecycle.intake.claim(name, stable_files[name]))


def _step_and_report(session: Session) -> bool:
    """One step, and what is to be said of it."""
    known = len(session.coordinator.stalled_runs)
    more = session.coordinator.step()
    said: set[str] = set()
    for opened, error in session.coordinator.stalled_runs[known:]:
        stays = f"run {opened.id} stays open and is gone on with later"
        click.echo(stays if str(error) in said else f"{stays}\n{error}", err=True)
        said.add(str(error))
    return more


def run_to_completion(session: Session, run: Run) -> None:
    """One run, and what follows from it."""
    traffic = session.coordinator
    traffic.restrict_to(run)
    while not session.shutdown.is_set():
        if _step_and_report(session):
            continue
        if not traffic.is_busy:
            break
        traffic.wake_event.wait(_STEP_INTERVAL)
        traffic.wake_event.clear()


def print_results(session: Session, *, as_json: bool) -> ExitStatus:
    """Print how it went; the status."""
    from etl.state.ledger.facade import Ledger

    ended, trouble = session.coordinator.results(), [error for _, error in session.coordinator.stalled_runs]

    with Ledger.open_read_only(session.settings.paths.state) as ledger:
        pairs = [(ledger.find_run(run.id) or run, ledger.list_chunks(run.id)) for run in ended]
    if as_json:
        tables.print_json({"runs": [run_report.run_json(run, chunks) for run, chunks in pairs]})
    elif pairs:
        tables.print_runs(pairs)
        for run, chunks in pairs:
            _print_hints(run, chunks)
    else:
        click.echo("nothing to do")
    states = {exit_status_of(run, chunks) for run, chunks in pairs} | {error.exit_status for error in trouble}
    if session.shutdown.is_set():
        return ExitStatus.INTERRUPTED
    return next((status for status in EXIT_PRECEDENCE if status in states), ExitStatus.OK)


def _print_hints(run: Run, chunks: Sequence[Chunk]) -> None:
    if run.state is RunState.INVALID and run.error:
        click.echo(f"{run.file}: {run.error}", err=True)
    if run.state is RunState.HELD:
        click.echo(f"held: {run.id}: look with `etl show`, then `etl approve` or `etl discard` it")
    elif run.counts.rejected or run.counts.failed or any(c.state is ChunkState.FAILED for c in chunks):
        click.echo(f"more: `etl show {run.id}`")
    if run.counts.rejected and run.archive:
        click.echo(f"      {os.path.relpath(run.archive / 'rejections.csv')}")


def exit_status_of(run: Run, chunks: Sequence[Chunk]) -> ExitStatus:
    """How one run went."""
    if run.state is RunState.INVALID:
        return ExitStatus.CANNOT_CONTINUE
    if run.state is RunState.HELD:
        return ExitStatus.HELD
    if any(chunk.state is ChunkState.FAILED for chunk in chunks) or run.counts.failed:
        return ExitStatus.CONNECT_ERROR
    return ExitStatus.ROWS_REJECTED if run.counts.rejected else ExitStatus.OK
