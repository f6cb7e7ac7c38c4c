"""How many requests and values a day of changes takes: `make bench-packing`.

20,000 products with 15 texts each; some of the texts change often, most of them seldom, so that there are about 950
different sets of changed fields. The real plan is made of both days, once for each way of packing.
"""

from __future__ import annotations

import math
import random

from etl.plan.batches import batching
from etl.plan.inputs import RequestLimits
from tests.support.builders import Outcome, mapping, run, table

TEXTS = mapping(
    """
    feed: texts
    operation: Product/ImportProducts
    source: {files: "*.csv", content: full}
    record:
      Cultures:
        sv-SE:
          Name: a
          Description: b
          SubHeader: c
          SubDescription: d
          DescriptionHeader: e
          Synonyms: f
          Title: g
          Tags: h
          MetaTags: i
          MetaDescription: j
      Variants:
        rows:
          Skus: [{PartNo: p, EanCode: k, CommodityCode: l, TrackingCode: m, DiscountClass: n, IntegrationPartNo: o}]
    """
)
FIELDS = "abcdefghijklmno"
RECORDS, SETS, MINUTE = 20_000, 950, 60


def days() -> tuple[list[dict[str, str | None]], list[dict[str, str | None]]]:
    """A file, and the next day's, in which every row has changed."""
    chance = random.Random(5)
    odds = [0.6 / (place + 1) ** 0.9 for place in range(len(FIELDS))]
    seen: set[str] = set()
    before: list[dict[str, str | None]] = []
    after: list[dict[str, str | None]] = []
    while len(before) < RECORDS:
        changed = "".join(name for name, odd in zip(FIELDS, odds, strict=True) if chance.random() < odd)
        if not changed or (changed not in seen and len(seen) == SETS):
            continue
        seen.add(changed)
        row: dict[str, str | None] = {"p": f"{len(before):06}", **dict.fromkeys(FIELDS, "old")}
        before.append(row)
        after.append({**row, **dict.fromkeys(changed, "new")})
    return before, after


def plans() -> tuple[Outcome, Outcome]:
    """The second day's plan for each way of packing, with its requests."""
    before, after = days()
    first = run(TEXTS, table(before)).accepted
    budget = run(TEXTS, table(after), first, RequestLimits())
    strict = run(TEXTS, table(after), first, RequestLimits(packing="strict"))
    return budget, strict


def main() -> None:
    """Print the table of docs/ARCHITECTURE.md."""
    budget, strict = plans()
    exact = sum(sent.request.changed_values for sent in budget.sent)
    requests = batching.unmerged_request_count(budget.plan.batches, budget.plan.request_limits.max_records)
    print("| packing | requests | minutes | values | of what changed |")
    print("|---|---|---|---|---|")
    print(f"| none: each set apart | {requests} | {math.ceil(requests / MINUTE)} | {exact:,} | 1.00 |")
    for name, outcome in (("`budget`", budget), ("`strict`", strict)):
        count = len(outcome.sent)
        values = sum(sent.request.values for sent in outcome.sent)
        print(f"| {name} | {count} | {math.ceil(count / MINUTE)} | {values:,} | {values / exact:.2f} |")


if __name__ == "__main__":
    main()
