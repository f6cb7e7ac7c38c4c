"""Writes the rejected rows of a file for its supplier, into the folder where the supplier dropped the file.

The suffix of the name tells the scan that it is no export. The supplier may write to the folder: a link may stand there
under our name, so the content goes into a new file with a random name that is then renamed, and folders that are links
are not entered.
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

#: Mode of the file. The group may read it: in the supplier's folder it is the group of the supplier.
_FILE_MODE = 0o640


def write_rejections(run: Run, inbox_folder: Path, archive: Path, error: str | None) -> Path | None:
    """Write the rejected rows of a run's file, or why the file is invalid; delete older feedback if there is neither.

    Return the path of the written file, or None. Raises OSError.
    """
    target = inbox_folder / feedback_name(run)
    if (
        run.claimed is None
        or run.kind in ("full", "resend")
        or run.state is RunState.SUPERSEDED
        or not _is_real_folder(inbox_folder, target.parent)
    ):
        return None
    rejections = archive / "rejections.csv"
    if error is not None:
        content = _render_file_error(error)
    elif rejections.exists():
        content = rejections.read_bytes()
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
    """Return the path below the inbox: `acme/prices.csv.rejections.csv`.

    For a member of an archive: `acme/day.zip.prices.csv.rejections.csv`.
    """
    name = run.file
    if run.claimed is not None and member_number(run):
        archive, _, member = name.partition(f"{run.claimed.name}/")
        plain = re.sub(r"[^\w.-]", "_", member)
        name = f"{archive}{run.claimed.name}.{plain}"
    return name + scan.FEEDBACK_SUFFIX


def _is_real_folder(inbox_folder: Path, folder: Path) -> bool:
    """Return whether the path is a folder and contains no link."""
    between = [folder, *folder.parents]
    between = between[: between.index(inbox_folder)]
    return folder.is_dir() and not any(path.is_symlink() for path in between)


def _render_file_error(error: str) -> bytes:
    """Return a rejections file with one line, for an invalid file."""
    match = re.match(r"error\[(?P<code>[\w-]+)\]: (?P<message>.*)", error)
    hint = re.search(r"(?m)^  hint:  (.*)", error)
    cells_by_column = {"code": match["code"], "message": match["message"]} if match else {"message": error}
    cells_by_column["hint"] = hint[1] if hint else ""
    cells = ['"' + cells_by_column.get(name, "").replace('"', '""') + '"' for name in REJECTION_COLUMNS]
    return ("\ufeff" + ",".join(REJECTION_COLUMNS) + "\r\n" + ",".join(cells) + "\r\n").encode()
