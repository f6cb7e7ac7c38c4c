"""What the flat imports leave behind: empty values, price rows, lists, switches and FullFile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.sandbox.conftest import Client, number

STOCK, PRICES, LISTS = "Product/ImportOnhands", "Product/ImportSkuPriceLists", "Product/ImportPriceLists"
RELATIONS, RIVALS = "Product/ImportRelations", "Product/ImportCompetitorSkus"
SUPPLIER, CUSTOMERS, COMPANIES = "Supplier/ImportProducts", "Customer/ImportCustomers", "Customer/ImportCompanies"
APP = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def stock(part: str, **more: Any) -> dict[str, Any]:
    return {"PartNo": part, "WarehouseCode": "W", "LocationCode": "L", **more}


def price(part: str, **more: Any) -> dict[str, Any]:
    return {"PartNo": part, "PriceListCode": "A", **more}


def on(*flags: str) -> dict[str, list[Any]]:
    return {"SkuOnhandFieldsThatAreSet": list(flags)}


def listed(*flags: str, guard: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"SkuPriceListFieldsThatAreSet": list(flags)}
    return {**found, "IgnoreSkuPriceListFieldsWhenEmpty": list(guard)} if guard else found


# ---- header against body


def test_only_listed_fields_are_stored(client: Client) -> None:
    """The others are ignored and counted."""
    client.send(STOCK, on("OnhandValue"), [stock("1", OnhandValue=5, IncomingValue=2)])
    assert client.records(STOCK)["1|W|L"] == stock("1", OnhandValue=5)
    assert client.sandbox.unlisted_fields == {f"{STOCK} IncomingValue": 1}
    assert client.sandbox.listed_but_absent == []


def test_a_listed_but_absent_field_is_zeroed_or_cleared(client: Client) -> None:
    """0 where null is not possible, else null; and it is noted."""
    client.send(STOCK, on("OnhandValue", "IncomingValue"), [stock("1", OnhandValue=5, IncomingValue=2)])
    client.send(STOCK, on("OnhandValue", "IncomingValue"), [stock("1")])
    assert client.records(STOCK)["1|W|L"] == stock("1", OnhandValue=0, IncomingValue=None)
    assert [found["path"] for found in client.sandbox.listed_but_absent] == ["OnhandValue", "IncomingValue"]
    assert client.sandbox.listed_but_absent[0] == {
        "operation": STOCK, "job": 2, "keys": ["1|W|L"], "path": "OnhandValue"
    }  # fmt: skip


def test_other_fields_of_a_record_stay(client: Client) -> None:
    """Two sources can own different fields."""
    client.send(STOCK, on("OnhandValue"), [stock("1", OnhandValue=5)])
    client.send(STOCK, on("IncomingValue"), [stock("1", IncomingValue=2)])
    assert client.records(STOCK)["1|W|L"] == stock("1", OnhandValue=5, IncomingValue=2)


def test_decimals_stay_exact(client: Client) -> None:
    """19.9 is 19.9."""
    client.send(PRICES, listed("PriceSale"), [price("1", PriceSale=19.9)])
    assert client.records(PRICES)["1|A|0"]["PriceSale"] == number("19.9")


def test_a_row_retired_stays_retired_until_told(client: Client) -> None:
    """Only IsActive brings a stock row back."""
    client.send(STOCK, on("OnhandValue"), [stock("1", OnhandValue=5), stock("2", OnhandValue=5)], full=True)
    client.send(STOCK, on("OnhandValue"), [stock("1", OnhandValue=5)], full=True)
    assert client.records(STOCK)["2|W|L"]["IsActive"] is False
    client.send(STOCK, on("OnhandValue"), [stock("2", OnhandValue=7)])
    assert client.records(STOCK)["2|W|L"]["IsActive"] is False
    client.send(STOCK, on("IsActive"), [stock("2", IsActive=True)])
    assert client.records(STOCK)["2|W|L"]["IsActive"] is True


# ---- prices


def test_a_price_of_zero_or_null_changes_nothing(client: Client) -> None:
    """Nor does an absent one."""
    client.send(PRICES, listed("PriceSale", "CostPurchase"), [price("1", PriceSale=10, CostPurchase=4)])
    for row in (price("1", PriceSale=0, CostPurchase=None), price("1")):
        client.send(PRICES, listed("PriceSale", "CostPurchase"), [row])
        held = client.records(PRICES)["1|A|0"]
        assert (held["PriceSale"], held["CostPurchase"]) == (10, 4)


def test_a_sale_price_fixes_the_rule_and_activates_the_row(client: Client) -> None:
    """Whatever rule or activity the same row asks for."""
    client.send(
        PRICES,
        listed("PriceSale", "IsActive", "PriceRule"),
        [price("1", PriceSale=10, IsActive=False, PriceRule=1, PriceRuleValue=5)],
    )
    held = client.records(PRICES)["1|A|0"]
    assert (held["IsActive"], held["PriceRule"], held.get("PriceRuleValue")) == (True, 2, None)


def test_a_price_row_is_deactivated_without_a_sale_price(client: Client) -> None:
    """IsActive alone does it, and a new sale price undoes it."""
    client.send(PRICES, listed("PriceSale"), [price("1", PriceSale=10)])
    client.send(PRICES, listed("IsActive"), [price("1", IsActive=False)])
    assert client.records(PRICES)["1|A|0"]["IsActive"] is False
    client.send(PRICES, listed("PriceSale"), [price("1", PriceSale=10)])
    assert client.records(PRICES)["1|A|0"]["IsActive"] is True


def test_a_price_rule_is_taken_when_there_is_no_sale_price(client: Client) -> None:
    """With its value, which is read only together with the rule."""
    client.send(PRICES, listed("PriceRule"), [price("1", PriceRule=3, PriceRuleValue=20)])
    held = client.records(PRICES)["1|A|0"]
    assert (held["PriceRule"], held["PriceRuleValue"], held["IsActive"]) == (3, 20, True)
    client.send(PRICES, listed("CostUnit"), [price("2", CostUnit=1, PriceRuleValue=20)])
    assert "PriceRuleValue" not in client.records(PRICES)["2|A|0"]


@pytest.mark.parametrize("empty", [{"CostUnit": 0}, {"CostUnit": None}, {}])
def test_a_row_guard_turns_the_whole_row_away(client: Client, empty: dict[str, Any]) -> None:
    """When the guarded field is empty, nothing of the row is written."""
    flags = listed("PriceSale", "CostUnit", guard=("CostUnit",))
    client.send(PRICES, flags, [price("1", PriceSale=10, **empty), price("2", PriceSale=10, CostUnit=1)])
    assert list(client.records(PRICES)) == ["2|A|0"]


def test_a_create_only_flag_writes_new_rows_only(client: Client) -> None:
    """The reading of docs.norce.io."""
    for value in (True, False):
        client.send(PRICES, listed("IsPriceDiscountableCreateOnly"), [price("1", IsPriceDiscountable=value)])
    assert client.records(PRICES)["1|A|0"]["IsPriceDiscountable"] is True


@pytest.mark.parametrize(("reading", "held"), [("created", None), ("empty", True)])
def test_create_only_on_an_empty_field_depends_on_the_reading(
    make: Callable[..., Client], reading: str, held: bool | None
) -> None:
    """Written when the field has no value, or only with the row."""
    client = make(create_only=reading)
    client.send(PRICES, listed("CostUnit"), [price("1", CostUnit=1)])
    client.send(PRICES, listed("IsPriceDiscountableCreateOnly"), [price("1", IsPriceDiscountable=True)])
    assert client.records(PRICES)["1|A|0"].get("IsPriceDiscountable") is held


# ---- unknown keys


def test_unknown_parts_are_ignored_when_parts_are_required(make: Callable[..., Client]) -> None:
    """Without a word, and without counting as failed."""
    client = make(known_parts="required")
    job = client.send(STOCK, on("OnhandValue"), [stock("1", OnhandValue=5)])
    assert (job["StatusId"], job["Fail"]) == (2, 0)
    assert client.records(STOCK) == {}
    assert [row["SeverityId"] for row in client.log(1)] == [1, 1]


def test_ignored_rows_may_leave_a_warning(make: Callable[..., Client]) -> None:
    """Also for unknown price lists and related parts."""
    client = make(known_parts="required", log_ignored=True)
    add_product(client, "1")
    client.send(PRICES, listed("PriceSale"), [price("1", PriceSale=1)])
    assert "PriceListCode A is unknown" in client.log(2)[1]["Message"]
    relation = {"PartNo": "1", "RelatedPartNo": "2", "RelationTypeCode": "r"}
    client.send(RELATIONS, {"RelationFieldsThatAreSet": []}, [relation])
    assert "RelatedPartNo 2 is unknown" in client.log(3)[1]["Message"]
    client.send(LISTS, {"PriceListFieldsThatAreSet": ["Name"]}, [{"Code": "A", "Name": "a"}])
    client.send(PRICES, listed("PriceSale"), [price("1", PriceSale=1)])
    assert list(client.records(PRICES)) == ["1|A|0"]


def add_product(client: Client, part: str) -> None:
    sku = {"PartNo": part, "Status": 1, "Type": 1}
    item = {"ManufacturerCode": "M", "Variants": [{"ManufacturerPartNo": f"m{part}", "Skus": [sku]}]}
    flags: dict[str, list[Any]] = {
        "ProductFieldsThatAreSet": ["ManufacturerCode", "Variants"],
        "VariantFieldsThatAreSet": ["ManufacturerPartNo", "Skus"],
        "SkuFieldsThatAreSet": ["Status", "Type"],
    }
    client.send("Product/ImportProducts", flags, [item])


# ---- FullFile


def test_full_file_of_stock_is_bounded_by_warehouse_and_location(client: Client) -> None:
    """Pairs that the request does not mention are left alone."""
    rows = [stock(part, OnhandValue=1) for part in "12"] + [{**stock("1", OnhandValue=1), "LocationCode": "M"}]
    client.send(STOCK, on("OnhandValue"), rows)
    client.send(STOCK, on("OnhandValue"), rows[:1], full=True)
    active = {key: row.get("IsActive") for key, row in client.records(STOCK).items()}
    assert active == {"1|W|L": None, "2|W|L": False, "1|W|M": None}


def test_full_file_of_prices_is_bounded_by_price_list(client: Client) -> None:
    """Two requests for one list retire each other's rows."""
    for part in "12":
        client.send(PRICES, listed("PriceSale"), [price(part, PriceSale=1)], full=True)
    client.send(PRICES, listed("PriceSale"), [{**price("1", PriceSale=1), "PriceListCode": "B"}], full=True)
    active = {key: row["IsActive"] for key, row in client.records(PRICES).items()}
    assert active == {"1|A|0": False, "2|A|0": True, "1|B|0": True}


def test_full_file_can_reset_rule_overrides(client: Client) -> None:
    """Flag 13 clears the rules of rows that are absent."""
    client.send(PRICES, listed("PriceRule"), [price("1", PriceRule=3, PriceRuleValue=9), price("2", PriceRule=3)])
    client.send(PRICES, listed("PriceRule", "FullfileResetInheritance"), [price("2", PriceRule=3)], full=True)
    held = client.records(PRICES)["1|A|0"]
    assert (held["PriceRule"], held["PriceRuleValue"], held["IsActive"]) == (None, None, False)


def test_full_file_of_relations_retires_everything_absent(client: Client) -> None:
    """Their scope is not stated, so it is all of them."""
    rows = [{"PartNo": part, "RelatedPartNo": "9", "RelationTypeCode": "r", "IsActive": True} for part in "12"]
    client.send(RELATIONS, {"RelationFieldsThatAreSet": ["IsActive"]}, rows)
    client.send(RELATIONS, {"RelationFieldsThatAreSet": ["IsActive"]}, rows[:1], full=True)
    assert [row["IsActive"] for row in client.records(RELATIONS).values()] == [True, False]


def test_full_file_of_competitors_retires_everything_absent(client: Client) -> None:
    """And a row that comes again is active again."""
    rows = [
        {
            "PartNo": part, "Source": "s", "CompetitorCode": "c", "CompetitorPartNo": "p", "PriceSale": 1,
            "PriceSaleInclFreight": 1, "IsPricesInclVat": True, "IsInStock": True, "SalesArea": "Sweden",
        }
        for part in "12"
    ]  # fmt: skip
    client.send(RIVALS, {}, rows)
    client.send(RIVALS, {}, rows[:1], full=True)
    assert client.records(RIVALS)["2|s|c|p"]["IsActive"] is False
    client.send(RIVALS, {}, rows[1:])
    assert client.records(RIVALS)["2|s|c|p"] == rows[1]


# ---- price lists, relations


def test_price_lists_merge_rules_and_replace_warehouses(client: Client) -> None:
    """Rules stay unless cleaned up; warehouses come as a complete list."""
    flags: dict[str, list[Any]] = {
        "PriceListFieldsThatAreSet": ["PriceRules", "Warehouses"],
        "PriceListPriceRuleFieldsThatAreSet": ["Type", "Value"],
    }
    for number_ in (1, 2):
        rules = [{"Type": 1, "Value": number_, "CategoryCode": f"c{number_}"}]
        places = [{"Code": f"w{number_}", "Locations": [{"Code": "l"}]}]
        client.send(LISTS, flags, [{"Code": "A", "PriceRules": rules, "Warehouses": places}])
    held = client.records(LISTS)["A"]
    assert [rule["CategoryCode"] for rule in held["PriceRules"]] == ["c1", "c2"]
    assert [place["Code"] for place in held["Warehouses"]] == ["w2"]
    flags["PriceListFieldsThatAreSet"].append("PriceRulesCleanup")
    client.send(LISTS, flags, [{"Code": "A", "PriceRules": rules, "Warehouses": places}])
    assert [rule["CategoryCode"] for rule in client.records(LISTS)["A"]["PriceRules"]] == ["c2"]


def test_limited_price_rules_belong_to_the_account_that_wrote_them(client: Client) -> None:
    """Another account leaves them as they are, and may add new ones."""
    flags = {"PriceListPriceRuleFieldsThatAreSet": ["Type", "Value"]}
    plain = client.header(LISTS, {**flags, "PriceListFieldsThatAreSet": ["PriceRules"]})
    limited = {**plain, "AccountId": 8, "PriceListFieldsThatAreSet": ["PriceRules", "PriceRulesLimitedUpdate"]}
    client.post(LISTS, plain, [{"Code": "A", "PriceRules": [{"Type": 1, "Value": 1}]}])
    client.sandbox.finish_jobs()
    client.post(LISTS, limited, [{"Code": "A", "PriceRules": [{"Type": 1, "Value": 2}, {"Type": 3, "Value": 2}]}])
    client.sandbox.finish_jobs()
    assert [rule["Value"] for rule in client.records(LISTS)["A"]["PriceRules"]] == [1, 2]


def test_population_cleanup_starts_the_population_afresh(client: Client) -> None:
    """Without it categories add up."""

    def population(code: str) -> dict[str, Any]:
        return {"Code": "A", "Population": {"Type": 2, "Categories": [{"Code": code, "RuleType": 1}]}}

    client.send(LISTS, {"PriceListFieldsThatAreSet": ["Population"]}, [population("a")])
    client.send(LISTS, {"PriceListFieldsThatAreSet": ["Population"]}, [population("b")])
    assert [row["Code"] for row in client.records(LISTS)["A"]["Population"]["Categories"]] == ["a", "b"]
    client.send(LISTS, {"PriceListFieldsThatAreSet": ["Population", "PopulationCleanup"]}, [population("c")])
    assert [row["Code"] for row in client.records(LISTS)["A"]["Population"]["Categories"]] == ["c"]


def test_nested_fields_need_their_own_flag(client: Client) -> None:
    """A text of a relation's culture that nobody lists is not stored; the culture's row is."""
    row = {"PartNo": "1", "RelatedPartNo": "2", "RelationTypeCode": "r"}
    texts = [{"CultureCode": "sv-SE", "Name": "n", "SubHeader": "s"}]
    flags = {"RelationFieldsThatAreSet": ["Cultures"], "RelationCultureFieldsThatAreSet": ["Name", "Description"]}
    client.send(RELATIONS, flags, [{**row, "Cultures": texts}])
    held = client.records(RELATIONS)["1|2|r"]
    assert held["Cultures"] == [{"CultureCode": "sv-SE", "Name": "n", "Description": None}]
    assert client.sandbox.unlisted_fields == {f"{RELATIONS} Cultures[].SubHeader": 1}
    assert [found["path"] for found in client.sandbox.listed_but_absent] == ["Cultures[].Description"]


# ---- supplier


def supplied(part: str, category: str, warehouse: str | None = None) -> dict[str, Any]:
    rows = (
        [] if warehouse is None else [{"WarehouseCode": warehouse, "LocationCode": "L", "Value": 1, "IsActive": True}]
    )
    return {"SupplierPartNo": part, "CategoryCode": category, "OnHand": rows}


SUPPLIED: dict[str, list[Any]] = {"FieldsThatAreSet": ["CategoryCode"], "OnhandFieldsThatAreSet": ["Value", "IsActive"]}


def test_supplier_products_are_kept_per_supplier(client: Client) -> None:
    """The supplier of the header is part of the key."""
    client.send(SUPPLIER, SUPPLIED, [supplied("1", "c", "W")])
    held = client.records(SUPPLIER)["3|1"]
    assert (held["SupplierId"], held["SupplierPartNo"], held["CategoryCode"]) == (3, "1", "c")
    assert held["OnHand"][0]["Value"] == 1


def test_a_full_supplier_file_switches_off_what_it_does_not_mention(client: Client) -> None:
    """Whole categories, and places of products that only other products mention."""
    client.send(SUPPLIER, SUPPLIED, [supplied("1", "a", "W"), supplied("2", "a", "W"), supplied("3", "b", "W")])
    client.send(SUPPLIER, SUPPLIED, [supplied("1", "a", "W"), supplied("2", "a")], full=True)
    held = client.records(SUPPLIER)
    assert [row.get("IsActive") for row in held.values()] == [None, None, False]
    assert [row["OnHand"][0]["IsActive"] for row in held.values()] == [True, False, True]


def test_limited_updates_respect_what_a_person_changed(client: Client) -> None:
    """In that record and culture only."""
    flags: dict[str, list[Any]] = {"ContentFieldsThatAreSet": ["NameLimitedUpdate"]}

    def item(part: str, name: str) -> dict[str, Any]:
        return {"SupplierPartNo": part, "ContentList": [{"CultureCode": "sv-SE", "Name": name}]}

    client.send(SUPPLIER, flags, [item("1", "a"), item("2", "a")])
    client.sandbox.admin_edit(SUPPLIER, "3|1", "ContentList[sv-SE].Name", "by hand")
    client.send(SUPPLIER, flags, [item("1", "b"), item("2", "b")])
    names = [row["ContentList"][0]["Name"] for row in client.records(SUPPLIER).values()]
    assert names == ["by hand", "b"]


# ---- customers and companies

PERSON: dict[str, Any] = {"Code": "c1", "FirstName": "A", "LastName": "B", "EmailAddress": "a@b.se"}
FIRM: dict[str, Any] = {"ApplicationKey": APP, "Code": "f1", "Name": "F", "OrganizationNo": "55"}
NEW_PERSON = ["Code", "FirstName", "LastName", "EmailAddress"]
NEW_FIRM = ["ApplicationKey", "Code", "Name", "OrganizationNo"]


def test_a_customer_is_found_by_the_first_given_key(client: Client) -> None:
    """Code before e-mail address; what decides may not be shared with the others."""
    client.send(CUSTOMERS, {"CustomerFieldsThatAreSet": NEW_PERSON}, [PERSON])
    client.send(CUSTOMERS, {"CustomerFieldsThatAreSet": ["Title"]}, [{"EmailAddress": "a@b.se", "Title": "Dr"}])
    client.send(CUSTOMERS, {"CustomerFieldsThatAreSet": ["EmailAddress"]}, [{"Code": "c1", "EmailAddress": "n@b.se"}])
    held = client.records(CUSTOMERS)
    assert list(held) == ["c1"]
    assert (held["c1"]["Title"], held["c1"]["EmailAddress"], held["c1"]["IsActive"]) == ("Dr", "n@b.se", True)


def test_a_new_customer_needs_its_names(client: Client) -> None:
    """Given and listed, else the item fails with a row in the log."""
    job = client.send(CUSTOMERS, {"CustomerFieldsThatAreSet": ["Code", "FirstName"]}, [PERSON])
    assert (job["StatusId"], job["Fail"], client.records(CUSTOMERS)) == (2, 1, {})
    row = client.log(1)[1]
    assert row["SeverityId"] == 3
    assert row["Message"] == "c1: cannot be created without LastName, EmailAddress"


def test_search_only_by_code_leaves_the_last_key_out(client: Client) -> None:
    """An e-mail address no longer finds the customer."""
    client.send(CUSTOMERS, {"CustomerFieldsThatAreSet": NEW_PERSON}, [PERSON])
    flags = {"CustomerFieldsThatAreSet": ["Title", "SearchOnlyByCode"]}
    assert client.send(CUSTOMERS, flags, [{"EmailAddress": "a@b.se", "Title": "Dr"}])["Fail"] == 1


@pytest.mark.parametrize(("switch", "codes"), [([], ["b"]), (["PreserveFlags"], ["a", "b"])])
def test_flags_are_replaced_unless_preserved(client: Client, switch: list[str], codes: list[str]) -> None:
    """Of customers; of companies likewise."""
    for code in "ab":
        flags = {"CustomerFieldsThatAreSet": [*NEW_PERSON, "Flags", *switch]}
        client.send(CUSTOMERS, flags, [{**PERSON, "Flags": [{"Code": code}]}])
        firm = {"CompanyFieldsThatAreSet": [*NEW_FIRM, "Flags", *switch]}
        client.send(COMPANIES, firm, [{**FIRM, "Flags": [{"Code": code}]}])
    assert [flag["Code"] for flag in client.records(CUSTOMERS)["c1"]["Flags"]] == codes
    assert [flag["Code"] for flag in client.records(COMPANIES)["f1"]["Flags"]] == codes


@pytest.mark.parametrize(("delta", "codes"), [(False, ["f2"]), (True, ["f1", "f2"])])
def test_relations_left_out_end_unless_the_list_is_a_delta(client: Client, delta: bool, codes: list[str]) -> None:
    """Companies of a customer."""
    flags = {"CustomerFieldsThatAreSet": [*NEW_PERSON, "Companies"], "CompanyFieldsThatAreSet": ["Code"]}
    for code in ("f1", "f2"):
        client.send(CUSTOMERS, flags, [{**PERSON, "Companies": [{"Code": code}], "IsCompanyListDelta": delta}])
    held = client.records(CUSTOMERS)["c1"]
    assert [firm["Code"] for firm in held["Companies"]] == codes
    assert "IsCompanyListDelta" not in held


def test_unknown_related_records_are_left_out_when_required(make: Callable[..., Client]) -> None:
    """With a warning."""
    client = make(known_parts="required")
    client.send(COMPANIES, {"CompanyFieldsThatAreSet": NEW_FIRM}, [FIRM])
    flags = {"CustomerFieldsThatAreSet": [*NEW_PERSON, "Companies"], "CompanyFieldsThatAreSet": ["Code"]}
    client.send(CUSTOMERS, flags, [{**PERSON, "Companies": [{"Code": "f1"}, {"Code": "f2"}]}])
    assert [firm["Code"] for firm in client.records(CUSTOMERS)["c1"]["Companies"]] == ["f1"]
    assert client.log(2)[1]["SeverityId"] == 2


def test_an_address_is_replaced_but_null_marks_stay(client: Client) -> None:
    """IsPrimary and IsValidated keep their value when nothing is said."""
    flags = {"CompanyFieldsThatAreSet": [*NEW_FIRM, "InvoiceAddress"]}
    client.send(COMPANIES, flags, [{**FIRM, "InvoiceAddress": {"City": "A", "ZipCode": "1", "IsPrimary": True}}])
    client.send(COMPANIES, flags, [{**FIRM, "InvoiceAddress": {"City": "B", "IsPrimary": None}}])
    assert client.records(COMPANIES)["f1"]["InvoiceAddress"] == {"City": "B", "IsPrimary": True}


def test_addresses_without_a_code_do_not_swallow_each_other(client: Client) -> None:
    """They are told by their place in the list."""
    flags = {"CompanyFieldsThatAreSet": [*NEW_FIRM, "DeliveryAddresses"]}
    client.send(COMPANIES, flags, [{**FIRM, "DeliveryAddresses": [{"City": "A"}, {"City": "B"}]}])
    assert client.records(COMPANIES)["f1"]["DeliveryAddresses"] == [{"City": "A"}, {"City": "B"}]


def test_a_password_is_set_once(client: Client) -> None:
    """Only when the account is created."""
    flags = {
        "CustomerFieldsThatAreSet": [*NEW_PERSON, "Accounts"],
        "AccountFieldsThatAreSet": ["PasswordCreateOnly", "Status"],
    }
    for word in ("one", "two"):
        account = {"ApplicationKey": APP, "LoginName": "a", "Password": word, "Status": 1}
        client.send(CUSTOMERS, flags, [{**PERSON, "Accounts": [account]}])
    assert client.records(CUSTOMERS)["c1"]["Accounts"][0]["Password"] == "one"
