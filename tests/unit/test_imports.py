"""What a quick command must not load: it would be slow to answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = "polars pandera httpx structlog watchdog ruamel.yaml"
CODE = """
import sys
from etl.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("loaded:", *sorted(set({names!r}.split()) & set(sys.modules)))
"""


@pytest.mark.parametrize("words", [["--help"], ["status"], ["show", "20260101-000000-abcd-prices"]])
def test_a_quick_command_loads_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    """Help, status and show answer without the libraries that read files and speak HTTP."""
    code = CODE.format(names=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "loaded:"


CLEAN = """
import sys
from tests.unit.build import PRICES, mapping, run, table
run(mapping(PRICES), table("part,price,cost\\nA,1,1\\nB,{price},1\\n"))
print("loaded:", *sorted({{"pandera"}} & set(sys.modules)))
"""


@pytest.mark.parametrize(("price", "loaded"), [("2", "loaded:"), ("x", "loaded: pandera")])
def test_a_clean_file_is_planned_without_pandera(price: str, loaded: str) -> None:
    """It is loaded when a row has to be judged, and then it is what judges."""
    done = subprocess.run(
        [sys.executable, "-c", CLEAN.format(price=price)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.splitlines()[-1] == loaded
