"""Which runs a file comes to: by its name, and by the names in an archive."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from etl.ingest import routing
from etl.mapping.model import Mapping
from etl.model.runs import Run, RunState
from etl.state.files.archive import archived_file, member_number
from tests.support.builders import PRICES, mapping

STOCK = """
feed: stock
operation: Product/ImportOnhands
source: {files: FILES, content: full}
columns: {b: {type: decimal}}
record: {PartNo: a, WarehouseCode: {value: W}, LocationCode: {value: L}, OnhandValue: b}
"""


def feeds(prices: str, stock: str = '"none"') -> list[Mapping]:
    return [mapping(PRICES.replace('"*.csv"', prices)), mapping(STOCK.replace("FILES", stock))]


def packed(folder: Path, *names: str) -> Path:
    path = folder / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "a\n")
    return path


def found(path: Path, name: str, known: list[Mapping]) -> list[tuple[str, str]]:
    return [(part.run_id("base"), part.display_name) for part in routing.route_file(path, name, known).parts]


def test_members_are_runs_of_their_own(tmp_path: Path) -> None:
    """Each member goes to the feeds whose pattern fits it, stock before prices; what fits none is named."""
    path = packed(tmp_path, "prices_1.csv", "stock.csv", "read me.txt", "sub/prices_2.csv")
    known = feeds('"erp/day*.zip/*prices_*.csv"', '["*.zip/stock.csv", "stock.csv"]')
    assert found(path, "erp/day1.zip", known) == [
        ("base-m2-stock", "erp/day1.zip/stock.csv"),
        ("base-m1-prices", "erp/day1.zip/prices_1.csv"),
        ("base-m4-prices", "erp/day1.zip/sub/prices_2.csv"),
    ]
    route = routing.route_file(path, "erp/day1.zip", known)
    assert route.unrouted_members == ("erp/day1.zip/read me.txt",)
    assert len({part.digest("whole") for part in route.parts}) == 3


def test_the_archives_own_name_means_all_of_it(tmp_path: Path) -> None:
    """A pattern that fits the archive itself takes every member; one for plain files takes none."""
    path = packed(tmp_path, "b.csv", "a.csv")
    assert found(path, "day.zip", feeds('"day.zip"', '"*.csv"')) == [
        ("base-m1-prices", "day.zip/b.csv"),
        ("base-m2-prices", "day.zip/a.csv"),
    ]
    assert found(path, "day.zip", feeds('"*.csv"')) == []


def test_names_are_no_paths(tmp_path: Path) -> None:
    """Names that climb or that a terminal would act on are only compared and shown."""
    path = packed(tmp_path, "../../evil.csv", "/etc/passwd", "a\x1b[2Jb.csv")
    names = [name for _, name in found(path, "day.zip", feeds('"day.zip"'))]
    assert names == ["day.zip/../../evil.csv", "day.zip//etc/passwd", "day.zip/a�[2Jb.csv"]
    kept = tmp_path / "archive" / "source" / "day.zip"
    kept.parent.mkdir(parents=True)
    kept.touch()
    run = Run(
        "base-m1-prices",
        "prices",
        "x",
        names[0],
        "",
        RunState.COMPLETED,
        claimed=tmp_path / "day.zip",
        archive=kept.parent.parent,
    )
    assert archived_file(run) == kept
    assert archived_file(replace(run, archive=None)) is None


def test_a_damaged_archive_is_a_file(tmp_path: Path) -> None:
    """It gets a run of each feed that might have had a member of it, to be refused there by name."""
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\x03\x04 this is cut off")
    assert found(path, "x.zip", feeds('"x.zip"', '"*.zip/stock.csv"')) == [
        ("base-prices", "x.zip"),
        ("base-stock", "x.zip"),
    ]


def test_workbooks_and_texts_are_no_archives(tmp_path: Path) -> None:
    """A workbook is a zip inside and one file outside; a file that is gone belongs where its name says."""
    path = packed(tmp_path, "[Content_Types].xml", "xl/workbook.xml")
    assert found(path, "x.xlsx", feeds('"*.xlsx"')) == [("base-prices", "x.xlsx")]
    assert found(tmp_path / "gone.csv", "gone.csv", feeds('"*.csv"')) == [("base-prices", "gone.csv")]


@pytest.mark.parametrize("base", ["20261124-000000-ab12", "20261124-000000-ab12-rerun"])
def test_a_run_finds_its_member(tmp_path: Path, base: str) -> None:
    """The number in the run's id tells the member; a run without one reads the file as it is."""
    path = packed(tmp_path, "b.csv", "a.csv")
    for part in routing.route_file(path, "day.zip", feeds('"day.zip"')).parts:
        run = Run(part.run_id(base), "prices", "x", part.display_name, "", RunState.CLAIMED, claimed=path)
        assert member_number(run) == part.member_number
        assert part.display_name == f"day.zip/{routing.member_name(run)}"
    assert (
        routing.member_name(Run(f"{base}-prices", "prices", "x", "a.csv", "", RunState.CLAIMED, claimed=path)) is None
    )
