"""Facts of a plan that outlive it: shown by people's commands, kept in plan.json and in the report."""

from __future__ import annotations

from typing import Any

import msgspec

#: Keys of a report that hold facts of the plan and stand beside "plan", not in it.
_TOP_LEVEL = ("rejections", "summary", "guards")


class PlanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan of a run decided, in the order and under the names of its JSON."""

    suppressed: int = 0  #: values that Connect would ignore or misread
    cleared: int = 0  #: values that are cleared in Norce
    hold_reasons: list[str] = msgspec.field(default_factory=list)
    guards: list[dict[str, Any]] = msgspec.field(default_factory=list)  #: result of each guard
    summary: dict[str, Any] = msgspec.field(default_factory=dict)  #: see `etl.plan.changes.impact`
    full_file: bool = False  #: sent under FullFile=true
    scope_shared_with: list[str] = msgspec.field(default_factory=list)  #: feeds
    revision: int = 0  #: of the accepted records that the plan was made from
    undoes: str | None = None  #: id of the run that this one takes back
    irreversible: list[dict[str, Any]] = msgspec.field(default_factory=list)  #: what an undo cannot restore
    merge_target: dict[str, str] | None = None  #: run and file that take the records along
    change_sets_joined: int = 0  #: sets of fields that share a request with others
    columns: list[str] = msgspec.field(default_factory=list)  #: source columns in use
    unused_columns: list[str] = msgspec.field(default_factory=list)  #: source columns that the mapping does not mention
    rejections: list[dict[str, Any]] = msgspec.field(default_factory=list)  #: see `etl.report.rejections`

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plan.json holds them."""
        return dict(msgspec.to_builtins(self))

    def to_report(self) -> dict[str, Any]:
        """Return the facts as a report holds them: some of its own, the others below "plan"."""
        facts = self.to_json()
        plan = {name: fact for name, fact in facts.items() if name not in _TOP_LEVEL}
        return {"summary": self.summary, "guards": self.guards, "plan": plan, "rejections": self.rejections}


def parse_facts(facts: dict[str, Any]) -> PlanFacts:
    """Read the facts of a plan.json. Raises ValueError."""
    return msgspec.convert(facts, PlanFacts)


def facts_of_report(report: dict[str, Any]) -> PlanFacts | None:
    """Read the facts of a report; None when its run was closed without a plan. Raises ValueError."""
    if not report.get("plan"):
        return None
    return parse_facts({**report["plan"], **{name: report[name] for name in _TOP_LEVEL if name in report}})
