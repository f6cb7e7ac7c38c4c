"""Which of the open runs may be planned and sent now, beside those that are. Pure.

Runs whose keys are independent go side by side; what ties two of them lets the later one wait:

- the same feed, or the same import: they may hold the same keys, and Connect promises no order between jobs (a
  product's standard price is a row of a price list, customers and companies write to each other);
- `after` or `references` in the mapping: the one is planned with what the other has had accepted;
- an import that builds on another: a price of an unknown product is ignored without a word, so it waits while an
  open run may create products. This one is given up when that run cannot get on, or its job has been running for
  long: a stuck job must not stop everything. Where it matters beyond that, the mapping says `references`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from etl.model.runs import Run, RunState

#: Imports that go before others when both have something to send.
URGENT_OPERATIONS = frozenset({"Product/ImportOnhands", "Product/ImportSkuPriceLists"})

#: Imports, and those whose new records they need: what names an unknown record is ignored.
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
class Admission:
    """What may go, and what waits."""

    runs: tuple[Run, ...]  #: in their order
    dropped_dependencies: tuple[
        tuple[Run, Run], ...
    ] = ()  #: free although the second one, on which it builds, has not ended


def admit(
    runs: Iterable[Run],
    prerequisites: Mapping[str, Collection[str]],
    stalled_run_ids: Collection[str],
    slow_run_ids: Collection[str],
    also_writes: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Admission:
    """`runs`: what is open, in the order of work, what has begun first; `needs`: for each feed those it is declared to
    come after; `blocked`: runs that cannot go on now; `slow`: runs with a job that has been running for long;
    `beside`: for each feed other imports whose records it writes."""
    free: list[Run] = []
    given_up: list[tuple[Run, Run]] = []
    before: dict[str, bool] = {}  # feeds and imports of the runs so far: whether one of them is stuck
    creating: dict[str, list[Run]] = defaultdict(list)  # by import
    stuck = {*stalled_run_ids, *slow_run_ids}
    for run in runs:
        own = (run.feed, *(key_space(operation) for operation in (run.operation, *also_writes.get(run.feed, ()))))
        tied = [before[name] for name in (*own, *prerequisites.get(run.feed, ())) if name in before]
        base = OPERATION_PREREQUISITES.get(run.operation, ()) if run.state is RunState.CLAIMED else ()
        ground = [other for operation in base for other in creating[operation]]
        if any(tied):
            stuck.add(run.id)
        if not tied and run.id not in stalled_run_ids and all(other.id in stuck for other in ground):
            free.append(run)
            given_up += [(run, other) for other in ground]
        for name in own:
            before[name] = before.get(name, False) or run.id in stuck
        if _may_create_records(run):
            creating[run.operation].append(run)
    return Admission(tuple(free), tuple(given_up))


def key_space(operation: str) -> str:
    """Runs of one space may hold the same keys."""
    return _SHARED_KEY_SPACES.get(operation, operation)


def operations_sharing_keys(operation: str) -> frozenset[str]:
    """The imports that may hold the same keys."""
    return frozenset(
        {
            operation,
            *(
                other
                for other in (*_SHARED_KEY_SPACES, *_SHARED_KEY_SPACES.values())
                if key_space(other) == key_space(operation)
            ),
        }
    )


def _may_create_records(run: Run) -> bool:
    return run.state is RunState.CLAIMED or run.counts.new > 0
