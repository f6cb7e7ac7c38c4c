"""Made-up exports for the measurements, the same on every machine: prices, and products with cultures and variants.

Day 2 is day 1 with a share of its rows changed, as an ordinary day changes them: mostly one field.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

PRICES = """
feed: prices
operation: Product/ImportSkuPriceLists
source: {files: "prices*.csv", content: full, encoding: windows-1252, delimiter: ";"}
columns:
  Artikelnr: {type: text, required: true, pattern: "[0-9]{8}"}
  Prislista: {type: text, in: [B2C, B2B, VIP, SE, NO]}
  Valuta: {type: text, in: [SEK, NOK]}
  Pris: {type: decimal, decimal: ",", min: 0, max: 1000000}
  Inpris: {type: decimal, decimal: ",", min: 0}
  Rekpris: {type: decimal, decimal: ",", min: 0}
  Rabatt: {type: boolean}
rules:
  - {name: no sale below cost, sql: "Pris >= Inpris"}
rejects: {limit: 90%}
record:
  PartNo: Artikelnr
  PriceListCode: Prislista
  CurrencyCode: Valuta
  PriceSale: Pris
  CostPurchase: Inpris
  PriceRecommended: Rekpris
  IsPriceDiscountable: Rabatt
"""

PRODUCTS = """
feed: products
operation: Product/ImportProducts
source: {files: "products*.csv", content: full, encoding: windows-1252, delimiter: ";"}
columns:
  Modell: {type: text, required: true}
  Artikelnr: {type: text, required: true, pattern: "[0-9]{8}"}
  Vikt: {type: decimal, decimal: ",", min: 0}
record:
  Code: Modell
  ManufacturerCode: Märke
  ManufacturerName: Märkesnamn
  Cultures:
    sv-SE: {Name: Namn sv, Description: Text sv, DescriptionHeader: Rubrik sv}
    nb-NO: {Name: Namn nb, Description: Text nb, DescriptionHeader: Rubrik nb}
    en-GB: {Name: Namn en, Description: Text en, DescriptionHeader: Rubrik en}
  Categories: {split: Kategorier, by: "|", each: {Code: "{item}"}}
  Variants:
    rows:
      ManufacturerPartNo: Levnr
      Cultures:
        sv-SE: {Name: Variant sv}
        nb-NO: {Name: Variant nb}
        en-GB: {Name: Variant en}
      Skus:
        - PartNo: Artikelnr
          EanCode: EAN
          ActualWeight: Vikt
          Status: {column: Status, map: {Aktiv: Active, Utgående: Expiring}}
          Type: {value: ErpStandard}
"""

LISTS = ("B2C", "B2B", "VIP", "SE", "NO")
WORDS = ("blå", "röd", "grön", "svart", "vit", "rostfri", "förzinkad", "kort", "lång", "dubbel", "enkel")


def _number(row: pl.Expr, salt: int, below: int) -> pl.Expr:
    """Something that looks drawn, and is the same everywhere: no library's random numbers."""
    mixed = (row.cast(pl.UInt64) + salt) * 2654435761 % 4294967296
    return ((mixed // 65536 + mixed) % below).cast(pl.Int64)


def _word(row: pl.Expr, salt: int) -> pl.Expr:
    return _number(row, salt, len(WORDS)).replace_strict(dict(enumerate(WORDS)), return_dtype=pl.String)


def _money(cents: pl.Expr) -> pl.Expr:
    return pl.format("{},{}", cents // 100, (cents % 100).cast(pl.String).str.zfill(2))


def _hit(row: pl.Expr, salt: int, share: float) -> pl.Expr:
    return _number(row, salt, 10_000) < round(share * 10_000)


def prices(rows: int, *, changed: float = 0.0, bad: float = 0.0) -> pl.LazyFrame:
    """Seven columns that are used and one that is not; `bad` rows have a price that is none, or none of the lists."""
    row = pl.col("row")
    cost = 1_000 + _number(row, 1, 90_000)
    sale = cost + 100 + _number(row, 2, 50_000) + pl.when(_hit(row, 7, changed)).then(7).otherwise(0)
    usual = sale + _number(row, 3, 20_000) + pl.when(_hit(row, 8, changed / 10)).then(11).otherwise(0)
    shown = pl.when(_hit(row, 9, bad / 2)).then(pl.lit("12,x")).otherwise(_money(sale))
    kind = _number(row, 4, 5).replace_strict(dict(enumerate(LISTS)), return_dtype=pl.String)
    return pl.LazyFrame({"row": pl.int_range(rows, eager=True)}).select(
        (row + 10_000_000).cast(pl.String).alias("Artikelnr"),
        pl.when(_hit(row, 10, bad / 2)).then(pl.lit("OLD")).otherwise(kind).alias("Prislista"),
        pl.concat_str(pl.lit("Skruvmejsel "), _word(row, 5), pl.lit(" "), _number(row, 6, 900) + 100).alias("Namn"),
        pl.lit("SEK").alias("Valuta"),
        shown.alias("Pris"),
        _money(cost).alias("Inpris"),
        _money(usual).alias("Rekpris"),
        pl.when(_hit(row, 11, 0.5)).then(pl.lit("J")).otherwise(pl.lit("N")).alias("Rabatt"),
    )


def products(rows: int, *, changed: float = 0.0) -> pl.LazyFrame:
    """25 columns, three cultures, six variants a product; a change is a text, a weight or a status."""
    row = pl.col("row")
    model = row // 6

    def text(about: pl.Expr, salt: int, words: int, share: float = 0.0) -> pl.Expr:
        parts = [_word(about, salt + n) for n in range(words)]
        more = pl.when(_hit(about, salt + 50, share)).then(pl.lit(" ny")).otherwise(pl.lit(""))
        return pl.concat_str(pl.concat_str(parts, separator=" "), more)

    columns = {
        "Modell": pl.format("M{}", model + 100_000),
        "Artikelnr": (row + 10_000_000).cast(pl.String),
        "Märke": pl.format("B{}", _number(model, 1, 400)),
        "Märkesnamn": pl.format("Märke {}", _number(model, 1, 400)),
    }
    for place, code in enumerate(("sv", "nb", "en")):
        columns[f"Namn {code}"] = text(model, 100 + place, 3)
        columns[f"Text {code}"] = text(model, 200 + place, 12, changed if code == "sv" else 0)
        columns[f"Rubrik {code}"] = text(model, 300 + place, 4)
    columns["Kategorier"] = pl.format("K{}|K{}", _number(model, 2, 50), 50 + _number(model, 3, 50))
    for place, code in enumerate(("sv", "nb", "en")):
        columns[f"Variant {code}"] = text(row, 400 + place, 2)
    columns |= {
        "Levnr": pl.format("L{}", row),
        "EAN": pl.format("73{}", row + 10_000_000_000),
        "Vikt": _money(100 + _number(row, 4, 9000) + pl.when(_hit(row, 5, changed / 2)).then(1).otherwise(0)),
        "Status": pl.when(_hit(row, 6, 0.1)).then(pl.lit("Utgående")).otherwise(pl.lit("Aktiv")),
        "Intern 1": text(row, 500, 1),
        "Intern 2": text(row, 510, 1),
        "Intern 3": text(row, 520, 2),
        "Intern 4": _number(row, 530, 10_000).cast(pl.String),
    }
    return pl.LazyFrame({"row": pl.int_range(rows, eager=True)}).select(
        expr.alias(name) for name, expr in columns.items()
    )


def write(frame: pl.LazyFrame, path: Path, encoding: str = "utf-8") -> None:
    """A delimited file, written piece by piece."""
    plain = path if encoding == "utf-8" else path.with_suffix(".utf8")
    frame.sink_csv(plain, separator=";")
    if plain != path:
        with plain.open("rb") as source, path.open("wb") as target:
            while lines := source.readlines(1 << 20):
                target.write(b"".join(lines).decode().encode(encoding))
        plain.unlink()


def workbook(frame: pl.LazyFrame, path: Path) -> None:
    """The same as the first sheet of a workbook."""
    from xlsxwriter import Workbook

    rows = frame.collect()
    with Workbook(path, {"constant_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, rows.columns)
        for at, cells in enumerate(rows.iter_rows(), 1):
            sheet.write_row(at, 0, cells)


MAPPINGS = {
    "prices": PRICES,
    "products": PRODUCTS,
    "sheet": PRICES.replace("feed: prices", "feed: sheet").replace(
        'files: "prices*.csv", content: full, encoding: windows-1252, delimiter: ";"',
        'files: "*.xlsx", format: excel, content: full',
    ),
}
