"""What is done again by hand: a file, what Norce has not accepted of a feed, named records, or everything.

All of them are runs over a file in the archive, planned with the mapping as it is now; they differ in what counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from etl.app import Session
from etl.cli import show as screens
from etl.cli.run import PATIENCE, conclude, to_the_end, working
from etl.config.settings import Settings
from etl.errors import Exit, StateError, UsageError
from etl.model.runs import WORKED, Run, RunState
from etl.runs import flush as owed
from etl.state.files import archive

#: Runs of a feed that are looked through.
_RUNS = 1000


def rerun(settings: Settings, run_id: str | None, file: str | None, *, as_json: bool, verbose: bool) -> Exit:
    """The file of an earlier run, or the newest run of a file, once more."""
    with working(settings, verbose, PATIENCE) as work:
        olds = _of_file(work, file) if file is not None else [screens.find_run(work.ledger, run_id or "")]
        for old in olds:
            _refuse_older(work, old)
        for old in olds:
            to_the_end(work, work.pipeline.intake.again(old.feed, old, "rerun"))
    return conclude(work, as_json=as_json)


def full(settings: Settings, feed: str, *, as_json: bool, verbose: bool) -> Exit:
    """Everything of a feed, whatever was accepted."""
    with working(settings, verbose, PATIENCE) as work:
        to_the_end(work, work.pipeline.intake.again(feed, _newest(work, feed), "full"))
    return conclude(work, as_json=as_json)


def retry(settings: Settings, feed: str, *, as_json: bool, verbose: bool) -> Exit:
    """What Norce has not accepted of a feed: runs that are open go on, else what was carried goes, and its newest file
    is compared again."""
    with working(settings, verbose, PATIENCE) as work:
        waiting = [run for run in work.ledger.open_runs() if run.feed == feed]
        held = next((run for run in waiting if run.state is RunState.HELD), None)
        if held is not None:
            raise UsageError(
                "feed-held",
                f"run {held.id} of {feed} waits for a yes",
                hint=f"`etl show {held.id}`, then `etl approve` or `etl discard` it",
            )
        for run in waiting:
            to_the_end(work, run)
        if not waiting:
            newest = _newest(work, feed, refused=True)
            if work.ledger.carried(feed):
                mapping = next(mapping for mapping in work.pipeline.mappings if mapping.feed == feed)
                to_the_end(work, owed.opened(work.ledger, mapping))
            to_the_end(work, work.pipeline.intake.again(feed, newest, "rerun"))
    return conclude(work, as_json=as_json)


def resend(settings: Settings, feed: str, keys: Sequence[str], *, as_json: bool, verbose: bool) -> Exit:
    """These records of a feed, whatever was accepted, and nothing else."""
    wanted = list(dict.fromkeys(word for key in keys for word in key.split(",") if word))
    with working(settings, verbose, PATIENCE) as work:
        again = work.pipeline.intake.again(feed, _newest(work, feed), "resend", wanted)
        to_the_end(work, again)
    return conclude(work, as_json=as_json)


def _newest(work: Session, feed: str, *, refused: bool = False) -> Run:
    """The newest run of a feed whose file is kept. Raises UsageError."""
    if feed not in {mapping.feed for mapping in work.pipeline.mappings}:
        known = ", ".join(sorted(mapping.feed for mapping in work.pipeline.mappings))
        raise UsageError("feed-unknown", f'no usable mapping makes the feed "{feed}"', hint=f"known are: {known}")
    wanted = (*WORKED, RunState.REFUSED) if refused else WORKED
    for run in work.ledger.runs(_RUNS, feed):
        if run.has_file and run.state in wanted and archive.archived_file(run):
            return run
    raise UsageError(
        "feed-without-file",
        f'no file of the feed "{feed}" has been processed yet',
        hint="drop its export into the inbox; `etl status` lists what has been",
    )


def _of_file(work: Session, file: str) -> list[Run]:
    """The newest run of each feed over a file, by its name below the inbox or the last part of it."""
    found: dict[tuple[str, str], Run] = {}
    for run in work.ledger.runs(_RUNS):
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


def _refuse_older(work: Session, old: Run) -> None:
    newest = next((run for run in work.ledger.runs(_RUNS, old.feed, *WORKED) if run.compares), old)
    if newest.digest != old.digest and (newest.started or 0) > (old.started or 0):  # type: ignore[operator]
        raise StateError(
            "older-file",
            f"run {newest.id} has brought a newer file of {old.feed} since",
            where=old.id,
            hint=f"rerun {newest.id}, or drop the file into the inbox to go back to it on purpose",
        )
