"""Every exception of the program, each with a stable code, an exit status and a hint.

Bad rows are data and never raised. An exception means that a file, run or command cannot go on; the one
place that prints it is `etl.cli.main`. Constructors take facts and build the sentence, so that the same trouble
always reads the same. This module imports nothing of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of the `etl` command; documented in docs/cli.md."""

    OK = 0  #: all accepted, or nothing to do
    CANNOT_CONTINUE = 1  #: something outside the file has to change first
    USAGE = 2  #: the command line is wrong
    INTERNAL_ERROR = 3  #: our own mistake
    ROWS_REJECTED = 4  #: some rows were rejected, the rest went through
    CONNECT_ERROR = 5  #: Connect refused, failed, or could not be reached
    HELD = 6  #: a run waits for approval
    INTERRUPTED = 130  #: stopped by a signal


class EtlError(Exception):
    """Base of all: `code` (kebab-case, stable), `message`, `where` it is, and a `hint` that must be given."""

    exit_status: ExitStatus = ExitStatus.CANNOT_CONTINUE

    def __init__(self, code: str, message: str, *, where: str | None = None, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        if self.where:
            lines.append(f"  where: {self.where}")
        lines.append(f"  hint:  {self.hint}")
        return "\n".join(lines)


class UsageError(EtlError):
    """The command was called with wrong arguments."""

    exit_status = ExitStatus.USAGE


class SettingsError(EtlError):
    """The settings in `etl.toml` or the environment are wrong or incomplete."""


class InvalidFileError(EtlError):
    """A source file as a whole cannot be read; it is filed as refused and nothing of it is sent."""


class InvalidMappingError(EtlError):
    """A mapping file has problems: all of them, each already a full sentence with place and hint."""

    def __init__(self, problems: Sequence[EtlError]) -> None:
        first = problems[0]
        super().__init__(first.code, first.message, where=first.where, hint=first.hint)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class MappingProblem(EtlError):
    """One thing that is wrong in a mapping file."""


class StateError(EtlError):
    """The state folder cannot be used as it is."""


class OutcomeUndecidedError(StateError):
    """Only a person can tell the outcome of a request; its run is held."""

    def __init__(self, run_id: str, chunk_number: int) -> None:
        super().__init__(
            "outcome-unknown",
            f"Connect has not answered request {chunk_number}, and its jobs do not tell what became of it",
            where=run_id,
            hint=f"look for the job in Norce Admin; when it has ended or was never there, `etl approve {run_id} "
            f"--send-again`; else `etl discard {run_id}`",
        )


class ConnectError(EtlError):
    """Connect refused a request, or did not answer."""

    exit_status = ExitStatus.CONNECT_ERROR


class ConnectUnreachableError(ConnectError):
    """Connect could not be reached: the same request may succeed later."""


class ConnectHttpError(ConnectError):
    """A final no: waiting does not help, somebody has to change something."""


class OutcomeUnknownError(ConnectError):
    """A request left and no answer came back: a job may or may not exist."""


class FetchError(EtlError):
    """A supplier's server does not give what we ask for; what is there of it is kept, and the next round goes on."""


class RunParkedError(EtlError):
    """An exception that no one foresaw concerns one run, which waits for a person."""

    exit_status = ExitStatus.INTERNAL_ERROR

    def __init__(self, run_id: str, cause: str, traceback_file: str) -> None:
        super().__init__(
            "run-parked",
            f"the program has a defect ({cause}); run {run_id} is parked, and all other feeds go on",
            where=traceback_file,
            hint=f"please report it with that file; `etl rerun {run_id}` tries again, `etl discard {run_id}` gives up",
        )


class InternalError(EtlError):
    """An invariant of the program does not hold."""

    exit_status = ExitStatus.INTERNAL_ERROR

    def __init__(self, message: str, *, where: str | None = None) -> None:
        super().__init__(
            "defect", message, where=where, hint="this is our mistake: please report it together with the file"
        )


class UnforeseenError(InternalError):
    """An exception that no one foresaw, raised in another thread."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause
