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
