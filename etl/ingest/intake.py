"""Claims stable files of the inbox and opens their runs, or opens a run over an archived file.

Order of writes, by the numbers of the crash table: 1 the file is renamed into `claimed/<claim id>/`; 2a a run is opened
for each feed that it belongs to. A crash between the two leaves a claimed file without runs, which `resume` finds.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Map
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from etl import filesystem, open_writers
from etl.config.settings import Settings
from etl.errors import InvalidFileError, StateError
from etl.events import EventSink
from etl.ingest import claims, routing, scan
from etl.ingest.companions import CompanionFinder
from etl.mapping import companion_names, dependencies
from etl.mapping.model import Mapping
from etl.model.runs import Run, RunState
from etl.state.files import archive
from etl.state.ledger.facade import Ledger

#: Attempts to claim a file that cannot be moved, after which an alert is raised.
FAILED_CLAIMS_TO_ALERT = 3

#: Files that belong to no feed and are named; a supplier can make any number of them.
MAX_LEFT_FILES = 100

#: The keys that a resend run sends, beside its file.
_KEYS_FILE = "keys.json"


class WaitingFile(NamedTuple):
    """A file or folder that cannot be processed yet."""

    name: str
    reason: str
    since: float  #: epoch seconds
    needs_alert: bool = False  #: at once, however short the time since then


class Intake:
    """Claims the files of one inbox for one state folder."""

    def __init__(self, settings: Settings, ledger: Ledger, mappings: Sequence[Mapping], emit: EventSink) -> None:
        self._inbox_folder = settings.paths.inbox
        self._state = settings.paths.state
        self._ledger = ledger
        self._mappings_by_feed = {mapping.feed: mapping for mapping in mappings}
        self._ranks = dependencies.run_order(mappings)
        self._emit = emit
        self._companions = CompanionFinder(self._inbox_folder, {m.feed: m for m in mappings}, ledger.runs.has_run_since)
        #: Stable files that cannot be claimed yet, each with the reason.
        self.not_ready: dict[str, str] = {}
        self._failed_claims: dict[str, int] = {}
        self._left_files: dict[str, str] = {}
        self._changing_names: set[str] = set()
        self._skipped_folders: dict[str, WaitingFile] = {}

    def rank(self, name: str) -> tuple[int, int, str] | None:
        """Return a file's place in the order of runs; None when its name fits no mapping."""
        parts = self._route(name).parts
        return self._ranks[parts[0].mapping.feed] if parts else None

    def is_companion_file(self, name: str) -> bool:
        """Return whether a file is a done file or a checksum manifest of some feed."""
        return any(
            companion_names.matches_companion(pattern, name, mapping.source.files)
            for mapping in self._mappings_by_feed.values()
            for pattern in (mapping.source.done, mapping.source.manifest)
            if pattern is not None
        )

    def claim(self, name: str, stable_stat: scan.FileStat | None = None) -> list[Run]:
        """Move a stable file out of the inbox and open its runs; none when it belongs to no feed or is not ready."""
        route = self._route(name)
        if not route.parts:
            return []
        companions = self._find_companions(name, route)
        if isinstance(companions, str):
            self._postpone(name, companions)
            return []
        base = new_run_prefix()
        try:
            source = claims.claim(self._inbox_folder, name, self._state, base, stable_stat, companions)
        except claims.UnmovableFileError as error:
            self._postpone(name, str(error))
            self._failed_claims[name] = self._failed_claims.get(name, 0) + 1
            return []
        self._failed_claims.pop(name, None)
        self.not_ready.pop(name, None)
        if source is None:
            if name not in self._changing_names:
                self._emit("file_still_changing", file=name, reason="a program has it open for writing")
            self._changing_names.add(name)
            return []
        self._changing_names.discard(name)
        self._emit("file_claimed", file=name, bytes=source.size)
        for member in route.unrouted_members:
            self._emit("member_unclaimed", file=member, reason="its name fits no mapping; it is not read")
        return self._open_runs(base, source.path, source.digest, route.parts)

    def leave(self, name: str, reason: str) -> None:
        """Take in a file that belongs to no feed; it stays where it is, and raises an alert after a while."""
        self._emit("file_unclaimed", file=name, reason=f"{reason}; it stays where it is")
        self._left_files[name] = reason

    def _postpone(self, name: str, reason: str) -> None:
        """Take in the reason why a file cannot be claimed yet; emit an event where it is a new one."""
        if self.not_ready.get(name) != reason:
            self._emit("file_not_ready", file=name, reason=reason)
        self.not_ready[name] = reason

    def _find_companions(self, name: str, route: routing.Route) -> list[str] | str:
        """Return the companion files of a file that is ready, or the reason why it is not."""
        path = self._inbox_folder / name
        if not os.access(path, os.R_OK):
            return "this user may not read it"
        if not os.access(path.parent, os.W_OK | os.X_OK):
            return "this user may not take it out of its folder"
        return self._companions.required_for(name, {part.mapping.feed: part.mapping for part in route.parts}.values())

    def update_skipped_folders(self, reasons: Map[str, str]) -> None:
        """Take in the folders that a scan has skipped, each with the reason; emit one event for each new one."""
        previous, self._skipped_folders = self._skipped_folders, {}
        for name, reason in reasons.items():
            known = previous.get(name)
            if known is None or known.reason != reason:
                self._emit("folder_skipped", folder=name, reason=reason)
                known = WaitingFile(name, reason, time.time(), needs_alert=True)
            self._skipped_folders[name] = known

    def list_waiting(self) -> list[WaitingFile]:
        """Return the files that are not ready or left, since their arrival, and the folders that were skipped."""
        files = []
        for name, reason in [*sorted(self.not_ready.items()), *sorted(self._left_files.items())[:MAX_LEFT_FILES]]:
            try:
                since = (self._inbox_folder / name).lstat().st_ctime
            except OSError:
                for names in (self.not_ready, self._failed_claims, self._left_files):
                    names.pop(name, None)
                continue
            needs_alert = self._failed_claims.get(name, 0) >= FAILED_CLAIMS_TO_ALERT
            files.append(WaitingFile(name, reason, since, needs_alert))
        return [*files, *self._skipped_folders.values()]

    def _route(self, name: str) -> routing.Route:
        if self.is_companion_file(name) or scan.unusable_name_reason(name) is not None:
            return routing.Route()
        return routing.route_file(self._inbox_folder / name, name, self._mappings_by_feed.values())

    def check_unmodified(self, run: Run) -> None:
        """Raise InvalidFileError when a run's file has changed since its claim, because its upload went on."""
        if run.claimed is not None and not self._is_unmodified(run):
            raise InvalidFileError(
                "file-changed",
                "the file has been written to after it had settled; nothing of it is sent",
                where=run.file,
                hint="it goes back to the inbox; a longer watch.settle_seconds, a done file or a manifest helps where "
                "uploads pause",
            )

    def return_if_modified(self, run: Run) -> bool:
        """Put the file of an ended run back into the inbox when its upload went on; return whether it is there."""
        assert run.claimed is not None
        if self._is_unmodified(run):
            return False
        base = run.claimed.relative_to(self._state / "claimed").parts[0]
        is_returned = claims.return_to_inbox(run.claimed, self._state, base, self._inbox_folder)
        self._emit("file_put_back" if is_returned else "file_replaced", file=run.file, run=run.id)
        return is_returned

    def _is_unmodified(self, run: Run) -> bool:
        assert run.claimed is not None
        file_digest = claims.hash_file(run.claimed).digest
        return run.digest == archive.part_digest(file_digest, archive.member_number(run))

    def resume(self) -> tuple[list[Run], dict[str, Exception]]:
        """Open the runs that a crash has left out.

        Return the ended runs whose file is still claimed, and by name the claimed files for which that has failed.
        """
        for base in claims.incomplete_claims(self._state):
            claims.restore_companions(self._state, base, self._inbox_folder)
        ended: list[Run] = []
        problems: dict[str, Exception] = {}
        for base, path in claims.claimed_files(self._state).items():
            name = path.relative_to(archive.claim_folder(self._state, base)).as_posix()
            try:
                ended += self._resume_claim(base, path, name)
            except Exception as error:  # one file costs itself only
                problems[name] = error
        return ended, problems

    def _resume_claim(self, base: str, path: Path, name: str) -> list[Run]:
        """Open the missing runs of a claimed file, and return those that have ended."""
        parts = routing.route_file(path, name, self._mappings_by_feed.values()).parts
        runs = [run for part in parts if (run := self._ledger.runs.find(part.run_id(base))) is not None]
        if (
            not runs
            and open_writers.has_writer(path)
            and claims.return_to_inbox(path, self._state, base, self._inbox_folder)
        ):
            return []
        if len(runs) < len(parts) and not base.endswith(("-full", "-rerun", "-resend")):
            missing = [part for part in parts if self._ledger.runs.find(part.run_id(base)) is None]
            self._open_runs(base, path, claims.hash_file(path).digest, missing)
        return [run for run in runs if run.state.is_final]

    def reopen(
        self, feed: str, source_run: Run, kind: Literal["full", "rerun", "resend"], keys: Iterable[str] = ()
    ) -> Run:
        """Open a run over the archived file of an earlier run; with `keys` only over these records of it.

        Raises:
            StateError: the file is not in the archive, or has changed there.
        """
        path = archive.archived_file(source_run)
        if path is None:
            raise StateError(
                "file-not-kept",
                f"the file of run {source_run.id} is not in the archive",
                where=str(source_run.archive or self._state),
                hint="drop the file into the inbox again",
            )
        file_digest = claims.hash_file(path).digest
        if archive.part_digest(file_digest, archive.member_number(source_run)) != source_run.digest:
            raise StateError(
                "archive-changed",
                f"the file of run {source_run.id} in the archive is not the one that was processed",
                where=str(path),
                hint="drop the right file into the inbox",
            )
        base = f"{new_run_prefix()}-{kind}"
        target = archive.claim_folder(self._state, base) / path.name
        filesystem.make_folder(target.parent)
        shutil.copyfile(path, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        filesystem.sync_folder(target.parent)
        if kind == "resend":
            claims.attach(self._state, base, _KEYS_FILE, json.dumps(list(keys), ensure_ascii=False).encode())
        part = routing.FilePart(self._mappings_by_feed[feed], source_run.file, archive.member_number(source_run))
        return self._open_runs(base, target, claims.hash_file(target).digest, [part], kind)[0]

    def resend_keys(self, run: Run) -> tuple[str, ...]:
        """Return the keys that a resend run sends; none for any other run."""
        if run.kind != "resend" or run.claimed is None:
            return ()
        base = run.claimed.relative_to(self._state / "claimed").parts[0]
        return tuple(json.loads(claims.read_attachment(self._state, base, _KEYS_FILE)))

    def _open_runs(
        self,
        claim_id: str,
        path: Path,
        digest: str,
        parts: Iterable[routing.FilePart],
        kind: Literal["file", "full", "rerun", "resend"] = "file",
    ) -> list[Run]:
        runs = []
        for part in parts:
            run = Run(
                id=part.run_id(claim_id),
                feed=part.mapping.feed,
                operation=part.mapping.operation.id,
                file=part.display_name,
                digest=part.digest(digest),
                state=RunState.CLAIMED,
                kind=kind,
                content=part.mapping.source.content,
                started=datetime.now(UTC),
                claimed=path,
            )
            self._ledger.open_run(run)
            runs.append(run)
        return runs


#: Number of the next claim, from a random start. Random numbers alone would collide when hundreds of files are claimed
#: within a second.
_run_counter = itertools.count(secrets.randbelow(0x10000))


def new_run_prefix() -> str:
    """Return a unique prefix for run ids that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{next(_run_counter) % 0x10000:04x}"
