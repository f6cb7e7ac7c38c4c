"""The process in which a workbook is opened: `python -m etl.formats.excel.worker`, a request on stdin, an answer on
stdout.

A parser that is made to allocate, recurse or loop by a hostile file takes this process with it and nothing else. Memory
and processor time are bounded by the operating system.
"""

from __future__ import annotations

import resource
import sys

import msgspec

from etl.errors import InvalidFileError
from etl.formats.excel.sheet import WorkbookError
from etl.formats.excel.workbook import WorkbookAnswer, WorkbookRequest, open_sheet, sample_sheet, write_table
from etl.formats.limits import ReadLimits


def main() -> int:
    """Read the request, bound this process, write the answer."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=WorkbookRequest)
    _limit_resources(request.limits)
    try:
        answer = sample_sheet(request) if request.only_sample else write_table(open_sheet(request), request)
    except InvalidFileError as error:
        answer = WorkbookAnswer(error=(error.code, error.message, error.where or "", error.hint))
    except WorkbookError as error:
        answer = WorkbookAnswer(error=_error_answer(str(error), request.name))
    except (MemoryError, RecursionError):
        answer = WorkbookAnswer(error=_error_answer("it needs more memory than it is given", request.name))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _limit_resources(limits: ReadLimits) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    seconds = max(1, round(limits.seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def _error_answer(reason: str, name: str) -> tuple[str, str, str, str]:
    if reason == "encrypted":
        hint = "save it without a password, or export CSV"
        return "workbook-encrypted", "the workbook is protected by a password", name, hint
    return (
        "workbook-unreadable",
        f"the workbook cannot be read: {reason}",
        name,
        "open it in Excel or LibreOffice, save it as .xlsx, and drop that file",
    )


if __name__ == "__main__":
    sys.exit(main())
