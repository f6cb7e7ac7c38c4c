"""Migrates a ledger of an older layout to the current one, step by step.

A step has SQL of its own and never uses the tables of `etl.state.ledger.schema`: those change, but a step must always
do the same. All steps run in one transaction, so a crash leaves the old layout. Only one layout exists so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: Executes one statement.
Execute = Callable[[str], Any]

#: The layout that this program writes.
SCHEMA_VERSION = 1

#: By version: the step that leads to the next version.
STEPS: Mapping[int, Callable[[Execute], None]] = {}


def migrate(from_version: int, execute: Execute) -> None:
    """Bring the layout of this version to the current one."""
    for version in range(from_version, SCHEMA_VERSION):
        STEPS[version](execute)
