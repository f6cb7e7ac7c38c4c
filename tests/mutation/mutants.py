"""`make mutants`: small mistakes are put into the deciding modules, one at a time, and the tests have to notice.

Tools that fork for each mistake do not get along with polars, whose threads do not survive a fork. Here one process
puts the code of a changed function into the function that everybody holds already, runs the module's own tests, and
puts the old code back.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import io
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

#: Modules, and the tests that have to notice.
TARGETS = {
    "etl.apply.scheduler": ["tests/unit/apply/test_scheduler.py"],
    "etl.plan.changes.diff": ["tests/unit/plan/changes/test_diff.py", "tests/unit/plan/changes/test_diff_model.py"],
    "etl.plan.batches.batching": [
        "tests/unit/plan/batches/test_batching.py",
        "tests/unit/plan/batches/test_full_file.py",
        "tests/unit/plan/batches/test_batching_model.py",
    ],
    "etl.state.ledger.facade": [
        "tests/integration/state/test_ledger.py",
        "tests/integration/state/test_ledger_steps.py",
    ],
}

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip

#: Seconds after which a test run counts as one that noticed.
LONGEST = 60

#: Share of its mistakes that has to be noticed of every module.
ENOUGH = 0.85


def mistakes(function: ast.FunctionDef) -> Iterator[tuple[int, str, ast.FunctionDef]]:
    """Each mistake with its line, what it is, and the function that makes it."""
    function = copy.deepcopy(function)
    for node in ast.walk(function):  # types are mypy's affair
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    count = len(list(ast.walk(function)))
    for place in range(count):
        made = copy.deepcopy(function)
        made.body = made.body[1:] if ast.get_docstring(made) and len(made.body) > 1 else made.body
        nodes = list(ast.walk(made))
        if place >= len(nodes):
            return
        node = nodes[place]
        before = ast.unparse(node) if isinstance(node, ast.expr | ast.stmt) else ""
        for change in _changes(node):
            again = copy.deepcopy(made)
            change(list(ast.walk(again))[place])
            after = list(ast.walk(again))[place]
            shown = ast.unparse(after) if isinstance(after, ast.expr | ast.stmt) else ""
            if shown != before:
                yield getattr(node, "lineno", function.lineno), f"{before[:60]} -> {shown[:60]}", again


def _changes(node: ast.AST) -> list[Any]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            return [lambda n: setattr(n, "ops", [SWAPS[type(n.ops[0])]()])]
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in SWAPS:
            return [lambda n: setattr(n, "op", SWAPS[type(n.op)]())]
        case ast.Constant(value=bool()):
            return [lambda n: setattr(n, "value", not n.value)]
        case ast.Constant(value=int()):
            return [lambda n: setattr(n, "value", n.value + 1)]
        case ast.Constant(value=str(text)) if text and " " not in text.strip():  # sentences are for people
            return [lambda n: setattr(n, "value", f"XX{n.value}")]
        case ast.If() | ast.IfExp():
            return [lambda n: setattr(n, "test", ast.copy_location(ast.UnaryOp(ast.Not(), n.test), n.test))]
        case ast.Return(value=ast.expr()):
            return [lambda n: setattr(n, "value", ast.Constant(None))]
        case ast.keyword(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            return [lambda n: setattr(n, "value", ast.Constant(None))]
        case _:
            return []


def functions(module: Any) -> Iterator[tuple[ast.FunctionDef, FunctionType]]:
    """Every function and plain method of a module, as it is written and as it is held."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.decorator_list:
            yield node, getattr(module, node.name)
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if (
                    isinstance(inner, ast.FunctionDef)
                    and not inner.decorator_list
                    and "super(" not in ast.unparse(inner)
                ):
                    yield inner, getattr(getattr(module, node.name), inner.name)


def noticed(tests: list[str]) -> bool:
    """Whether the tests fail."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return pytest.main(["-x", "-q", "-n", "0", "--no-header", "-p", "no:logging", *tests]) != 0
    except TimeoutError:
        return True
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutate(name: str, tests: list[str], share: float, seed: int) -> tuple[int, int]:
    """How many mistakes of a module were noticed, and how many were made."""
    module = importlib.import_module(name)
    assert not noticed(tests), f"the tests of {name} fail as they are"
    chance = random.Random(seed)
    killed = made = 0
    for written, held in functions(module):
        for line, what, changed in mistakes(written):
            if chance.random() >= share:
                continue
            scope: dict[str, Any] = {}
            code = ast.fix_missing_locations(ast.Module([changed], []))
            exec(compile(code, str(module.__file__), "exec"), vars(module) | {"__builtins__": __builtins__}, scope)
            plain = held.__code__, held.__defaults__, held.__kwdefaults__
            new = scope[written.name]
            held.__code__, held.__defaults__, held.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
            try:
                found = noticed(tests)
            finally:
                held.__code__, held.__defaults__, held.__kwdefaults__ = plain
            made += 1
            killed += found
            if not found:
                print(f"  survived: {Path(str(module.__file__)).name}:{line} {what}", flush=True)
    print(f"{name}: {killed} of {made} noticed, {killed / max(made, 1):.0%}", flush=True)
    return killed, made


def main() -> int:
    """Every target, with the score."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("modules", nargs="*", help=f"of {', '.join(TARGETS)}; all unless given")
    words.add_argument("--share", type=float, default=1.0, help="of all mistakes")
    words.add_argument("--seed", type=int, default=1)
    asked = words.parse_args()
    from tests.support import fake_clock as told

    told.install()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    begun = time.monotonic()
    scores = [mutate(name, TARGETS[name], asked.share, asked.seed) for name in asked.modules or TARGETS]
    killed, made = (sum(part) for part in zip(*scores, strict=True))
    print(f"{killed} of {made} noticed, {killed / max(made, 1):.1%}; {time.monotonic() - begun:.0f} s")
    return 0 if all(found >= ENOUGH * of for found, of in scores) else 1


if __name__ == "__main__":
    sys.exit(main())
