"""Shops to test in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shop import STOCK_MAPPING, Shop, open_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop with the stock mapping."""
    with open_shop(tmp_path / "shop") as opened:
        opened.mapping(STOCK_MAPPING)
        yield opened
