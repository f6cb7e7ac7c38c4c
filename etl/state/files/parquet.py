"""Writes Parquet files of the state folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from etl import filesystem

if TYPE_CHECKING:
    import polars as pl


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write the file atomically and sync it. Raises StateError."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1)
    filesystem.write_atomically(path, buffer.getvalue())
