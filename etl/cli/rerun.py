"""`etl rerun`, `retry`, `resend` and `full`: process again by hand.

Each opens a run over a file of the archive, planned with the current mapping; they differ in the records they send.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath

from etl.app import Session
from etl.cli import show, worker
from etl.config.settings import Settings
from etl.errors import ExitStatus, StateError, UsageError
from etl.model.runs import PROCESSED_STATES, Run, RunState
from etl.state.files import archive

#: Runs that are searched for a file or a feed.
_RUN_LOOKBACK = 1000

_BEGINNING = datetime.min.replace(tzinfo=UTC)


def rerun(settings: Settings, run_id: str | None, file: str | None, *, as_json: bool, verbose: bool) -> ExitStatus:
    """Process the file of a run again, or a file by its name. Exactly one of `run_id` and `file` is given."""
    if (run_id is None) == (file is None):
        raise UsageError(
            "run-or-file", "give either RUN or --file, not both", hint="`etl rerun RUN`, or `etl rerun --file NAME`"
        )
    with worker.worker_session(settings, verbose=verbose) as session:
        runs = _runs_of_file(session, file) if file is not None else [show.find_run(session.ledger, run_id or "")]
        for run in runs:
            _check_is_newest(session, run)
        for run in runs:
            if session.lifecycle.unpark(run):
                session.coordinator.unpark(run)
                worker.run_to_completion(session, run)
            else:
                worker.run_to_completion(session, session.intake.reopen(run.feed, run, "rerun"))
    return worker.print_results(session, as_json=as_json)


def full(settings: Settings, feed: str, *, as_json: bool, verbose: bool) -> ExitStatus:
    """Send all records of a feed again from its newest file."""
    with worker.worker_session(settings, verbose=verbose) as session:
        newest_run = _newest_archived_run(session, feed)
        worker.run_to_completion(session, session.intake.reopen(feed, newest_run, "full"))
    return worker.print_results(session, as_json=as_json)


def retry(settings: Settings, feed: str, *, as_json: bool, verbose: bool) -> ExitStatus:
    """Send only those records of a feed that Norce has not accepted.

    Open runs are continued. Without any, merged records are sent and the newest file is compared again.
    """
    with worker.worker_session(settings, verbose=verbose) as session:
        open_runs = [run for run in session.ledger.runs.list_open() if run.feed == feed]
        _check_none_is_held(feed, open_runs)
        for run in open_runs:
            worker.run_to_completion(session, run)
        if not open_runs:
            newest_run = _newest_archived_run(session, feed, include_invalid=True)
            for run in session.follow_ups.flush_feed(feed):
                worker.run_to_completion(session, run)
            worker.run_to_completion(session, session.intake.reopen(feed, newest_run, "rerun"))
    return worker.print_results(session, as_json=as_json)


def resend(settings: Settings, feed: str, keys: Sequence[str], *, as_json: bool, verbose: bool) -> ExitStatus:
    """Send the records of a feed with these keys again, accepted or not, and no others."""
    selected_keys = list(dict.fromkeys(part for key in keys for part in key.split(",") if part))
    with worker.worker_session(settings, verbose=verbose) as session:
        newest_run = _newest_archived_run(session, feed)
        worker.run_to_completion(session, session.intake.reopen(feed, newest_run, "resend", selected_keys))
    return worker.print_results(session, as_json=as_json)


def _check_none_is_held(feed: str, open_runs: Sequence[Run]) -> None:
    held_run = next((run for run in open_runs if run.state is RunState.HELD), None)
    if held_run is not None:
        raise UsageError(
            "feed-held",
            f"run {held_run.id} of {feed} is held for approval",
            hint=f"`etl show {held_run.id}`, then `etl approve` or `etl discard` it",
        )


def _newest_archived_run(session: Session, feed: str, *, include_invalid: bool = False) -> Run:
    """Return the newest run of a feed whose file is in the archive. Raises UsageError."""
    feeds = sorted(mapping.feed for mapping in session.mappings)
    if feed not in feeds:
        hint = f"feeds: {', '.join(feeds)}"
        raise UsageError("feed-unknown", f'no usable mapping makes the feed "{feed}"', hint=hint)
    states = (*PROCESSED_STATES, RunState.INVALID) if include_invalid else PROCESSED_STATES
    for run in session.ledger.runs.list_recent(_RUN_LOOKBACK, feed):
        if run.has_file and run.state in states and archive.archived_file(run):
            return run
    raise UsageError(
        "feed-without-file",
        f'no file of the feed "{feed}" has been processed yet',
        hint="drop its export into the inbox; `etl status` lists what has been",
    )


def _runs_of_file(session: Session, file: str) -> list[Run]:
    """Return the newest run of each feed over a file, by its name below the inbox or the last part of it."""
    newest_runs: dict[tuple[str, str], Run] = {}
    for run in session.ledger.runs.list_recent(_RUN_LOOKBACK):
        if run.has_file and run.kind != "resend" and file in (run.file, PurePosixPath(run.file).name):
            newest_runs.setdefault((run.file, run.feed), run)
    names = {name for name, _ in newest_runs}
    if len(names) == 1 or file in names:
        return [run for (name, _), run in newest_runs.items() if name == file or len(names) == 1]
    ambiguous = f'several files are called "{file}": {", ".join(sorted(names))}'
    raise UsageError(
        "file-unknown",
        ambiguous if names else f'no run was over a file "{file}"',
        hint="give its whole name below the inbox, as `etl status` shows it",
    )


def _check_is_newest(session: Session, run: Run) -> None:
    """Refuse a run over an older file: its values would replace those of the newer one."""
    processed_runs = session.ledger.runs.list_recent(_RUN_LOOKBACK, run.feed, *PROCESSED_STATES)
    newest_run = next((other for other in processed_runs if other.is_comparison), run)
    if newest_run.digest != run.digest and (newest_run.started or _BEGINNING) > (run.started or _BEGINNING):
        raise StateError(
            "older-file",
            f"run {newest_run.id} has brought a newer file of {run.feed} since",
            where=run.id,
            hint=f"rerun {newest_run.id}, or drop the file into the inbox to go back to it on purpose",
        )
