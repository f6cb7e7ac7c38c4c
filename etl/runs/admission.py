"""Decides which open runs may be planned and sent now, beside those under way. Pure.

Runs with independent keys go side by side. A later run waits for an earlier one when

- both are of the same feed or the same import: they may hold the same keys, and Connect promises no order between
  jobs (a product's standard price is a row of a price list, customers and companies write to each other);
- its mapping has `after` or `references` for the other feed: it is planned with the other's accepted records;
- its import builds on the other import: Connect ignores a price of an unknown product without an error, so the price
  waits while an open run may create products. This dependency is dropped when the earlier run is stalled or its job
  has been running for long, so that one stuck job does not stop all feeds. Where that is not enough, the mapping has
  `references`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from etl.model.runs import Run, RunState

#: Imports whose requests go before those of others.
URGENT_OPERATIONS = frozenset({"Product/ImportOnhands", "Product/ImportSkuPriceLists"})

#: Imports, and those whose new records they need: Connect ignores a record that refers to an unknown one.
OPERATION_PREREQUISITES: Mapping[str, frozenset[str]] = {
    "Supplier/ImportProducts": frozenset({"Product/ImportPriceLists"}),
    "Product/ImportProducts": frozenset({"Product/ImportPriceLists"}),
    "Product/ImportOnhands": frozenset({"Product/ImportProducts"}),
    "Product/ImportSkuPriceLists": frozenset({"Product/ImportPriceLists", "Product/ImportProducts"}),
    "Product/ImportRelations": frozenset({"Product/ImportProducts"}),
    "Product/ImportCompetitorSkus": frozenset({"Product/ImportProducts"}),
    "Customer/ImportCompanies": frozenset({"Product/ImportPriceLists"}),
    "Customer/ImportCustomers": frozenset({"Product/ImportPriceLists", "Customer/ImportCompanies"}),
}

#: Imports that write to each other's records, as if they were one.
_SHARED_KEY_SPACES = {"Customer/ImportCustomers": "Customer/ImportCompanies"}


@dataclass(frozen=True, slots=True)
class FeedLinks:
    """How feeds depend on each other, by their mappings."""

    prerequisites: Mapping[str, Collection[str]]  #: feeds whose runs go before those of a feed
    #: Other imports whose records a feed writes.
    also_writes: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Admission:
    """Runs that may go now."""

    runs: tuple[Run, ...]  #: in their order
    #: Admitted runs, each with an earlier run that it builds on and that has not ended.
    dropped_dependencies: tuple[tuple[Run, Run], ...] = ()


def admit(
    runs: Iterable[Run], links: FeedLinks, stalled_run_ids: Collection[str], slow_run_ids: Collection[str]
) -> Admission:
    """Choose the runs that may go now.

    Args:
        runs: open runs in the order of the queue, begun ones first.
        stalled_run_ids: runs that cannot go on now.
        slow_run_ids: runs with a job that has been running for long.
    """
    admitted: list[Run] = []
    dropped: list[tuple[Run, Run]] = []
    stuck_by_name: dict[str, bool] = {}  # feeds and key spaces of the runs so far: whether one of them is stuck
    creating_runs: dict[str, list[Run]] = defaultdict(list)  # by import
    stuck = {*stalled_run_ids, *slow_run_ids}
    for run in runs:
        operations = (run.operation, *links.also_writes.get(run.feed, ()))
        own_names = (run.feed, *(key_space(operation) for operation in operations))
        earlier_names = [name for name in (*own_names, *links.prerequisites.get(run.feed, ())) if name in stuck_by_name]
        if any(stuck_by_name[name] for name in earlier_names):
            stuck.add(run.id)
        prerequisite_runs = _prerequisite_runs(run, creating_runs)
        is_free = not earlier_names and run.id not in stalled_run_ids
        if is_free and all(earlier.id in stuck for earlier in prerequisite_runs):
            admitted.append(run)
            dropped += [(run, earlier) for earlier in prerequisite_runs]
        for name in own_names:
            stuck_by_name[name] = stuck_by_name.get(name, False) or run.id in stuck
        if _may_create_records(run):
            creating_runs[run.operation].append(run)
    return Admission(tuple(admitted), tuple(dropped))


def _prerequisite_runs(run: Run, creating_runs: Mapping[str, list[Run]]) -> list[Run]:
    """Return earlier runs that may create records which a run to be planned refers to."""
    if run.state is not RunState.CLAIMED:
        return []
    operations = OPERATION_PREREQUISITES.get(run.operation, ())
    return [earlier for operation in operations for earlier in creating_runs.get(operation, ())]


def key_space(operation: str) -> str:
    """Return the name of the key space of an import; runs of one space may hold the same keys."""
    return _SHARED_KEY_SPACES.get(operation, operation)


def operations_sharing_keys(operation: str) -> frozenset[str]:
    """Return the imports that may hold the same keys as this one, and itself."""
    imports = {*_SHARED_KEY_SPACES, *_SHARED_KEY_SPACES.values()}
    return frozenset({operation, *(other for other in imports if key_space(other) == key_space(operation))})


def _may_create_records(run: Run) -> bool:
    return run.state is RunState.CLAIMED or run.counts.new > 0
