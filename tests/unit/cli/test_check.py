"""`etl check`: cases of a mapping, warnings, and switches without what they are about."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from etl.cli import cases
from etl.cli.main import main
from etl.errors import InvalidMappingError
from etl.mapping import lint, load
from tests.support.builders import mapping, run, table

ROOT = Path(__file__).parents[3]
FEEDS = sorted(path.name.removesuffix(".cases") for path in (ROOT / "mappings").glob("*.cases"))
COMPANY = """
feed: companies
operation: Customer/ImportCompanies
source: {files: "*.csv", content: full}
record:
  ApplicationKey: {value: 5f0c41d6-8d3c-4a51-9a55-0c2f6de01a77}
  Code: code
  OrganizationNo: org
  Name: name
"""


@pytest.mark.parametrize("feed", FEEDS)
def test_shipped_cases_hold(feed: str) -> None:
    """Each case of a shipped mapping comes out as it says."""
    read = load.load_mapping(ROOT / f"mappings/{feed}.yaml")
    found = cases.case_folders(read)
    assert found
    assert [cases.find_differences(read, case) for case in found] == [[]] * len(found)


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    """A copy of a shipped mapping with its case."""
    shutil.copy(ROOT / "mappings/erp-stock.yaml", tmp_path)
    shutil.copytree(ROOT / "mappings/erp-stock.cases", tmp_path / "erp-stock.cases")
    return tmp_path


def check(folder: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["check", *words, str(folder)])
    return done.exit_code, done.output


def test_a_case_that_differs_is_a_mistake(stock: Path) -> None:
    """The place in the outcome, what is there and what is expected; exit status 1."""
    path = stock / "erp-stock.cases/next-day/expected.json"
    expected = json.loads(path.read_text())
    expected["requests"][0]["records"][0]["OnhandValue"] = 5
    path.write_text(json.dumps(expected))
    status, output = check(stock)
    assert status == 1
    assert "error[mapping-case]" in output
    assert "requests[1].records[1].OnhandValue is 0.0, 5 is expected" in output


def test_a_changed_mapping_shows_in_its_cases(stock: Path) -> None:
    """A field less in the mapping is a field less in the requests."""
    path = stock / "erp-stock.yaml"
    path.write_text(path.read_text().replace("  IncomingValue: På väg in\n", ""))
    status, output = check(stock)
    assert (status, "IncomingValue is missing, 0.0 is expected" in output) == (1, True)


def test_expected_is_written_where_it_is_missing(stock: Path) -> None:
    """Only with --write, and what was written holds."""
    path = stock / "erp-stock.cases/next-day/expected.json"
    before = json.loads(path.read_text())
    path.unlink()
    assert check(stock)[0] == 1
    status, output = check(stock, "--write")
    assert (status, "1 of 1 cases" in output) == (0, True)
    assert json.loads(path.read_text()) == before


def codes(text: str) -> list[str]:
    return [warning.code for warning in lint.lint_mapping(mapping(text))]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("  DeliveryAddresses: [{City: city}]\n", "mapping-apart"),
        (f"  VatNo: {{value: {'9' * 60}}}\n", "mapping-length"),
        ("  Flags: {split: marks, each: {Code: '{item}'}}\n", "mapping-replaced"),
    ],
    ids=["apart", "length", "replaced"],
)
def test_warnings(more: str, code: str) -> None:
    """Addresses without a code, a text that Norce may cut, marks that are replaced."""
    assert codes(COMPANY) == []
    assert codes(COMPANY + more) == [code]


def test_what_cannot_be_created_is_a_warning() -> None:
    """A feed that lacks what creation needs can only change what is there."""
    assert codes(COMPANY.replace("  Name: name\n", "")) == ["mapping-create"]


def refused(text: str) -> list[str]:
    with pytest.raises(InvalidMappingError) as error:
        mapping(text)
    return [problem.code for problem in error.value.problems]


def test_a_switch_needs_what_it_is_about() -> None:
    """A guard for a price that is not mapped is refused; a switch for a list that is not mapped is a warning."""
    assert codes(COMPANY + "switches: [CompanyFieldsThatAreSet.PreserveFlags]\n") == ["mapping-idle"]
    prices = """
    feed: prices
    operation: Product/ImportSkuPriceLists
    source: {files: "*.csv", content: full}
    columns: {price: decimal}
    record: {PartNo: part, PriceListCode: {value: B2C}, PriceSale: price}
    switches: [IgnoreSkuPriceListFieldsWhenEmpty.%s]
    """
    assert refused(prices % "CostUnit") == ["mapping-gate"]
    assert mapping(prices % "PriceSale").switches == ("IgnoreSkuPriceListFieldsWhenEmpty.PriceSale",)


def test_a_delta_that_says_false_is_destructive() -> None:
    """Relations are detached where the list is not said to be a part of them."""
    people = "  Customers: {split: people, each: {Code: '{item}'}}\n  IsCustomerListDelta: {value: %s}\n"
    assert mapping(COMPANY + people % "true")
    assert refused(COMPANY + people % "false") == ["mapping-destructive"]


def test_searching_only_by_code_takes_the_rest_out_of_the_key() -> None:
    """A row without a code has no key then: Connect would not find it by its number."""
    switched = mapping(COMPANY + "switches: [CompanyFieldsThatAreSet.SearchOnlyByCode]\n")
    rows = table("code,org,name\n1,100,One\n,200,Two\n")
    assert run(switched, rows).codes == [(3, "missing-key")]
    assert run(mapping(COMPANY), rows).codes == []


def test_own_cannot_hold_in_what_goes_whole() -> None:
    """A field of an address that people edit would be lost when another one changes."""
    address = "  InvoiceAddress: {City: city, ZipCode: {column: zip, own: false}}\n"
    assert refused(COMPANY + address) == ["mapping-own"]


def test_case_folders_go_by_the_feed(stock: Path) -> None:
    """Every folder below <feed>.cases is one."""
    read = load.load_mapping(stock / "erp-stock.yaml")
    assert [re.sub(r".*/", "", str(case)) for case in cases.case_folders(read)] == ["next-day"]
