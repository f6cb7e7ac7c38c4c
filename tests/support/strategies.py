"""Feeds that between them have every turn that a change can take, with files and *accepted* drawn for them."""

from __future__ import annotations

import random

import polars as pl

from etl.mapping.layout import Leaf
from etl.model.columns import DEACTIVATED, ROW
from etl.model.tables import Records
from tests.support.builders import mapping, records, table

#: By what is special about it: a record, and the columns of its file, with the cells that may stand in them.
FEEDS: dict[str, tuple[str, str]] = {
    "emptied, written once, and with a switch that nobody maps": (
        """
        operation: Product/ImportOnhands
        columns: {q: decimal, d: integer, n: date}
        record:
          PartNo: k
          WarehouseCode: w
          LocationCode: {value: L}
          OnhandValue: {column: q, own: false}
          LeadTimeDayCount: {column: d, empty: clear}
          NextDeliveryDate: n
        """,
        "w=X,Y q=0,1,2 d n=2026-01-02,2026-01-03",
    ),
    "prices that say nothing, wake a row, or overrule a rule": (
        """
        operation: Product/ImportSkuPriceLists
        columns: {p: decimal, c: decimal, v: decimal, on: boolean}
        record:
          PartNo: k
          PriceListCode: {value: B2C}
          CurrencyCode: {value: SEK}
          PriceSale: p
          CostPurchase: c
          PriceRule: pr
          PriceRuleValue: v
          IsActive: on
        """,
        "p=0,1,2 c=0,1 pr=CostPlus_PurchaseCost v on=true,false",
    ),
    "texts in two languages": (
        """
        operation: Product/ImportRelations
        record:
          PartNo: k
          RelatedPartNo: r
          RelationTypeCode: {value: T}
          DefaultName: n
          Cultures: {sv-SE: {Name: a, Description: b}, en-GB: {Name: c, Description: {column: d, empty: clear}}}
        """,
        "r=X,Y n a b c d",
    ),
    "objects and lists that go as a whole": (
        """
        operation: Customer/ImportCompanies
        columns: {d_*: decimal}
        record:
          Name: nm
          ApplicationKey: {value: 5f0c41d6-8d3c-4a51-9a55-0c2f6de01a77}
          Code: may
          OrganizationNo: k
          InvoiceAddress: {City: city, ZipCode: zip}
          Discounts:
            columns: "d_*"
            each: {Type: {value: ProductDiscountClass}, ValueCode: "{1}", DiscountPercentage: "{cell}"}
          DeliveryAddresses:
            - {Code: ca, City: a, ZipCode: b}
            - {Code: {value: B}, City: c}
          IsCustomerListDelta: {value: true}
          Customers: [{Code: cu, FirstName: fn}]
          PriceLists: {split: pl, each: {Code: "{item}"}}
        """,
        "nm city zip d_x d_y ca=A,C a b c cu fn pl=a,a|b,b",
    ),
    "lists made of rows, and elements within elements": (
        """
        operation: Product/ImportPriceLists
        columns: {v: decimal, m: decimal, dv: decimal}
        record:
          Code: k
          DefaultPriceRule: dr
          DefaultPriceRuleValue: dv
          PriceRules:
            rows:
              Type: t
              Value: {column: v, empty: clear}
              LimitToRecPrice: {column: lim, map: {y: true, n: false}}
              MinValue: m
              ManufacturerCode: mc
          Warehouses:
            - {Code: wh, Type: ty, Locations: [{Code: lo, Name: ln}]}
            - {Code: {value: Z}, Type: tz, Locations: [{Code: {value: Z}, Name: lz}]}
        """,
        "dr=CostPlus_PurchaseCost dv t=CostPlus_PurchaseCost,CostPlus_UnitCost v lim=y,n m mc"
        " wh ty=Store,Other lo ln tz=Store,Other lz",
    ),
    "products with variants, codes that are all there is, and attributes": (
        """
        operation: Product/ImportProducts
        columns: {s: integer, p: decimal, on: boolean}
        record:
          ManufacturerCode: {value: M}
          Code: c
          Cultures: {sv-SE: {Name: n, Description: {column: de, own: false}}}
          MainImage: {ExternalCode: ic, Url: iu, FileTypeName: {value: jpg}}
          Categories: [{Code: {value: all}}, {Code: ca}]
          ProductParametrics: {columns: "attr_*", each: {ParametricCode: "{1}", ValueList: {Code: "{cell}"}}}
          Variants:
            rows:
              ManufacturerPartNo: k
              SortOrderValue: s
              Skus:
                - PartNo: k
                  Status: st
                  StandardPrice:
                    PartNo: k
                    PriceListCode: {value: B}
                    CurrencyCode: {value: SEK}
                    PriceSale: p
                    PriceRule: pr
                    IsActive: on
        """,
        "n de ic iu=http://a.se/1,http://a.se/2 ca attr_1 attr_2 s st=Active,Hidden p=0,1,2 on=true,false"
        " pr=CostPlus_PurchaseCost",
    ),
    "a supplier's stock, with what is asked of every element": (
        """
        operation: Supplier/ImportProducts
        supplier: 3
        columns: {q: decimal, p: decimal, on: boolean}
        record:
          SupplierPartNo: k
          ProductName: n
          MainImage: {ExternalCode: ic, Url: iu, FileTypeName: {value: jpg}}
          OnHand: [{WarehouseCode: {value: W}, LocationCode: l, Value: q, IsActive: on}]
          PriceList: [{PriceListCode: pl, PriceCatalog: p, IsActive: {value: true}}]
        """,
        "n ic iu=http://a.se/1,http://a.se/2 l q on=true,false pl p",
    ),
    "more fields than one word holds": (
        """
        operation: Product/ImportRelations
        record:
          PartNo: k
          RelatedPartNo: r
          RelationTypeCode: {value: T}
          Cultures: {columns: "n_*", each: {CultureCode: "{1}", Name: "{cell}", Description: x, SubHeader: {value: s}}}
        """,
        "r=X x " + " ".join(f"n_c{number}" for number in range(17)),
    ),
}
ROWS, PRODUCTS = (name for name in FEEDS if name.startswith(("lists made", "products")))

#: Columns in which the rows of one record, or of one product, may differ.
SEVERAL = {ROWS: "t v m mc", PRODUCTS: "k s st p on pr"}

#: Columns that are never empty, or only where the whole element is.
FULL = {"w", "r", "t"}
CODES = {"ca", "ic", "iu", "wh", "lo", "l", "pl"}
TOGETHER = ("ca a b", "ic iu", "wh ty lo ln", "l q on", "pl p")

Cells = dict[str, str | None]


class Case:
    """A feed with a file and what Norce has, both drawn."""

    def __init__(self, name: str, seed: int) -> None:
        text, columns = FEEDS[name]
        self.feed = mapping("feed: f\nsource: {files: '*.csv', content: full}\n" + text.replace("\n        ", "\n"))
        self.chance = random.Random(f"{name} {seed}")
        self.several = set(SEVERAL.get(name, "").split())
        parts = (column.partition("=") for column in columns.split())
        self.cells = {column: (found or "1,2").split(",") for column, _, found in parts}
        self.file, before = table(self.drawn_rows()), table(self.drawn_rows())
        self.records, self.layout = records(self.feed, self.file)
        known = records(self.feed, before)[0].frame.drop(ROW)
        off = [self.chance.random() < 0.2 for _ in range(known.height)]
        self.accepted = known.with_columns(pl.Series(DEACTIVATED, off, dtype=pl.Boolean))
        self.rows = self.records.frame.to_dicts()

    def half(self) -> Records:
        """The first half of the file."""
        return Records(self.records.frame.head(self.records.frame.height // 2), self.records.row_numbers)

    def drawn_rows(self) -> list[Cells]:
        """Most of fifty keys in any order; some rows are followed by more of the same record or product."""
        rows: list[Cells] = []
        for number in self.chance.sample(range(50), 42):
            key = f"{number}"
            row = {"k": key, "c": key, "may": key if number % 3 else None, **self.drawn(set(self.cells))}
            rows.append(row)
            for more in "ab"[: self.chance.choice((0, 0, 1, 2))] if self.several else "":
                its = {"k": f"{key}{more}"} if "k" in self.several else {}
                rows.append({**row, **its, **self.drawn(self.several & set(self.cells))})
        return rows

    def drawn(self, columns: set[str]) -> Cells:
        """A cell of each column; what tells an element apart is there, or else all of the element is empty."""
        nothing = {column for group in TOGETHER if self.chance.random() < 0.3 for column in group.split()}
        made: Cells = {}
        for column in sorted(columns):
            there = column in CODES or self.chance.random() < 0.7
            full = column in FULL or (there and column not in nothing)
            made[column] = self.chance.choice(self.cells[column]) if full else None
        return made


def known(accepted: pl.DataFrame, leaf: Leaf) -> bool:
    """Whether *accepted* has a leaf: as a column, or in the elements of one."""
    kind = accepted.schema.get(leaf.column)
    if leaf.inner is None or kind is None:
        return kind is not None
    return isinstance(kind, pl.List) and leaf.inner in [field.name for field in kind.inner.fields]  # type: ignore[union-attr]
