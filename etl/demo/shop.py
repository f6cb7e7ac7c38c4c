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
    """Return twelve digits with their check digit; the bodies lie in the range for use inside a shop."""
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(body))
    return f"{body}{-total % 10}"


def round_money(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"))


def format_decimal(amount: Decimal | None) -> str:
    return "" if amount is None else str(amount).replace(".", ",")


@dataclass(frozen=True)
class _Product:
    """What the variants of one product have in common."""

    number: int
    kind: ProductKind
    series: str
    brand: tuple[str, str]
    material: tuple[str, str]
    status: str
    warranty: str
    base_price: Decimal
    variants: tuple[tuple[str, str], ...]


def build_shop(rng: Random) -> list[Article]:
    """Return every article that the shop has on either day."""
    articles: list[Article] = []
    for number in range(PRODUCT_COUNT + LATE_PRODUCT_COUNT + NEW_PRODUCT_COUNT):
        product = _draw_product(rng, number)
        for place in range(len(product.variants)):
            articles.append(_draw_article(rng, product, place, 10400 + len(articles) * 7))
    return articles


def _draw_product(rng: Random, number: int) -> _Product:
    kind = PRODUCT_KINDS[number % len(PRODUCT_KINDS)]
    return _Product(
        number=number,
        kind=kind,
        series=SERIES[number // len(PRODUCT_KINDS) % len(SERIES)],
        brand=BRANDS[rng.randrange(len(BRANDS))],
        material=kind.materials[rng.randrange(len(kind.materials))],
        status="Utgående" if rng.random() < 0.04 else "Aktiv",
        warranty=f"{rng.choice((1, 2, 5))} år",
        base_price=Decimal(kind.price) * (80 + rng.randrange(45)) / 100,
        variants=kind.variants[: 1 + rng.randrange(len(kind.variants))],
    )


def _draw_article(rng: Random, product: _Product, place: int, number: int) -> Article:
    """Draw the variant of a product at a place; `number` is its article number."""
    kind, material = product.kind, product.material
    price = round_money(product.base_price * (100 + 15 * place) / 100)
    stock = tuple(_random_quantity(rng, kind) for _ in WAREHOUSES)
    incoming = tuple(Decimal(rng.randrange(1, 8) * 10) if rng.random() < 0.2 else Decimal(0) for _ in WAREHOUSES)
    return Article(
        product=product.number,
        part_no=f"{number:07d}",
        model=f"M{1000 + product.number}",
        brand=product.brand,
        brand_part_no=f"{3 * number % 100000:06d}-{place + 1}",
        ean=ean13(f"200{number:09d}"),
        status=product.status,
        name_sv=f"{kind.name_sv} {product.series}",
        name_en=f"{kind.name_en} {product.series}",
        text_sv=f"{kind.text_sv} Utförd i {material[0]}.",
        text_en=f"{kind.text_en} Made of {material[1]}.",
        variant=product.variants[place],
        kind=kind,
        weight=Decimal(kind.grams + 60 * place) / 1000,
        material=material[0],
        series=product.series,
        warranty=product.warranty,
        price=price,
        cost=round_money(price * (45 + rng.randrange(20)) / 100),
        recommended=round_money(price * Decimal("1.25")) if rng.random() < 0.85 else None,
        b2b=round_money(price * Decimal("0.82")) if rng.random() < 0.36 else None,
        stock=stock,
        incoming=incoming,
        delivery=tuple(DAYS[0] + timedelta(3 + rng.randrange(40)) if amount else None for amount in incoming),
        lead_days=rng.choice((2, 5, 10, 21)),
    )


def _random_quantity(rng: Random, kind: ProductKind) -> Decimal:
    if rng.random() < 0.12:
        return Decimal(0)
    return Decimal(rng.randrange(5, 900)) / 2 if kind.metres else Decimal(rng.randrange(1, 180))


def advance_day(rng: Random, articles: Sequence[Article]) -> list[Article]:
    """Return the same shop a day later: some prices, many stocks and one text change, one product is gone."""
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
