"""The rate limiter between real processes on one state folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT, SECONDS, EACH, PROCESSES = 20, 0.5, 30, 3

WORKER = """
import sys, time
from pathlib import Path
from etl.connect.rate_limiter import RateLimiter, RateLimits
from etl.state.ledger import schema
limiter = RateLimiter(schema.open_database(Path(sys.argv[1])), limits=RateLimits(int(sys.argv[2]), float(sys.argv[3])))
for _ in range(int(sys.argv[4])):
    permit = limiter.acquire()
    print(time.monotonic(), flush=True)
    limiter.mark_sent(permit)
"""


@pytest.mark.slow
def test_processes_together_keep_the_limit(tmp_path: Path) -> None:
    """Three processes with a backlog are never above the limit in any window, and all of them get through."""
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(LIMIT), str(SECONDS), str(EACH)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    times = sorted(float(line) for process in started for line in process.communicate()[0].split())
    assert [process.returncode for process in started] == [0] * PROCESSES
    assert len(times) == EACH * PROCESSES
    assert all(later - first >= SECONDS for first, later in zip(times, times[LIMIT:], strict=False))
