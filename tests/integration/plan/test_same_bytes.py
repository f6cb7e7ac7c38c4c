"""The same file, mapping and state give the same bytes, whichever process plans them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.planned import REPOSITORY


def test_processes_with_different_hash_seeds_plan_the_same(tmp_path: Path) -> None:
    """All nine imports on two days and the way back: bodies, headers, order, what is kept and what was rejected.

    Sets and dicts of texts are walked in another order in each process, and polars has one thread, or several.
    """
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.planned", tmp_path / seed],
            env={**os.environ, "PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": threads},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for seed, threads in (("1", "1"), ("2", "4"))
    ]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    one, two = ([json.loads(line) for line in text.splitlines()] for text in said)
    assert len({feed for feed, *_ in one}) == 10
    assert [kind for _, kind, *_ in one] == ["file"] * 20 + ["undo"] * 10
    assert sum(len(chunks) for *_, chunks, _ in one) > 50
    for mine, its in zip(one, two, strict=True):
        assert mine == its
