"""Real exports of shops, suppliers and systems through the whole command; skipped where they are not at hand.

What is expected is worked out from the files with Python's csv module and openpyxl, never from our own output.
"""

from __future__ import annotations

import csv
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.in_process_shop import open_in_process_shop
from tests.support.shop import PRICES, PRODUCTS, STOCK, Shop

MAPPINGS = Path(__file__).parent / "real"
Row = dict[str, str]

ALLTRON = (
    "stizun/alltron_500_products_latin1.csv",
    "stizun/alltron_500_products_5_changes.csv",
    "stizun/alltron_485_products_15_removed.csv",
)


@pytest.fixture
def export(samples: Path) -> Callable[[str], Path]:
    """The path of a real export by its name below A_ecommerce."""

    def find(name: str) -> Path:
        path = samples / "A_ecommerce" / name
        if not path.is_file():
            pytest.skip(f"no real export A_ecommerce/{name}")
        return path

    return find


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop without mappings yet."""
    with open_in_process_shop(tmp_path / "shop") as opened:
        yield opened


def rows_of(path: Path, *, encoding: str = "utf-8-sig", delimiter: str = ",", quoted: bool = True) -> list[Row]:
    """A file by header, cells stripped; rows of nothing but delimiters are none."""
    with path.open(encoding=encoding, newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        lines = [[cell.strip() for cell in line] for line in reader]
    header, *data = lines
    return [dict(zip(header, line, strict=False)) for line in data if any(line)]


def send(shop: Shop, path: Path, name: str, *feeds: str, status: int = 0) -> dict[str, Any]:
    """Drop a file, then once more: the runs of the first time by feed. The second time must send nothing."""
    for feed in feeds:
        shutil.copy(MAPPINGS / f"{feed}.yaml", shop.mappings)
    first = drop(shop, path, name, status)
    assert set(first) == set(feeds)
    sent = len(shop.imports())
    again = drop(shop, path, name, status)
    for feed, run in again.items():
        found = (run["state"], run["new"], run["changed"], run["gone"], run["requests"])
        assert found == ("completed", 0, 0, 0, 0), feed
        assert run["unchanged"] == first[feed]["new"], feed
    assert len(shop.imports()) == sent
    return first


def drop(shop: Shop, path: Path, name: str, status: int = 0) -> dict[str, Any]:
    """Drop a file and process it: the runs by feed. Headers and bodies of all requests must agree."""
    shop.drop(path.read_bytes(), name)
    done = shop.once()
    assert done.status == status, done.err
    assert shop.sandbox.audit() == {"listed_but_absent": [], "unlisted_fields": {}}
    runs = {run["feed"]: run for run in done.json["runs"]}
    for run in runs.values():
        assert run["state"] == "completed", run["error"]
        assert {job["status"] for job in run["jobs"]} <= {2}
    return runs


def counts(run: Any, *names: str) -> tuple[int, ...]:
    return tuple(run[name] for name in names)


def flat(shop: Shop, operation: str, *fields: str) -> dict[str, tuple[Any, ...]]:
    """The sandbox's records: key to the values of some fields."""
    return {key: tuple(data.get(name) for name in fields) for key, data in shop.sandbox.records(operation).items()}


def names_of(row: Any, culture: str) -> Any:
    """The name of a product or variant in a culture."""
    return next((each.get("Name") for each in row.get("Cultures") or [] if each["CultureCode"] == culture), None)


def variant_of(record: Any) -> Any:
    (variant,) = record["Variants"]
    return variant


def sku_of(record: Any) -> Any:
    (sku,) = variant_of(record)["Skus"]
    return sku


def filled(text: str) -> str | None:
    return text or None


def differing(before: dict[str, Row], after: dict[str, Row], *columns: str) -> set[str]:
    """Keys of both days for which one of the columns has another text."""
    return {key for key in before.keys() & after.keys() if any(before[key][c] != after[key][c] for c in columns)}


def test_alltron_three_days(shop: Shop, export: Callable[[str], Path]) -> None:
    """500 articles, then 5 changed, then those back as they were and 15 gone: only that is sent, field by field."""
    paths = [export(name) for name in ALLTRON]
    encodings = ("cp1252", "utf-8", "utf-8")
    days = [
        {row["Artikelnummer 2"]: row for row in rows_of(path, encoding=encoding, delimiter="\t", quoted=False)}
        for path, encoding in zip(paths, encodings, strict=True)
    ]
    assert [len(day) for day in days] == [500, 500, 485]
    for feed in ("alltron-prices", "alltron-stock", "alltron-products"):
        shutil.copy(MAPPINGS / f"{feed}.yaml", shop.mappings)
    columns = {
        "alltron-prices": ("Preis (exkl. MWSt)", "Endkundenpreis"),
        "alltron-stock": ("Lagerbestand",),
        "alltron-products": ("Bezeichung", "Webtext", "Hersteller", "EAN-Code", "Gewicht"),
    }

    def compare(day: dict[str, Row], gone: set[str]) -> None:
        prices = flat(shop, PRICES, "CostPurchase", "PriceRecommended", "CurrencyCode", "IsActive")
        stock = flat(shop, STOCK, "OnhandValue", "IsActive")
        products = shop.sandbox.records(PRODUCTS)
        assert set(products) == set(days[0])
        for part, row in days[0].items() if not gone else day.items():
            row = day[part]
            cost, recommended, currency, _ = prices[f"{part}|ALLTRON|0"]
            assert (cost, currency) == (Decimal(row["Preis (exkl. MWSt)"]), "CHF")
            assert (recommended or 0) == Decimal(row["Endkundenpreis"])
            assert stock[f"{part}|ALLTRON|1"][0] == Decimal(row["Lagerbestand"])
            sku = sku_of(products[part])
            assert sku["ActualWeight"] == Decimal(row["Gewicht"])
            assert sku.get("EanCode") == filled(row["EAN-Code"])
            assert names_of(products[part], "de-CH") == row["Bezeichung"]
        for part in gone:
            assert prices[f"{part}|ALLTRON|0"][-1] is False
            assert stock[f"{part}|ALLTRON|1"][-1] is False
        assert sum(1 for *_, active in prices.values() if active is not False) == len(day)
        assert sum(1 for *_, active in stock.values() if active is not False) == len(day)

    first = drop(shop, paths[0], "alltron/list.csv")
    for feed in columns:
        assert counts(first[feed], "rows", "rejected", "new", "changed", "gone") == (500, 0, 500, 0, 0)
    compare(days[0], set())

    touched = {feed: differing(days[0], days[1], *names) for feed, names in columns.items()}
    assert len(set().union(*touched.values())) == 5
    sent = len(shop.imports())
    second = drop(shop, paths[1], "alltron/list.csv")
    for feed, keys in touched.items():
        assert counts(second[feed], "rows", "new", "changed", "gone") == (500, 0, len(keys), 0)
        assert second[feed]["unchanged"] == 500 - len(keys)
        assert second[feed]["records_sent"] == len(keys)
    requests = shop.imports()[sent:]
    flags = {seen.path.rpartition("/")[2]: {k: v for k, v in seen.header.items() if "FieldsThatAreSet" in k}
             for seen in requests}  # fmt: skip
    assert len(requests) == 3
    assert flags["ImportSkuPriceLists"] == {"SkuPriceListFieldsThatAreSet": [4]}
    assert flags["ImportOnhands"] == {"SkuOnhandFieldsThatAreSet": [3]}
    assert flags["ImportProducts"]["SkuFieldsThatAreSet"] == [14]
    compare(days[1], set())

    gone = set(days[1]) - set(days[2])
    assert len(gone) == 15
    back = {feed: differing(days[1], days[2], *names) for feed, names in columns.items()}
    third = drop(shop, paths[2], "alltron/list.csv")
    for feed, keys in back.items():
        assert counts(third[feed], "rows", "new", "changed", "gone") == (485, 0, len(keys), 15)
    compare(days[2], gone)

    sent = len(shop.imports())
    fourth = drop(shop, paths[2], "alltron/list.csv")
    assert len(shop.imports()) == sent
    assert all(counts(run, "new", "changed", "requests") == (0, 0, 0) for run in fourth.values())


def test_woocommerce(shop: Shop, export: Callable[[str], Path]) -> None:
    """Variations gather below their parent's code, simple products stand alone; the offer is the price."""
    path = export("classic-commerce/woocommerce_sample_products.csv")
    rows = [row for row in rows_of(path) if row["Type"] not in ("variable", "grouped")]
    runs = send(shop, path, "woocommerce/products.csv", "woocommerce-products", "woocommerce-prices")
    priced = [row for row in rows_of(path) if row["Regular price"]]
    assert counts(runs["woocommerce-products"], "rows", "rejected", "new") == (24, 0, len(rows))
    assert counts(runs["woocommerce-prices"], "rows", "rejected", "new") == (24, 0, len(priced))
    assert flat(shop, PRICES, "PriceSale", "PriceRecommended") == {
        f"{row['SKU']}|WEB|0": (Decimal(row["Sale price"] or row["Regular price"]), Decimal(row["Regular price"]))
        for row in priced
    }
    found = {
        part: (record["Code"], names_of(record, "en-GB"), names_of(variant_of(record), "en-GB"),
               sorted(each["Code"] for each in record.get("Categories") or []))
        for part, record in shop.sandbox.records(PRODUCTS).items()
    }  # fmt: skip
    assert found == {
        row["SKU"]: (
            row["Parent"] or row["SKU"],
            None if row["Parent"] else " ".join(row["Name"].split(" ")),
            row["Name"],
            sorted(filter(None, row["Categories"].split(", "))),
        )
        for row in rows
    }


def test_shopify(shop: Shop, export: Callable[[str], Path]) -> None:
    """A product's title stands in its first row only; the rows below are its other variants."""
    path = export("product-csvs/shopify_apparel.csv")
    rows = rows_of(path)
    run = send(shop, path, "shopify/products.csv", "shopify-products")["shopify-products"]
    assert counts(run, "rows", "rejected", "new") == (len(rows), 0, len(rows))
    assert run["records_sent"] == len({row["Handle"] for row in rows})
    titles = {row["Handle"]: row["Title"] for row in rows if row["Title"]}
    found = {
        part: (record["Code"], names_of(record, "en-US"), names_of(variant_of(record), "en-US"))
        for part, record in shop.sandbox.records(PRODUCTS).items()
    }
    assert found == {
        f"{row['Handle']}/{row['Option1 Value']}": (row["Handle"], titles[row["Handle"]], row["Option1 Value"])
        for row in rows
    }


def test_akeneo_locales_and_channels(shop: Shop, export: Callable[[str], Path]) -> None:
    """A column per locale and channel becomes a culture each, empty ones none; models gather below their parent."""
    path = export("IcecatConnector/akeneo_product_models.csv")
    rows = rows_of(path, delimiter=";")
    run = send(shop, path, "akeneo/models.csv", "akeneo-models")["akeneo-models"]
    assert counts(run, "rows", "rejected", "new") == (81, 0, 81)
    assert run["records_sent"] == len({row["parent"] or row["code"] for row in rows})
    found = {
        part: (record["Code"], {each["CultureCode"]: each.get("Description")
                                for each in variant_of(record).get("Cultures") or []},
               {each["Code"] for each in record["Categories"]})
        for part, record in shop.sandbox.records(PRODUCTS).items()
    }  # fmt: skip
    families: dict[str, set[str]] = {}
    for row in rows:
        families.setdefault(row["parent"] or row["code"], set()).update(row["categories"].split(","))
    locales = ("de_DE", "en_US", "fr_FR")
    for row in rows:
        code, texts, categories = found.pop(row["code"])
        cells = {name.replace("_", "-"): row[f"description-{name}-ecommerce"] for name in locales}
        assert code == (row["parent"] or row["code"])
        assert texts == {name: cell for name, cell in cells.items() if cell}
        assert categories == families[code]
    assert not found


def test_magento_updates(shop: Shop, export: Callable[[str], Path]) -> None:
    """Small files of changes: quantities, prices and prices by quantity each reach their records."""
    inventory = export("import-sample-data/magento_td_inventory_update.csv")
    prices = export("import-sample-data/magento_td_price_update.csv")
    tiers = export("import-sample-data/magento_td_tier_prices.csv")
    for feed in ("magento-inventory", "magento-prices", "magento-tiers"):
        shutil.copy(MAPPINGS / f"{feed}.yaml", shop.mappings)
    shop.drop(inventory.read_bytes(), "magento/inventory.csv")
    shop.drop(prices.read_bytes(), "magento/prices.csv")
    runs = drop(shop, tiers, "magento/tiers.csv")
    assert {feed: counts(run, "rows", "skipped", "new") for feed, run in runs.items()} == {
        "magento-inventory": (2, 0, 2), "magento-prices": (2, 0, 2), "magento-tiers": (3, 1, 2),
    }  # fmt: skip
    assert flat(shop, STOCK, "OnhandValue") == {
        f"{row['sku']}|MAIN|MAIN": (Decimal(row["qty"]),) for row in rows_of(inventory)
    }
    lists = {"ALL GROUPS": "TIERS", "General": "TIERS-GENERAL"}
    expected: dict[str, tuple[Decimal | None, ...]] = {
        f"{row['sku']}|WEB|0": (Decimal(row["special_price"]), Decimal(row["price"])) for row in rows_of(prices)
    }
    expected |= {
        f"{row['sku']}|{lists[row['tier_price_customer_group']]}|{row['tier_price_qty']}": (
            Decimal(row["tier_price"]), None,
        )
        for row in rows_of(tiers)
        if row["tier_price_value_type"] == "Fixed"
    }  # fmt: skip
    assert flat(shop, PRICES, "PriceSale", "PriceRecommended") == expected
    sent = len(shop.imports())
    again = drop(shop, inventory, "magento/inventory.csv")
    assert counts(again["magento-inventory"], "unchanged", "requests") == (2, 0)
    assert len(shop.imports()) == sent


def test_magento_products(shop: Shop, export: Callable[[str], Path]) -> None:
    """1 847 products whose descriptions hold markup, commas and line ends arrive to the letter."""
    path = export("magento2-sample-data/magento2_configurable_products.csv")
    rows = [row for row in rows_of(path) if row["product_type"] == "simple"]
    run = send(shop, path, "magento/products.csv", "magento-products")["magento-products"]
    assert counts(run, "rows", "rejected", "new") == (1994, 0, len(rows))
    found = {
        part: (names_of(record, "en-US"), record["Cultures"][0]["Description"], sku_of(record)["ActualWeight"])
        for part, record in shop.sandbox.records(PRODUCTS).items()
    }
    assert found == {row["sku"]: (row["name"], row["description"], Decimal(row["weight"])) for row in rows}


def test_alko_workbook(shop: Shop, export: Callable[[str], Path]) -> None:
    """A workbook with a title above its header and every number as text: 11 332 prices, leading zeros kept."""
    import openpyxl

    path = export("alko/alko_hinnasto_2024-11.xlsx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sheet = openpyxl.load_workbook(path, read_only=True).worksheets[0]
        sheet.reset_dimensions()
        header, *data = list(sheet.iter_rows(min_row=4, max_col=5, values_only=True))
    number, price = header.index("Numero"), header.index("Hinta")
    rows = {str(row[number]): Decimal(str(row[price])) for row in data}
    run = send(shop, path, "alko/list.xlsx", "alko-prices")["alko-prices"]
    assert counts(run, "rows", "rejected", "new", "requests") == (len(rows), 0, len(rows), -(-len(rows) // 1000))
    assert flat(shop, PRICES, "PriceSale", "CurrencyCode") == {
        f"{part}|ALKO|0": (value, "EUR") for part, value in rows.items()
    }


def test_commercetools_inventory(shop: Shop, export: Callable[[str], Path]) -> None:
    """26 137 stock rows go in 27 requests of a thousand, and one changed row in one request of one record."""
    path = export("commercetools-sunrise-data/commercetools_inventory.csv")
    rows = {row["sku"]: Decimal(row["quantityOnStock"]) for row in rows_of(path)}
    run = send(shop, path, "commercetools/inventory.csv", "commercetools-stock")["commercetools-stock"]
    assert counts(run, "rows", "rejected", "new", "requests") == (26137, 0, 26137, 27)
    assert flat(shop, STOCK, "OnhandValue") == {f"{sku}|CT|CT": (value,) for sku, value in rows.items()}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    sku, _, rest = lines[9000].partition(",")
    lines[9000] = f"{sku},99999,{rest.partition(',')[2]}"
    shop.drop("".join(lines), "commercetools/inventory.csv")
    changed = shop.once().run
    assert counts(changed, "changed", "requests", "records_sent", "values_sent") == (1, 1, 1, 1)
    assert flat(shop, STOCK, "OnhandValue")[f"{sku}|CT|CT"] == (99999,)


def test_shopware_stock_with_rows_twice(shop: Shop, export: Callable[[str], Path]) -> None:
    """405 stock rows of which some stand twice: the repeats are rejected, naming the row that they repeat."""
    path = export("SwagImportExport/shopware_article_instock.csv")
    rows = rows_of(path, delimiter=";")
    times = Counter(row["ordernumber"] for row in rows)
    first = {row["ordernumber"]: row for row in reversed(rows)}
    run = send(shop, path, "shopware/stock.csv", "shopware-stock", status=4)["shopware-stock"]
    assert counts(run, "rows", "rejected", "new") == (405, 405 - len(times), len(times))
    assert flat(shop, STOCK, "OnhandValue") == {
        f"{part}|SW|SW": (Decimal(row["instock"]),) for part, row in first.items()
    }
    parts = [row["ordernumber"] for row in rows]
    repeats = [line for line, part in enumerate(parts, 2) if parts.index(part) != line - 2]
    rejections = shop.rejections(run["run"])
    assert [int(rejection["row"]) for rejection in rejections] == repeats


def test_shopware_prices(shop: Shop, export: Callable[[str], Path]) -> None:
    """Prices with decimal comma by customer group; a purchase price of 0 is none."""
    path = export("SwagImportExport/shopware_article_prices.csv")
    rows = rows_of(path, delimiter=";")
    run = send(shop, path, "shopware/prices.csv", "shopware-prices")["shopware-prices"]
    assert counts(run, "rows", "rejected", "new") == (98, 0, 98)

    def amount(text: str) -> Decimal:
        return Decimal(text.replace(",", "."))

    found = flat(shop, PRICES, "PriceSale", "CostPurchase")
    assert {key: (sale, cost or 0) for key, (sale, cost) in found.items()} == {
        f"{row['ordernumber']}|{row['pricegroup']}|0": (amount(row["price"]), amount(row["purchaseprice"]))
        for row in rows
    }


def test_jet_list(shop: Shop, export: Callable[[str], Path]) -> None:
    """Unnamed columns, an empty row, a slipped row, EANs rounded by a spreadsheet: one rejection, no false EAN."""
    path = export("stizun/jet_products_latin1.csv")
    rows = rows_of(path, encoding="cp1252", delimiter=";")
    runs = send(shop, path, "jet/list.csv", "jet-products", "jet-stock", status=4)
    dated = [row for row in rows if not row["NextDeliveryDate"] or row["NextDeliveryDate"].count(".") == 2]
    assert len(rows) - len(dated) == 1
    assert counts(runs["jet-products"], "rows", "rejected", "new") == (len(rows), 0, len(rows))
    assert counts(runs["jet-stock"], "rows", "rejected", "new") == (len(rows), 1, len(dated))
    assert flat(shop, STOCK, "OnhandValue") == {
        f"{row['Artikelnummer']}|JET|JET": (Decimal(row["Bestand"]),) for row in dated
    }
    products = shop.sandbox.records(PRODUCTS)
    assert set(products) == {row["Artikelnummer"] for row in rows}
    for row in rows:
        ean = row["EAN Code"]
        assert sku_of(products[row["Artikelnummer"]]).get("EanCode") == (filled(ean) if "E+" not in ean else None)
        assert names_of(products[row["Artikelnummer"]], "de-CH") == row["Bezeichnung"]


def test_vinmonopolet(shop: Shop, export: Callable[[str], Path]) -> None:
    """Letters of windows-1252 and prices with decimal comma arrive as what they are."""
    path = export("vinmonopolet/vinmonopolet_produkter_chunk.csv")
    rows = rows_of(path, encoding="cp1252", delimiter=";")
    runs = send(shop, path, "vinmonopolet/products.csv", "vinmonopolet-prices", "vinmonopolet-products")
    for run in runs.values():
        assert counts(run, "rows", "rejected", "new") == (9, 0, 9)
    assert flat(shop, PRICES, "PriceSale") == {
        f"{row['Varenummer']}|VMP|0": (Decimal(row["Pris"].replace(",", ".")),) for row in rows
    }
    products = shop.sandbox.records(PRODUCTS)
    assert {part: names_of(record, "nb-NO") for part, record in products.items()} == {
        row["Varenummer"]: row["Varenavn"] for row in rows
    }


def test_vendure(shop: Shop, export: Callable[[str], Path]) -> None:
    """Names and cells padded with blanks mean what stands between the blanks; an article that comes thrice is one."""
    path = export("vendure-create/vendure_products.csv")
    rows = rows_of(path)
    articles = len({row["sku"] for row in rows})
    assert articles == 86
    runs = send(shop, path, "vendure/products.csv", "vendure-stock", "vendure-prices", status=4)
    for run in runs.values():
        assert counts(run, "rows", "rejected", "new") == (88, 2, articles)
    assert flat(shop, STOCK, "OnhandValue") == {
        f"{row['sku']}|VENDURE|VENDURE": (Decimal(row["stockOnHand"]),) for row in rows
    }
    assert flat(shop, PRICES, "PriceSale") == {f"{row['sku']}|VENDURE|0": (Decimal(row["price"]),) for row in rows}


def test_nelfo_without_header(shop: Shop, export: Callable[[str], Path]) -> None:
    """No header, a first row of another kind and prices in hundredths: the articles' cost prices are exact."""
    path = export("efonelfo/nelfo_varer_small.csv")
    with path.open(encoding="cp850", newline="") as stream:
        lines = [line for line in csv.reader(stream, delimiter=";", quoting=csv.QUOTE_NONE) if line[0] == "VL"]
    run = send(shop, path, "nelfo/articles.csv", "nelfo-prices")["nelfo-prices"]
    assert counts(run, "rows", "rejected", "skipped", "new") == (10, 0, 1, len(lines))
    assert flat(shop, PRICES, "CostPurchase") == {f"{line[2]}|NELFO|0": (Decimal(line[8]) / 100,) for line in lines}
