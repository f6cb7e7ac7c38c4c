"""Brings a ledger that an older version wrote to the layout of this one, step by step.

A step is SQL of its own, never the tables of `etl.state.ledger.schema`: those move on, and a step has to do the same
for ever. All steps of an opening are one transaction, so a crash leaves the old layout. A new step comes with a packed
state folder of the layout before it (`tests/migrations`), which every later version has to open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: Executes one statement.
Execute = Callable[[str], Any]


def _to_2(execute: Execute) -> None:
    """Digests of the files that the ledger counts on; what was fetched; what people expect and should know."""
    execute("CREATE TABLE files (path TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (path))")
    execute(
        "CREATE TABLE fetched (source TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, "
        "modified INTEGER NOT NULL, state TEXT NOT NULL, digest TEXT NOT NULL, since FLOAT NOT NULL, "
        "PRIMARY KEY (source, path, size, modified))"
    )
    execute(
        "CREATE TABLE notices (name TEXT NOT NULL, sentence TEXT NOT NULL, since TEXT NOT NULL, PRIMARY KEY (name))"
    )
    execute(
        "CREATE TABLE expectations (feed TEXT NOT NULL, arrives TEXT, changes TEXT, since TEXT NOT NULL, "
        "PRIMARY KEY (feed))"
    )


def _to_3(execute: Execute) -> None:
    """The file that a refused record came with, where an earlier one brought it."""
    execute("ALTER TABLE refusals ADD COLUMN source_file TEXT")
    execute("ALTER TABLE refusals ADD COLUMN source_run TEXT")


def _to_4(execute: Execute) -> None:
    """Runs whose records went with another one."""
    execute("ALTER TABLE runs ADD COLUMN carried_into TEXT")


#: From which layout each step leads to the next.
STEPS: Mapping[int, Callable[[Execute], None]] = {1: _to_2, 2: _to_3, 3: _to_4}

#: The layout that this program writes.
SCHEMA_VERSION = max(STEPS) + 1


def migrate(from_version: int, execute: Execute) -> None:
    """From layout `found` to the newest."""
    for version in range(from_version, SCHEMA_VERSION):
        STEPS[version](execute)
