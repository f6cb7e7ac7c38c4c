"""When something is due by a cron expression, in the local time of the machine. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def is_cron(expression: str) -> bool:
    """Whether it is a cron expression that ever comes true."""
    from cronsim import CronSim, CronSimError

    try:
        next(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration):
        return False
    return True


def is_due(expression: str, last: datetime, now: datetime) -> bool:
    """Whether a time of the table lies after `last` and not after `now`; what was last later than now was stamped by
    a clock that has been set back since, and tells nothing."""
    from cronsim import CronSim

    if last > now:
        return True
    return next(CronSim(expression, last.astimezone())) <= now.astimezone()
