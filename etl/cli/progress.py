"""Displays of progress: on a terminal a moving line for each run or file, elsewhere log lines."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from etl import log, terminal


class _Display:
    """Moving lines on a terminal while the block runs; elsewhere none."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def _bar_columns(self) -> tuple[Any, ...]:
        """Return the columns after the name of a line. Loads rich, so call it on a terminal only."""
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
    """An event sink that shows open runs and their requests on a terminal, and logs elsewhere."""

    def _bar_columns(self) -> tuple[Any, ...]:
        from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

        return BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()

    def emit(self, event: str, /, **facts: Any) -> None:
        """Show or log an event; the progress of a transfer is shown by `TransferDisplay` only."""
        if event == "fetch_progressed":
            return
        if self._bar is None:
            log.write_event(event, **facts)
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
        elif event in ("run_completed", "run_stalled") and run in self._tasks:
            self._bar.remove_task(self._tasks.pop(run))
        elif event == "dependency_dropped":
            self._bar.console.print(f"{run} no longer waits for {facts.get('earlier_run')}", markup=False)
        elif event in ("file_fetched", "fetch_failed", "alert_raised"):
            self._bar.console.print(f"{event.replace('_', ' ')}: {facts}", markup=False)
        elif event == "connect_paused":
            self._bar.console.print(f"waiting {facts.get('seconds')} s: {facts.get('reason')}")


class TransferDisplay(_Display):
    """An event sink of `etl fetch`: on a terminal a line with bytes for each file, elsewhere log lines."""

    def _bar_columns(self) -> tuple[Any, ...]:
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

        return BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()

    def emit(self, event: str, /, **facts: Any) -> None:
        """Show or log an event of a fetch; the progress of a transfer is shown on a terminal only."""
        if event != "fetch_progressed":
            if self._bar is None:
                log.write_event(event, **facts)
        elif self._bar is not None:
            task = self._tasks.get(facts["file"])
            if task is None:
                task = self._tasks[facts["file"]] = self._bar.add_task(facts["file"], total=facts["total"])
            self._bar.update(task, completed=facts["done"])
