"""One piece of work each, for a process of its own: `python -m tests.benchmarks.jobs NAME ARGUMENT…`.

The floors import nothing but polars; what is ours goes the way that `etl once` goes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def floor(path: str, kind: str) -> None:
    """polars.read_csv of the UTF-8 copy, typed: what everything is compared with."""
    import polars as pl

    text, money = pl.String(), pl.Decimal(18, 2)
    typed = {
        "prices": {"Pris": money, "Inpris": money, "Rekpris": money},
        "products": {"Vikt": money},
    }[kind]
    with open(path, encoding="utf-8") as file:
        names = file.readline().rstrip("\n").split(";")
    schema = {name: typed.get(name, text) for name in names}
    pl.read_csv(path, separator=";", decimal_comma=True, schema=schema)


def floor_sheet(path: str) -> None:
    """The bare reader that Excel files are read with by polars."""
    import fastexcel

    fastexcel.read_excel(path).load_sheet(0).to_polars()


def export(kind: str, rows: str, changed: str, bad: str, target: str) -> None:
    """A made-up export; what does not end with `.utf8.csv` is written in windows-1252, `.xlsx` as a workbook."""
    from tests.benchmarks import exports

    count, path = int(rows), Path(target)
    if kind == "prices":
        frame = exports.prices(count, changed=float(changed), bad=float(bad))
    else:
        frame = exports.products(count, changed=float(changed))
    if path.suffix == ".xlsx":
        exports.workbook(frame, path)
    else:
        exports.write(frame, path, "utf-8" if path.name.endswith(".utf8.csv") else "cp1252")


def seed(feed: str, path: str, state: str) -> None:
    """A state folder whose feed has had all of a file accepted."""
    import polars as pl

    from etl import formats
    from etl.mapping import layout_builder
    from etl.model.columns import DEACTIVATED, ROW
    from etl.plan.rows import transform, validate
    from etl.state.files import checksums
    from etl.state.ledger.facade import Ledger
    from etl.state.snapshots import accepted

    mapping = mapping_of(feed)
    folder = Path(state)
    (folder / "accepted" / feed).mkdir(parents=True)
    with formats.open_table(Path(path), mapping.source.dialect) as reading:
        columns = validate.resolve_columns(reading.columns, mapping)
        layout = layout_builder.build_layout(mapping, columns.used)
        parts = []
        for frame in reading.frames():
            made, _ = transform.evaluate_rows(validate.validate_rows(frame, columns, mapping).frame, mapping, layout)
            parts += made
    records = transform.build_records(pl.concat(parts), layout)[0].frame
    name = accepted.write_base(
        folder, feed, "seed", records.drop(ROW).with_columns(pl.lit(False).alias(DEACTIVATED)).lazy()
    )
    with Ledger.open(folder) as ledger:
        ledger.replace_base(feed, name, [])
        checksums.save_digests(ledger, [accepted.base_path(folder, feed, name)])


def plan(feed: str, folder: str) -> None:
    """From the file in the inbox to the plan on disk and in the ledger."""
    from etl.config.settings import PathSettings, Settings
    from etl.ingest.intake import Intake
    from etl.runs.lifecycle import RunLifecycle
    from etl.state.ledger.facade import Ledger

    root = Path(folder)
    settings = Settings(paths=PathSettings(inbox=root / "inbox", mappings=root, state=root / "var"))
    with Ledger.open(root / "var") as ledger:
        mappings = [mapping_of(feed)]
        intake = Intake(settings, ledger, mappings, lambda *_args, **_facts: None)
        lifecycle = RunLifecycle(settings, 1, ledger, mappings, intake, lambda *_args, **_facts: None)
        for path in sorted((root / "inbox").iterdir()):
            for run in intake.claim(path.name):
                made = lifecycle.plan(run)
                counts = made.counts
                print(made.state, counts.rows, counts.rejected, counts.unchanged, counts.new, counts.changed, end=" ")
                print(counts.requests, counts.values_sent)


def update(state: str, rows: str) -> None:
    """What a run writes for records that Connect took: prints the seconds of the writing alone."""
    import time

    import polars as pl

    from etl.state.files import parquet

    base = next(Path(state, "accepted", "prices").glob("*.parquet"))
    sent = pl.scan_parquet(base).head(int(rows)).collect()
    start = time.perf_counter()
    parquet.write_parquet(base.with_name("sent.parquet"), sent)
    print(time.perf_counter() - start)
    base.with_name("sent.parquet").unlink()


def same(wanted: str, found: str) -> None:
    """Ends with an error unless two folders of requests say the same of the same records.

    Whoever sends more than has changed does no harm; what the one sends has to be in the other, with equal values. The
    currency, which never changes, is sent by some and not by others.
    """
    first, second = _records(Path(wanted)), _records(Path(found))
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise SystemExit(f"{len(first)} records, and {len(second)}: {odd[:3]}")
    for key, record in first.items():
        if wrong := [name for name, value in record.items() if second[key].get(name) != value]:
            pair = record[wrong[0]], second[key].get(wrong[0])
            raise SystemExit(f"{key}: {wrong[0]} differs: " + ", and ".join(str(value)[:500] for value in pair))
    print(len(first))


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    """All records of a folder's requests by their key, lists in an order of their own."""
    import json

    found: dict[str, dict[str, Any]] = {}
    for path in folder.glob("*.json"):
        for item in json.loads(path.read_bytes()):
            key = item.get("Code") or f"{item['PartNo']} {item['PriceListCode']}"
            item.pop("CurrencyCode", None)
            found[key] = _sorted(item)
    return found


def _sorted(value: Any) -> Any:
    import json

    if isinstance(value, dict):
        return {name: _sorted(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted(map(_sorted, value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


def write_mapping(feed: str, target: str) -> None:
    """A mapping file."""
    from tests.benchmarks import exports

    Path(target).write_text(exports.MAPPINGS[feed], encoding="utf-8")


def mapping_of(feed: str) -> Any:
    """The mapping of a made-up export."""
    import tempfile

    from etl.mapping import load
    from tests.benchmarks import exports

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "feed.yaml")
        path.write_text(exports.MAPPINGS[feed], encoding="utf-8")
        return load.load_mapping(path)


def main() -> None:
    """Runs one job."""
    name, *arguments = sys.argv[1:]
    job: Callable[..., None] = globals()[name]
    job(*arguments)


if __name__ == "__main__":
    main()
