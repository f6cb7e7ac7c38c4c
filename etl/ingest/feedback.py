"""Gives a supplier the rejected rows of its file back, in the folder where it dropped the file.

The name ends so that `inbox` never takes it for an export. The folder belongs to somebody else: what lies there under
the names that we write may be a trap, so a new file is made under a name that nobody can guess and renamed, and a
folder that is a link is not gone into.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from etl.ingest import scan
from etl.model.columns import REJECTION_COLUMNS
from etl.model.runs import Run, RunState
from etl.state.files import archive as archive_module

#: Readable for the group, which in the supplier's folder is the supplier's.
_MODE = 0o640


def give(run: Run, box: Path, archive: Path, error: str | None) -> Path | None:
    """Write what was rejected of a run's file, or why all of it was refused; remove an older word when all is well.

    Where it was written, or None. Raises OSError.
    """
    target = box / name_of(run)
    if (
        run.claimed is None
        or run.kind in ("full", "resend")
        or run.state is RunState.SUPERSEDED
        or not _is_ours(box, target.parent)
    ):
        return None
    said = archive / "rejections.csv"
    if error is not None:
        content = _refusal(error)
    elif said.exists():
        content = said.read_bytes()
    else:
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
        return None
    half = target.with_name(f".{secrets.token_hex(8)}.part")
    handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    try:
        with open(handle, "wb") as file:
            os.fchmod(handle, _MODE)  # whatever the umask: nobody else would be able to read it
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            half.unlink()
        raise
    return target


def name_of(run: Run) -> str:
    """Below the inbox: `acme/prices.csv.rejections.csv`; of a member of an archive `acme/day.zip.prices.csv.…`."""
    name = run.file
    if run.claimed is not None and archive_module.number_of(run):
        archive, _, member = name.partition(f"{run.claimed.name}/")
        plain = re.sub(r"[^\w.-]", "_", member)
        name = f"{archive}{run.claimed.name}.{plain}"
    return name + scan.FEEDBACK


def _is_ours(box: Path, folder: Path) -> bool:
    """A real folder, and no link on the way to it."""
    between = [folder, *folder.parents]
    between = between[: between.index(box)]
    return folder.is_dir() and not any(path.is_symlink() for path in between)


def _refusal(error: str) -> bytes:
    """As a rejections file with one line, for a file that was refused as a whole."""
    found = re.match(r"error\[(?P<code>[\w-]+)\]: (?P<message>.*)", error)
    hint = re.search(r"(?m)^  hint:  (.*)", error)
    told = {"code": found["code"], "message": found["message"]} if found else {"message": error}
    told["hint"] = hint[1] if hint else ""
    cells = ['"' + told.get(name, "").replace('"', '""') + '"' for name in REJECTION_COLUMNS]
    return ("\ufeff" + ",".join(REJECTION_COLUMNS) + "\r\n" + ",".join(cells) + "\r\n").encode()
