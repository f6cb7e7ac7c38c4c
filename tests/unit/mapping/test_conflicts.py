"""Feeds that write the same field of the same records, found among many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.mapping import conflicts, load
from etl.mapping.model import Mapping

TEXT = """
feed: {feed}
operation: Product/ImportSkuPriceLists
source: {{files: "{feed}*.csv", content: full}}
columns: {{list: {{type: text, in: [A, B]}}, price: decimal, vat: decimal}}
record:
  PartNo: sku
  PriceListCode: {price_list}
  CurrencyCode: {{value: SEK}}
  {field}: price
yields: [{yields}]
"""
LISTS = ("{value: A}", "{value: B}", "{value: C}", "list", "any")
FIELDS = ("PriceSale", "PriceRecommended")


def load_feeds(folder: Path, drawn: Sequence[tuple[str, str, int | None]]) -> list[Mapping]:
    """One feed for each price list, field and number of the feed that it yields to."""
    feeds = []
    for number, (price_list, field, other) in enumerate(drawn):
        yields = "" if other is None or other % len(drawn) == number else f"feed{other % len(drawn)}"
        text = TEXT.format(feed=f"feed{number}", price_list=price_list, field=field, yields=yields)
        path = folder / f"{number}.yaml"
        path.write_text(text.replace("yields: []\n", ""), encoding="utf-8")
        feeds.append(load.load_mapping(path))
    return feeds


def values(price_list: str) -> set[str]:
    return {"list": {"A", "B"}, "any": {"A", "B", "C", "D"}}.get(price_list) or {price_list[8:-1]}


@given(
    st.lists(
        st.tuples(st.sampled_from(LISTS), st.sampled_from(FIELDS), st.one_of(st.none(), st.integers(0, 9))),
        min_size=1,
        max_size=6,
    )
)
def test_every_pair_that_may_conflict_is_found(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, str, int | None]]
) -> None:
    """And no other: the same as when each is compared with each."""
    feeds = load_feeds(tmp_path_factory.mktemp("mappings"), drawn)
    expected = {
        one.feed: {
            other.feed
            for other, (other_list, other_field, _) in zip(feeds, drawn, strict=True)
            if other is not one
            and other.feed not in one.yields
            and one.feed not in other.yields
            and values(price_list) & values(other_list)
            and field == other_field
        }
        for one, (price_list, field, _) in zip(feeds, drawn, strict=True)
    }
    found = conflicts.find_conflicts(feeds)
    assert set(found) == {feed for feed, others in expected.items() if others}
    for feed, error in found.items():
        hint = error.problems[0].hint
        assert set(hint.partition("[")[2].partition("]")[0].split(", ")) == expected[feed]


def test_one_problem_names_all_that_write_a_field(tmp_path: Path) -> None:
    """Six feeds of one price list are one line for each of them, and not thirty."""
    found = conflicts.find_conflicts(load_feeds(tmp_path, [("{value: A}", "PriceSale", None)] * 6))
    assert {len(error.problems) for error in found.values()} == {1}
    problem = found["feed0"].problems[0]
    assert problem.message == "feed1, feed2, feed3 and 2 others write PriceSale too"
    assert problem.where is not None
    assert problem.where.endswith("record.PriceSale")
