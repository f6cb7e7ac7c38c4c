"""Bring a ledger of an older version to the layout of this one, step by step.

A step is SQL of its own, never the tables of `etl.state.ledger.schema`: those change, and a step has to do the same for
ever. All steps of an opening are one transaction, so a crash leaves the old layout. Only one layout exists so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: Executes one statement.
Execute = Callable[[str], Any]

#: The layout that this program writes.
SCHEMA_VERSION = 1

#: By version: the step that leads from it to the next one.
STEPS: Mapping[int, Callable[[Execute], None]] = {}


def migrate(from_version: int, execute: Execute) -> None:
    """Bring the layout of this version to the newest one."""
    for version in range(from_version, SCHEMA_VERSION):
        STEPS[version](execute)
