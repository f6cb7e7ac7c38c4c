"""`etl check`: mapping files held against the contract, and their authors' cases against the plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from etl.cli import cases
from etl.errors import Exit, MappingInvalid, UsageError
from etl.mapping import conflicts as mapping_owners
from etl.mapping import lint as mapping_advice
from etl.mapping import load as mapping_file
from etl.mapping.model import Mapping
from etl.mapping.problems import Problems

#: Differences of one case that are shown.
SHOWN = 5


def run(folder: Path, paths: Sequence[Path], *, write: bool) -> Exit:
    """Print what is right and what is wrong; `write` fills in what cases do not say yet."""
    good, bad = _read(paths or (folder,))
    if not good and not bad:
        raise UsageError("no-mappings", "there is no mapping file", where=str(folder), hint="docs/mapping.md has one")
    conflicts = mapping_owners.conflicts(good)
    for mapping in good:
        if mapping.feed in conflicts:
            continue
        click.echo(f"ok     {mapping.path}: {mapping.feed} -> {mapping.operation.id}{_cases(mapping, bad, write)}")
        for warning in mapping_advice.advice(mapping):
            click.echo(str(warning).replace("error[", "warning[", 1), err=True)
    bad += conflicts.values()
    for problems in bad:
        click.echo(str(problems), err=True)
    return Exit.CANNOT_GO_ON if bad else Exit.OK


def _read(paths: Sequence[Path]) -> tuple[list[Mapping], list[MappingInvalid]]:
    good: list[Mapping] = []
    bad: list[MappingInvalid] = []
    for path in paths:
        if path.is_dir():
            more, worse = mapping_file.read_all(path)
            good += more
            bad += worse
            continue
        try:
            good.append(mapping_file.read(path))
        except MappingInvalid as error:
            bad.append(error)
    return good, bad


def _cases(mapping: Mapping, bad: list[MappingInvalid], write: bool) -> str:
    """How many cases hold; those that do not go to `bad`."""
    found = cases.folders(mapping)
    problems = Problems(mapping.path)
    held = 0
    for case in found:
        if write and not (case / cases.EXPECTED).exists():
            cases.write(mapping, case)
        wrong = cases.differences(mapping, case)
        held += not wrong
        if wrong:
            more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
            message = f"the case {case.name} of {mapping.feed} comes out differently: " + "; ".join(
                wrong[:SHOWN] + more
            )
            hint = f"correct the mapping, or remove {cases.EXPECTED} and let `etl check --write` write it anew"
            problems.add("case", message, where=str(case), hint=hint)
    if problems.found:
        bad.append(MappingInvalid(problems.found))
    return f", {held} of {len(found)} cases" if found else ""
