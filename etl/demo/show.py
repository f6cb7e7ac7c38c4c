"""`etl demo`: two days of exports through the whole pipeline, and the sandbox's catalogue held against the files.

Day one, day two with its few per cent of changes, and day two again, which must send nothing. The comparison at
the end reads the files with other means than the pipeline does.
"""

from __future__ import annotations

import contextlib
import csv
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import click

from etl import inbox, mapping_file, screens, session
from etl.config import Limits, Paths, Settings
from etl.demo import generate
from etl.errors import Exit, UsageError
from etl.model import Run
from etl.session import Session

ROUNDS = (("day 1: the first load", "day1"), ("day 2: a few changes", "day2"), ("day 2 again", "day2"))

#: The demonstration need not wait for minutes to pass: the sandbox grants it more than Connect's 60 a minute.
REQUESTS = 600


def run(mappings: Path, keep: Path | None) -> Exit:
    """Exit status 0 when the catalogue is what the files say and the third round sends nothing."""
    good, bad = mapping_file.read_all(mappings)
    if bad:
        raise bad[0]
    if not good:
        raise UsageError(
            "no-mappings",
            "there are no mappings here",
            where=str(mappings),
            hint="run the demonstration in the project's folder",
        )
    with _folder(keep) as folder, contextlib.ExitStack() as stack:
        from etl import sandbox

        settings = Settings(
            paths=Paths(inbox=folder / "inbox", mappings=mappings, state=folder / "var"),
            limits=Limits(requests=REQUESTS),
        )
        kept = folder / "norce"
        kept.mkdir(parents=True, exist_ok=True)
        chosen = sandbox.Settings(state=kept, requests=REQUESTS)
        work = stack.enter_context(
            session.opened(settings, good, tell=lambda *_args, **_facts: None, sandbox_settings=chosen)
        )
        click.echo(f"The sandbox grants {REQUESTS} requests a minute here, ten times what Connect does.\n")
        last: list[Run] = []
        for title, day in ROUNDS:
            with _data() as data:
                shutil.copytree(data / day, settings.paths.inbox, dirs_exist_ok=True)
            last = _round(work)
            screens.runs_table([(r, work.ledger.chunks(r.id)) for r in last], title)
            click.echo("")
        with _data() as data:
            wrong = compare(data / "day2", work.server)
        if any(noted := work.server.audit().values()):
            wrong.append(f"the sandbox noted: {list(noted)}")
    again = sum(r.counts.requests for r in last)
    if again:
        wrong.append(f"the third round sent {again} requests")
    for line in wrong[:20]:
        click.echo(f"differs: {line}", err=True)
    click.echo("the catalogue is not what the files say" if wrong else "The sandbox's catalogue is what the files say.")
    return Exit.CANNOT_GO_ON if wrong else Exit.OK


def _round(work: Session) -> list[Run]:
    names = inbox.scan(work.settings.paths.inbox)
    ranked = sorted((rank, name) for name in names if (rank := work.pipeline.rank(name)) is not None)
    return [work.pipeline.work(run) for _, name in ranked for run in work.pipeline.claim(name)]


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="etl-demo-") as folder:
        yield Path(folder)


def _data() -> contextlib.AbstractContextManager[Path]:
    return resources.as_file(resources.files("etl.demo") / "data")


# -- the files read with other eyes ---------------------------------------------------------------------------------


def compare(folder: Path, server: Any) -> list[str]:
    """Where the catalogue differs from the files of a day."""
    wrong: list[str] = []
    for name, operation, expected in (
        ("prices", "Product/ImportSkuPriceLists", prices(folder)),
        ("stock", "Product/ImportOnhands", stock(folder)),
        ("supplier", "Product/ImportSkuPriceLists", supplier(folder)),
        ("products", "Product/ImportProducts", products()),
    ):
        records = server.records(operation)
        if not expected:
            wrong.append(f"{name}: nothing could be read to compare with")
        for key, fields in expected.items():
            if key not in records:
                wrong.append(f"{name}: {key} is missing")
                continue
            for path, value in fields.items():
                found = _at(records[key], path)
                if found != value:
                    wrong.append(f"{name}: {key} {path} is {found!r}, the file says {value!r}")
    return wrong


def _at(record: Any, path: str) -> Any:
    """A value by a path such as `Cultures.sv-SE.Name`; list elements are found by their code."""
    for part in path.split("."):
        if isinstance(record, list):
            codes = ("CultureCode", "Code", "ParametricCode")
            record = next((r for r in record if any(r.get(code) == part for code in codes)), None)
        elif isinstance(record, dict):
            record = record.get(part)
    return record


def _rows(folder: Path, pattern: str) -> Iterator[list[str]]:
    for path in sorted(folder.glob(pattern)):
        with path.open(encoding="cp1252", newline="") as stream:
            rows = list(csv.reader(stream, delimiter=";"))
        width = len(rows[0])
        yield from (row for row in rows[1:] if len(row) == width)


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text.strip().replace(",", "."))
    except InvalidOperation:
        return None


def _is_day(text: str) -> bool:
    try:
        datetime.strptime(text, "%d.%m.%Y")
    except ValueError:
        return False
    return True


def _once(rows: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Keys that stand once, or always the same: a key with two answers has none."""
    found: dict[str, dict[str, Any]] = {}
    doubtful: set[str] = set()
    for key, fields in rows:
        if key in found and found[key] != fields:
            doubtful.add(key)
        found[key] = fields
    return {key: fields for key, fields in found.items() if key not in doubtful}


def prices(folder: Path) -> dict[str, dict[str, Any]]:
    rows = []
    for part, _, price_list, _, sale, cost, recommended in _rows(folder, "erp/prices_*.csv"):
        numbers = {"PriceSale": _number(sale), "CostPurchase": _number(cost), "PriceRecommended": _number(recommended)}
        good = all(
            (value is not None and value >= 0) or text == ""
            for value, text in zip(numbers.values(), (sale, cost, recommended), strict=True)
        )
        if part and good:
            given = {name: value for name, value in numbers.items() if value}
            rows.append((f"{part}|{price_list}|0", given))
    return _once(rows)


def supplier(folder: Path) -> dict[str, dict[str, Any]]:
    rows = []
    for part, _, _, _, _, cost, listed, _ in _rows(folder, "supplier/catalogue_*.csv"):
        numbers = {"CostPurchase": _number(cost), "PriceCatalog": _number(listed)}
        if part and all(value is not None for value in numbers.values()):
            rows.append((f"{part}|SUP|0", {name: value for name, value in numbers.items() if value}))
    return _once(rows)


def stock(folder: Path) -> dict[str, dict[str, Any]]:
    rows = []
    for part, _, warehouse, place, onhand, incoming, delivery, days in _rows(folder, "erp/stock_*.csv"):
        if not warehouse or (delivery and not _is_day(delivery)):
            continue
        numbers = {"OnhandValue": _number(onhand), "IncomingValue": _number(incoming)}
        if part and days.isdigit() and all(value is not None for value in numbers.values()):
            rows.append((f"{part}|{warehouse}|{place}", {**numbers, "LeadTimeDayCount": int(days)}))
    return _once(rows)


def products() -> dict[str, dict[str, Any]]:
    """The workbook's rows as the generator has them, before they became a workbook."""
    rows = []
    rng = Random(generate.SEED)
    for line in generate.product_rows(generate.next_day(rng, generate.shop(rng))):
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
    return _once(rows)
