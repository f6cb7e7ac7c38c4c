"""`etl approve`, `etl discard` and `etl undo`: runs that wait for a person's decision."""

from __future__ import annotations

import click

from etl.app import Session
from etl.cli import show, worker
from etl.config.settings import Settings
from etl.errors import ExitStatus, StateError, UsageError
from etl.model.runs import ChunkState, Run, RunState
from etl.runs.undo import open_undo_run
from etl.state.files import run_folder

#: Runs of a feed that are searched for the one that made a plan outdated.
_RUN_LOOKBACK = 1000


def approve(
    settings: Settings, run_id: str, *, send_again: bool = False, as_json: bool = False, verbose: bool = False
) -> ExitStatus:
    """Send a held run exactly as it was planned.

    Args:
        send_again: send the requests again whose outcome is unknown.
    """
    with worker.worker_session(settings, verbose=verbose) as session:
        held_run = _find_held_run(session, run_id)
        _check_send_again(held_run, send_again=send_again)
        if held_run.has_unknown_outcome:
            session.ledger.release_unknown(held_run.id)
        else:
            _check_plan_is_current(session, held_run)
            session.ledger.release_run(held_run.id)
        worker.run_to_completion(session, show.find_run(session.ledger, held_run.id))
    return worker.print_results(session, as_json=as_json)


def discard(settings: Settings, run_id: str) -> ExitStatus:
    """Archive a held or parked run without sending it."""
    with worker.worker_session(settings, verbose=False) as session:
        run = show.find_run(session.ledger, run_id)
        if run.id not in session.coordinator.parked_run_ids:
            run = _find_held_run(session, run_id)
        session.lifecycle.discard(run)
        session.lifecycle.unpark(run)
        click.echo(f"{run.id} is discarded; its file is in the archive")
    return ExitStatus.OK


def undo(settings: Settings, run_id: str, *, as_json: bool, verbose: bool) -> ExitStatus:
    """Plan a run that restores the values Norce had before a run, and hold it."""
    with worker.worker_session(settings, verbose=verbose) as session:
        original_run = show.find_run(session.ledger, run_id)
        undo_run = open_undo_run(session.ledger, session.settings.paths.state, original_run)
        worker.run_to_completion(session, undo_run)
    status = worker.print_results(session, as_json=as_json)
    if not as_json:
        show.show(settings, undo_run.id, as_json=False)
    return status


def _find_held_run(session: Session, run_id: str) -> Run:
    run = show.find_run(session.ledger, run_id)
    if run.state is not RunState.HELD:
        raise UsageError("run-not-held", f"run {run.id} is {run.state.value}, not held", hint="`etl status`")
    return run


def _check_send_again(held_run: Run, *, send_again: bool) -> None:
    """Refuse to send a request again without the word for it, and to send one that has not been sent with it."""
    if held_run.has_unknown_outcome and not send_again:
        raise UsageError(
            "approval-needs-send-again",
            f"a request of run {held_run.id} was sent, and its outcome is unknown",
            where=held_run.id,
            hint=f"look for its job in Norce Admin; when it has ended or was never there, `etl approve {held_run.id} "
            "--send-again`",
        )
    if send_again and not held_run.has_unknown_outcome:
        raise UsageError(
            "nothing-to-send-again", f"run {held_run.id} has sent nothing yet", hint=f"`etl approve {held_run.id}`"
        )


def _check_plan_is_current(session: Session, held_run: Run) -> None:
    """Refuse a plan whose accepted records have changed since: sent now, it would set newer values back."""
    facts = run_folder.load_plan_facts(session.settings.paths.state, held_run.id)
    if session.ledger.feeds.revision(held_run.feed) == facts.revision:
        return
    runs = (run for run in session.ledger.runs.list_recent(_RUN_LOOKBACK, held_run.feed) if run.id != held_run.id)
    newer_run = next((run for run in runs if _has_accepted(session, run)), None)
    subject = f"run {newer_run.id} has changed" if newer_run is not None else "something has changed"
    raise StateError(
        "plan-outdated",
        f"{subject} the accepted records of {held_run.feed} since {held_run.id} was planned",
        where=held_run.id,
        hint=f"`etl discard {held_run.id}`; to send its file, drop it into the inbox again",
    )


def _has_accepted(session: Session, run: Run) -> bool:
    return any(chunk.state is ChunkState.ACCEPTED for chunk in session.ledger.chunks.list_by_run(run.id))
