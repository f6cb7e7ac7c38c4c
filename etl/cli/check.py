"""`etl check`: checks mapping files against the contract, and their authors' cases against the plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from etl.cli import cases
from etl.errors import ExitStatus, InvalidMappingError, UsageError
from etl.mapping import lint, load
from etl.mapping.conflicts import find_conflicts
from etl.mapping.model import Mapping
from etl.mapping.problems import Problems

#: Differences of one case that are shown.
MAX_DIFFERENCES = 5


def check_mappings(folder: Path, paths: Sequence[Path], *, write_expected: bool) -> ExitStatus:
    """Print valid mappings, errors and warnings; with `write_expected`, write `expected.json` for cases without one."""
    valid_mappings, errors = _load_mappings(paths or (folder,))
    if not valid_mappings and not errors:
        raise UsageError("no-mappings", "there is no mapping file", where=str(folder), hint="docs/mapping.md has one")
    conflicts = find_conflicts(valid_mappings)
    for mapping in valid_mappings:
        if mapping.feed in conflicts:
            continue
        cases = _check_cases(mapping, errors, write_expected)
        click.echo(f"ok     {mapping.path}: {mapping.feed} -> {mapping.operation.id}{cases}")
        for warning in lint.lint_mapping(mapping):
            click.echo(str(warning).replace("error[", "warning[", 1), err=True)
    errors += conflicts.values()
    for error in errors:
        click.echo(str(error), err=True)
    return ExitStatus.CANNOT_CONTINUE if errors else ExitStatus.OK


def _load_mappings(paths: Sequence[Path]) -> tuple[list[Mapping], list[InvalidMappingError]]:
    mappings: list[Mapping] = []
    errors: list[InvalidMappingError] = []
    for path in paths:
        if path.is_dir():
            folder_mappings, folder_errors = load.load_mappings(path)
            mappings += folder_mappings
            errors += folder_errors
            continue
        try:
            mappings.append(load.load_mapping(path))
        except InvalidMappingError as error:
            errors.append(error)
    return mappings, errors


def _check_cases(mapping: Mapping, errors: list[InvalidMappingError], write_expected: bool) -> str:
    """Run the cases of a mapping, add those that fail to `errors`, and return the number of passed ones in words."""
    folders = cases.case_folders(mapping)
    problems = Problems(mapping.path)
    passed = 0
    for case in folders:
        if write_expected and not (case / cases.EXPECTED_FILE).exists():
            cases.write_expected(mapping, case)
        differences = cases.find_differences(mapping, case)
        passed += not differences
        if differences:
            more = [f"and {len(differences) - MAX_DIFFERENCES} more"] if len(differences) > MAX_DIFFERENCES else []
            message = f"the case {case.name} of {mapping.feed} gives another result: " + "; ".join(
                differences[:MAX_DIFFERENCES] + more
            )
            hint = f"correct the mapping, or remove {cases.EXPECTED_FILE} and run `etl check --write` to write it again"
            problems.add("case", message, where=str(case), hint=hint)
    if problems.entries:
        errors.append(InvalidMappingError(problems.entries))
    return f", {passed} of {len(folders)} cases" if folders else ""
