"""When something is due by a cron expression."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from etl import cron

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ago", "due"),
    [
        (timedelta(minutes=4), False),
        (timedelta(minutes=5), True),
        (timedelta(days=9), True),
        (timedelta(hours=-2), True),  # a stamp of a clock that was set back since
    ],
)
def test_due_every_five_minutes(ago: timedelta, due: bool) -> None:
    """Once a time of the table has come, and at once when the last visit lies in the future."""
    now = NOON + timedelta(minutes=4)
    assert cron.is_due("*/5 * * * *", now - ago, now) is due
