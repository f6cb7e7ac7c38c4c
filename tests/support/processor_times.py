"""A plugin of pytest for `make test-times`: processor seconds per part and of the dearest tests, children included.

Seconds of the processor hardly depend on what else the machine does; those of the wall clock do.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Mapping

import pytest

#: Dearest tests that are shown.
SHOWN = 20

_KEY = "processor_seconds"
_START = pytest.StashKey[float]()


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure a test with its fixtures, in the process that runs it."""
    item.stash[_START] = _processor_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the seconds along with the report of the last phase."""
    report = yield
    if call.when == "teardown":
        report.user_properties.append((_KEY, _processor_seconds() - item.stash[_START]))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show both tables."""
    tests: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    reports = [report for kind in ("", "passed", "failed", "skipped") for report in terminalreporter.getreports(kind)]
    for report in reports:
        for name, seconds in getattr(report, "user_properties", ()):
            if name == _KEY:
                tests[report.nodeid.partition("[")[0]] += seconds
                parts["/".join(report.nodeid.split("/")[:2])] += seconds
    terminalreporter.section(f"processor seconds: {sum(parts.values()):.0f}")
    for title, rows in (("part", parts), ("test", tests)):
        terminalreporter.write_line(title)
        _write(terminalreporter, rows)


def _write(reporter: pytest.TerminalReporter, seconds: Mapping[str, float]) -> None:
    for name, spent in Counter(seconds).most_common(SHOWN):
        reporter.write_line(f"{spent:8.1f}  {name}")
