"""Small versions of `make restart-loop`, `make burst` and `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.load.burst import storm
from tests.load.restart_loop import bounce
from tests.load.soak import soak


@pytest.mark.slow
def test_bounced_work_misses_nothing_and_resends_only_what_was_in_flight(tmp_path: Path) -> None:
    """After kills and stops every record is there; only what had an unknown outcome was sent twice."""
    found = bounce(tmp_path / "shop", files=3, rows=1500, blows=2)
    assert found.missing == 0
    assert 0 <= found.resent <= found.in_flight, str(found)


@pytest.mark.slow
def test_files_that_came_while_it_stood_still_are_all_filed_away(tmp_path: Path) -> None:
    """Of full files that nobody announced the newest is worked first, the others are overtaken, and none is left."""
    found = storm(tmp_path / "shop", files=250)
    assert (found.archived, found.left, found.value) == (250, 0, 250), str(found)
    assert found.before < 250, str(found)


@pytest.mark.slow
def test_a_process_that_lives_for_days_does_not_grow(tmp_path: Path) -> None:
    """Memory and state stay bounded over days of files, and in the end Connect agrees with them."""
    found = soak(tmp_path / "shop", days=4, files=24)
    assert found.agrees
    assert found.ended == found.files
    assert found.growth < 20, str(found)
    assert found.kept < 40, str(found)
