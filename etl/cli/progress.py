"""What happens, while it happens: a moving line for each run under way on a terminal, log lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from etl import log, terminal

_WARNING_EVENTS = (
    "chunk_failed",
    "run_refused",
    "run_blocked",
    "order_given_up",
    "connect_paused",
    "fetch_failed",
    "file_put_back",
    "file_replaced",
    "notice_begun",
)


class _Display:
    """Moving lines on a terminal, for as long as the block lasts; elsewhere there are none."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def _bar_columns(self) -> tuple[Any, ...]:
        """What stands behind a line's name; rich is loaded for it only where somebody sees it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        if self._is_terminal:
            from rich.console import Console
            from rich.progress import Progress as Bar
            from rich.progress import TextColumn

            name = TextColumn("{task.description}", markup=False)
            self._bar = Bar(
                name, *self._bar_columns(), console=Console(file=terminal.raw_stream(sys.stderr)), transient=True
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class RunDisplay(_Display):
    """Hears of every event, from any thread. On a terminal it shows the runs under way with their requests; else it
    logs."""

    def _bar_columns(self) -> tuple[Any, ...]:
        from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

        return BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()

    def emit(self, event: str, **facts: Any) -> None:
        """An event: `noun_verb` with facts that hold no cell values."""
        if event == "fetch_progressed":
            return
        level = "warning" if event in _WARNING_EVENTS else "info"
        if self._bar is None:
            getattr(log.logger(), level)(event, **facts)
            return
        run = str(facts.get("run", ""))
        if event == "run_started" and facts.get("requests"):
            self._tasks[run] = self._bar.add_task(run, total=facts["requests"])
        elif event in ("job_finished", "chunk_halved") and run in self._tasks:
            if event == "job_finished":
                self._bar.advance(self._tasks[run])
            else:
                task = next(task for task in self._bar.tasks if task.id == self._tasks[run])
                self._bar.update(self._tasks[run], total=task.total + 2)
        elif event in ("run_finished", "run_blocked") and run in self._tasks:
            self._bar.remove_task(self._tasks.pop(run))
        elif event == "order_given_up":
            self._bar.console.print(f"{run} no longer waits for {facts.get('before')}", markup=False)
        elif event in ("file_fetched", "fetch_failed", "notice_begun"):
            self._bar.console.print(f"{event.replace('_', ' ')}: {facts}", markup=False)
        elif event == "connect_paused":
            self._bar.console.print(f"waiting {facts.get('seconds')} s: {facts.get('reason')}")


class TransferDisplay(_Display):
    """Files on their way from suppliers' servers: a line with bytes for each on a terminal, log lines elsewhere."""

    def _bar_columns(self) -> tuple[Any, ...]:
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

        return BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()

    def emit(self, event: str, **facts: Any) -> None:
        """An event of a fetch. How far a file is shows on a terminal only."""
        if event != "fetch_progressed":
            if self._bar is None:
                log.logger().info(event, **facts)
        elif self._bar is not None:
            task = self._tasks.get(facts["file"])
            if task is None:
                task = self._tasks[facts["file"]] = self._bar.add_task(facts["file"], total=facts["total"])
            self._bar.update(task, completed=facts["done"])
