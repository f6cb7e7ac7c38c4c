"""Which file of a feed is the newest, in what order the others go, and which of them it has superseded. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etl.mapping.file_times import FileTime


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """An open run, as far as its order is concerned."""

    run_id: str
    file_time: FileTime | None  #: as its name has it
    arrival: tuple[float, str]  #: modification time and name
    kind: str = "file"  #: runs of other kinds were requested by a person and are never superseded
    has_started: bool = False  #: planned or beyond: has to be finished
    is_held: bool = False
    is_parked: bool = False  #: waits for a person because of a defect; no newer file supersedes it


@dataclass(frozen=True, slots=True)
class FeedQueue:
    """Order of a feed's open runs."""

    run_ids: tuple[str, ...]  #: in order
    superseded: tuple[tuple[str, str], ...]  #: runs that are never to be sent, each with the reason as a sentence


def order_runs(entries: Sequence[QueueEntry], full_files: bool, newest_file: tuple[FileTime, str] | None) -> FeedQueue:
    """Order the open runs of a feed, and find the superseded ones. Pure.

    Args:
        full_files: each file of the feed holds all records, so that the newest one replaces the others.
        newest_file: newest time in the names of processed files, and that file.
    """
    ordered = sorted(entries, key=_queue_key)
    superseded = _outdated_by_name(ordered, newest_file)
    files = [e for e in ordered if e.kind == "file" and e.run_id not in superseded and not e.is_parked]
    newest = max(files, key=_age_key) if full_files and files else None
    if newest is not None and newest.has_started:  # not before: should it be invalid, the next newest file is sent
        superseded |= _replaced_by(newest, ordered)
    run_ids: list[str] = []
    for entry in ordered:
        if entry.run_id in superseded or (newest is not None and entry is not newest and _is_queued_file(entry)):
            continue
        if not entry.is_held and not entry.is_parked:
            run_ids.append(entry.run_id)
        elif not full_files:  # an approved run would overwrite the values of the runs after it
            break
    return FeedQueue(tuple(run_ids), tuple(superseded.items()))


def _outdated_by_name(entries: Sequence[QueueEntry], newest_file: tuple[FileTime, str] | None) -> dict[str, str]:
    """Find queued files whose name is older than that of a processed file."""
    if newest_file is None:
        return {}
    newest_time, name = newest_file
    reason = f"older than {name}, which has been processed; `etl rerun` it to process this one"
    return {
        entry.run_id: reason
        for entry in entries
        if _is_queued_file(entry) and entry.file_time is not None and entry.file_time < newest_time
    }


def _replaced_by(newest: QueueEntry, entries: Sequence[QueueEntry]) -> dict[str, str]:
    """Find queued and held runs that are older than a begun full file."""
    reason = f"overtaken by {newest.arrival[1]}, a newer full file"
    return {
        entry.run_id: reason
        for entry in entries
        if entry is not newest
        and not entry.is_parked
        and _age_key(entry) < _age_key(newest)
        and (_is_queued_file(entry) or entry.is_held)
    }


def _is_queued_file(entry: QueueEntry) -> bool:
    return entry.kind == "file" and not (entry.has_started or entry.is_held or entry.is_parked)


def _age_key(entry: QueueEntry) -> tuple[bool, FileTime, tuple[float, str]]:
    return entry.file_time is not None, entry.file_time or (), entry.arrival


def _queue_key(entry: QueueEntry) -> tuple[bool, bool, bool, FileTime, tuple[float, str]]:
    return not entry.has_started, entry.kind == "file", *_age_key(entry)
