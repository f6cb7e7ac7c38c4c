"""ImportProducts: creation, matching, clusters, nested flags and FullFile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.sandbox.conftest import Client

PRODUCTS = "Product/ImportProducts"
CREATE: dict[str, list[Any]] = {
    "ProductFieldsThatAreSet": ["ManufacturerCode", "Code", "Variants"],
    "VariantFieldsThatAreSet": ["ManufacturerPartNo", "Skus"],
    "SkuFieldsThatAreSet": ["Status", "Type"],
}


def variant(part: str, **sku: Any) -> dict[str, Any]:
    return {"ManufacturerPartNo": f"m{part}", "Skus": [{"PartNo": part, "Status": 1, "Type": 1, **sku}]}


def product(*parts: str, **fields: Any) -> dict[str, Any]:
    return {"ManufacturerCode": "M", "Code": "c", "Variants": [variant(part) for part in parts], **fields}


def only(part: str) -> dict[str, Any]:
    """The least that finds a product."""
    return {"Variants": [{"Skus": [{"PartNo": part}]}]}


def flags(*more: str, **arrays: list[Any]) -> dict[str, list[Any]]:
    return {**CREATE, "ProductFieldsThatAreSet": [*CREATE["ProductFieldsThatAreSet"], *more], **arrays}


def clusters(client: Client) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for part, held in client.records(PRODUCTS).items():
        found.setdefault(held.get("Code"), []).append(part)
    return found


def sku(client: Client, part: str) -> dict[str, Any]:
    held: dict[str, Any] = client.records(PRODUCTS)[part]["Variants"][0]["Skus"][0]
    return held


def test_a_product_is_created_and_read_back_by_part_number(client: Client) -> None:
    """In the shape in which it was sent."""
    client.send(PRODUCTS, CREATE, [product("1")])
    assert client.records(PRODUCTS) == {"1": product("1")}
    assert client.sandbox.audit() == {"listed_but_absent": [], "unlisted_fields": {}}


@pytest.mark.parametrize(
    ("listed", "item", "lacking"),
    [
        (CREATE, {**product("1"), "ManufacturerCode": None}, "ManufacturerCode"),
        ({**CREATE, "SkuFieldsThatAreSet": ["Status"]}, product("1"), "Variants[].Skus[].Type"),
        ({"ProductFieldsThatAreSet": ["ManufacturerCode"]}, product("1"), "Variants[].ManufacturerPartNo"),
    ],
)
def test_creation_needs_five_fields_sent_and_listed(
    client: Client, listed: dict[str, list[Any]], item: dict[str, Any], lacking: str
) -> None:
    """Else the item fails and the log says what was lacking."""
    assert client.send(PRODUCTS, listed, [item])["Fail"] == 1
    row = client.log(1)[1]
    assert row["SeverityId"] == 3
    assert lacking in row["Message"]
    assert client.records(PRODUCTS) == {}


def test_a_known_product_is_updated_by_part_number_alone(client: Client) -> None:
    """Product fields, without listing Variants, and without counting the key as unlisted."""
    client.send(PRODUCTS, CREATE, [product("1")])
    listed = {"ProductFieldsThatAreSet": ["Alias"]}
    assert client.send(PRODUCTS, listed, [{**only("1"), "Alias": "a"}])["Fail"] == 0
    assert client.records(PRODUCTS)["1"] == {**product("1"), "Alias": "a"}
    assert client.sandbox.unlisted_fields == {}


def test_a_known_product_is_found_by_the_manufacturers_number(client: Client) -> None:
    """Without any part number."""
    client.send(PRODUCTS, CREATE, [product("1")])
    item = {"ManufacturerCode": "M", "Alias": "a", "Variants": [{"ManufacturerPartNo": "m1"}]}
    client.send(PRODUCTS, {"ProductFieldsThatAreSet": ["Alias"]}, [item])
    assert client.records(PRODUCTS)["1"]["Alias"] == "a"


def test_neither_number_can_change(client: Client) -> None:
    """A new part number under a known manufacturer's number fails; the reverse is a warning."""
    client.send(PRODUCTS, CREATE, [product("1")])
    taken = {**product("2"), "Variants": [{**variant("2"), "ManufacturerPartNo": "m1"}]}
    assert client.send(PRODUCTS, CREATE, [taken])["Fail"] == 1
    other = {**product("1"), "Variants": [{**variant("1"), "ManufacturerPartNo": "new"}]}
    assert client.send(PRODUCTS, CREATE, [other])["Fail"] == 0
    assert client.log(3)[1]["SeverityId"] == 2
    assert client.records(PRODUCTS) == {"1": product("1")}


def test_variants_of_a_code_share_the_products_fields(client: Client) -> None:
    """Whether they come in one item or in several."""
    client.send(PRODUCTS, CREATE, [product("1"), product("2")])
    client.send(PRODUCTS, flags("Alias"), [product("3", Alias="a")])
    assert clusters(client) == {"c": ["1", "2", "3"]}
    assert {held["Alias"] for held in client.records(PRODUCTS).values()} == {"a"}


def test_products_without_a_code_are_clusters_of_their_own(client: Client) -> None:
    """And their texts are not shared."""
    listed = {**CREATE, "ProductFieldsThatAreSet": ["ManufacturerCode", "Variants", "Alias"]}
    items = [{**product(part), "Alias": part} for part in "12"]
    for item in items:
        del item["Code"]
    client.send(PRODUCTS, listed, items)
    assert [held["Alias"] for held in client.records(PRODUCTS).values()] == ["1", "2"]


def test_a_variant_moves_when_its_code_changes(client: Client) -> None:
    """Out of the old cluster, into the new one."""
    client.send(PRODUCTS, CREATE, [product("1", "2")])
    client.send(PRODUCTS, CREATE, [product("2", Code="d")])
    assert clusters(client) == {"c": ["1"], "d": ["2"]}


def test_full_file_puts_absent_variants_out_of_their_cluster(client: Client) -> None:
    """They stay as products of their own; other clusters are left alone."""
    client.send(PRODUCTS, CREATE, [product("1", "2"), product("3", "4", Code="d")])
    client.send(PRODUCTS, CREATE, [product("1")], full=True)
    assert clusters(client) == {"c": ["1"], None: ["2"], "d": ["3", "4"]}


def test_nested_fields_go_by_their_own_flags(client: Client) -> None:
    """A culture text is written when its flag is listed, in the product and in the variant."""
    client.send(PRODUCTS, CREATE, [product("1")])
    texts = [{"CultureCode": "sv-SE", "Name": "n", "Title": "t"}]
    item = {"Cultures": texts, "Variants": [{"Cultures": texts, "Skus": [{"PartNo": "1"}]}]}
    listed = {
        "ProductFieldsThatAreSet": ["Cultures", "Variants"],
        "ProductCultureFieldsThatAreSet": ["Name"],
        "VariantFieldsThatAreSet": ["Cultures"],
        "VariantCultureFieldsThatAreSet": ["Title"],
    }
    client.send(PRODUCTS, listed, [item])
    held = client.records(PRODUCTS)["1"]
    assert held["Cultures"] == [{"CultureCode": "sv-SE", "Name": "n"}]
    assert held["Variants"][0]["Cultures"] == [{"CultureCode": "sv-SE", "Title": "t"}]
    assert set(client.sandbox.unlisted_fields) == {
        f"{PRODUCTS} Cultures[].Title",
        f"{PRODUCTS} Variants[].Cultures[].Name",
    }


def test_cultures_merge_and_categories_are_replaced(client: Client) -> None:
    """A language left out stays; a category left out goes."""
    listed = flags("Cultures", "Categories", ProductCultureFieldsThatAreSet=["Name"])
    for culture, category in (("sv-SE", "a"), ("en-GB", "b")):
        texts, places = [{"CultureCode": culture, "Name": culture}], [{"Code": category, "SortOrder": 1}]
        client.send(PRODUCTS, listed, [product("1", Cultures=texts, Categories=places)])
    held = client.records(PRODUCTS)["1"]
    assert [row["Name"] for row in held["Cultures"]] == ["sv-SE", "en-GB"]
    assert held["Categories"] == [{"Code": "b", "SortOrder": 1}]
    assert client.sandbox.unlisted_fields == {}


@pytest.mark.parametrize(("switch", "codes"), [([], ["a", "b"]), (["ParametricsCleanup"], ["b"])])
def test_parametrics_stay_unless_cleaned_up(client: Client, switch: list[str], codes: list[str]) -> None:
    """The switch deletes what the import leaves out."""
    for code in "ab":
        values = [{"ParametricCode": code, "ValueInteger": 1}]
        client.send(PRODUCTS, flags("ProductParametrics", *switch), [product("1", ProductParametrics=values)])
    assert [row["ParametricCode"] for row in client.records(PRODUCTS)["1"]["ProductParametrics"]] == codes


def test_a_null_parametric_value_changes_nothing(client: Client) -> None:
    """Nor does an absent one."""
    for value in ({"ValueInteger": 1, "ValueBoolean": True}, {"ValueInteger": None}):
        values = [{"ParametricCode": "a", **value}]
        client.send(PRODUCTS, flags("ProductParametrics"), [product("1", ProductParametrics=values)])
    held = client.records(PRODUCTS)["1"]["ProductParametrics"]
    assert held == [{"ParametricCode": "a", "ValueInteger": 1, "ValueBoolean": True}]


def test_product_flags_are_set_one_by_one(client: Client) -> None:
    """Read without any header flag; create-only rows are written once."""
    for code, is_set in (("a", True), ("b", True), ("a", False)):
        row = {"Code": code, "IsSet": is_set, "IsCreateOnly": code == "b"}
        client.send(PRODUCTS, CREATE, [product("1", ProductFlags=[row])])
    client.send(PRODUCTS, CREATE, [product("1", ProductFlags=[{"Code": "b", "IsSet": False, "IsCreateOnly": True}])])
    held = {row["Code"]: row["IsSet"] for row in client.records(PRODUCTS)["1"]["ProductFlags"]}
    assert held == {"a": False, "b": True}


def test_a_standard_price_follows_the_price_rules(client: Client) -> None:
    """Fixed rule and activity from a sale price, null ignored."""
    listed = {
        **CREATE,
        "SkuFieldsThatAreSet": ["Status", "Type", "StandardPrice"],
        "SkuPriceListFieldsThatAreSet": ["PriceSale", "IsActive"],
    }
    for amount in (9.5, 0):
        row = {"PartNo": "1", "PriceListCode": "A", "PriceSale": amount, "IsActive": False}
        client.send(PRODUCTS, listed, [{**product("1"), "Variants": [variant("1", StandardPrice=row)]}])
    price = sku(client, "1")["StandardPrice"]
    assert (float(price["PriceSale"]), price["PriceRule"], price["IsActive"]) == (9.5, 2, False)


def test_a_null_weight_is_inherited(client: Client) -> None:
    """It is stored as null, which means the category's weight."""
    listed = {**CREATE, "SkuFieldsThatAreSet": ["Status", "Type", "ActualWeight", "IsBuyable"]}
    client.send(PRODUCTS, listed, [{**product("1"), "Variants": [variant("1", ActualWeight=2, IsBuyable=True)]}])
    client.send(PRODUCTS, listed, [{**product("1"), "Variants": [variant("1", ActualWeight=None)]}])
    assert (sku(client, "1")["ActualWeight"], sku(client, "1")["IsBuyable"]) == (None, False)


def test_image_texts_keep_the_images_own_fields(client: Client) -> None:
    """Url goes with the image's flag, its texts with their own."""
    image = {"ExternalCode": "i", "FileTypeName": "jpg", "Url": "https://a.se/i.jpg"}
    texts = [{"CultureCode": "sv-SE", "Name": "n", "AltText": "a"}]
    client.send(
        PRODUCTS,
        flags("MainImage", ImageCultureFieldsThatAreSet=["Name"]),
        [product("1", MainImage={**image, "Cultures": texts})],
    )
    assert client.records(PRODUCTS)["1"]["MainImage"] == {**image, "Cultures": [{"CultureCode": "sv-SE", "Name": "n"}]}


def test_a_name_changed_by_hand_is_kept_under_limited_update(client: Client) -> None:
    """Until a plain flag writes it."""
    limited = flags("Cultures", ProductCultureFieldsThatAreSet=["NameLimitedUpdate"])
    plain = flags("Cultures", ProductCultureFieldsThatAreSet=["Name"])
    client.send(PRODUCTS, limited, [product("1", Cultures=[{"CultureCode": "sv-SE", "Name": "a"}])])
    client.sandbox.admin_edit(PRODUCTS, "1", "Cultures[sv-SE].Name", "hand")
    client.send(PRODUCTS, limited, [product("1", Cultures=[{"CultureCode": "sv-SE", "Name": "b"}])])
    assert client.records(PRODUCTS)["1"]["Cultures"][0]["Name"] == "hand"
    client.send(PRODUCTS, plain, [product("1", Cultures=[{"CultureCode": "sv-SE", "Name": "b"}])])
    assert client.records(PRODUCTS)["1"]["Cultures"][0]["Name"] == "b"


def test_an_admin_edit_of_nothing_is_an_error(client: Client) -> None:
    """Unknown records and rows are named."""
    client.send(PRODUCTS, CREATE, [product("1")])
    with pytest.raises(KeyError):
        client.sandbox.admin_edit(PRODUCTS, "9", "Alias", "x")
    with pytest.raises(KeyError):
        client.sandbox.admin_edit(PRODUCTS, "1", "Cultures[sv-SE].Name", "x")


def test_an_import_twice_is_an_import_once(make: Callable[..., Client]) -> None:
    """Imports are upserts: sending the same again changes nothing."""
    client = make()
    item = product("1", "2", Categories=[{"Code": "a", "SortOrder": 1}])
    client.send(PRODUCTS, flags("Categories"), [item])
    once = client.records(PRODUCTS)
    job = client.send(PRODUCTS, flags("Categories"), [item], full=True)
    assert client.records(PRODUCTS) == once
    assert (job["Insert"], job["Totals"]) == (0, 1)
