"""The same work as a user would otherwise write it, or take it: `.venv-bench/bin/python -m tests.benchmarks.peers NAME
…`.

None of them checks rows, remembers what it has sent, or survives a crash. They are written the way the documentation
of each suggests, without tricks.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIZE = 1000  #: records of a request
MONEY = ("Pris", "Inpris", "Rekpris")
FIELDS = {"Pris": "PriceSale", "Inpris": "CostPurchase", "Rekpris": "PriceRecommended"}


# -- the changes between two price files, as requests on disk -------------------------------------------------------


def duckdb_prices(old: str, new: str, folder: str) -> None:
    """SQL: read both, join by key, write what differs; and the new snapshot."""
    import duckdb

    read = "read_csv('{}', delim=';', all_varchar=true, header=true)"
    money = ", ".join(f"replace({name}, ',', '.')::decimal(18,2) as {name}" for name in MONEY)
    with duckdb.connect() as db:
        db.execute("set enable_progress_bar = false")
        for name, path in (("o", old), ("n", new)):
            db.execute(f"create table {name} as select Artikelnr, Prislista, Valuta, {money} from {read.format(path)}")
        db.execute(
            "create table changed as select n.*, "
            + " + ".join(f"(n.{name} is distinct from o.{name})::int * {1 << at}" for at, name in enumerate(MONEY))
            + " as mask from n left join o using (Artikelnr, Prislista) where "
            + " or ".join(f"n.{name} is distinct from o.{name}" for name in MONEY)
        )
        number = 0
        for (mask,) in db.execute("select distinct mask from changed order by mask").fetchall():
            names = ", ".join(f"{n}::double as {FIELDS[n]}" for at, n in enumerate(MONEY) if mask >> at & 1)
            rows = db.execute(f"select count(*) from changed where mask = {mask}").fetchall()[0][0]
            for start in range(0, rows, SIZE):
                number += 1
                db.execute(
                    f"copy (select Artikelnr as PartNo, Prislista as PriceListCode, Valuta as CurrencyCode, {names} "
                    f"from changed where mask = {mask} order by Artikelnr limit {SIZE} offset {start}) "
                    f"to '{folder}/{number:05}.json' (format json, array true)"
                )
        db.execute(f"copy n to '{folder}/snapshot.parquet' (format parquet)")


def decoding_duckdb_prices(old: str, new: str, folder: str) -> None:
    """The same from a file in windows-1252, which DuckDB does not read: decoded piece by piece into a copy first.

    Yesterday's copy is still there.
    """
    copy = Path(folder, "copy.csv")
    with open(new, encoding="windows-1252", newline="") as source, copy.open("w", encoding="utf-8", newline="") as made:
        while piece := source.read(1 << 16):
            made.write(piece)
    duckdb_prices(old, str(copy), folder)


def polars_prices(old: str, new: str, folder: str) -> None:
    """Both files whole, a join, the changed fields of each row as requests; and the new snapshot."""
    import polars as pl

    schema = dict.fromkeys(("Artikelnr", "Prislista", "Namn", "Valuta", *MONEY, "Rabatt"), pl.String) | dict.fromkeys(
        MONEY, pl.Decimal(18, 2)
    )
    before, after = (pl.read_csv(path, separator=";", decimal_comma=True, schema=schema) for path in (old, new))
    joined = after.join(before, on=["Artikelnr", "Prislista"], how="left", suffix="_old")
    mask = pl.sum_horizontal(
        pl.col(name).ne_missing(pl.col(name + "_old")).cast(pl.Int32) * (1 << at) for at, name in enumerate(MONEY)
    )
    changed = joined.with_columns(mask.alias("mask")).filter(pl.col("mask") != 0)
    number = 0
    for (key,), rows in changed.group_by("mask", maintain_order=True):
        names = [name for at, name in enumerate(MONEY) if int(str(key)) >> at & 1]
        shaped = rows.select(
            PartNo="Artikelnr",
            PriceListCode="Prislista",
            CurrencyCode="Valuta",
            **{FIELDS[name]: pl.col(name).cast(pl.Float64) for name in names},
        )
        for part in shaped.iter_slices(SIZE):
            number += 1
            Path(folder, f"{number:05}.json").write_text(part.write_json())
    after.write_parquet(Path(folder, "snapshot.parquet"))


def pandas_prices(old: str, new: str, folder: str) -> None:
    """The same in pandas."""
    import pandas as pd

    before, after = (pd.read_csv(path, sep=";", decimal=",", dtype={"Artikelnr": str}) for path in (old, new))
    joined = after.merge(before, on=["Artikelnr", "Prislista"], how="left", suffixes=("", "_old"))
    joined["mask"] = sum(
        (joined[name] != joined[name + "_old"]).astype(int) * (1 << at) for at, name in enumerate(MONEY)
    )
    number = 0
    for mask, rows in joined[joined["mask"] != 0].groupby("mask"):
        names = [name for at, name in enumerate(MONEY) if int(mask) >> at & 1]
        shaped = rows[["Artikelnr", "Prislista", "Valuta", *names]].rename(
            columns={"Artikelnr": "PartNo", "Prislista": "PriceListCode", "Valuta": "CurrencyCode", **FIELDS}
        )
        for start in range(0, len(shaped), SIZE):
            number += 1
            shaped.iloc[start : start + SIZE].to_json(Path(folder, f"{number:05}.json"), orient="records")
    after.to_parquet(Path(folder, "snapshot.parquet")) if _has("pyarrow") else after.to_pickle(
        Path(folder, "snapshot.pickle")
    )


def petl_prices(old: str, new: str, folder: str) -> None:
    """petl's own complement of two tables, row by row."""
    import petl

    before, after = (petl.fromcsv(path, delimiter=";", encoding="utf-8") for path in (old, new))
    keep = ("Artikelnr", "Prislista", "Valuta", *MONEY)
    changed = petl.complement(petl.cut(after, *keep), petl.cut(before, *keep))
    batch: list[dict[str, Any]] = []
    number = 0
    for row in petl.dicts(changed):
        batch.append(
            {"PartNo": row["Artikelnr"], "PriceListCode": row["Prislista"], "CurrencyCode": row["Valuta"]}
            | {FIELDS[name]: float(row[name].replace(",", ".")) for name in MONEY}
        )
        if len(batch) == SIZE:
            number += 1
            Path(folder, f"{number:05}.json").write_text(json.dumps(batch))
            batch = []
    if batch:
        Path(folder, f"{number + 1:05}.json").write_text(json.dumps(batch))


# -- a first load of products, posted to a server --------------------------------------------------------------------


def polars_products(path: str, url: str) -> None:
    """A script as one would write it: read, nest, post."""
    import polars as pl

    rows = pl.read_csv(path, separator=";", infer_schema=False)

    def texts(code: str, culture: str) -> pl.Expr:
        names = {"Name": f"Namn {code}", "Description": f"Text {code}", "DescriptionHeader": f"Rubrik {code}"}
        return pl.struct(pl.lit(culture).alias("CultureCode"), *(pl.col(n).alias(field) for field, n in names.items()))

    cultures = (("sv", "sv-SE"), ("nb", "nb-NO"), ("en", "en-GB"))
    sku = pl.struct(
        pl.col("Artikelnr").alias("PartNo"),
        pl.col("EAN").alias("EanCode"),
        pl.col("Vikt").str.replace(",", ".").cast(pl.Float64).alias("ActualWeight"),
        pl.col("Status").replace_strict({"Aktiv": 1, "Utgående": 3}).alias("Status"),
        pl.lit(1).alias("Type"),
    )
    variant = pl.struct(
        pl.col("Levnr").alias("ManufacturerPartNo"),
        pl.concat_list(
            pl.struct(pl.lit(name).alias("CultureCode"), pl.col(f"Variant {code}").alias("Name"))
            for code, name in cultures
        ).alias("Cultures"),
        pl.concat_list(sku).alias("Skus"),
    )
    nested = (
        rows.select(
            Code="Modell",
            ManufacturerCode="Märke",
            ManufacturerName="Märkesnamn",
            Cultures=pl.concat_list(texts(code, name) for code, name in cultures),
            Categories=pl.col("Kategorier").str.split("|").list.eval(pl.struct(pl.element().alias("Code"))),
            Variants=variant,
        )
        .group_by("Code", maintain_order=True)
        .agg(pl.all().exclude("Variants").first(), "Variants")
    )
    for part in nested.iter_slices(SIZE):
        post(url, part.write_json().encode())


def dlt_products(path: str, url: str) -> None:
    """dlt with a custom destination: its own reader, normaliser and loader, and one function that posts.

    As its pages on performance advise: pages instead of single items, files small enough to be worked on side by side,
    as many processes that normalise as there are cores. Nested objects stay as they are.
    """
    import csv
    import itertools
    import os
    import tempfile

    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "NORMALIZE__WORKERS": str(os.cpu_count() or 1),
        "DATA_WRITER__BUFFER_MAX_ITEMS": "5000",
        "DATA_WRITER__FILE_MAX_ITEMS": "10000",
    }
    import dlt

    @dlt.destination(batch_size=SIZE, naming_convention="direct", skip_dlt_columns_and_tables=True)
    def connect(items: Any, table: Any) -> None:
        post(url, json.dumps(items, ensure_ascii=False).encode())

    @dlt.resource(name="products", max_table_nesting=0)
    def source() -> Iterator[list[dict[str, Any]]]:
        with open(path, encoding="utf-8", newline="") as file:
            products = grouped(csv.DictReader(file, delimiter=";"))
            while page := list(itertools.islice(products, SIZE)):
                yield page

    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline("bench", destination=connect, pipelines_dir=folder)
        pipeline.run(source())


def grouped(rows: Iterator[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Rows of one model in a row become one product."""
    product: dict[str, Any] | None = None
    for row in rows:
        if product is None or product["Code"] != row["Modell"]:
            if product is not None:
                yield product
            product = {
                "Code": row["Modell"],
                "ManufacturerCode": row["Märke"],
                "ManufacturerName": row["Märkesnamn"],
                "Cultures": [
                    {
                        "CultureCode": name,
                        "Name": row[f"Namn {code}"],
                        "Description": row[f"Text {code}"],
                        "DescriptionHeader": row[f"Rubrik {code}"],
                    }
                    for code, name in (("sv", "sv-SE"), ("nb", "nb-NO"), ("en", "en-GB"))
                ],
                "Categories": [{"Code": code} for code in row["Kategorier"].split("|")],
                "Variants": [],
            }
        product["Variants"].append(
            {
                "ManufacturerPartNo": row["Levnr"],
                "Cultures": [
                    {"CultureCode": name, "Name": row[f"Variant {code}"]}
                    for code, name in (("sv", "sv-SE"), ("nb", "nb-NO"), ("en", "en-GB"))
                ],
                "Skus": [
                    {
                        "PartNo": row["Artikelnr"],
                        "EanCode": row["EAN"],
                        "ActualWeight": float(row["Vikt"].replace(",", ".")),
                        "Status": {"Aktiv": 1, "Utgående": 3}[row["Status"]],
                        "Type": 1,
                    }
                ],
            }
        )
    if product is not None:
        yield product


def post(url: str, body: bytes) -> None:
    """One request."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        answer.read()


def _has(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def main() -> None:
    """Runs one of them."""
    name, *arguments = sys.argv[1:]
    work: Callable[..., None] = globals()[name]
    work(*arguments)


if __name__ == "__main__":
    main()
