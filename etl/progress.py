"""What happens, while it happens: a moving line on a terminal, log lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from etl import log

_WARNINGS = (
    "chunk_failed",
    "run_refused",
    "connect_paused",
    "fetch_failed",
    "file_put_back",
    "file_replaced",
    "notice_begun",
)


class Progress:
    """Hears of every event. On a terminal it shows the run in hand with its requests; else it logs."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def tell(self, event: str, **facts: Any) -> None:
        """An event: `noun_verb` with facts that hold no cell values."""
        if event == "fetch_progressed":
            return
        level = "warning" if event in _WARNINGS else "info"
        if self._bar is None:
            getattr(log.logger(), level)(event, **facts)
            return
        if event == "plan_made":
            self._task = self._bar.add_task(f"{facts.get('run', '')}", total=facts.get("requests", 0))
        elif event == "job_finished" and self._task is not None:
            self._bar.advance(self._task)
        elif event == "run_finished" and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        elif event in ("file_fetched", "fetch_failed", "notice_begun"):
            self._bar.console.print(f"{event.replace('_', ' ')}: {facts}", markup=False)
        elif event == "connect_paused":
            self._bar.console.print(f"waiting {facts.get('seconds')} s: {facts.get('reason')}")


class Transfers:
    """Files on their way from suppliers' servers: a line with bytes for each on a terminal, log lines elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Transfers:
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bar = Bar(
                TextColumn("{task.description}", markup=False), *columns, console=Console(stderr=True), transient=True
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def tell(self, event: str, **facts: Any) -> None:
        """An event of a fetch. How far a file is shows on a terminal only."""
        if event != "fetch_progressed":
            if self._bar is None:
                log.logger().info(event, **facts)
        elif self._bar is not None:
            task = self._tasks.get(facts["file"])
            if task is None:
                task = self._tasks[facts["file"]] = self._bar.add_task(facts["file"], total=facts["total"])
            self._bar.update(task, completed=facts["done"])
