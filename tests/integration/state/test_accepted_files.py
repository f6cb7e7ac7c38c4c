"""What Norce has, on a real disk."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from etl.errors import StateError
from etl.state.snapshots import accepted


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    """A compaction without room on the disk ends with an error, and leaves no damaged or incomplete base."""
    folder = tmp_path / "accepted" / "prices"
    folder.mkdir(parents=True)
    (folder / ".r1.parquet.tmp").symlink_to("/dev/full")
    with pytest.raises(StateError) as caught:
        accepted.write_base(tmp_path, "prices", "r1", pl.LazyFrame({"a": range(1000)}))
    assert caught.value.code == "state-disk-full"
    assert not list(folder.iterdir())
