"""Limits of size: functions fit on a screen, signatures stay short, modules are read in one go.

ruff checks branches and complexity (pyproject.toml: C901, PLR0912, PLR0913); it does not count lines.
"""

from __future__ import annotations

import ast
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

MAX_MODULE_LINES = 500

#: For tests and scripts too.
MAX_LINES_ANYWHERE, MAX_PARAMETERS_ANYWHERE = 80, 9


@pytest.fixture(scope="module")
def structure() -> ModuleType:
    """The script that measures, so that there is one way of counting."""
    loader = SourceFileLoader("structure", str(ROOT / "scripts" / "structure"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[loader.name] = module  # its dataclasses look their module up
    loader.exec_module(module)
    return module


def test_a_function_fits_on_a_screen(structure: ModuleType) -> None:
    """No body is longer than the limit."""
    lines = {name: function.lines for name, function in measure(structure).items()}
    assert above(lines, structure.MOST_LINES) == {}


def test_a_signature_is_short(structure: ModuleType) -> None:
    """No function takes more parameters than the limit; self and cls are not counted."""
    parameters = {name: function.parameters for name, function in measure(structure).items()}
    assert above(parameters, structure.MOST_PARAMETERS) == {}


def test_nothing_is_out_of_all_proportion(structure: ModuleType) -> None:
    """Tests and scripts tell a story in order, which may be longer, but not as long as they like."""
    measured = {
        f"{path.relative_to(ROOT)}:{function.name}": function
        for path in [*(ROOT / "tests").rglob("*.py"), ROOT / "scripts" / "structure", ROOT / "scripts" / "trace-price"]
        for function in structure.functions(
            structure.Module(path.relative_to(ROOT), 0), ast.parse(path.read_text(encoding="utf-8"))
        )
    }
    assert len(measured) > 1000
    assert above({name: function.lines for name, function in measured.items()}, MAX_LINES_ANYWHERE) == {}
    assert above({name: function.parameters for name, function in measured.items()}, MAX_PARAMETERS_ANYWHERE) == {}


def test_no_module_is_long(structure: ModuleType) -> None:
    """A module that grows over the limit is split by what it does."""
    sizes = {module.path.as_posix(): module.lines for module, _ in structure.modules(ROOT)}
    assert above(sizes, MAX_MODULE_LINES) == {}
    assert len(sizes) > 100


def measure(structure: ModuleType) -> dict[str, Any]:
    """Every function of etl/ by module and name."""
    return {
        str(function): function
        for module, tree in structure.modules(ROOT)
        for function in structure.functions(module, tree)
    }


def above(sizes: dict[str, int], limit: int) -> dict[str, int]:
    """Those over a limit, with their sizes."""
    return {name: size for name, size in sizes.items() if size > limit}
