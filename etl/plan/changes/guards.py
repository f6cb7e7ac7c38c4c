"""Decides whether a run is held, because it would change more than its mapping allows: one table of guards. Pure.

Each guard counts something in the plan and has a limit. Shares are of the active accepted records, of which a first
load has none: it is never held for its size. Prices of zero and prices below cost hold it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from etl.mapping.model import Limit, Mapping
from etl.model.runs import Counts
from etl.plan.changes.impact import MAX_EXAMPLES, Example, Impact, Tally
from etl.plan.changes.previous_file import PreviousFile, shrink_warnings


@dataclass(frozen=True, slots=True)
class GuardInput:
    """The parts of a plan that guards count."""

    mapping: Mapping
    counts: Counts
    impact: Impact
    rejection_lines: pl.DataFrame
    full_file: bool  #: sent with FullFile=true
    previous_file: PreviousFile | None


@dataclass(frozen=True, slots=True)
class GuardResult:
    """The count of one guard, and whether it is over the limit."""

    guard: str
    count: int
    total: int
    limit: str
    held: bool
    reason: str  #: why the run is held; empty if it is not
    examples: tuple[Example, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {
            "guard": self.guard,
            "count": self.count,
            "total": self.total,
            "limit": self.limit,
            "held": self.held,
            "reason": self.reason,
            "examples": [example.to_json() for example in self.examples],
        }


@dataclass(frozen=True, slots=True)
class Guard:
    """A row of the table. `reason` has placeholders for count, total, limit and by."""

    name: str
    measure: Callable[[GuardInput], Tally]
    limit: Callable[[Mapping], Limit]
    reason: str
    total: Callable[[GuardInput], int] = lambda facts: facts.impact.active
    applies: Callable[[GuardInput], bool] = lambda facts: True


def _measure_rejected(guard_input: GuardInput) -> Tally:
    rows = guard_input.rejection_lines.head(MAX_EXAMPLES).select("row", "column", "value", "message").iter_rows()
    examples = tuple(
        Example(f"row {row}", str(column or ""), value, str(message)) for row, column, value, message in rows
    )
    return Tally(guard_input.counts.rejected, examples)


def _measure_missing(guard_input: GuardInput) -> Tally:
    """Count missing records; those that the previous file lacked too are not new where they are only ignored."""
    missing_before = (
        guard_input.previous_file.gone
        if guard_input.previous_file is not None and guard_input.mapping.gone == "ignore"
        else 0
    )
    return replace(guard_input.impact.gone, count=max(0, guard_input.impact.gone.count - missing_before))


#: In the order in which reasons are given.
GUARDS = (
    Guard(
        "rejected",
        _measure_rejected,
        lambda mapping: mapping.rejects,
        "{count} of {total} rows were rejected; the limit is {limit}",
        total=lambda facts: facts.counts.rows - facts.counts.skipped,
    ),
    Guard(
        "gone",
        _measure_missing,
        lambda mapping: mapping.guards.gone,
        "{count} of {total} records are missing from the file; the limit is {limit}: is the file complete?",
        applies=lambda facts: facts.mapping.source.content == "full",
    ),
    Guard(
        "deactivated",
        lambda facts: facts.impact.deactivated,
        lambda mapping: mapping.guards.deactivated,
        "{count} of {total} records would be deactivated; the limit is {limit}: is the file complete?",
    ),
    Guard(
        "full_file",
        lambda facts: facts.impact.gone,
        lambda mapping: mapping.guards.full_file,
        "FullFile=true would deactivate {count} of {total} records, and those of others in the same scope",
        applies=lambda facts: facts.full_file,
    ),
    Guard(
        "price_moves",
        lambda facts: facts.impact.price_moves,
        lambda mapping: mapping.guards.price_moves,
        "prices of {count} of {total} records would change by more than {by}; the limit is {limit}",
    ),
    Guard(
        "price_zero",
        lambda facts: facts.impact.price_zero,
        lambda mapping: mapping.guards.price_zero,
        "{count} records would get a price of 0 or less; the limit is {limit}",
    ),
    Guard(
        "below_cost",
        lambda facts: facts.impact.below_cost,
        lambda mapping: mapping.guards.below_cost,
        "{count} records would get a price below their cost; the limit is {limit}",
    ),
    Guard(
        "stock_zero",
        lambda facts: facts.impact.stock_zero,
        lambda mapping: mapping.guards.stock_zero,
        "the stock of {count} of {total} records would go to zero; the limit is {limit}",
    ),
)

GUARD_NAMES = (*(guard.name for guard in GUARDS), "shrink")


def evaluate(guard_input: GuardInput) -> tuple[GuardResult, ...]:
    """Return the result of every guard, held or not."""
    return (
        *(_evaluate_guard(guard, guard_input) for guard in GUARDS if guard.applies(guard_input)),
        *_evaluate_shrink(guard_input),
    )


def hold_reasons(results: Sequence[GuardResult]) -> tuple[str, ...]:
    """Return why the run needs an approval; empty if it does not."""
    return tuple(result.reason for result in results if result.held)


def _evaluate_guard(guard: Guard, guard_input: GuardInput) -> GuardResult:
    tally, limit, total = guard.measure(guard_input), guard.limit(guard_input.mapping), guard.total(guard_input)
    held = limit.is_exceeded(tally.count, total)
    by = f"{(guard_input.mapping.guards.price_by * 100).normalize():f} %"
    reason = guard.reason.format(count=tally.count, total=total, limit=limit, by=by) if held else ""
    return GuardResult(guard.name, tally.count, total, str(limit), held, reason, tally.examples)


def _evaluate_shrink(guard_input: GuardInput) -> tuple[GuardResult, ...]:
    """Compare the file with the one previous it, by rows and by bytes, with one limit for both."""
    previous, shrink = guard_input.previous_file, guard_input.mapping.source.shrink
    if previous is None or shrink.share is None:
        return ()
    limit = f"{(shrink.share * 100).normalize():f} %"
    warnings = shrink_warnings(guard_input.mapping, guard_input.counts.rows, previous)
    lost = max(0, previous.rows - guard_input.counts.rows)
    results = [GuardResult("shrink", lost, previous.rows, limit, True, warning) for warning in warnings]
    return tuple(results) or (GuardResult("shrink", lost, previous.rows, limit, False, ""),)
