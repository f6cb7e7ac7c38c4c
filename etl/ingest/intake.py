"""Takes files in: claims what has settled in the inbox and opens its runs, or takes a file from the archive again.

Order of writes: 1 the file is renamed into `claimed/<base>/`; 2a a run is opened for each feed it belongs to. A crash
between leaves a claimed file without runs, which `resume` finds.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

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

#: What a run was asked for, beside its file.
_KEYS_FILE = "keys.json"


class Intake:
    """The way in of one state folder."""

    def __init__(self, settings: Settings, ledger: Ledger, mappings: Sequence[Mapping], emit: EventSink) -> None:
        self._inbox_folder = settings.paths.inbox
        self._state = settings.paths.state
        self._ledger = ledger
        self._mappings_by_feed = {mapping.feed: mapping for mapping in mappings}
        self._ranks = dependencies.run_order(mappings)
        self._emit = emit
        self._companions = CompanionFinder(self._inbox_folder, {m.feed: m for m in mappings}, ledger.runs.has_run_since)
        #: Names in the inbox that have settled and are not complete, with what they lack.
        self.not_ready: dict[str, str] = {}
        self._changing_names: set[str] = set()

    def rank(self, name: str) -> tuple[int, int, str] | None:
        """Where a file stands in the order of work; None when its name fits no mapping."""
        found = self._route(name)
        return self._ranks[found[0].mapping.feed] if found else None

    def is_companion_file(self, name: str) -> bool:
        """Whether a file only speaks of others: a done file or a manifest of some feed."""
        return any(
            companion_names.matches_companion(pattern, name, mapping.source.files)
            for mapping in self._mappings_by_feed.values()
            for pattern in (mapping.source.done, mapping.source.manifest)
            if pattern is not None
        )

    def claim(self, name: str, stable_stat: scan.FileStat | None = None) -> list[Run]:
        """Take a settled file out of the inbox and open its runs; nothing when it belongs to no feed or is not
        complete."""
        found = self._route(name)
        if not found:
            return []
        given: list[str] | str
        if not os.access(self._inbox_folder / name, os.R_OK):
            given = "this user may not read it"
        elif not os.access((self._inbox_folder / name).parent, os.W_OK | os.X_OK):
            given = "this user may not take it out of its folder"
        else:
            given = self._companions.required_for(name, {part.mapping.feed: part.mapping for part in found}.values())
        if isinstance(given, str):
            if self.not_ready.get(name) != given:
                self._emit("file_not_ready", file=name, reason=given)
            self.not_ready[name] = given
            return []
        self.not_ready.pop(name, None)
        base = new_run_prefix()
        source = claims.claim(self._inbox_folder, name, self._state, base, stable_stat, given)
        if source is None:
            if name not in self._changing_names:
                self._emit("file_still_changing", file=name, reason="a program has it open for writing")
            self._changing_names.add(name)
            return []
        self._changing_names.discard(name)
        self._emit("file_claimed", file=name, bytes=source.size)
        for member in routing.unrouted_members(source.path, name, found):
            self._emit("member_unclaimed", file=member, reason="its name fits no mapping; it is not read")
        return self._open_runs(base, source.path, source.digest, found)

    def files_not_ready(self) -> list[tuple[str, str, float]]:
        """Names that lack something, what it is, and when they came (epoch seconds)."""
        found = []
        for name, reason in sorted(self.not_ready.items()):
            try:
                found.append((name, reason, (self._inbox_folder / name).stat().st_ctime))
            except OSError:
                del self.not_ready[name]
        return found

    def _route(self, name: str) -> list[routing.FilePart]:
        if self.is_companion_file(name) or scan.unusable_name_reason(name) is not None:
            return []
        return routing.route_file(self._inbox_folder / name, name, self._mappings_by_feed.values())

    def check_unmodified(self, run: Run) -> None:
        """Raises FileRefused when a run's file is no longer what was claimed: an upload has gone on in it."""
        if run.claimed is not None and not self._is_unmodified(run):
            raise InvalidFileError(
                "file-changed",
                "the file has been written to after it had settled; nothing of it is sent",
                where=run.file,
                hint="it goes back to the inbox; a longer watch.settle_seconds, a done file or a manifest helps where "
                "uploads pause",
            )

    def return_if_modified(self, run: Run) -> bool:
        """Put the file of an ended run back into the inbox when its upload has gone on, so that it settles anew."""
        assert run.claimed is not None
        if self._is_unmodified(run):
            return False
        base = run.claimed.relative_to(self._state / "claimed").parts[0]
        back = claims.return_to_inbox(run.claimed, self._state, base, self._inbox_folder)
        self._emit("file_put_back" if back else "file_replaced", file=run.file, run=run.id)
        return back

    def _is_unmodified(self, run: Run) -> bool:
        assert run.claimed is not None
        whole = claims.hash_file(run.claimed).digest
        return run.digest == archive.part_digest(whole, archive.member_number(run))

    def resume(self) -> list[Run]:
        """Give claimed files that a crash left without runs their runs; ended runs whose file is still claimed."""
        for base in claims.incomplete_claims(self._state):
            claims.restore_companions(self._state, base, self._inbox_folder)
        ended = []
        for base, path in claims.claimed_files(self._state).items():
            name = path.relative_to(archive.claim_folder(self._state, base)).as_posix()
            found = routing.route_file(path, name, self._mappings_by_feed.values())
            known = [run for part in found if (run := self._ledger.runs.find(part.run_id(base))) is not None]
            if (
                not known
                and open_writers.has_writer(path)
                and claims.return_to_inbox(path, self._state, base, self._inbox_folder)
            ):
                continue
            if len(known) < len(found) and not base.endswith(("-full", "-rerun", "-resend")):
                missing = [part for part in found if self._ledger.runs.find(part.run_id(base)) is None]
                self._open_runs(base, path, claims.hash_file(path).digest, missing)
            ended += [run for run in known if run.state.is_final]
        return ended

    def reopen(
        self, feed: str, source_run: Run, kind: Literal["full", "rerun", "resend"], keys: Iterable[str] = ()
    ) -> Run:
        """A new run over the file of an older one, or over these keys of it.

        Raises StateError when that file is no longer there.
        """
        path = archive.archived_file(source_run)
        if path is None:
            raise StateError(
                "file-not-kept",
                f"the file of run {source_run.id} is not in the archive",
                where=str(source_run.archive or self._state),
                hint="drop the file into the inbox again",
            )
        whole = claims.hash_file(path).digest
        if archive.part_digest(whole, archive.member_number(source_run)) != source_run.digest:
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
        again = routing.FilePart(self._mappings_by_feed[feed], source_run.file, archive.member_number(source_run))
        return self._open_runs(base, target, claims.hash_file(target).digest, [again], kind)[0]

    def resend_keys(self, run: Run) -> tuple[str, ...]:
        """Which part numbers a run was asked for; none when it is about all of its file."""
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
                started=datetime.now(UTC),
                claimed=path,
            )
            self._ledger.open_run(run)
            runs.append(run)
        return runs


#: Counts the runs of this process from anywhere, so that no two of one second are alike: chance alone repeats itself
#: when hundreds of files are claimed in a second.
_run_counter = itertools.count(secrets.randbelow(0x10000))


def new_run_prefix() -> str:
    """Sortable by time, unique without asking anyone."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{next(_run_counter) % 0x10000:04x}"
