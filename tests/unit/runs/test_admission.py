"""Which open runs may go side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.mapping import dependencies, load
from etl.model.runs import Counts, Run, RunState
from etl.runs.admission import FeedLinks, admit, key_space

STOCK, PRICES, PRODUCTS = "Product/ImportOnhands", "Product/ImportSkuPriceLists", "Product/ImportProducts"
CUSTOMERS, COMPANIES = "Customer/ImportCustomers", "Customer/ImportCompanies"


def run(name: str, operation: str, *, feed: str = "", begun: bool = False, new: int = 0) -> Run:
    state = RunState.SENDING if begun else RunState.CLAIMED
    return Run(name, feed or operation, operation, "f.csv", "0", state, Counts(new=new))


MAPPING = """
feed: pim
operation: Product/ImportProducts
source: {files: "products*.csv", content: full}
columns:
  price: {type: decimal}
record:
  ManufacturerCode: maker
  ManufacturerName: maker
  Cultures:
    sv-SE: {Name: name}
  Variants:
    rows:
      ManufacturerPartNo: part
      Skus:
        - PartNo: part
          Status: {value: Active}
          Type: {value: ErpStandard}
"""
PRICE = """          StandardPrice:
            PartNo: part
            PriceListCode: {value: B2C}
            CurrencyCode: {value: SEK}
            PriceSale: price
"""


def free(*runs: Run, needs: dict[str, set[str]] | None = None, blocked: str = "", slow: str = "") -> str:
    """Names of the runs that may go; names in `blocked` and `slow` are single letters."""
    return "".join(one.id for one in admit(runs, FeedLinks(needs or {}), set(blocked), set(slow)).runs)


def test_runs_of_different_imports_go_side_by_side() -> None:
    """A stuck stock job stops no customer, and products that only change stop no price."""
    assert free(run("a", STOCK, begun=True), run("b", CUSTOMERS)) == "ab"
    assert free(run("a", PRODUCTS, begun=True), run("b", PRICES), run("c", STOCK)) == "abc"


def test_runs_that_may_hold_the_same_keys_go_one_after_the_other() -> None:
    """Of one feed, of one import, and of the two imports that write to each other's records."""
    assert free(run("a", STOCK, feed="erp"), run("b", STOCK, feed="wms")) == "a"
    assert free(run("a", STOCK, feed="erp", begun=True), run("b", PRICES, feed="erp")) == "a"
    assert free(run("a", COMPANIES, begun=True), run("b", CUSTOMERS)) == "a"
    assert key_space(CUSTOMERS) == key_space(COMPANIES)


def test_a_feed_that_writes_records_of_another_import_takes_turns_with_it() -> None:
    """Products with a standard price and price rows are never under way together, whichever comes first."""
    products, prices = run("a", PRODUCTS, feed="pim", begun=True), run("b", PRICES, feed="erp", begun=True)
    beside = {"pim": {PRICES}}
    assert [one.id for one in admit([products, prices], FeedLinks({}, beside), set(), set()).runs] == ["a"]
    assert [one.id for one in admit([prices, products], FeedLinks({}, beside), set(), set()).runs] == ["b"]
    assert [one.id for one in admit([products, prices], FeedLinks({}), set(), set()).runs] == ["a", "b"]


@pytest.mark.parametrize(("text", "others"), [(MAPPING, {}), (MAPPING + PRICE, {"pim": frozenset({PRICES})})])
def test_a_standard_price_is_a_row_of_a_price_list(tmp_path: Path, text: str, others: dict[str, set[str]]) -> None:
    """The mapping tells whether products write to a price list."""
    path = tmp_path / "pim.yaml"
    path.write_text(text, encoding="utf-8")
    assert dependencies.also_writes([load.load_mapping(path)]) == others


def test_a_run_that_cannot_go_on_holds_up_only_what_shares_its_keys() -> None:
    """Newer runs of its import wait however long it takes (an older value must not come last); others go."""
    runs = run("a", STOCK, begun=True), run("b", STOCK), run("c", PRICES)
    assert free(*runs, blocked="a") == "c"
    assert free(*runs, slow="a") == "ac"


def test_declared_order_is_kept_whatever_happens() -> None:
    """A feed waits for those it is declared to come after, also when they are stuck; not for later ones."""
    runs = run("a", PRODUCTS, feed="pim", begun=True), run("b", STOCK, feed="stock")
    assert free(*runs, needs={"stock": {"pim"}}) == "a"
    assert free(*runs, needs={"stock": {"pim"}}, blocked="a") == ""
    assert free(*reversed(runs), needs={"stock": {"pim"}}) == "ba"


def test_what_builds_on_new_records_waits_for_them() -> None:
    """Prices wait while an open run may create products: one without a plan, or with new records."""
    assert free(run("a", PRODUCTS), run("b", PRICES)) == "a"
    assert free(run("a", PRODUCTS, begun=True, new=1), run("b", PRICES), run("c", STOCK)) == "a"
    assert free(run("a", PRODUCTS, begun=True, new=1), run("b", PRICES, begun=True)) == "ab"


def test_waiting_for_new_records_is_given_up_when_they_cannot_come() -> None:
    """A run that is blocked or slow, or waits behind such a one, is not waited for; that is told."""
    products, prices = run("a", PRODUCTS, begun=True, new=1), run("b", PRICES)
    assert free(products, prices, slow="a") == "ab"
    assert free(products, prices, blocked="a") == "b"
    assert free(products, run("c", PRODUCTS), prices, slow="a") == "ab"
    found = admit([products, prices], FeedLinks({}), {"a"}, set())
    assert [(one.id, other.id) for one, other in found.dropped_dependencies] == [("b", "a")]


@given(
    runs=st.lists(
        st.builds(
            lambda operation, feed, begun, new: run("", operation, feed=feed, begun=begun, new=new),
            st.sampled_from([STOCK, PRICES, PRODUCTS, CUSTOMERS, COMPANIES]),
            st.sampled_from("abcde"),
            st.booleans(),
            st.integers(0, 1),
        ),
        max_size=12,
    ),
    needs=st.dictionaries(st.sampled_from("abcde"), st.sets(st.sampled_from("abcde")), max_size=3),
    blocked=st.sets(st.integers(0, 11)),
    slow=st.sets(st.integers(0, 11)),
)
def test_something_goes_and_nothing_that_must_not(
    runs: list[Run], needs: dict[str, set[str]], blocked: set[int], slow: set[int]
) -> None:
    """Never two with the same keys; the first of all goes unless it is blocked, so nothing waits in a circle."""
    named = [replace(one, id=str(number)) for number, one in enumerate(runs)]
    found = admit(named, FeedLinks(needs), {str(n) for n in blocked}, {str(n) for n in slow}).runs
    assert len({key_space(one.operation) for one in found}) == len(found) == len({one.feed for one in found})
    assert not {one.id for one in found} & {str(n) for n in blocked}
    assert [one for one in named if one in found] == list(found)
    if named and 0 not in blocked:
        assert found
        assert found[0] == named[0]
