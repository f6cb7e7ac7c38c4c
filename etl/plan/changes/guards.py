"""Holds a run that would do more than its mapping lets pass without asking: one table of guards. Pure.

Each guard counts something in the plan and has a limit. A feed that Norce has nothing of yet has no share of
anything to lose, so a first load is never held for being new; prices of nothing and below cost hold it all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from etl.mapping.model import Limit, Mapping
from etl.model.runs import Counts
from etl.plan.changes import previous_file as history
from etl.plan.changes.impact import EXAMPLES, Example, Impact, Tally


@dataclass(frozen=True, slots=True)
class Facts:
    """What the guards look at."""

    mapping: Mapping
    counts: Counts
    impact: Impact
    rejected: pl.DataFrame  #: rejections
    full_file: bool  #: goes with FullFile=true
    before: history.Before | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one guard found, and whether that is more than may pass."""

    guard: str
    found: int
    of: int
    limit: str
    held: bool
    reason: str  #: why the run is held; empty when it is not
    examples: tuple[Example, ...] = ()

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "guard": self.guard,
            "found": self.found,
            "of": self.of,
            "limit": self.limit,
            "held": self.held,
            "reason": self.reason,
            "examples": [example.shown() for example in self.examples],
        }


@dataclass(frozen=True, slots=True)
class Guard:
    """A line of the table. `reason` is filled with found, of, limit and by."""

    name: str
    measure: Callable[[Facts], Tally]
    limit: Callable[[Mapping], Limit]
    reason: str
    of: Callable[[Facts], int] = lambda facts: facts.impact.alive
    applies: Callable[[Facts], bool] = lambda facts: True


def _rejected(facts: Facts) -> Tally:
    rows = facts.rejected.head(EXAMPLES).select("row", "column", "value", "message").iter_rows()
    examples = tuple(
        Example(f"row {row}", str(column or ""), value, str(message)) for row, column, value, message in rows
    )
    return Tally(facts.counts.rejected, examples)


def _gone(facts: Facts) -> Tally:
    """Those that the file before had no more either stay missing when nothing happens to them: no news."""
    known = facts.before.gone if facts.before is not None and facts.mapping.gone == "ignore" else 0
    return replace(facts.impact.gone, count=max(0, facts.impact.gone.count - known))


#: In the order in which reasons are given.
GUARDS = (
    Guard(
        "rejected",
        _rejected,
        lambda mapping: mapping.rejects,
        "{found} of {of} rows were rejected; the mapping lets {limit} pass",
        of=lambda facts: facts.counts.rows - facts.counts.skipped,
    ),
    Guard(
        "gone",
        _gone,
        lambda mapping: mapping.guards.gone,
        "{found} of {of} records are no longer in the file; the mapping lets {limit} be: is it whole?",
        applies=lambda facts: facts.mapping.source.content == "full",
    ),
    Guard(
        "deactivated",
        lambda facts: facts.impact.switched_off,
        lambda mapping: mapping.guards.deactivated,
        "{found} of {of} records would be switched off; the mapping lets {limit} be: is the file whole?",
    ),
    Guard(
        "full_file",
        lambda facts: facts.impact.gone,
        lambda mapping: mapping.guards.full_file,
        "FullFile=true would switch off {found} of {of} records, and what others have put into the same scope",
        applies=lambda facts: facts.full_file,
    ),
    Guard(
        "price_moves",
        lambda facts: facts.impact.price_moves,
        lambda mapping: mapping.guards.price_moves,
        "prices of {found} of {of} records would move by more than {by}; the mapping lets {limit} do so",
    ),
    Guard(
        "price_zero",
        lambda facts: facts.impact.price_zero,
        lambda mapping: mapping.guards.price_zero,
        "{found} records would get a price of 0 or less; the mapping lets {limit} pass",
    ),
    Guard(
        "below_cost",
        lambda facts: facts.impact.below_cost,
        lambda mapping: mapping.guards.below_cost,
        "{found} records would get a price below their cost; the mapping lets {limit} pass",
    ),
    Guard(
        "stock_zero",
        lambda facts: facts.impact.stock_zero,
        lambda mapping: mapping.guards.stock_zero,
        "the stock of {found} of {of} records would go to zero; the mapping lets {limit} do so",
    ),
)

NAMES = (*(guard.name for guard in GUARDS), "shrink")


def judge(facts: Facts) -> tuple[Verdict, ...]:
    """What every guard says, those that let the run pass among them."""
    return (*(_verdict(guard, facts) for guard in GUARDS if guard.applies(facts)), *_shrink(facts))


def reasons(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Why the run waits for a person's yes; empty when it may go."""
    return tuple(verdict.reason for verdict in verdicts if verdict.held)


def _verdict(guard: Guard, facts: Facts) -> Verdict:
    tally, limit, of = guard.measure(facts), guard.limit(facts.mapping), guard.of(facts)
    held = limit.exceeded(tally.count, of)
    by = f"{(facts.mapping.guards.price_by * 100).normalize():f} %"
    reason = guard.reason.format(found=tally.count, of=of, limit=limit, by=by) if held else ""
    return Verdict(guard.name, tally.count, of, str(limit), held, reason, tally.examples)


def _shrink(facts: Facts) -> tuple[Verdict, ...]:
    """A file held against the one before it; two measures, rows and bytes, under one limit."""
    before, bound = facts.before, facts.mapping.source.shrink
    if before is None or bound.share is None:
        return ()
    limit = f"{(bound.share * 100).normalize():f} %"
    doubts = history.doubts(facts.mapping, facts.counts.rows, before)
    lost = max(0, before.rows - facts.counts.rows)
    verdicts = [Verdict("shrink", lost, before.rows, limit, True, doubt) for doubt in doubts]
    return tuple(verdicts) or (Verdict("shrink", lost, before.rows, limit, False, ""),)
