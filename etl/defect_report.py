"""Writes the traceback of an exception that no one foresaw to a file, without values of cells."""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

from etl import __version__


def write_traceback(error: BaseException) -> Path:
    """Write where an exception was raised, and its type, to a new file; its message may hold cell values."""
    frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    with tempfile.NamedTemporaryFile("w", prefix="etl-defect-", suffix=".txt", delete=False) as file:
        file.write(f"connect-etl {__version__}\n{frames}{type(error).__name__}\n")
    return Path(file.name)
