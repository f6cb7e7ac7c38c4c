"""What a quick command must not load: it would be slow to answer."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etl.model.runs import Run, RunState
from etl.state.ledger.alerts import AlertStore
from etl.state.ledger.facade import Ledger

#: What is loaded where it is needed, and nowhere before.
HEAVY = "pandera httpx structlog watchdog jinja2 leather asyncssh"
CODE = """
import sys
from etl.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("loaded:", *sorted(set({names!r}.split()) & set(sys.modules)))
"""

RUN = Run("20260101-000000-abcd-prices", "prices", "Product/ImportOnhands", "p.csv", "d", RunState.CLAIMED)


@pytest.mark.parametrize("words", [["--help"], ["status"], ["status", "--json"], ["show", RUN.id]])
def test_a_quick_command_loads_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    """Help, status and show answer without what reads files, speaks HTTP, logs, or knows mappings and the contract."""
    with Ledger.open(tmp_path / "var" / "sandbox") as ledger:
        ledger.open_run(RUN)
        AlertStore(ledger.database).save_expectations({"prices": ("every 5 hours", "every 5 days")}, datetime.now(UTC))
    tables = words[0] in ("status", "show") and "--json" not in words
    code = CODE.format(
        names=f"{HEAVY} polars ruamel.yaml etl.contract.spec etl.mapping.model {'' if tables else 'rich'}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert words == ["--help"] or RUN.id in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"


CLEAN = """
import sys
from tests.support.builders import PRICES, mapping, run, table
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


def test_a_plan_loads_only_what_it_needs() -> None:
    """Everything up to the first request comes without HTTP, drawing, and what few files need."""
    heavy = f"{HEAVY} rich starlette clevercsv fastexcel xlrd"
    code = (
        "import sys, etl.cli.run, etl.cli.preview, etl.plan.build, etl.formats, etl.connect.client;"
        f"print(*sorted(set({heavy!r}.split()) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
