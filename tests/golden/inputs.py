"""What golden plans are made of: in each group the name of an input, and the plan that follows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.golden import adapter
from tests.golden.adapter import Feed, Golden, Row

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "etl" / "demo" / "data"
REAL = ROOT / "tests" / "cli" / "real"
Plans = Iterator[tuple[str, Golden]]

#: Real exports that are planned by a mapping: the mapping, then its files in the order in which they come.
EXPORTS = (
    ("akeneo-models", "IcecatConnector/akeneo_product_models.csv"),
    ("alko-prices", "alko/alko_hinnasto_2024-11.xlsx"),
    *(
        (
            f"alltron-{what}",
            "stizun/alltron_500_products_latin1.csv",
            "stizun/alltron_500_products_5_changes.csv",
            "stizun/alltron_485_products_15_removed.csv",
        )
        for what in ("prices", "products", "stock")
    ),
    ("commercetools-stock", "commercetools-sunrise-data/commercetools_inventory.csv"),
    ("jet-products", "stizun/jet_products_latin1.csv"),
    ("jet-stock", "stizun/jet_products_latin1.csv"),
    ("magento-inventory", "import-sample-data/magento_td_inventory_update.csv"),
    ("magento-prices", "import-sample-data/magento_td_price_update.csv"),
    ("magento-products", "magento2-sample-data/magento2_configurable_products.csv"),
    ("magento-tiers", "import-sample-data/magento_td_tier_prices.csv"),
    ("nelfo-prices", "efonelfo/nelfo_varer_small.csv"),
    ("shopify-products", "product-csvs/shopify_apparel.csv"),
    ("shopware-prices", "SwagImportExport/shopware_article_prices.csv"),
    ("shopware-stock", "SwagImportExport/shopware_article_instock.csv"),
    ("vendure-prices", "vendure-create/vendure_products.csv"),
    ("vendure-stock", "vendure-create/vendure_products.csv"),
    ("vinmonopolet-prices", "vinmonopolet/vinmonopolet_produkter_chunk.csv"),
    ("vinmonopolet-products", "vinmonopolet/vinmonopolet_produkter_chunk.csv"),
    ("woocommerce-prices", "classic-commerce/woocommerce_sample_products.csv"),
    ("woocommerce-products", "classic-commerce/woocommerce_sample_products.csv"),
)

#: Imports of those mappings; real exports of other imports are planned by drafts, which take longer to make.
MAPPED = ("Product/ImportProducts", "Product/ImportSkuPriceLists", "Product/ImportOnhands")

STOCK = """
feed: {feed}
operation: Product/ImportOnhands
source: {{files: "*.csv", content: {content}}}
{more}
columns: {{q: decimal, d: integer, n: date}}
record:
  PartNo: part
  WarehouseCode: wh
  LocationCode: {{value: L}}
  OnhandValue: q
  LeadTimeDayCount: {{column: d, empty: clear}}
  NextDeliveryDate: n
"""


def demo() -> Plans:
    """The demonstration's exports, all days in their order, each over what the one before it had accepted."""
    for limits in ("usual", "small"):
        for mapping in adapter.mappings(ROOT / "mappings"):
            feed = Feed(mapping, limits)
            files = [
                path
                for day in sorted(DEMO.iterdir())
                for path in sorted(day.rglob("*.*"))
                if adapter.belongs(path.relative_to(day).as_posix(), mapping)
            ]
            for path in files:
                yield f"{path.relative_to(DEMO).as_posix()} as {feed.name}, {limits} limits", feed.file(path)
            if limits == "usual":
                yield from _afterwards(feed, files[-1], feed.name)


def cases() -> Plans:
    """The cases of the shipped mappings."""
    for mapping in adapter.mappings(ROOT / "mappings"):
        for folder in adapter.case_folders(mapping):
            feed = Feed(mapping)
            for name in ("accepted", "input"):
                for path in sorted(folder.glob(f"{name}.*")):
                    yield f"{feed.name}/{folder.name}/{path.name}", feed.file(path)


#: Imports whose generated mappings have hundreds of fields and take seconds to plan: one plan each.
SLOW = ("Product/ImportProducts", "Customer/ImportCompanies")


def contract() -> Plans:
    """Each of Connect's imports by mappings that name every field."""
    for name, mapping, in_full, days in adapter.contract_files(_is_planned):
        operation, _, way = name.partition(", ")
        if operation in SLOW:
            yield f"{name}, day 1", Feed(mapping).file(days[0])
        elif in_full:
            yield name, Feed(mapping).full(days[0])
        else:
            feed = Feed(mapping)
            yield f"{name}, day 1", feed.file(days[0])
            if way == "named":
                yield f"{name}, day 2", feed.file(days[1])
                yield f"{name}, undo", feed.undo()
    for name, mapping, days in adapter.changes_of_each_field(but=SLOW):
        feed = Feed(mapping)
        for number, rows in enumerate(days, 1):
            yield f"{name}, one change each, day {number}", feed.file(rows)


def _is_planned(operation: str, way: str, in_full: bool) -> bool:
    return way == "named" or (operation not in SLOW and (in_full or way == "rows-1"))


def drawn() -> Plans:
    """Made-up feeds with lists, objects, clearing and flags, and files of two days drawn by a fixed chance."""
    for name, mapping, days in adapter.drawn_files():
        feed = Feed(mapping, "small")
        for number, rows in enumerate(days, 1):
            yield f"{name}, day {number}", feed.file(rows)
        yield f"{name}, undo", feed.undo()


def kinds() -> Plans:
    """Feeds of changes, references, feeds of one import beside each other, and what is gone."""

    def rows(*numbers: int, q: int = 0, wh: str = "A") -> list[Row]:
        days = ("2026-03-02", "", "2026-04-01")
        return [
            {
                "part": f"P{n}",
                "wh": wh,
                "q": str(n * 3 % 7 + q),
                "d": str(n % 4) if n % 3 else "",
                "n": days[n % 3],
            }
            for n in numbers
        ]

    changes = Feed(adapter.mapping(STOCK.format(feed="changes", content="changes", more="")), "small")
    yield "changes, first file, half of it accepted", changes.file(rows(*range(120)), half=True)
    yield "changes, pending alone", changes.flush()
    yield "changes, full with pending", changes.full(())
    yield "changes, resend with pending", changes.resend((), ("P4", "P6"))
    yield "changes, resend of what is unknown", changes.resend((), ("no such part",))
    yield "changes, undo of a half", changes.undo()
    yield "changes, next file over pending", changes.file(rows(*range(1, 60, 5), q=1), half=True)
    yield "changes, pending of two files", changes.flush()
    yield "changes, third file", changes.file(rows(*range(100, 130), q=2))
    yield "changes, full", changes.full(())
    yield "changes, resend", changes.resend((), ("P4", "P6"))
    yield "changes, undo", changes.undo()

    for content in ("full", "changes"):
        text = STOCK.format(feed="referring", content=content, more="references: {PartNo: changes.PartNo}")
        referring = Feed(adapter.mapping(text))
        known = changes.known("PartNo")
        yield f"references, {content}", referring.file(rows(*range(110, 140), wh="B"), reference_values=known)
        changes.file(rows(*range(130, 136)))
        yield (
            f"references, {content}, more is known",
            referring.file(rows(*range(115, 140), wh="B"), reference_values=changes.known("PartNo")),
        )
        yield f"references, {content}, undo", referring.undo()
        changes.accepted = changes.accepted.head(120)

    plain = STOCK.format(feed="plain", content="full", more="gone: deactivate")
    beside = STOCK.format(feed="beside", content="full", more="gone: deactivate\nyields: [plain]")
    first, second = Feed(adapter.mapping(plain)), Feed(adapter.mapping(beside))
    yield "gone, first file", first.file(rows(*range(20)))
    yield "gone, five records less", first.file(rows(*range(5, 20), q=1))
    yield "gone, back again", first.file(rows(*range(3, 20), q=1))
    twice = [*rows(*range(3, 12)), *rows(4), {"part": "", "wh": "A", "q": "1"}, {"part": "P12", "wh": "A", "q": "many"}]
    yield "gone, rejected rows", first.file(twice)
    yield "gone, full with rejected rows", first.full(twice)
    yield "gone, full", first.full(rows(*range(6, 20)))
    yield "gone, resend", first.resend(rows(*range(6, 20)), ("P7", "P9"))
    yield "gone, undo", first.undo()
    yield "yields, first file", second.file(rows(*range(10, 30), q=2), owner_records=first.others())
    yield "yields, second file", second.file(rows(*range(12, 30), q=3), owner_records=first.others())
    yield (
        "yields, full beside another feed",
        second.full(rows(*range(12, 30)), sibling_feeds=first.others(), owner_records=first.others()),
    )
    yield "yields, full, nothing shared", second.full(rows(*range(12, 30), wh="C"), sibling_feeds=first.others())


def samples(folder: Path) -> Plans:
    """Real exports by the mappings that the tests have for them, else by the drafts of `etl init`."""
    place = folder / "A_ecommerce"
    for name, *files in EXPORTS:
        feed = Feed(adapter.mapping(REAL / f"{name}.yaml"))
        paths = [place / file for file in files]
        if not all(path.is_file() for path in paths):
            continue
        for path in paths:
            yield f"{path.relative_to(place).as_posix()} as {name}", {"file": _digest(path), **feed.file(path)}
        for what, golden in _afterwards(feed, paths[-1], f"{paths[-1].relative_to(place).as_posix()} as {name}"):
            yield what, {"file": _digest(paths[-1]), **golden}
    for name in adapter.drafts(but=MAPPED):
        for path in sorted(place.glob(f"*/{name}"))[:1]:
            golden = Feed(adapter.drafted(path)).file(path)
            yield f"{path.relative_to(place).as_posix()}, drafted", {"file": _digest(path), **golden}


def _afterwards(feed: Feed, last: Path | list[Row], name: str) -> Plans:
    """What can follow the last file: the way back, two records by name, everything, and the same file once more."""
    yield f"{name}, undo", feed.undo()
    yield f"{name}, resend", feed.resend(last)
    yield f"{name}, full", feed.full(last)
    yield f"{name}, once more", feed.file(last)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


#: Groups of inputs that are part of the repository; each has a golden file of its name.
GROUPS: dict[str, Callable[[], Plans]] = {
    "demo": demo,
    "cases": cases,
    "contract": contract,
    "drawn": drawn,
    "kinds": kinds,
}
SAMPLES = "samples"
