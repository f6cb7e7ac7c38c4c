"""Takes files in: claims what has settled in the inbox and opens its runs, or takes a file from the archive again.

Order of writes: 1 the file is renamed into `claimed/<base>/`; 2a a run is opened for each feed it belongs to. A crash
between leaves a claimed file without runs, which `resume` finds.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from etl import durable, inbox, mapping_links, routing
from etl.config import Settings
from etl.errors import StateError
from etl.ledger import Ledger
from etl.mapping import Mapping
from etl.model import Run, RunState


class Intake:
    """The way in of one state folder."""

    def __init__(
        self, settings: Settings, ledger: Ledger, mappings: Sequence[Mapping], tell: Callable[..., None]
    ) -> None:
        self._inbox = settings.paths.inbox
        self._state = settings.paths.state
        self._ledger = ledger
        self._mappings = {mapping.feed: mapping for mapping in mappings}
        self._ranks = mapping_links.ranks(mappings)
        self._tell = tell

    def rank(self, name: str) -> tuple[int, int, str] | None:
        """Where a file stands in the order of work; None when its name fits no mapping."""
        found = routing.parts(self._inbox / name, name, self._mappings.values())
        return self._ranks[found[0].mapping.feed] if found else None

    def claim(self, name: str) -> list[Run]:
        """Take a settled file out of the inbox and open its runs; nothing when it belongs to no feed."""
        found = routing.parts(self._inbox / name, name, self._mappings.values())
        if not found:
            return []
        base = new_id()
        source = inbox.claim(self._inbox, name, self._state, base)
        if source is None:
            return []
        self._tell("file_claimed", file=name, bytes=source.size)
        for member in routing.unrouted(source.path, name, found):
            self._tell("member_unclaimed", file=member, reason="its name fits no mapping; it is not read")
        return self._open(base, source.path, source.digest, found)

    def resume(self) -> list[Run]:
        """Give claimed files that a crash left without runs their runs; ended runs whose file is still claimed."""
        ended = []
        for base, path in inbox.claimed_files(self._state).items():
            name = path.relative_to(inbox.claim_folder(self._state, base)).as_posix()
            found = routing.parts(path, name, self._mappings.values())
            known = [run for part in found if (run := self._ledger.run(part.run_id(base))) is not None]
            if len(known) < len(found) and not base.endswith(("-full", "-rerun")):
                missing = [part for part in found if self._ledger.run(part.run_id(base)) is None]
                self._open(base, path, inbox.look_at(path).digest, missing)
            ended += [run for run in known if run.state.is_final]
        return ended

    def again(self, feed: str, source: Run, kind: Literal["full", "rerun"]) -> Run:
        """A new run over the file of an older one. Raises StateError when that file is no longer there."""
        path = routing.archived_file(source)
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
        again = routing.Part(self._mappings[feed], source.file, routing.number_of(source))
        return self._open(base, target, inbox.look_at(target).digest, [again], kind)[0]

    def _open(
        self,
        base: str,
        path: Path,
        digest: str,
        found: Iterable[routing.Part],
        kind: Literal["file", "full", "rerun"] = "file",
    ) -> list[Run]:
        runs = []
        for part in found:
            run = Run(
                id=part.run_id(base),
                feed=part.mapping.feed,
                operation=part.mapping.operation.id,
                file=part.name,
                digest=part.digest(digest),
                state=RunState.CLAIMED,
                kind=kind,
                started=datetime.now(UTC),
                claimed=path,
            )
            self._ledger.open_run(run)
            runs.append(run)
        return runs


def new_id() -> str:
    """Sortable by time, unique without asking anyone."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
