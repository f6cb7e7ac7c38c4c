"""Find the functions that the commits of a landing change."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.mutation.nearest import PACKAGES

#: Commits this many hours older than the newest one belong to an earlier landing.
LANDING_HOURS = 4

#: Environment variable that names the last commit of the previous landing.
SINCE = "MUTANTS_SINCE"

_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@")


def find_previous_landing(root: Path) -> str | None:
    """Return the commit that the current landing starts from; None where the history does not reach it.

    The commit is what `MUTANTS_SINCE` names; else the newest commit shared with the branch that this one is based on;
    else the newest commit more than `LANDING_HOURS` older than the head; else the parent of the head.
    """
    if os.environ.get(SINCE):
        return _git(root, "rev-parse", "--verify", "--quiet", f"{os.environ[SINCE]}^{{commit}}")
    head = _git(root, "rev-parse", "HEAD")
    for branch in ("@{upstream}", "origin/HEAD", "main"):
        base = _git(root, "merge-base", "HEAD", branch)
        if base and base != head:
            return base
    seconds = _git(root, "show", "--no-patch", "--format=%ct", "HEAD")
    if seconds is None:
        return None
    before = int(seconds) - LANDING_HOURS * 3600
    older = _git(root, "rev-list", "--max-count=1", f"--before={before}", "HEAD")
    return older or _git(root, "rev-parse", "--verify", "--quiet", "HEAD~1")


def changed_functions(root: Path, since: str) -> dict[Path, list[str]]:
    """Return the changed functions of each changed module under mutation, by their names in mutmut."""
    folders = tuple(f"etl/{package}/" for package in PACKAGES)
    patch = _git(root, "diff", "--unified=0", "--no-color", "--find-renames=40%", f"{since}..HEAD", "--", "etl") or ""
    lines: dict[Path, set[int]] = {}
    module: Path | None = None
    for line in patch.splitlines():
        if line.startswith("+++ "):
            module = Path(line[6:]) if line[6:].startswith(folders) and line.endswith(".py") else None
        elif module is not None and (hunk := _HUNK.match(line)):
            first, count = int(hunk[1]), int(hunk[2] or 1)
            lines.setdefault(module, set()).update(range(first, first + count))
    found = {module: list(_functions_at(root / module, numbers)) for module, numbers in lines.items()}
    return {module: names for module, names in found.items() if names}


def _functions_at(path: Path, lines: set[int]) -> Iterator[str]:
    """Yield the functions and methods that one of the lines belongs to, by their names in mutmut."""
    if not path.is_file():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and _touches(node, lines):
            yield f"x_{node.name}"
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and _touches(inner, lines):
                    yield f"xǁ{node.name}ǁ{inner.name}"


def _touches(node: ast.FunctionDef, lines: set[int]) -> bool:
    return not lines.isdisjoint(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def _git(root: Path, *words: str) -> str | None:
    """Return what a git command prints; None where it fails or prints nothing."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
