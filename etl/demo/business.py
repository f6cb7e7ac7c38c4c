"""Exports of the shop's smaller systems: price lists, relations, competitors, a wholesaler, companies, customers.

Each has a form of its own: several rows for one price list or one supplied article, tabs, UTF-8, points in
decimals, lists in one cell, one column for each discount group. Between the days a few things change in each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from random import Random

from etl.demo.shop import SEED, WAREHOUSES, WHOLESALER_BRANDS, Article, format_decimal, round_money
from etl.demo.words import BRANDS, FIRST_NAMES, LAST_NAMES, STREETS, TOWNS

Cells = tuple[str, ...]

PRICE_LIST_HEADER = (
    "Prislista",
    "Namn",
    "Valuta",
    "Från",
    "Publik",
    "Urval",
    "Urval tillverkare",
    "Regel",
    "Regelvärde",
    "Regel tillverkare",
    "Lager",
    "Lagernamn",
    "Plats",
    "Platsnamn",
    "Ledtid",
)
RELATION_HEADER = ("Artikelnr", "Relaterad", "Typ", "Ordning", "Rubrik (sv)", "Title (en)")
COMPETITOR_HEADER = ("sku", "shop", "shop_name", "shop_sku", "title", "price", "freight", "currency", "in_stock")
ASSORTMENT_HEADER = (
    "Artikel-Nr",
    "Bezeichnung",
    "Hersteller",
    "Hersteller-Nr",
    "EAN",
    "Warengruppe",
    "Lager",
    "Ort",
    "Bestand",
    "Zulauf",
    "Preisliste",
    "Menge ab",
    "EK-Preis",
    "Währung",
    "Lieferbar",
)
DISCOUNT_GROUPS = ("A", "B")
COMPANY_HEADER = (
    "Kod",
    "Orgnr",
    "Namn",
    "E-post",
    "Telefon",
    "Gata",
    "Postnr",
    "Ort",
    "Leveransgata",
    "Leveranspostnr",
    "Leveransort",
    "Prislistor",
    "Märkning",
    *(f"rabatt_{group}" for group in DISCOUNT_GROUPS),
    "Aktiv",
)
CUSTOMER_HEADER = (
    "Kundnr",
    "Förnamn",
    "Efternamn",
    "E-post",
    "Mobil",
    "Gata",
    "Postnr",
    "Ort",
    "Leveransgata",
    "Leveranspostnr",
    "Leveransort",
    "Märkning",
    "Företag",
    "Inköpare",
    "Aktiv",
)

COMPANY_COUNT, CUSTOMER_COUNT = 12, 40


def price_list_rows(day: int) -> list[Cells]:
    """Return three price lists, from the second day on four: a row for each rule or warehouse of a list."""
    lists = [
        ("B2C", "Butik och webb", "SEK", "ja", "Med", [brand[0] for brand in BRANDS], WAREHOUSES),
        ("B2B", "Företagskunder", "SEK", "nej", "Med", [brand[0] for brand in BRANDS[:4]], WAREHOUSES[:1]),
        ("SUP", "Inköp", "EUR", "nej", "Med", list(WHOLESALER_BRANDS), WAREHOUSES[:1]),
    ]
    if day:
        lists.append(("OUT", "Utförsäljning", "SEK", "ja", "Utan", [BRANDS[0][0]], WAREHOUSES[1:]))
        lists[1] = ("B2B", "Företag och föreningar", *lists[1][2:])
    rows: list[Cells] = []
    for number, (code, name, currency, public, way, makers, places) in enumerate(lists):
        start = "2026-03-03" if code == "OUT" else "2026-01-01"
        head = (code, name, currency, start, public, way, ",".join(makers))
        for line in range(max(len(makers), len(places))):
            rule: Cells = ("", "", "")
            if line < len(makers):
                raised = 2 if day and (number, line) == (0, 1) else 0
                rule = (
                    "Påslag" if line % 2 else "Marginal",
                    format_decimal(Decimal(25 + 5 * line + raised)),
                    makers[line],
                )
            place: Cells = ("", "", "", "", "")
            if line < len(places):
                warehouse, location = places[line]
                place = (warehouse, f"Lager {warehouse}", location, location.capitalize(), str(1 + line))
            rows.append((*head, *rule, *place))
    return rows


def relation_rows(articles: Sequence[Article], day: int) -> list[Cells]:
    """Return an accessory or an alternative for every ninth article; some have texts."""
    by_no = sorted(articles, key=lambda article: article.part_no)
    rows: list[Cells] = []
    for place, article in enumerate(by_no[:-4:9]):
        other = by_no[by_no.index(article) + 3]
        kind = "Tillbehör" if place % 3 else "Liknande"
        texts = (f"Passar till {article.name_sv}", f"Goes with {article.name_en}") if place % 4 else ("", "")
        order = str(place % 5 + (1 if day and place == 7 else 0))
        rows.append((article.part_no, other.part_no, kind, order, *texts))
    rows[5] = (*rows[5][:2], "Okänd", *rows[5][3:])
    return rows if day == 0 else rows[:-1]


def competitor_rows(articles: Sequence[Article], day: int) -> list[Cells]:
    """Return the prices of two other shops; one of the prices is no number."""
    rng = Random(SEED + 1)
    rows: list[Cells] = []
    for place, article in enumerate(sorted(articles, key=lambda article: article.part_no)[::6]):
        for shop, name in (("lampkungen", "Lampkungen"), ("hemverket", "Hemverket")):
            factor, freight, there = rng.randrange(85, 120), rng.choice(("0", "49", "")), rng.random() < 0.8
            if day and place % 11 == 4:
                factor -= 3
            price = round_money(article.price * factor / 100)
            title = f"{article.name_sv}, {article.variant[0]}"
            number = f"{shop[0].upper()}{int(article.part_no) * 3}"
            known = (article.part_no, shop, name, number, title)
            rows.append((*known, str(price), freight, "SEK", "yes" if there else "no"))
    rows[9] = (*rows[9][:5], "n/a", *rows[9][6:])
    return rows


def assortment_rows(articles: Sequence[Article], day: int) -> list[Cells]:
    """Return the wholesaler's assortment: two rows for each article, which has two stocks and two quantity prices."""
    rng = Random(SEED + 2)
    rows: list[Cells] = []
    for place, article in enumerate(article for article in articles if article.brand[0] in WHOLESALER_BRANDS):
        stocks = (rng.randrange(0, 400), rng.randrange(0, 60))
        if place % 4:
            continue
        sold = 7 if day and place % 20 == 8 else 0
        head = (f"W-{article.brand_part_no}", article.name_en, article.brand[1], article.brand_part_no, article.ean)
        group = article.kind.categories.partition("|")[0]
        for line, (city, least) in enumerate((("Kassel", "1"), ("Fulda", "10"))):
            stock = (city, "HL", str(max(stocks[line] - sold, 0)), "0" if line else "24")
            price = format_decimal(round_money(article.cost * (100 - 6 * line) / 1100))
            rows.append((*head, group, *stock, "STD", least, price, "EUR", "ja"))
    rows[11] = (*rows[11][:8], "viele", *rows[11][9:])
    return rows


def company_rows(day: int) -> list[Cells]:
    """Return the companies of the CRM: their price lists in one cell, and a column for each discount group."""
    return list(_generate_companies(day))


def _generate_companies(day: int) -> Iterator[Cells]:
    rng = Random(SEED + 3)
    for place in range(COMPANY_COUNT + day):
        town, code = TOWNS[place % len(TOWNS)], f"F{1001 + place}"
        name = f"{LAST_NAMES[place % len(LAST_NAMES)]} & {LAST_NAMES[(place * 5 + 3) % len(LAST_NAMES)]} AB"
        street = f"{STREETS[place % len(STREETS)]} {1 + rng.randrange(60)}"
        other = f"{STREETS[(place + 3) % len(STREETS)]} {1 + rng.randrange(60)}"
        delivery = (other, f"{20000 + 37 * place:05d}", TOWNS[(place + 1) % len(TOWNS)]) if place % 3 else ("", "", "")
        marks = "|".join(["faktura", "rikskund"][: 1 + place % 2])
        discounts = tuple(str(rng.randrange(2, 15)) for _ in DISCOUNT_GROUPS)
        if day and place == 4:
            discounts = ("15", discounts[1])
        if day and place == 6:
            marks += "|kampanj"
        lists = "B2B" if place % 4 else "B2B|OUT"
        contact = (f"order@f{1001 + place}.example", f"08-555 {100 + place} 00")
        address = (street, f"{10000 + 91 * place:05d}", town)
        number = f"556{place:03d}-{4000 + 7 * place}"
        yield (
            code,
            number,
            name,
            *contact,
            *address,
            *delivery,
            lists,
            marks,
            *discounts,
            "ja" if place != 9 else "nej",
        )


def customer_rows(day: int) -> list[Cells]:
    """Return the people of the CRM, marks and companies in one cell each; one has no number, one address is twice."""
    rng = Random(SEED + 4)
    rows: list[Cells] = []
    for place in range(CUSTOMER_COUNT + 2 * day):
        first, last = FIRST_NAMES[place % len(FIRST_NAMES)], LAST_NAMES[place * 3 % len(LAST_NAMES)]
        street = f"{STREETS[rng.randrange(len(STREETS))]} {1 + rng.randrange(90)}"
        if day and place == 13:
            street = f"{STREETS[0]} 2 B"
        delivery = (f"{STREETS[place % len(STREETS)]} 5", "11122", TOWNS[0]) if place % 5 == 2 else ("", "", "")
        marks = "|".join(mark for step, mark in ((2, "nyhetsbrev"), (7, "vip"), (11, "provkund")) if place % step == 0)
        if day and place == 22:
            marks = "nyhetsbrev|vip"
        works = "|".join(f"F{1001 + (place + step) % COMPANY_COUNT}" for step in range(2 if place % 6 == 0 else 1))
        buyer = "ja" if place % 3 == 0 else "nej"
        known = (str(20001 + place), first, last, f"kund{place}@post.example", f"070-555 {10 + place:02d} 00")
        address = (street, f"{30000 + 53 * place:05d}", TOWNS[place % len(TOWNS)])
        rows.append((*known, *address, *delivery, marks, works if place % 4 else "", buyer, "ja"))
    rows[17] = ("", *rows[17][1:])
    return rows
