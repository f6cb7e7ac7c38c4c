"""The made-up shop on two days: every article, with all that any of its systems knows of it, from one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from random import Random

from etl.demo.words import BRANDS, PRODUCT_KINDS, SERIES, ProductKind

SEED = 19580612
DAYS = (date(2026, 3, 2), date(2026, 3, 3))
PRODUCT_COUNT = 150
LATE_PRODUCT_COUNT = 2  #: products that the ERP has on the first day and the PIM only on the second
NEW_PRODUCT_COUNT = 1  #: products that nobody has before the second day
REMOVED_PRODUCT = 143  #: a product that nobody has any more on the second day
REWORDED_PRODUCT = 42  #: a product whose text changes
WAREHOUSES = (("01", "PLOCK"), ("02", "BUTIK"))
WHOLESALER_BRANDS = ("FKH", "FJV", "NLJ")  #: brands that the wholesaler behind the catalogue carries


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
    kind: ProductKind
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


def round_money(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"))


def format_decimal(amount: Decimal | None) -> str:
    return "" if amount is None else str(amount).replace(".", ",")


def build_shop(rng: Random) -> list[Article]:
    """Every article the shop has on either day."""
    articles: list[Article] = []
    for product in range(PRODUCT_COUNT + LATE_PRODUCT_COUNT + NEW_PRODUCT_COUNT):
        kind = PRODUCT_KINDS[product % len(PRODUCT_KINDS)]
        series = SERIES[product // len(PRODUCT_KINDS) % len(SERIES)]
        brand = BRANDS[rng.randrange(len(BRANDS))]
        material = kind.materials[rng.randrange(len(kind.materials))]
        status = "Utgående" if rng.random() < 0.04 else "Aktiv"
        warranty = f"{rng.choice((1, 2, 5))} år"
        base = Decimal(kind.price) * (80 + rng.randrange(45)) / 100
        for place, variant in enumerate(kind.variants[: 1 + rng.randrange(len(kind.variants))]):
            price = round_money(base * (100 + 15 * place) / 100)
            number = 10400 + len(articles) * 7
            stock = tuple(_random_quantity(rng, kind) for _ in WAREHOUSES)
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
                    name_sv=f"{kind.name_sv} {series}",
                    name_en=f"{kind.name_en} {series}",
                    text_sv=f"{kind.text_sv} Utförd i {material[0]}.",
                    text_en=f"{kind.text_en} Made of {material[1]}.",
                    variant=variant,
                    kind=kind,
                    weight=Decimal(kind.grams + 60 * place) / 1000,
                    material=material[0],
                    series=series,
                    warranty=warranty,
                    price=price,
                    cost=round_money(price * (45 + rng.randrange(20)) / 100),
                    recommended=round_money(price * Decimal("1.25")) if rng.random() < 0.85 else None,
                    b2b=round_money(price * Decimal("0.82")) if rng.random() < 0.36 else None,
                    stock=stock,
                    incoming=coming,
                    delivery=tuple(DAYS[0] + timedelta(3 + rng.randrange(40)) if some else None for some in coming),
                    lead_days=rng.choice((2, 5, 10, 21)),
                )
            )
    return articles


def _random_quantity(rng: Random, kind: ProductKind) -> Decimal:
    if rng.random() < 0.12:
        return Decimal(0)
    return Decimal(rng.randrange(5, 900)) / 2 if kind.metres else Decimal(rng.randrange(1, 180))


def advance_day(rng: Random, articles: Sequence[Article]) -> list[Article]:
    """The same shop a day later: some prices, much stock, one text, one product gone."""
    changed: list[Article] = []
    for article in articles:
        if article.product == REMOVED_PRODUCT:
            continue
        if rng.random() < 0.04:
            factor = Decimal(rng.choice((90, 95, 104, 108))) / 100
            article = replace(article, price=round_money(article.price * factor))
        if rng.random() < 0.06 and article.brand[0] in WHOLESALER_BRANDS:
            article = replace(article, cost=round_money(article.cost * Decimal("1.03")))
        if rng.random() < 0.07:
            sold = article.stock[0] - rng.randrange(1, 4)
            article = replace(article, stock=(max(sold, Decimal(0)), *article.stock[1:]))
        if rng.random() < 0.02 and article.delivery[1]:
            article = replace(article, delivery=(article.delivery[0], article.delivery[1] + timedelta(7)))
        if article.product == REWORDED_PRODUCT:
            article = replace(article, text_sv=article.text_sv + " Ny förpackning utan plast.")
        changed.append(article)
    return changed
