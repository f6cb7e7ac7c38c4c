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
from etl.state.files.archive import member_number

#: Readable for the group, which in the supplier's folder is the supplier's.
_FILE_MODE = 0o640


def write_rejections(run: Run, inbox_folder: Path, archive: Path, error: str | None) -> Path | None:
    """Write what was rejected of a run's file, or why all of it was refused; remove an older word when all is well.

    Where it was written, or None. Raises OSError.
    """
    target = inbox_folder / feedback_name(run)
    if (
        run.claimed is None
        or run.kind in ("full", "resend")
        or run.state is RunState.SUPERSEDED
        or not _is_real_folder(inbox_folder, target.parent)
    ):
        return None
    said = archive / "rejections.csv"
    if error is not None:
        content = _render_file_error(error)
    elif said.exists():
        content = said.read_bytes()
    else:
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
        return None
    half = target.with_name(f".{secrets.token_hex(8)}.part")
    handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _FILE_MODE)
    try:
        with open(handle, "wb") as file:
            os.fchmod(handle, _FILE_MODE)  # whatever the umask: nobody else would be able to read it
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            half.unlink()
        raise
    return target


def feedback_name(run: Run) -> str:
    """Below the inbox: `acme/prices.csv.rejections.csv`; of a member of an archive `acme/day.zip.prices.csv.…`."""
    name = run.file
    if run.claimed is not None and member_number(run):
        archive, _, member = name.partition(f"{run.claimed.name}/")
        plain = re.sub(r"[^\w.-]", "_", member)
        name = f"{archive}{run.claimed.name}.{plain}"
    return name + scan.FEEDBACK_SUFFIX


def _is_real_folder(inbox_folder: Path, folder: Path) -> bool:
    """A real folder, and no link on the way to it."""
    between = [folder, *folder.parents]
    between = between[: between.index(inbox_folder)]
    return folder.is_dir() and not any(path.is_symlink() for path in between)


def _render_file_error(error: str) -> bytes:
    """As a rejections file with one line, for a file that was refused as a whole."""
    found = re.match(r"error\[(?P<code>[\w-]+)\]: (?P<message>.*)", error)
    hint = re.search(r"(?m)^  hint:  (.*)", error)
    told = {"code": found["code"], "message": found["message"]} if found else {"message": error}
    told["hint"] = hint[1] if hint else ""
    cells = ['"' + told.get(name, "").replace('"', '""') + '"' for name in REJECTION_COLUMNS]
    return ("\ufeff" + ",".join(REJECTION_COLUMNS) + "\r\n" + ",".join(cells) + "\r\n").encode()
