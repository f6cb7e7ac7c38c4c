"""The process in which a workbook is opened: `python -m etl.formats.excel.worker`, a request on stdin, an answer on
stdout.

A parser that is made to allocate, recurse or loop by a hostile file takes this process with it and nothing else. Memory
and processor time are bounded by the operating system.
"""

from __future__ import annotations

import resource
import sys

import msgspec

from etl.errors import FileRefused
from etl.formats.excel.sheet import Unreadable
from etl.formats.excel.workbook import Answer, Request, assemble, detail, open_sheet
from etl.formats.limits import Limits


def main() -> int:
    """Reads the request, bounds this process, answers."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    _bound(request.limits)
    try:
        answer = detail(request) if request.tabs else assemble(open_sheet(request), request)
    except FileRefused as error:
        answer = Answer(refused=(error.code, error.message, error.where or "", error.hint))
    except Unreadable as error:
        answer = Answer(refused=_unreadable(str(error), request.name))
    except (MemoryError, RecursionError):
        answer = Answer(refused=_unreadable("it needs more memory than it is given", request.name))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _bound(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    seconds = max(1, round(limits.seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def _unreadable(why: str, name: str) -> tuple[str, str, str, str]:
    if why == "encrypted":
        hint = "save it without a password, or export CSV"
        return "workbook-encrypted", "the workbook is protected by a password", name, hint
    return (
        "workbook-unreadable",
        f"the workbook cannot be read: {why}",
        name,
        "open it in Excel or LibreOffice, save it as .xlsx, and drop that file",
    )


if __name__ == "__main__":
    sys.exit(main())
