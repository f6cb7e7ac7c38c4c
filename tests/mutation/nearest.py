"""Find the modules of a target and the tests nearest to a module."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

#: Packages under mutation, as folders below `etl/`.
PACKAGES = ("plan", "apply", "state", "connect", "ingest", "formats", "mapping", "runs")

#: Modules whose wrong decision sends or forgets something: a landing's run begins with them.
DECIDING = (
    "etl/plan/changes/absence.py",
    "etl/plan/changes/guards.py",
    "etl/apply/job_outcome.py",
    "etl/apply/job_matching.py",
    "etl/connect/responses.py",
    "etl/connect/rate_limiter.py",
    "etl/state/ledger/",
    "etl/plan/batches/packing.py",
)

FOLDERS = ("tests/unit", "tests/integration")


def modules_of(root: Path, target: str) -> list[Path]:
    """Return the modules that a target names, relative to the root.

    A target is a package or a module below `etl/`: `plan`, `plan/changes`, `plan.changes.guards`, or a path.

    Raises:
        LookupError: No module has that name.
    """
    name = target.removesuffix(".py").replace(".", "/").removeprefix("etl/").strip("/")
    folder, file = root / "etl" / name, root / "etl" / f"{name}.py"
    found = [file] if file.is_file() else sorted(folder.rglob("*.py")) if name else []
    modules = [path.relative_to(root) for path in found if path.stat().st_size]
    if not modules:
        raise LookupError(f"{target}: etl/ has no such package or module")
    return modules


def nearest_tests(root: Path, module: Path) -> list[Path]:
    """Return the test files nearest to a module, relative to the root.

    These are the files named after the module and the files of the module's package that import it. Where there are
    none, all files that import the module; where there are none either, all files of the nearest folder of tests.
    """
    package = module.parts[1]
    named = [
        path
        for folder in FOLDERS
        for path in sorted((root / folder / package).rglob(f"test_{module.stem.strip('_')}*.py"))
    ]
    importing = [path for path in _test_files(root) if module in _imported_modules(root, path)]
    own = [path for path in importing if path.relative_to(root).parts[2] == package]
    chosen = sorted({*named, *own}) or importing or _files_of_nearest_folder(root, module)
    return [path.relative_to(root) for path in chosen]


def _files_of_nearest_folder(root: Path, module: Path) -> list[Path]:
    for parent in module.relative_to("etl").parents:
        files = [path for folder in FOLDERS for path in sorted((root / folder / parent).rglob("test_*.py"))]
        if files:
            return files
    return []


@cache
def _test_files(root: Path) -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((root / folder).rglob("test_*.py"))]


@cache
def _imported_modules(root: Path, test: Path) -> frozenset[Path]:
    """Return the modules of `etl/` that a test file imports by name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    paths = (Path(name.replace(".", "/") + ".py") for name in names if name.startswith("etl."))
    return frozenset(path for path in paths if (root / path).is_file())
