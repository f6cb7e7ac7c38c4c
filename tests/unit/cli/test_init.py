"""`etl init`: what a draft makes of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.cli import init
from etl.contract.spec import load_contract
from etl.errors import UsageError
from etl.mapping import column_types, field_matching, load
from tests.conftest import ROOT

EXPORTS = sorted(path for path in (ROOT / "etl/demo/data").rglob("*") if path.suffix in (".csv", ".xlsx", ".txt"))


@pytest.mark.parametrize(
    ("cells", "kind", "settings"),
    [
        (["1", "-20", "300"], "integer", {}),
        (["0012", "34"], "text", {}),
        (["0.5", "0"], "decimal", {}),
        (["1.50", "-2"], "decimal", {}),
        (["1,50", "2"], "decimal", {"decimal": ","}),
        (["1 234,50", "2,5"], "decimal", {"decimal": ",", "thousands": " "}),
        (["1\u00a0234", "2,5"], "decimal", {"decimal": ",", "thousands": " "}),
        (["1.234,50", "2,5"], "decimal", {"decimal": ",", "thousands": "."}),
        (["1,234.50", "2.5"], "decimal", {"thousands": ","}),
        (["1'234.50", "2.5"], "decimal", {"thousands": "'"}),
        (["Ja", "nej", ""], "boolean", {"true": ["ja"], "false": ["nej"]}),
        (["2026-02-28"], "date", {"format": "%Y-%m-%d"}),
        (["28.02.2026", "01.03.2026"], "date", {"format": "%d.%m.%Y"}),
        (["02/28/2026"], "date", {"format": "%m/%d/%Y"}),
        (["2026-02-28T10:11:12"], "datetime", {"format": "%Y-%m-%dT%H:%M:%S"}),
        (["A1", "2"], "text", {}),
        (["4.03899E+12"], "text", {}),
        (["", "\u00a0"], "text", {}),
    ],
)
def test_types(cells: list[str], kind: str, settings: dict[str, str]) -> None:
    """The type that all cells have, with the marks and formats that read them; leading zeros stay text."""
    found = column_types.guess_column_type(cells)
    assert (found.type, found.settings) == (kind, settings)


@pytest.mark.parametrize(
    ("cells", "kind", "doubt"),
    [
        (["1.234", "5.678"], "decimal", "between thousands"),
        (["01/02/2026"], "date", "%m/%d/%Y fits, too"),
        ([*map(str, range(1, 30)), "call us"], "integer", "'call us'"),
        ([*(f"{n},5" for n in range(30)), "-"], "decimal", "1 of 31"),
        ([], "text", "no cell"),
    ],
)
def test_doubts(cells: list[str], kind: str, doubt: str) -> None:
    """What could be two things, and the few cells that are something else, are said."""
    found = column_types.guess_column_type(cells)
    assert found.type == kind
    assert doubt in found.uncertainty


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ("Artikelnr.", "PartNo"), ("Varenummer", "PartNo"), ("Tuotenumero", "PartNo"), ("Pris exkl. moms", "PriceSale"),
        ("Währung", "CurrencyCode"), ("Saldo", "OnhandValue"), ("På väg in", "IncomingValue"), ("Hinta", "PriceSale"),
        ("price_list", "PriceListCode"), ("Rek.pris", "PriceRecommended"), ("Lagerbestand", "OnhandValue"),
    ],
)  # fmt: skip
def test_headers(header: str, field: str) -> None:
    """Headers in five languages find their field; one that means nothing finds none."""
    names = ["PartNo", "PriceSale", "CurrencyCode", "OnhandValue", "IncomingValue", "PriceListCode", "PriceRecommended"]
    assert field_matching.match_fields([header, "Qxzzy"], names) == {field: header}


def test_words_name_fields() -> None:
    """Every field with synonyms is one of the contract's, and they are written as they are compared."""
    fields = {name for schema in load_contract().schemas.values() for name in schema}
    assert set(field_matching.SYNONYMS) <= fields
    for words in field_matching.SYNONYMS.values():
        assert [field_matching.normalize_header(word) for word in words.split()] == words.split()


@pytest.mark.parametrize("path", EXPORTS, ids=lambda path: path.name)
def test_drafts_of_the_demo(path: Path, tmp_path: Path) -> None:
    """Every draft passes the check, or says at its end exactly what the check asks for."""
    text = init.draft_mapping(path, None)
    missing = init.find_draft_problems(text)
    if missing:
        assert text.endswith("".join(f"#   {problem}\n" for problem in missing))
        assert "TODO" in text
    else:
        made = tmp_path / "draft.yaml"
        made.write_text(text, encoding="utf-8")
        assert load.load_mapping(made).operation.id in text


def test_a_draft_reads_its_file(tmp_path: Path) -> None:
    """Odd dialects, names and cells end in a mapping that says the same; nothing is made up."""
    path = tmp_path / "saldo_2026-11-24.csv"
    path.write_bytes(
        'Rapport 24.11.2026\n\n"no";Art.nr;Saldo;Lager;Hylla: A;x*\n'.encode("cp1252")
        + "".join(f"{n};{n:05};{n},5;Malmö;a;b\n" for n in range(1, 9)).encode("cp1252")
    )
    text = init.draft_mapping(path, None)
    assert "operation: Product/ImportOnhands" in text
    assert 'files: "saldo_*.csv"' in text
    assert "feed: saldo\n" in text
    for line in (
        "header: 3",
        'encoding: "windows-1252"',
        "Art.nr: {type: text}",
        'Saldo: {type: decimal, decimal: ","}',
    ):
        assert line in text
    assert "# TODO LocationCode" in text
    assert '# "x*"' in text
    assert any("LocationCode" in problem for problem in init.find_draft_problems(text))
    whole = text + "  LocationCode: {value: A}\n"
    assert init.find_draft_problems(whole) == []


def test_an_operation_by_its_name() -> None:
    """The part behind the slash is enough where it is the only one; the others are named."""
    assert init._find_operation("importonhands").id == "Product/ImportOnhands"
    with pytest.raises(UsageError, match="two imports"):
        init._find_operation("ImportProducts")
    with pytest.raises(UsageError, match="no import"):
        init._find_operation("ImportAll")


def test_a_mapping_is_not_overwritten(tmp_path: Path) -> None:
    """A file that is there stays as it is."""
    there = tmp_path / "x.yaml"
    there.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        init.init(tmp_path / "x.csv", None, there)
    assert there.read_text() == "mine"


def test_the_evidence(tmp_path: Path) -> None:
    """Sentences on encoding, delimiter and header, and the columns."""
    path = tmp_path / "x.csv"
    path.write_text("a;b\n1;2\n")
    shown = "\n".join(init.explain_detection(path))
    assert "delimiter semicolon" in shown
    assert shown.endswith("2 columns: a, b")
