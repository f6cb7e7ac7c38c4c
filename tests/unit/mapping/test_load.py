"""Mapping files: what is wrong in them is said with place, code and hint, all of it at once."""

from __future__ import annotations

import contextlib
import copy
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from etl.errors import InvalidMappingError
from etl.mapping import load
from tests.support.builders import mapping

BASE = """\
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "*.csv", content: full}
columns:
  price: {type: decimal}
record:
  PartNo: part
  PriceListCode: {value: B2C}
  PriceSale: price
"""
PRODUCTS = """\
feed: products
operation: Product/ImportProducts
source: {files: "*.csv", content: full}
record:
  Code: model
  ManufacturerCode: maker
  Variants:
    rows:
      ManufacturerPartNo: mpn
      Skus:
        - PartNo: part
"""
CUSTOMERS = """\
feed: customers
operation: Customer/ImportCustomers
source: {files: "*.csv", content: full}
record:
  Code: code
"""


def problems(text: str) -> list[str]:
    """`code line:column hint` of each problem."""
    with pytest.raises(InvalidMappingError) as caught:
        mapping(text)
    found = []
    for problem in caught.value.problems:
        place = (problem.where or "").partition("feed.yaml")[2].partition(",")[0].lstrip(":")
        found.append(f"{problem.code} {place} {problem.hint}".strip())
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BASE + "  PriceSales: price\n", 'mapping-unknown-field 10:3 did you mean "PriceSale"?'),
        (BASE + "  pricerule: {value: FixedPrice}\n", 'mapping-unknown-field 10:3 did you mean "PriceRule"?'),
        (BASE + "  CostUnit: cost\n", "mapping-column-type 10:3 declare it: columns: {cost: {type: decimal}}"),
        (BASE + "  IsActive: price\n", "mapping-column-type 10:3 declare it: columns: {price: {type: boolean}}"),
        (BASE.replace("  PartNo: part\n", ""), "mapping-key 6:1 add PartNo below `record:`"),
        (BASE + "  CostUnit: {column: price, empty: clear}\n",
         "mapping-cannot-clear 10:3 use empty: leave, or deactivate the row"),
        (BASE.replace("PartNo: part", "PartNo: {column: part, empty: clear}"),
         "mapping-cannot-clear 7:3 use empty: leave"),
        (BASE.replace("PartNo: part", "PartNo: {column: part, own: false}"), "mapping-own 7:3 drop `own: false`"),
        (BASE + "  CostUnit: {column: price, own: no}\n", "mapping-switch 10:3 own: true"),
        (BASE + "switches: [FullfileResetInheritance]\n",
         'mapping-destructive 10:1 say that it is meant: destructive: "why this is safe here"'),
        (BASE + "switches: [FullfileResetInheritence]\n",
         'mapping-switch 10:1 did you mean "FullfileResetInheritance"?'),
        (BASE + "rules: [{name: x, sql: 'price >'}]\n", 'mapping-sql 10:19 quote odd names: "Art nr" > 1'),
        (BASE + "  CostUnit: {sql: ''}\n", 'mapping-sql 10:3 quote odd names: "Art nr" > 1'),
        (BASE + "  PriceSale: price\n", "mapping-yaml 10:3 check indentation"),
        (BASE + "gon: ignore\n", 'mapping-unknown-key 10:1 did you mean "gone"?'),
        (BASE.replace("ImportSkuPriceLists", "ImportSkuPriceList"),
         'mapping-operation 2:1 did you mean "Product/ImportSkuPriceLists"?'),
        (BASE.replace("content: full", "content: fulll"), 'mapping-content 3:26 did you mean "full"?'),
        (BASE.replace(", content: full", ""), "mapping-content 3:1 content: full, or content: changes"),
        (BASE.replace("files:", "flies:"), 'mapping-unknown-key 3:10 did you mean "files"?'),
        (BASE + "  PriceRule: {value: FixedPrise}\n", 'mapping-enum 10:3 did you mean "FixedPrice"?'),
        (BASE + "  IsActive: {value: maybe}\n", "mapping-value 10:3 write true or false"),
        (BASE + "  CostUnit: {value: 1.23456}\n",
         "mapping-value 10:3 at most 11 digits before and 4 after a point, without spaces"),
        (BASE + "  CostUnit: {value: }\n", "mapping-value 10:3 write a value, or leave the field out"),
        (BASE + "  CostUnit: 5\n", "mapping-value 10:3 write {value: …} for a constant"),
        (BASE + "  CostUnit: {column: price, sql: price}\n", "mapping-value 10:3 e.g. {column: Pris, empty: leave}"),
        (BASE + "  CostUnit: {column: price, replace: 5}\n",
         'mapping-value 10:3 write replace: {"old": "new"}'),
        (BASE + "  IsPriceDiscountable: {value: true, flag: IsPriceDiscountableCreate}\n",
         "mapping-unknown-flag 10:3 did you mean \"IsPriceDiscountableCreateOnly\"?"),
        (BASE + "  PriceRuleValue: price\n", "mapping-companion 10:3 add `PriceRule: …` beside it"),
        (BASE.replace("full", "changes") + "gone: deactivate\n", "mapping-gone 10:1 gone: ignore"),
        (BASE + "rejects: {limit: many}\n", "mapping-rejects 10:1 limit: 2%"),
        (BASE + "per: {columns: price}\n", 'mapping-per 10:1 per: {columns: "stock_*"}'),
        (BASE.replace("prices\n", "My Prices\n"), "mapping-feed 1:1 feed: lower-case letters"),
        (BASE.replace("{type: decimal}", "{type: decimal, min: zero}"), "mapping-number 5:3 min: 0"),
        (BASE.replace("{type: decimal}", "{type: decimal, pattern: '('}"), "mapping-pattern 5:3 quote it"),
        (BASE.replace("{type: decimal}", "{type: decimal, pattern: '(?=a)'}"), "mapping-pattern 5:3 quote it"),
        (BASE.replace("{type: decimal}", "{type: decimal, decimal: ',,'}"), 'mapping-mark 5:3 decimal: ","'),
        (BASE.replace("{type: decimal}", "{type: decimal, required: yes}"), "mapping-switch 5:3 required: true"),
        (BASE.replace("columns:\n", "columns:\n  day: {type: date, format: yyyy-mm-dd}\n"),
         'mapping-format 5:3 year %Y, month %m, day %d, as in "%d.%m.%Y %H:%M"'),
        (BASE.replace("columns:\n", "columns:\n  day: {type: date, zone: Mars/North}\n"),
         "mapping-zone 5:3 e.g. Europe/Stockholm"),
        (BASE.replace("columns:\n", "columns:\n  day: 5\n"), "mapping-column 5:3 write day: {type: text}"),
        (PRODUCTS + "  Cultures: {sv-SE: {Nam: x}}\n", 'mapping-unknown-field 12:22 did you mean "Name"?'),
        (PRODUCTS + "  Cultures: {sv-SE: {CultureCode: x}}\n", "mapping-twice 12:14 drop the latter"),
        (PRODUCTS + "  Cultures: x\n", "mapping-value 12:3 write `- …`, codes, `rows:`, `columns:` or `split:`"),
        (PRODUCTS + "  Family: {Name: x}\n", "mapping-required 12:3 add `Code: …` there"),
        (PRODUCTS + "  Categories: {split: k}\n", 'mapping-value 12:3 write each: {Code: "{item}"}'),
        (PRODUCTS + "  ProductParametrics: {columns: attr}\n",
         'mapping-value 12:3 use a star, as in columns: "attr_*"'),
        (PRODUCTS + "  ProductParametrics: {columns: 'attr_*'}\n", "mapping-value 12:3 write its fields as key: value"),
        (PRODUCTS + "        - PartNo: other\n", "mapping-value 10:7 write one element: `- …`"),
        (PRODUCTS + "gone: deactivate\n", "mapping-gone 12:1 map Variants.Skus.Status, or gone: ignore"),
        (PRODUCTS + "switches: [ProductFieldsThatAreSet.AdditionalImagesCleanup]\n",
         'mapping-destructive 12:1 say that it is meant: destructive: "why this is safe here"'),
        (CUSTOMERS.replace("Code: code", "FirstName: name"), "mapping-key 4:1 map one of Id, Code, EmailAddress"),
        (CUSTOMERS + "  Companies: {rows: {Code: company}}\n",
         'mapping-destructive 4:1 add `IsCompanyListDelta: {value: true}`, or say that it is meant: destructive: "…"'),
        (CUSTOMERS + "  DeliveryAddresses: {rows: {Code: c}}\n  Accounts: {rows: {LoginName: a}}\n",
         "mapping-required 7:3 add `ApplicationKey: …` there"),
        ("feed: x\nrecord: {}\n", "mapping-operation 1:1 operation: one of Customer/ImportCompanies"),
        ("- a list\n", "mapping-yaml  start with `feed: name`"),
        ("", "mapping-yaml  start with `feed: name`"),
        ("feed: [a\n", "mapping-yaml 2:1 check indentation"),
    ],
)  # fmt: skip
def test_one_mistake(text: str, expected: str) -> None:
    """Each mistake is named with code, line, column and what to do."""
    found = problems(text)
    assert any(problem.startswith(expected) for problem in found), found


def test_all_problems_at_once() -> None:
    """One reading finds the mistakes of all parts of the file."""
    text = BASE.replace("{type: decimal}", "{type: dezimal}").replace("PartNo: part", "PartNumber: part")
    codes = {problem.split()[0] for problem in problems(text + "gone: maybe\nafter: []\nnonsense: 1\n")}
    assert codes == {"mapping-type", "mapping-column-type", "mapping-unknown-field", "mapping-key", "mapping-gone",
                     "mapping-unknown-key"}  # fmt: skip


def test_lists_cannot_nest_rows() -> None:
    """A list made of rows inside another one has no meaning, and is refused."""
    text = CUSTOMERS + "  Accounts:\n    rows: {LoginName: a, ApplicationKey: k, Roles: {rows: {Code: r}}}\n"
    assert problems(text)[0].startswith("mapping-value 7:45")


def test_constants_are_taken_as_written() -> None:
    """007 stays 007 in a text field, and true is the word."""
    made = mapping(BASE.replace("B2C", "007") + "  CurrencyCode: {value: true}\n  CostUnit: {value: 1.50}\n")
    values = {name: node.value.constant for name, node in made.record.items() if node.value is not None}
    assert values["PriceListCode"] == "007"
    assert values["CurrencyCode"] == "true"
    assert values["CostUnit"] == Decimal("1.5")


def test_norway_is_a_country() -> None:
    """YAML 1.2: NO is a text, not false."""
    made = mapping(BASE.replace("B2C", "NO"))
    node = made.record["PriceListCode"].value
    assert node is not None
    assert node.constant == "NO"


def test_true_and_false_need_no_quotes() -> None:
    """The words for yes and no of a column stand below `true:` and `false:`, in quotes or not."""
    made = mapping(BASE.replace("columns:\n", "columns:\n  on: {type: boolean, true: [S], 'false': ['']}\n"))
    assert (made.columns["on"].true, made.columns["on"].false) == (("S",), ("",))


def test_codes_without_fields() -> None:
    """A list may name its elements by their codes alone."""
    made = mapping(CUSTOMERS + "  Flags: {VIP: {}, B2B: {}}\n")
    assert [code for code, _ in made.record["Flags"].elements] == ["VIP", "B2B"]


def test_a_destructive_setting_with_its_reason() -> None:
    """Said in words, a cleanup switch is taken."""
    made = mapping(
        PRODUCTS
        + "switches: [ProductFieldsThatAreSet.AdditionalImagesCleanup]\ndestructive: the file has every image\n"
    )
    assert made.switches == ("ProductFieldsThatAreSet.AdditionalImagesCleanup",)


def test_a_look_up_file(tmp_path: Path) -> None:
    """`map: {file: …}` reads pairs from a CSV file beside the mapping."""
    (tmp_path / "rules.csv").write_text("from,to\nfix,FixedPrice\n", encoding="utf-8")
    path = tmp_path / "feed.yaml"
    path.write_text(BASE + "  PriceRule: {column: rule, map: {file: rules.csv}}\n", encoding="utf-8")
    node = load.load_mapping(path).record["PriceRule"].value
    assert node is not None
    assert list(node.lookup or {}) == ["fix"]
    (tmp_path / "rules.csv").write_text("from,to\nfix\n", encoding="utf-8")
    with pytest.raises(InvalidMappingError, match=r"line 2 of rules\.csv has not two cells"):
        load.load_mapping(path)


def test_a_folder_of_mappings(tmp_path: Path) -> None:
    """Good mappings are read, bad ones reported, and a feed name stands for one file only."""
    (tmp_path / "a.yaml").write_text(BASE, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(BASE, encoding="utf-8")
    (tmp_path / "c.yaml").write_text("feed: [", encoding="utf-8")
    good, bad = load.load_mappings(tmp_path)
    assert [mapping.feed for mapping in good] == ["prices"]
    assert [error.code for error in bad] == ["mapping-feed-twice", "mapping-yaml"]


def test_not_utf8(tmp_path: Path) -> None:
    """A mapping in another encoding is refused with a hint."""
    (tmp_path / "a.yaml").write_bytes(b"feed: pr\xe4is\n")
    with pytest.raises(InvalidMappingError, match="is not UTF-8"):
        load.load_mapping(tmp_path / "a.yaml")


def spots(node: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a YAML tree."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place, *(spot for key, part in inner for spot in spots(part, (*place, key)))]


RICH = YAML(typ="safe").load(
    PRODUCTS
    + """\
  ManufacturerName: {column: name, map: {a: b}, replace: {c: d}, default: e, empty: leave, own: true}
  Cultures: {sv-SE: {Name: n, Description: {sql: "upper(n)"}}}
  Categories: {split: cats, by: "|", each: {Code: "{item}"}}
  ProductParametrics: {columns: "attr_*", each: {ParametricCode: "{1}", ValueDecimal: {cell: true}}}
columns:
  day: {type: date, format: ["%d.%m.%Y"], zone: Europe/Stockholm}
  "attr_*": {type: decimal, min: 0, max: 9, decimal: ",", thousands: ".", round: 2}
  n: {pattern: "a.*", in: [a, b], aliases: [m], max_length: 9, required: true, trim: false}
rules: [{name: r, sql: "n > 'a'"}]
rejects: {limit: 2%}
gone: ignore
after: [other]
supplier: 3
per: {columns: "x_*"}
switches: []
"""
)
ODD: list[Any] = [
    None,
    "",
    5,
    1.5,
    True,
    "odd",
    "{1}",
    [],
    ["a"],
    [[]],
    {},
    {"a": "b"},
    {"rows": 1},
    {"value": None},
    [{"x": 1}],
]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([spot for spot in spots(RICH) if spot]), st.sampled_from(ODD))
def test_nothing_odd_in_a_mapping_is_a_traceback(spot: tuple[Any, ...], odd: Any) -> None:
    """Whatever stands at any place of a mapping, it is either read or refused in words."""
    tree = copy.deepcopy(RICH)
    node = tree
    for key in spot[:-1]:
        node = node[key]
    node[spot[-1]] = odd
    stream = io.StringIO()
    YAML().dump(tree, stream)
    with contextlib.suppress(InvalidMappingError):
        mapping(stream.getvalue())


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("delimiter: ''", "`delimiter` is no text"),
        ("encoding: klingon", '`encoding` "klingon" is not known'),
        ("encoding: utf-8|base64", '`encoding` "base64" is no encoding of text'),
        ("quote: '<<'", "`quote` is not one sign"),
        ("header: four", "`header` is no number of lines"),
        ("header: -1", "`header` is no number of lines"),
        ("header: 0", "`header: 0` leaves the columns without names"),
        ("skip: 2", "`skip` is for files without a header"),
        ("columns: [a, a]", "`columns` names a more than once"),
        ("short_rows: emtpy", '`short_rows` cannot be "emtpy"'),
        ("final_newline: no", "`final_newline` is neither true nor false"),
        ("trailer: '('", "`trailer` is no regular expression"),
        ("widths: [3, 0]", "`widths` is no list of numbers of characters"),
        ("widths: [3, 4]", "`format: fixed` and `widths` go together"),
        ("format: excel, delimiter: ','", "`delimiter` means nothing for a workbook"),
        ("sheet: Prices", "`sheet` means nothing for a text file"),
        ("delimiter: '\"'", "`quote` and `delimiter` are the same"),
    ],
)
def test_slips_in_the_dialect_are_named(keys: str, sentence: str) -> None:
    """Each key of a dialect is checked by itself and with the others, before any file is misread by it."""
    text = BASE.replace("content: full", f"content: full, {keys}", 1)
    assert text != BASE
    with pytest.raises(InvalidMappingError) as caught:
        mapping(text)
    assert sentence in " ".join(problem.message for problem in caught.value.problems)
