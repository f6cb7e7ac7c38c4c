"""What people get of bad rows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import openpyxl
import xlsxwriter

from tests.support.shop import Shop

ROWS = [("Art", "Qty", "Days"), ("A1", "5", "3"), ("A2", "many", "3"), ("A3", "-1", "3"), ("A4", "few", "3")]


def test_groups_everywhere(shop: Shop) -> None:
    """`etl show`, its JSON and report.json have the same groups, with all counted."""
    shop.drop("".join(";".join(row) + "\n" for row in ROWS))
    run = shop.once().run["run"]
    made = json.loads((shop.archive(run) / "report.json").read_text())
    groups = made["rejections"]
    assert [(g["column"], g["code"], g["count"], g["rows"]) for g in groups] == [
        ("Qty", "type", 2, [3, 5]),
        ("Qty", "min", 1, [4]),
    ]
    assert all(g["message"] and g["hint"] for g in groups)
    assert shop.etl("show", run, "--json").json["rejections"] == groups
    shown = shop.etl("show", run).out
    assert "rejected 2: Qty: is no decimal" in shown
    assert "(rows 3, 5)" in shown
    assert not (shop.archive(run) / "rejections.xlsx").exists()


def test_a_workbook_comes_back_with_comments(shop: Shop, tmp_path: Path) -> None:
    """Beside the archived workbook lies one with its rejected rows and a comment on each bad cell."""
    text = (shop.mappings / "stock.yaml").read_text()
    shop.mapping(text.replace("stock*.csv", "stock*.xlsx").replace('  delimiter: ";"\n', ""))
    with xlsxwriter.Workbook(tmp_path / "stock.xlsx") as book:
        sheet = book.add_worksheet()
        for at, row in enumerate(ROWS):
            sheet.write_row(at, 0, row)
    shop.drop((tmp_path / "stock.xlsx").read_bytes(), "stock.xlsx")
    done = shop.once()
    assert done.status == 4
    data = (shop.archive(done.run["run"]) / "rejections.xlsx").read_bytes()
    marked = openpyxl.load_workbook(io.BytesIO(data)).active
    assert marked is not None
    assert [[cell.value for cell in line] for line in marked.iter_rows()][1:] == [
        [3, "A2", "many", "3"], [4, "A3", "-1", "3"], [5, "A4", "few", "3"],
    ]  # fmt: skip
    assert "is no decimal" in marked["C2"].comment.text
