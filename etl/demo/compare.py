"""Compares the sandbox's catalogue with the files of a day, which are read here without the code of the pipeline.

Plain csv, no mapping, no contract: what a person would expect to find in Norce after having read the files.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from random import Random
from typing import Any

from etl.demo import generate
from etl.demo.shop import SEED, advance_day, build_shop

ExpectedRecords = dict[str, dict[str, Any]]


def compare_catalogue(folder: Path, sandbox: Any) -> list[str]:
    """Return the differences between the catalogue and the files of a day."""
    wrong: list[str] = []
    for operation, read in READERS:
        records, expected = sandbox.records(operation), read(folder)
        if not expected:
            wrong.append(f"{operation}: nothing could be read to compare with")
        for key, fields in expected.items():
            if key not in records:
                wrong.append(f"{operation}: {key} is missing")
                continue
            for path, value in fields.items():
                found = _value_at(records[key], path)
                if found != value:
                    wrong.append(f"{operation}: {key} {path} is {found!r}, the file says {value!r}")
    return wrong


def _value_at(record: Any, path: str) -> Any:
    """Return a value by a path such as `Cultures.sv-SE.Name` or `Flags.*.Code`; a star means all elements, sorted."""
    name, _, rest = path.partition(".")
    if name == "*":
        return sorted(_value_at(part, rest) for part in record or ())
    if isinstance(record, list):
        codes = ("CultureCode", "Code", "ParametricCode", "WarehouseCode", "QtyBreak", "ManufacturerCode", "ValueCode")
        record = next((r for r in record if any(str(r.get(code)) == name for code in codes)), None)
    elif isinstance(record, dict):
        record = record.get(name)
    return _value_at(record, rest) if rest and (record is not None or rest.startswith("*")) else record


def _read_rows(folder: Path, pattern: str, encoding: str = "cp1252", delimiter: str = ";") -> Iterator[list[str]]:
    for path in sorted(folder.glob(pattern)):
        with path.open(encoding=encoding, newline="") as stream:
            rows = list(csv.reader(stream, delimiter=delimiter))
        width = len(rows[0])
        yield from (row for row in rows[1:] if len(row) == width)


def _parse_number(text: str) -> Decimal | None:
    try:
        return Decimal(text.strip().replace(",", "."))
    except InvalidOperation:
        return None


def _is_date(text: str) -> bool:
    try:
        datetime.strptime(text, "%d.%m.%Y")
    except ValueError:
        return False
    return True


def _unambiguous_records(rows: Iterable[tuple[str, dict[str, Any]]]) -> ExpectedRecords:
    """Return the records whose key occurs once, or always with the same values."""
    found: ExpectedRecords = {}
    doubtful: set[str] = set()
    for key, fields in rows:
        if key in found and found[key] != fields:
            doubtful.add(key)
        found[key] = fields
    return {key: fields for key, fields in found.items() if key not in doubtful}


def read_prices(folder: Path) -> ExpectedRecords:
    rows = []
    for part, _, price_list, _, sale, cost, recommended in _read_rows(folder, "erp/prices_*.csv"):
        numbers = {
            "PriceSale": _parse_number(sale),
            "CostPurchase": _parse_number(cost),
            "PriceRecommended": _parse_number(recommended),
        }
        good = all(
            (value is not None and value >= 0) or text == ""
            for value, text in zip(numbers.values(), (sale, cost, recommended), strict=True)
        )
        if part and good:
            given = {name: value for name, value in numbers.items() if value}
            rows.append((f"{part}|{price_list}|0", given))
    return _unambiguous_records(rows)


def read_supplier_prices(folder: Path) -> ExpectedRecords:
    rows = []
    for part, _, _, _, _, cost, listed, _ in _read_rows(folder, "supplier/catalogue_*.csv"):
        numbers = {"CostPurchase": _parse_number(cost), "PriceCatalog": _parse_number(listed)}
        if part and all(value is not None for value in numbers.values()):
            rows.append((f"{part}|SUP|0", {name: value for name, value in numbers.items() if value}))
    return _unambiguous_records(rows)


def read_stock(folder: Path) -> ExpectedRecords:
    rows = []
    for part, _, warehouse, place, onhand, incoming, delivery, days in _read_rows(folder, "erp/stock_*.csv"):
        if not warehouse or (delivery and not _is_date(delivery)):
            continue
        numbers = {"OnhandValue": _parse_number(onhand), "IncomingValue": _parse_number(incoming)}
        if part and days.isdigit() and all(value is not None for value in numbers.values()):
            rows.append((f"{part}|{warehouse}|{place}", {**numbers, "LeadTimeDayCount": int(days)}))
    return _unambiguous_records(rows)


def read_products(_folder: Path) -> ExpectedRecords:
    """Return the workbook's rows as the generator makes them, before they become a workbook."""
    rows = []
    rng = Random(SEED)
    for line in generate.product_rows(advance_day(rng, build_shop(rng))):
        row = dict(zip(generate.PRODUCT_HEADER, line, strict=True))
        part, weight = str(row["Artikelnr"]), row["Vikt kg"]
        if part and not isinstance(weight, str):
            rows.append(
                (
                    part,
                    {
                        "Code": row["Modell"],
                        "Cultures.sv-SE.Name": row["Namn (sv)"],
                        "Cultures.en-GB.Description": row["Description (en)"],
                    },
                )
            )
    return _unambiguous_records(rows)


def read_price_lists(folder: Path) -> ExpectedRecords:
    """Return each list with all its rules and warehouses."""
    found: ExpectedRecords = {}
    for row in _read_rows(folder, "erp/pricelists_*.csv"):
        code, name, currency, _, public, way, makers, rule, rate, maker, warehouse, label, place, spot, days = row
        record = found.setdefault(code, {"Name": name, "CurrencyCode": currency, "IsPublic": public == "ja"})
        record["Population.Type"] = {"Med": 2, "Utan": 1}[way]
        record["Population.AllCategories.RuleCodes"] = makers.split(",")
        if rule:
            record[f"PriceRules.{maker}.Type"] = {"Påslag": 1, "Marginal": 3}[rule]
            record[f"PriceRules.{maker}.Value"] = _parse_number(rate)
        if warehouse:
            record[f"Warehouses.{warehouse}.Name"] = label
            record[f"Warehouses.{warehouse}.Locations.{place}.Name"] = spot
            record[f"Warehouses.{warehouse}.Locations.{place}.LeadTimeDayCount"] = int(days)
    return found


def read_relations(folder: Path) -> ExpectedRecords:
    kinds = {"Tillbehör": "ACC", "Liknande": "SIM"}
    rows = []
    for part, other, kind, order, swedish, english in _read_rows(folder, "pim/relations_*.txt", "utf-8", "\t"):
        if kind in kinds:
            texts = {"Cultures.sv-SE.Name": swedish or None, "Cultures.en-GB.Name": english or None}
            rows.append((f"{part}|{other}|{kinds[kind]}", {"IsActive": None, "SortOrder": int(order), **texts}))
    return _unambiguous_records(rows)


def read_competitors(folder: Path) -> ExpectedRecords:
    rows = []
    for part, shop_code, name, number, title, price, freight, _, there in _read_rows(
        folder, "watch/*.csv", "utf-8", ","
    ):
        asked = _parse_number(price)
        if asked is not None:
            fields = {
                "CompetitorName": name,
                "ProductName": title,
                "PriceSale": asked,
                "PriceSaleInclFreight": asked + (_parse_number(freight) or 0),
                "IsInStock": there == "yes",
                "SalesArea": "Sweden",
            }
            rows.append((f"{part}|price-watch|{shop_code}|{number}", fields))
    return _unambiguous_records(rows)


def read_assortment(folder: Path) -> ExpectedRecords:
    """Return both stocks and both quantity prices of each article; none where one of its rows cannot be read."""
    found: ExpectedRecords = {}
    for row in _read_rows(folder, "wholesale/assortment_*.csv"):
        number, name, maker, _, ean, group, city, _, stock, coming, _, least, price, _, _ = row
        quantity = _parse_number(stock)
        if quantity is None:
            continue
        record = found.setdefault(f"41|{number}", {})
        record |= {"ProductName": name, "Manufacturer": maker, "EanCode": ean, "CategoryCode": group}
        record |= {f"OnHand.{city}.Value": quantity, f"OnHand.{city}.IncomingValue": _parse_number(coming)}
        record |= {f"PriceList.{least}.CostPurchase": _parse_number(price), f"OnHand.{city}.IsActive": True}
    return found


def read_companies(folder: Path) -> ExpectedRecords:
    found: ExpectedRecords = {}
    for row in _read_rows(folder, "crm/companies_*.csv", "utf-8"):
        code, number, name, _, _, street, _, town, other, _, _, lists, marks, first, second, active = row
        found[code] = {
            "OrganizationNo": number,
            "Name": name,
            "IsActive": active == "ja",
            "InvoiceAddress.AddressLine1": street,
            "InvoiceAddress.City": town,
            "DeliveryAddresses.LEV.AddressLine1": other or None,
            "PriceLists.*.Code": sorted(lists.split("|")),
            "Flags.*.Code": sorted(marks.split("|")),
            "Discounts.A.DiscountPercentage": _parse_number(first),
            "Discounts.B.DiscountPercentage": _parse_number(second),
        }
    return found


def read_customers(folder: Path) -> ExpectedRecords:
    found: ExpectedRecords = {}
    for row in _read_rows(folder, "crm/customers_*.csv", "utf-8"):
        code, first, last, mail, _, street, _, _, other, _, _, marks, works, buyer, _ = row
        if code:
            found[code] = {
                "FirstName": first,
                "LastName": last,
                "EmailAddress": mail,
                "InvoiceAddress.AddressLine1": street,
                "DeliveryAddresses.LEV.AddressLine1": other or None,
                "Flags.*.Code": sorted(marks.split("|")) if marks else [],
                "Companies.*.Code": sorted(works.split("|")) if works else [],
                "Accounts.*.LoginName": [mail],
                "Accounts.*.Roles.Buyer.IsActive": [buyer == "ja"],
            }
    return found


#: What each operation should have come to; an operation stands as often as files feed it.
READERS: tuple[tuple[str, Callable[[Path], ExpectedRecords]], ...] = (
    ("Product/ImportPriceLists", read_price_lists),
    ("Supplier/ImportProducts", read_assortment),
    ("Product/ImportProducts", read_products),
    ("Product/ImportOnhands", read_stock),
    ("Product/ImportSkuPriceLists", read_prices),
    ("Product/ImportSkuPriceLists", read_supplier_prices),
    ("Product/ImportRelations", read_relations),
    ("Product/ImportCompetitorSkus", read_competitors),
    ("Customer/ImportCompanies", read_companies),
    ("Customer/ImportCustomers", read_customers),
)
