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

from etl.ingest import real_folder, scan
from etl.model.columns import REJECTION_COLUMNS
from etl.model.runs import Run, RunState
from etl.state.files.archive import member_number

#: Mode of the file. The group may read it: in the supplier's folder it is the group of the supplier.
_FILE_MODE = 0o640


def write_rejections(run: Run, inbox_folder: Path, archive: Path, error: str | None) -> Path | None:
    """Write the rejected rows of a run's file, or why the file is invalid; delete older feedback if there is neither.

    Return the path of the written file, or None. Raises OSError.
    """
    if run.claimed is None or run.kind in ("full", "resend") or run.state is RunState.SUPERSEDED:
        return None
    name = feedback_name(run)
    rejections = archive / "rejections.csv"
    content = rejections.read_bytes() if rejections.exists() else None
    if error is not None:
        content = _render_file_error(error)
    try:
        with real_folder.open_parent(inbox_folder, name) as target:
            if content is not None:
                _replace(target, content)
                return inbox_folder / name
            target.unlink(missing_ok=True)
    except (FileNotFoundError, NotADirectoryError):  # the supplier has removed the folder, or put a link in its place
        return None
    return None


def _replace(target: Path, content: bytes) -> None:
    """Write a file in a folder of others, through a new file with a random name. Raises OSError."""
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


def _render_file_error(error: str) -> bytes:
    """Return a rejections file with one line, for an invalid file."""
    match = re.match(r"error\[(?P<code>[\w-]+)\]: (?P<message>.*)", error)
    hint = re.search(r"(?m)^  hint:  (.*)", error)
    cells_by_column = {"code": match["code"], "message": match["message"]} if match else {"message": error}
    cells_by_column["hint"] = hint[1] if hint else ""
    cells = ['"' + cells_by_column.get(name, "").replace('"', '""') + '"' for name in REJECTION_COLUMNS]
    return ("\ufeff" + ",".join(REJECTION_COLUMNS) + "\r\n" + ",".join(cells) + "\r\n").encode()
