"""Makes the exports of the demonstration: `python -m etl.demo.generate [FOLDER]`.

The files are committed, so that the demonstration needs nothing but itself; this script says how they came about
and a test says that they still come about. Everything follows from one seed. The shop is ordinary on purpose: an
ERP that writes `;`, decimal commas and windows-1252, a PIM that writes Excel, a supplier with headers in German,
part numbers that begin with zeros, a few rows nobody checked, and three articles which the ERP knows a day before
the PIM does. `etl.demo.shop` is the shop itself, `etl.demo.business` the rows of its smaller systems.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random

import xlsxwriter

from etl.demo import business
from etl.demo.shop import (
    DAYS,
    LATE_PRODUCT_COUNT,
    PRODUCT_COUNT,
    SEED,
    WAREHOUSES,
    WHOLESALER_BRANDS,
    Article,
    advance_day,
    build_shop,
    format_decimal,
    round_money,
)
from etl.demo.words import BRANDS

PRICE_HEADER = ("Artikelnr", "Benämning", "Prislista", "Valuta", "Pris", "Inpris", "Rekpris")
STOCK_HEADER = ("Artikelnr", "Benämning", "Lager", "Plats", "Saldo", "På väg in", "Nästa leverans", "Ledtid")
SUPPLIER_HEADER = (
    "Ihre Artikelnr.",
    "Unsere Artikelnr.",
    "Bezeichnung",
    "EAN",
    "Währung",
    "Einkaufspreis",
    "Listenpreis",
    "Verpackungsgröße",
)
PRODUCT_HEADER = (
    "Modell",
    "Tillverkarkod",
    "Tillverkare",
    "Lev.artnr",
    "Artikelnr",
    "EAN",
    "Status",
    "Namn (sv)",
    "Name (en)",
    "Beskrivning (sv)",
    "Description (en)",
    "Variant (sv)",
    "Variant (en)",
    "Kategorier",
    "Vikt kg",
    "attr_material",
    "attr_serie",
    "attr_garanti",
)

Cells = tuple[str, ...]


def price_rows(articles: Iterable[Article], day: int) -> list[Cells]:
    """Return the ERP's price lists with their mistakes, one of which is corrected on the second day."""
    rows: list[Cells] = []
    for article in articles:
        for code, price in (("B2C", article.price), ("B2B", article.b2b)):
            if price is not None:
                name = f"{article.name_sv} {article.variant[0]}"
                last = (format_decimal(price), format_decimal(article.cost), format_decimal(article.recommended))
                rows.append((article.part_no, name, code, "SEK", *last))
    if day == 0:
        rows[31] = (*rows[31][:4], "abc", *rows[31][5:])
    rows[77] = ("", *rows[77][1:])
    rows.insert(140, (*rows[120][:4], format_decimal(Decimal("1.00")), *rows[120][5:]))
    rows[211] = rows[211][:3]
    return rows


def stock_rows(articles: Iterable[Article], day: int) -> list[Cells]:
    """Return the ERP's stock per warehouse, with a date that does not exist and a row without a warehouse."""
    rows: list[Cells] = []
    for article in articles:
        for place, (warehouse, location) in enumerate(WAREHOUSES):
            delivery = article.delivery[place]
            rows.append(
                (
                    article.part_no,
                    article.name_sv,
                    warehouse,
                    location,
                    format_decimal(article.stock[place]),
                    format_decimal(article.incoming[place]),
                    delivery.strftime("%d.%m.%Y") if delivery else "",
                    str(article.lead_days),
                )
            )
    rows[55] = (*rows[55][:6], "31.02.2026", rows[55][7])
    rows[203] = (*rows[203][:2], "", *rows[203][3:])
    if day == 0:
        rows[404] = (*rows[404][:4], "ca 40", *rows[404][5:])
    return rows


def supplier_rows(articles: Iterable[Article]) -> list[Cells]:
    """Return a wholesaler's catalogue in its currency; one price is on request, one article has no number of ours."""
    rows: list[Cells] = []
    for article in articles:
        if article.brand[0] in WHOLESALER_BRANDS:
            name = f"{article.name_en} {article.variant[1]}"
            prices = (format_decimal(round_money(article.cost / 11)), format_decimal(round_money(article.price / 11)))
            pack = str(1 if article.kind.metres else 6)
            rows.append((article.part_no, article.brand_part_no, name, article.ean, "EUR", *prices, pack))
    rows[8] = (*rows[8][:5], "auf Anfrage", *rows[8][6:])
    rows[23] = ("", *rows[23][1:])
    return rows


ProductCells = tuple[str | float, ...]

#: A product that somebody began in the PIM and left without an article number.
DRAFT_PRODUCT: ProductCells = (
    *("M1900", *BRANDS[0], "004711-1", "", "", "Aktiv", "Utkast", "Draft"),
    *("", "", "", "", "Hem", 1.0, "", "", ""),
)
#: A product whose weight is no number.
MISTYPED_PRODUCT: ProductCells = (
    *("M1901", *BRANDS[1], "004712-1", "0099001", "", "Aktiv", "Mätsticka", "Ruler"),
    *("", "", "", "", "Verktyg", "ca 0,2", "", "", ""),
)


def product_rows(articles: Iterable[Article]) -> list[ProductCells]:
    """Return the PIM's products, one row for each variant, with two rows that contain errors."""
    rows = [_product_cells(article) for article in articles]
    rows.insert(60, DRAFT_PRODUCT)
    rows.insert(160, MISTYPED_PRODUCT)
    return rows


def _product_cells(article: Article) -> ProductCells:
    return (
        article.model,
        *article.brand,
        article.brand_part_no,
        article.part_no,
        article.ean,
        article.status,
        article.name_sv,
        article.name_en,
        article.text_sv,
        article.text_en,
        *article.variant,
        article.kind.categories,
        float(article.weight),
        article.material,
        article.series,
        article.warranty,
    )


def write_csv(
    path: Path, header: Cells, rows: Iterable[Cells], delimiter: str = ";", encoding: str = "windows-1252"
) -> None:
    """Write as the ERP does, if not told otherwise: windows-1252, `;`, and line ends of two characters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in cells) for cells in (header, *rows)]
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode(encoding))


def write_excel(path: Path, title: str, header: Cells, rows: Iterable[Sequence[str | float]]) -> None:
    """Write a workbook: title, empty row, header in row 3; numbers that are stored as text stay text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with xlsxwriter.Workbook(path) as book:
        book.set_properties({"title": title, "created": datetime(2026, 3, 2)})
        sheet = book.add_worksheet("Produkter")
        bold = book.add_format({"bold": True})
        sheet.write_string(0, 0, title, bold)
        sheet.write_row(2, 0, header, bold)
        for number, cells in enumerate(rows, start=3):
            for column, cell in enumerate(cells):
                if isinstance(cell, str):
                    if cell:
                        sheet.write_string(number, column, cell)
                else:
                    sheet.write_number(number, column, cell)


def write_exports(folder: Path) -> None:
    """Write the exports of both days, as `day1/` and `day2/` below the folder."""
    rng = Random(SEED)
    everything = build_shop(rng)
    days = (everything, advance_day(rng, everything))
    for day, articles in enumerate(days):
        into = folder / f"day{day + 1}"
        stamp = f"{DAYS[day]:%Y%m%d}"
        exist = [article for article in articles if day > 0 or article.product < PRODUCT_COUNT + LATE_PRODUCT_COUNT]
        known = [article for article in articles if day > 0 or article.product < PRODUCT_COUNT]
        write_csv(into / "erp" / f"prices_{stamp}.csv", PRICE_HEADER, price_rows(exist, day))
        write_csv(into / "erp" / f"stock_{stamp}.csv", STOCK_HEADER, stock_rows(exist, day))
        write_csv(into / "supplier" / f"catalogue_{stamp}.csv", SUPPLIER_HEADER, supplier_rows(known))
        title = f"Produktexport {DAYS[day]:%Y-%m-%d}"
        write_excel(into / "pim" / "products.xlsx", title, PRODUCT_HEADER, product_rows(known))
        lists = business.price_list_rows(day)
        write_csv(into / "erp" / f"pricelists_{stamp}.csv", business.PRICE_LIST_HEADER, lists)
        relations = business.relation_rows(known, day)
        write_csv(into / "pim" / f"relations_{stamp}.txt", business.RELATION_HEADER, relations, "\t", "utf-8")
        watched = business.competitor_rows(known, day)
        write_csv(into / "watch" / f"competitors_{stamp}.csv", business.COMPETITOR_HEADER, watched, ",", "utf-8")
        assortment = business.assortment_rows(known, day)
        write_csv(into / "wholesale" / f"assortment_{stamp}.csv", business.ASSORTMENT_HEADER, assortment)
        companies, people = business.company_rows(day), business.customer_rows(day)
        write_csv(into / "crm" / f"companies_{stamp}.csv", business.COMPANY_HEADER, companies, encoding="utf-8")
        write_csv(into / "crm" / f"customers_{stamp}.csv", business.CUSTOMER_HEADER, people, encoding="utf-8")


if __name__ == "__main__":
    write_exports(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("data"))
