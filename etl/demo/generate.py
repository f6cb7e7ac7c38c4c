"""Makes the exports of the demonstration: `python -m etl.demo.generate [FOLDER]`.

The files are committed, so that the demonstration needs nothing but itself; this script says how they came about
and a test says that they still come about. Everything follows from one seed. The shop is ordinary on purpose: an
ERP that writes `;`, decimal commas and windows-1252, a PIM that writes Excel, a supplier with headers in German,
part numbers that begin with zeros, a few rows nobody checked, and three articles which the ERP knows a day before
the PIM does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import xlsxwriter

from etl.demo.words import BRANDS, KINDS, SERIES, Kind

SEED = 19580612
DAYS = (date(2026, 3, 2), date(2026, 3, 3))
PRODUCTS = 150
LATE = 2  #: products that the ERP has on the first day and the PIM only on the second
NEW = 1  #: products that nobody has before the second day
GONE = 143  #: a product that nobody has any more on the second day
REWORDED = 42  #: a product whose text changes
WAREHOUSES = (("01", "PLOCK"), ("02", "BUTIK"))
SUPPLIED = ("FKH", "FJV", "NLJ")  #: brands that the wholesaler behind the catalogue carries

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


@dataclass(frozen=True)
class Article:
    """One variant of one product, with everything that any of the systems knows of it."""

    product: int
    part_no: str
    model: str
    brand: tuple[str, str]
    brand_part_no: str
    ean: str
    status: str
    name_sv: str
    name_en: str
    text_sv: str
    text_en: str
    variant: tuple[str, str]
    kind: Kind
    weight: Decimal
    material: str
    series: str
    warranty: str
    price: Decimal
    cost: Decimal
    recommended: Decimal | None
    b2b: Decimal | None
    stock: tuple[Decimal, ...]  #: per warehouse
    incoming: tuple[Decimal, ...]
    delivery: tuple[date | None, ...]
    lead_days: int


def ean13(body: str) -> str:
    """Twelve digits and their check digit; the bodies lie in the range kept for use inside a shop."""
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(body))
    return f"{body}{-total % 10}"


def money(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"))


def comma(amount: Decimal | None) -> str:
    return "" if amount is None else str(amount).replace(".", ",")


def shop(rng: Random) -> list[Article]:
    """Every article the shop has on either day."""
    articles: list[Article] = []
    for product in range(PRODUCTS + LATE + NEW):
        kind = KINDS[product % len(KINDS)]
        series = SERIES[product // len(KINDS) % len(SERIES)]
        brand = BRANDS[rng.randrange(len(BRANDS))]
        material = kind.materials[rng.randrange(len(kind.materials))]
        status = "Utgående" if rng.random() < 0.04 else "Aktiv"
        warranty = f"{rng.choice((1, 2, 5))} år"
        base = Decimal(kind.price) * (80 + rng.randrange(45)) / 100
        for place, variant in enumerate(kind.variants[: 1 + rng.randrange(len(kind.variants))]):
            price = money(base * (100 + 15 * place) / 100)
            number = 10400 + len(articles) * 7
            stock = tuple(_quantity(rng, kind) for _ in WAREHOUSES)
            coming = tuple(Decimal(rng.randrange(1, 8) * 10) if rng.random() < 0.2 else Decimal(0) for _ in WAREHOUSES)
            articles.append(
                Article(
                    product=product,
                    part_no=f"{number:07d}",
                    model=f"M{1000 + product}",
                    brand=brand,
                    brand_part_no=f"{3 * number % 100000:06d}-{place + 1}",
                    ean=ean13(f"200{number:09d}"),
                    status=status,
                    name_sv=f"{kind.sv} {series}",
                    name_en=f"{kind.en} {series}",
                    text_sv=f"{kind.text_sv} Utförd i {material[0]}.",
                    text_en=f"{kind.text_en} Made of {material[1]}.",
                    variant=variant,
                    kind=kind,
                    weight=Decimal(kind.grams + 60 * place) / 1000,
                    material=material[0],
                    series=series,
                    warranty=warranty,
                    price=price,
                    cost=money(price * (45 + rng.randrange(20)) / 100),
                    recommended=money(price * Decimal("1.25")) if rng.random() < 0.85 else None,
                    b2b=money(price * Decimal("0.82")) if rng.random() < 0.36 else None,
                    stock=stock,
                    incoming=coming,
                    delivery=tuple(DAYS[0] + timedelta(3 + rng.randrange(40)) if some else None for some in coming),
                    lead_days=rng.choice((2, 5, 10, 21)),
                )
            )
    return articles


def _quantity(rng: Random, kind: Kind) -> Decimal:
    if rng.random() < 0.12:
        return Decimal(0)
    return Decimal(rng.randrange(5, 900)) / 2 if kind.metres else Decimal(rng.randrange(1, 180))


def next_day(rng: Random, articles: Sequence[Article]) -> list[Article]:
    """The same shop a day later: some prices, much stock, one text, one product gone."""
    changed: list[Article] = []
    for article in articles:
        if article.product == GONE:
            continue
        if rng.random() < 0.04:
            factor = Decimal(rng.choice((90, 95, 104, 108))) / 100
            article = replace(article, price=money(article.price * factor))
        if rng.random() < 0.06 and article.brand[0] in SUPPLIED:
            article = replace(article, cost=money(article.cost * Decimal("1.03")))
        if rng.random() < 0.07:
            sold = article.stock[0] - rng.randrange(1, 4)
            article = replace(article, stock=(max(sold, Decimal(0)), *article.stock[1:]))
        if rng.random() < 0.02 and article.delivery[1]:
            article = replace(article, delivery=(article.delivery[0], article.delivery[1] + timedelta(7)))
        if article.product == REWORDED:
            article = replace(article, text_sv=article.text_sv + " Ny förpackning utan plast.")
        changed.append(article)
    return changed


def price_rows(articles: Iterable[Article], day: int) -> list[Cells]:
    """The ERP's price lists, and what nobody corrected: on the second day one of them is right."""
    rows: list[Cells] = []
    for article in articles:
        for code, price in (("B2C", article.price), ("B2B", article.b2b)):
            if price is not None:
                name = f"{article.name_sv} {article.variant[0]}"
                last = (comma(price), comma(article.cost), comma(article.recommended))
                rows.append((article.part_no, name, code, "SEK", *last))
    if day == 0:
        rows[31] = (*rows[31][:4], "abc", *rows[31][5:])
    rows[77] = ("", *rows[77][1:])
    rows.insert(140, (*rows[120][:4], comma(Decimal("1.00")), *rows[120][5:]))
    rows[211] = rows[211][:3]
    return rows


def stock_rows(articles: Iterable[Article], day: int) -> list[Cells]:
    """The ERP's stock per warehouse, with a date that does not exist and a row without a warehouse."""
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
                    comma(article.stock[place]),
                    comma(article.incoming[place]),
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
    """A wholesaler's catalogue in its own currency; one article on request, one without our number."""
    rows: list[Cells] = []
    for article in articles:
        if article.brand[0] in SUPPLIED:
            name = f"{article.name_en} {article.variant[1]}"
            prices = (comma(money(article.cost / 11)), comma(money(article.price / 11)))
            pack = str(1 if article.kind.metres else 6)
            rows.append((article.part_no, article.brand_part_no, name, article.ean, "EUR", *prices, pack))
    rows[8] = (*rows[8][:5], "auf Anfrage", *rows[8][6:])
    rows[23] = ("", *rows[23][1:])
    return rows


def product_rows(articles: Iterable[Article]) -> list[tuple[str | float, ...]]:
    """The PIM's products, one row for each variant; two rows nobody finished."""
    rows: list[tuple[str | float, ...]] = [
        (
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
        for article in articles
    ]
    draft = (
        "M1900",
        *BRANDS[0],
        "004711-1",
        "",
        "",
        "Aktiv",
        "Utkast",
        "Draft",
        "",
        "",
        "",
        "",
        "Hem",
        1.0,
        "",
        "",
        "",
    )
    typo = ("M1901", *BRANDS[1], "004712-1", "0099001", "", "Aktiv", "Mätsticka", "Ruler", "", "", "", "", "Verktyg")
    rows.insert(60, draft)
    rows.insert(160, (*typo, "ca 0,2", "", "", ""))
    return rows


def write_csv(path: Path, header: Cells, rows: Iterable[Cells]) -> None:
    """Write as the systems in question do: windows-1252, `;`, and line ends of two characters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [";".join(cells) for cells in (header, *rows)]
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode("windows-1252"))


def write_excel(path: Path, title: str, header: Cells, rows: Iterable[Sequence[str | float]]) -> None:
    """A title, an empty row, the header in row 3; numbers written as text stay text."""
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


def write(folder: Path) -> None:
    """Both days, as `day1/` and `day2/` below the folder."""
    rng = Random(SEED)
    everything = shop(rng)
    days = (everything, next_day(rng, everything))
    for day, articles in enumerate(days):
        into = folder / f"day{day + 1}"
        stamp = f"{DAYS[day]:%Y%m%d}"
        exist = [article for article in articles if day > 0 or article.product < PRODUCTS + LATE]
        known = [article for article in articles if day > 0 or article.product < PRODUCTS]
        write_csv(into / "erp" / f"prices_{stamp}.csv", PRICE_HEADER, price_rows(exist, day))
        write_csv(into / "erp" / f"stock_{stamp}.csv", STOCK_HEADER, stock_rows(exist, day))
        write_csv(into / "supplier" / f"catalogue_{stamp}.csv", SUPPLIER_HEADER, supplier_rows(known))
        title = f"Produktexport {DAYS[day]:%Y-%m-%d}"
        write_excel(into / "pim" / "products.xlsx", title, PRODUCT_HEADER, product_rows(known))


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("data"))
