"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import campaign, fake_clock

fake_clock.install()  # before anything of etl is imported
settings.load_profile(campaign.PROFILE)

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real exports, which are not part of the repository."""
    named = os.environ.get("ETL_SAMPLES")
    folder = Path(named) if named else ROOT.parent / "shared" / "samples"
    if not folder.is_dir():
        pytest.skip(f"no real exports: {'ETL_SAMPLES' if named else '../shared/samples'} is not a folder")
    return folder
