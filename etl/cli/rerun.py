"""What is done again by hand: a file, what Norce has not accepted of a feed, named records, or everything.

All of them are runs over a file in the archive, planned with the mapping as it is now; they differ in what counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from etl.app import Session
from etl.cli import show
from etl.cli.run import CONNECT_TIMEOUT, print_results, run_to_completion, worker_session
from etl.config.settings import Settings
from etl.errors import ExitStatus, StateError, UsageError
from etl.model.runs import PROCESSED_STATES, Run, RunState
from etl.runs import flush
from etl.state.files import archive

#: Runs of a feed that are looked through.
_RUN_LOOKBACK = 1000


def rerun(settings: Settings, run_id: str | None, file: str | None, *, as_json: bool, verbose: bool) -> ExitStatus:
    """The file of an earlier run, or the newest run of a file, once more."""
    with worker_session(settings, verbose, CONNECT_TIMEOUT) as work:
        olds = _runs_of_file(work, file) if file is not None else [show.find_run(work.ledger, run_id or "")]
        for old in olds:
            _check_is_newest(work, old)
        for old in olds:
            run_to_completion(work, work.lifecycle.intake.reopen(old.feed, old, "rerun"))
    return print_results(work, as_json=as_json)


def full(settings: Settings, feed: str, *, as_json: bool, verbose: bool) -> ExitStatus:
    """Everything of a feed, whatever was accepted."""
    with worker_session(settings, verbose, CONNECT_TIMEOUT) as work:
        run_to_completion(work, work.lifecycle.intake.reopen(feed, _newest_archived_run(work, feed), "full"))
    return print_results(work, as_json=as_json)


def retry(settings: Settings, feed: str, *, as_json: bool, verbose: bool) -> ExitStatus:
    """What Norce has not accepted of a feed: runs that are open go on, else what was carried goes, and its newest file
    is compared again."""
    with worker_session(settings, verbose, CONNECT_TIMEOUT) as work:
        waiting = [run for run in work.ledger.list_open_runs() if run.feed == feed]
        held = next((run for run in waiting if run.state is RunState.HELD), None)
        if held is not None:
            raise UsageError(
                "feed-held",
                f"run {held.id} of {feed} waits for a yes",
                hint=f"`etl show {held.id}`, then `etl approve` or `etl discard` it",
            )
        for run in waiting:
            run_to_completion(work, run)
        if not waiting:
            newest = _newest_archived_run(work, feed, include_invalid=True)
            if work.ledger.runs_awaiting_merge(feed):
                mapping = next(mapping for mapping in work.lifecycle.mappings if mapping.feed == feed)
                run_to_completion(work, flush.open_flush_run(work.ledger, mapping))
            run_to_completion(work, work.lifecycle.intake.reopen(feed, newest, "rerun"))
    return print_results(work, as_json=as_json)


def resend(settings: Settings, feed: str, keys: Sequence[str], *, as_json: bool, verbose: bool) -> ExitStatus:
    """These records of a feed, whatever was accepted, and nothing else."""
    wanted = list(dict.fromkeys(word for key in keys for word in key.split(",") if word))
    with worker_session(settings, verbose, CONNECT_TIMEOUT) as work:
        again = work.lifecycle.intake.reopen(feed, _newest_archived_run(work, feed), "resend", wanted)
        run_to_completion(work, again)
    return print_results(work, as_json=as_json)


def _newest_archived_run(session: Session, feed: str, *, include_invalid: bool = False) -> Run:
    """The newest run of a feed whose file is kept. Raises UsageError."""
    if feed not in {mapping.feed for mapping in session.lifecycle.mappings}:
        known = ", ".join(sorted(mapping.feed for mapping in session.lifecycle.mappings))
        raise UsageError("feed-unknown", f'no usable mapping makes the feed "{feed}"', hint=f"known are: {known}")
    wanted = (*PROCESSED_STATES, RunState.INVALID) if include_invalid else PROCESSED_STATES
    for run in session.ledger.list_runs(_RUN_LOOKBACK, feed):
        if run.has_file and run.state in wanted and archive.archived_file(run):
            return run
    raise UsageError(
        "feed-without-file",
        f'no file of the feed "{feed}" has been processed yet',
        hint="drop its export into the inbox; `etl status` lists what has been",
    )


def _runs_of_file(session: Session, file: str) -> list[Run]:
    """The newest run of each feed over a file, by its name below the inbox or the last part of it."""
    found: dict[tuple[str, str], Run] = {}
    for run in session.ledger.list_runs(_RUN_LOOKBACK):
        if run.has_file and run.kind != "resend" and file in (run.file, PurePosixPath(run.file).name):
            found.setdefault((run.file, run.feed), run)
    names = {name for name, _ in found}
    if len(names) == 1 or file in names:
        return [run for (name, _), run in found.items() if name == file or len(names) == 1]
    several = f'several files are called "{file}": {", ".join(sorted(names))}'
    raise UsageError(
        "file-unknown",
        several if names else f'no run was over a file "{file}"',
        hint="say its whole name below the inbox, as `etl status` shows it",
    )


def _check_is_newest(session: Session, original_run: Run) -> None:
    newest = next(
        (
            run
            for run in session.ledger.list_runs(_RUN_LOOKBACK, original_run.feed, *PROCESSED_STATES)
            if run.is_comparison
        ),
        original_run,
    )
    if newest.digest != original_run.digest and (newest.started or 0) > (original_run.started or 0):  # type: ignore[operator]
        raise StateError(
            "older-file",
            f"run {newest.id} has brought a newer file of {original_run.feed} since",
            where=original_run.id,
            hint=f"rerun {newest.id}, or drop the file into the inbox to go back to it on purpose",
        )
