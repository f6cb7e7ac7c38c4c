"""Exports as bad as the real ones, each with what stands in it: a corpus made from seeds.

A file is a clean table, written with a dialect and some pollution. What a reader may make of it is told by `verdict`:
every cell right, or a row rejected, or the file refused; anything else is wrong in silence.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from etl.errors import InvalidFileError
from etl.model.columns import ROW
from etl.model.tables import Dialect, Table

WORDS = {
    "western": "Räksmörgås Kök Skruvmejsel blå grön Größe Schlüssel Übergröße Straße façade Crème élève Ångström Bjørn "
    "Smørrebrød Äppelträd señor niño Citroën Möbel Gerät Höhe brønn fløte Ölfilter",
    "central": "Příliš žluťoučký kůň úpěl ďábelské ódy łódź świeży ząb szőlő tűzfal gyümölcs čaj křeslo stůl żółty",
    "cyrillic": "отвёртка молоток синий большой гвозди дрель насос кабель розетка выключатель лампа",
    "plain": "hammer screwdriver blue large pump cable socket lamp filter bracket hose valve",
}
#: Code pages in which a source of that language writes.
PAGES = {
    "western": ("utf-8", "utf-8", "utf-8-sig", "windows-1252", "windows-1252", "cp850", "mac-roman", "utf-16",
                "utf-16-le", "utf-16-be", "utf-32", "utf-8|windows-1252"),
    "central": ("utf-8", "utf-8-sig", "windows-1250", "cp852", "iso8859-2", "utf-16"),
    "cyrillic": ("utf-8", "windows-1251", "utf-16-le", "cp866"),
    "plain": ("utf-8", "utf-8-sig", "windows-1252", "utf-16", "utf-16-be"),
}  # fmt: skip
HEADERS = ("Artikelnr", "Benämning", "Pris", "Lager", "EAN", "Datum", "Vikt", "Färg", "Text", "Märke", "Antal",
           "Rabatt %", "Price (SEK)", "url", "Kategori", "Enhet", "MOQ", "Status", "Ändrad", "Moms")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Polluted:
    """A file's bytes and what they say."""

    data: bytes
    dialect: Dialect  #: as a careful person would freeze it
    names: tuple[str, ...]
    rows: dict[int, tuple[str | None, ...] | None]  #: by line; None: a row that has to be rejected
    traits: tuple[str, ...]


def make(seed: int) -> Polluted:
    """The same file for the same seed, everywhere."""
    return _Maker(random.Random(seed)).file()


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.traits: list[str] = []

    def one(self, trait: str, choices: Sequence[object]) -> object:
        picked = self.chance.choice(choices)
        self.traits.append(f"{trait}={picked!r}")
        return picked

    def may(self, trait: str, share: float) -> bool:
        hit = self.chance.random() < share
        if hit:
            self.traits.append(trait)
        return hit

    def file(self) -> Polluted:
        language = str(self.one("language", ("western", "western", "western", "central", "cyrillic", "plain")))
        delimiter = str(self.one("delimiter", (",", ";", ";", "\t", "|")))
        end = str(self.one("end", ("\n", "\r\n", "\r\n", "\r")))
        style = str(self.one("style", ("minimal", "minimal", "all", "backslash", "texts", "padded", "none")))
        width = self.chance.choice((2, 3, 4, 5, 7, 12, 20))
        count = self.chance.choice((1, 2, 3, 5, 12, 60, 250))
        encoding = str(self.one("encoding", PAGES[language][: 1 if count < 12 and language == "central" else None]))
        self.traits += [f"width={width}", f"rows={count}"]
        self.delimiter, self.style, self.words = delimiter, style, WORDS[language].split()
        names = list(HEADERS[:width])
        if language in ("central", "cyrillic", "plain") or "|" in encoding:
            names = [name if name.isascii() else f"Col {at}" for at, name in enumerate(names)]
        if self.may("shuffled", 0.5):
            self.chance.shuffle(names)
        kinds = [self.kind(name) for name in names]
        table = [[self.cell(kind) for kind in kinds] for _ in range(count)]
        if style == "none":
            table = [[re.sub(rf"[{delimiter}\n]", "/", cell) for cell in row] for row in table]
        for row in table:
            if not any(row):
                row[0] = "A1"
        header = not self.may("no header", 0.1)
        lines: list[str] = []  # records, preamble and blanks, without their line ends; a cell's own are always LF
        self.preamble(lines, width, sure=header and count > 5)
        at = len(lines) + 1
        if header:
            lines.append(self.written(names, True))
        surplus = self.may("surplus delimiter in rows", 0.06)
        rows: dict[int, tuple[str | None, ...] | None] = {}
        damage = self.may("damaged rows", 0.15) and count > 10
        blanks = self.may("blank lines between", 0.06)
        line = at + header
        for place, row in enumerate(table):
            bad = damage and self.chance.random() < 0.05
            text = self.damaged(row) if bad else self.written(row, False) + (delimiter if surplus else "")
            rows[line] = None if bad else tuple(cell or None for cell in row)
            lines.append(text)
            line += 1 + text.count("\n")
            if blanks and place % 7 == 3:
                lines.append("")
                line += 1
        tail = ""
        if self.may("blank lines at the end", 0.1):
            tail = end * self.chance.randint(1, 3)
        if self.may("old end-of-file sign", 0.03):
            tail += "\x1a"
        final = not self.may("no final line end", 0.12) or bool(tail)
        text = end.join(lines) + (end if final else "") + tail
        dialect = Dialect(
            encoding={"utf-8-sig": "utf-8"}.get(encoding, encoding),
            delimiter=delimiter,
            quote=None if style in ("none",) else '"',
            escape="\\" if style == "backslash" else None,
            header=at if header else 0,
            skip=0 if header else at - 1,
            columns=() if header else tuple(f"column {place}" for place in range(1, width + 1)),
            long_rows="empty" if surplus else "reject",
            final_newline=final,
        )
        return Polluted(
            self.encoded(text, encoding, end), dialect, dialect.columns or tuple(names), rows, tuple(self.traits)
        )

    def encoded(self, text: str, encoding: str, end: str) -> bytes:
        if "|" not in encoding:
            return text.encode(encoding)
        lines = text.split(end)
        return end.encode().join(line.encode(self.chance.choice(("utf-8", "windows-1252"))) for line in lines)

    def preamble(self, lines: list[str], width: int, *, sure: bool) -> None:
        """Prose with delimiters in it only where there is enough to tell it from records of another kind."""
        kind = self.one(
            "preamble", ("",) * 12 + ("sep", "title", "title and blank", "comments", "pairs", "blank", "long")
        )
        texts = {
            "": [],
            "sep": [f"sep={self.delimiter}"],
            "title": ["Price list for May"],
            "title and blank": ["Lager 2026-05-01", "", ""],
            "comments": ["# exported by ERP 7.1", "# 2026-05-01 03:00", "#"],
            "pairs": [f"Created{self.delimiter}2026-05-01", f"Company{self.delimiter}ACME AB", ""],
            "blank": ["", ""],
            "long": [f"Conditions apply, see page {at}. Prices, if any; are net" for at in range(4)],
        }[str(kind)]
        if (kind == "pairs" and (width < 4 or not sure)) or (kind == "long" and not sure):
            texts = []
        lines += [text if self.delimiter not in "," or kind != "long" else text.replace(",", "") for text in texts]

    def kind(self, name: str) -> str:
        usual = {"Artikelnr": "number", "Pris": "price", "EAN": "ean", "Datum": "date", "Lager": "count"}
        return usual.get(name) or self.chance.choice(
            ("text", "text", "price", "count", "date", "empty", "mixed", "html", "long", "sparse", "thousands", "flag")
        )

    def word(self) -> str:
        return self.chance.choice(self.words)

    def cell(self, kind: str) -> str:
        chance = self.chance
        path = "C:\\new\\test" if self.style != "backslash" else "C:/new"  # an escaped escape alone proves nothing
        match kind:
            case "number":
                return f"{chance.randrange(10**6):07d}"
            case "price":
                return f"{chance.randrange(10**6) / 100:.2f}".replace(".", chance.choice((".", ",", ",")))
            case "ean":
                return chance.choice(("4.03899E+12", "4,03899E+12", f"{chance.randrange(10**13):013d}", ""))
            case "date":
                return chance.choice(("2026-05-01", "01.05.2026", "5/1/2026", ""))
            case "count":
                return str(chance.randrange(-3, 5000))
            case "empty":
                return ""
            case "html":
                return f'<p class="x">{self.word()} {self.word()}</p>\n<ul>\n<li>{self.word()}; 3,5" x 2</li></ul>'
            case "long":
                return " ".join(self.word() for _ in range(chance.randrange(80)))
            case "sparse":
                return self.word() if chance.random() < 0.1 else ""
            case "thousands":
                return f"{chance.randrange(10**7):,}".replace(",", chance.choice((" ", "\xa0", ".", "'")))
            case "flag":
                return chance.choice(("ja", "nej", "J", "1", "0", ""))
            case "mixed":
                return chance.choice(
                    (self.word(), '3.5" disk', f"{self.word()}{self.delimiter}{self.word()}", path, "-", "it's", "")
                )
        return f"{self.word()} {self.word()} {chance.randrange(100)}"

    def written(self, row: Sequence[str], header: bool) -> str:
        style = self.style
        if style == "none":
            return self.delimiter.join(row)
        return self.delimiter.join(self.wrapped(cell, header) for cell in row)

    def wrapped(self, cell: str, header: bool) -> str:
        doubled = cell.replace('"', '""')
        needs = any(mark in cell for mark in (self.delimiter, '"', "\n"))
        match self.style:
            case "backslash":
                escaped = cell.replace("\\", "\\\\").replace('"', '\\"')
                return f'"{escaped}"' if needs or "\\" in cell else cell
            case "all":
                return f'"{doubled}"'
            case "texts":
                return f'"{doubled}"' if needs or not cell[:1].isdigit() else cell
            case "padded":
                return f'"{doubled}"' if needs else cell
        return f'"{doubled}"' if needs else cell

    def damaged(self, row: Sequence[str]) -> str:
        """A row with a cell too few, or two too many."""
        if len(row) > 2 and self.chance.random() < 0.5:
            kept = [cell or "x" for cell in row[:-1]]
        else:
            kept = [cell or "x" for cell in (*row, "x", "y")]
        return self.written([cell.replace("\n", " ") for cell in kept], False)


def verdict(made: Polluted, got: Table | InvalidFileError) -> str:
    """ "right", "rejected" (rows too many), "refused", or "WRONG: …"."""
    if isinstance(got, InvalidFileError):
        return f"refused: {got.code}"
    extra = got.columns[len(made.names) :]
    if extra and made.dialect.header == 0 and all(got.frame[name].is_null().all() for name in extra):
        got = replace(got, frame=got.frame.drop(extra))  # a delimiter at every row's end, where no header tells better
    if got.columns != made.names:
        return f"WRONG: columns {got.columns[:6]} for {made.names[:6]}"
    seen = {row[0]: row[1:] for row in got.frame.select(ROW, *got.columns).iter_rows()}
    bad = set(got.malformed.frame["row"].to_list())
    for line, cells in seen.items():
        wanted = made.rows.get(line)
        if wanted is None:
            return f"WRONG: line {line} is read as {cells[:6]}" + ("" if line in made.rows else ", no row begins there")
        if wanted != cells:
            at = next(at for at, pair in enumerate(zip(wanted, cells, strict=True)) if pair[0] != pair[1])
            return f"WRONG: line {line}, cell {at + 1} is {cells[at]!r} for {wanted[at]!r}"
    missing = [line for line, cells in made.rows.items() if cells is not None and line not in seen]
    if missing and not bad:
        return f"WRONG: lines {missing[:5]} are gone without a word"
    if any(cells is None and line not in bad for line, cells in made.rows.items()):
        return "rejected in part" if bad else "WRONG: damaged rows are gone"
    return "rejected" if missing else "right"
