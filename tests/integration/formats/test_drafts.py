"""`etl init` on every real export: a sensible draft, which works once its gaps are filled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from etl import formats
from etl.cli import init
from etl.mapping import load
from tests.support.builders import nothing, plan_file

STOCK = {"WarehouseCode": "{value: A}", "LocationCode": "{value: B}"}
#: (import, what stands in for the TODOs of the key and the supplier) of every export; None: nothing that Connect takes.
EXPORTS: dict[str, tuple[str, dict[str, str]] | None] = {
    "akeneo_attributes.csv": None,
    "akeneo_categories.csv": ("Product/ImportPriceLists", {}),
    "akeneo_product_models.csv": ("Product/ImportProducts", {"PartNo": "code"}),
    "prestashop_customers_import.csv": ("Customer/ImportCustomers", {}),
    "prestashop_products_import.csv": ("Product/ImportProducts", {"PartNo": '"Reference #"'}),
    "shopware_article_complete.csv": (
        "Product/ImportSkuPriceLists",
        {"PartNo": "ordernumber", "PriceListCode": "{value: EK}"},
    ),
    "shopware_article_instock.csv": ("Product/ImportOnhands", STOCK),
    "shopware_article_prices.csv": ("Product/ImportSkuPriceLists", {}),
    "shopware_csv_with_missing_fields.csv": None,
    "shopware_customer_import.csv": ("Customer/ImportCustomers", {}),
    "sylius_products_attr.csv": ("Product/ImportProducts", {"PartNo": "Code"}),
    "alko_hinnasto_2024-11.xlsx": ("Product/ImportSkuPriceLists", {"PriceListCode": "{value: ALKO}"}),
    "woocommerce_sample_products.csv": ("Product/ImportProducts", {}),
    "commercetools_categories.csv": None,
    "commercetools_inventory.csv": ("Product/ImportOnhands", STOCK),
    "commercetools_products_ci.csv": ("Product/ImportProducts", {}),
    "datanorm_v4_datpreis.001": None,
    "datanorm_v5_first_texts.001": None,
    "nelfo_rabatt.csv": None,
    "nelfo_varer_small.csv": None,
    "magento_td_customers.csv": ("Customer/ImportCustomers", {}),
    "magento_td_inventory_update.csv": ("Product/ImportOnhands", STOCK),
    "magento_td_price_update.csv": ("Product/ImportSkuPriceLists", {"PriceListCode": "{value: B2C}"}),
    "magento_td_tier_prices.csv": ("Product/ImportSkuPriceLists", {}),
    "magento_td_variants_product-import_20201107-130409_01.csv": ("Product/ImportProducts", {}),
    "magento2_configurable_products.csv": ("Product/ImportProducts", {}),
    "shopify_apparel.csv": ("Product/ImportProducts", {"PartNo": "Handle"}),
    "alltron_485_products_15_removed.csv": ("Product/ImportProducts", {}),
    "alltron_500_products_5_changes.csv": ("Product/ImportProducts", {}),
    "alltron_500_products_latin1.csv": ("Product/ImportProducts", {}),
    "jet_products_latin1.csv": ("Supplier/ImportProducts", {"supplier": "7"}),
    "vendure_products.csv": ("Product/ImportProducts", {}),
    "vinmonopolet_butikker_chunk.csv": ("Customer/ImportCustomers", {}),
    "vinmonopolet_produkter_chunk.csv": ("Product/ImportProducts", {}),
}
#: Rows that are rejected, each for a true reason: the key stands twice, or there is none.
REJECTED = {
    "shopware_article_instock.csv": 5,
    "magento_td_variants_product-import_20201107-130409_01.csv": 2,
    "shopify_apparel.csv": 3,
    "magento_td_customers.csv": 1,
    "vendure_products.csv": 3,
    "jet_products_latin1.csv": 58,  # EANs that a spreadsheet has rounded
}


@pytest.mark.parametrize("name", EXPORTS)
def test_draft(samples: Path, tmp_path: Path, name: str) -> None:
    """The import that the file is for is proposed; with its gaps filled the draft passes the check and makes a plan."""
    path = next(samples.glob(f"A_ecommerce/*/{name}"), None)
    if path is None:
        pytest.skip(f"no real export {name}")
    text = init.draft_mapping(path, None)
    wanted = EXPORTS[name]
    if wanted is None:
        assert "# Before `etl check` passes" in text
        return
    operation, filled = wanted
    assert f"\noperation: {operation}" in text
    for field, value in filled.items():
        text = re.sub(rf"# TODO {field}: .*", f"{field}: {value}", text)
    made = tmp_path / "draft.yaml"
    made.write_text(text, encoding="utf-8")
    mapping = load.load_mapping(made)
    table = formats.read_table(path, mapping.source.dialect)
    counts = plan_file(table, mapping, nothing()).counts
    assert counts.rows - counts.rejected == counts.new + counts.unchanged
    assert counts.rejected == REJECTED.get(name, 0)
