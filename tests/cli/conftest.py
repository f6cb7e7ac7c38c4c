"""Shops to test in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.in_process_shop import open_in_process_shop
from tests.support.shop import STOCK_MAPPING, Shop, open_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop with the stock mapping, whose commands run in this process."""
    with open_in_process_shop(tmp_path / "shop") as opened:
        opened.mapping(STOCK_MAPPING)
        yield opened


@pytest.fixture
def process_shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop with the stock mapping, whose commands are processes: for what only a process shows."""
    with open_shop(tmp_path / "shop") as opened:
        opened.mapping(STOCK_MAPPING)
        yield opened
