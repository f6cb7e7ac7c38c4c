"""Done files and manifests: what they are called and what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.mapping import companion_names
from etl.mapping.companion_names import Checksum

MD5, SHA256 = "0" * 31 + "a", "b" * 64


@pytest.mark.parametrize(
    ("pattern", "name", "companion"),
    [
        ("{name}.ok", "a.csv", "a.csv.ok"),
        ("{stem}.ok", "erp/a.b.csv", "erp/a.b.ok"),
        ("done/{name}", "erp/a.csv", "erp/done/a.csv"),
        ("{stem}.ok", "erp/plain", "erp/plain.ok"),
    ],
)
def test_companions_stand_beside_their_export(pattern: str, name: str, companion: str) -> None:
    """Below the folder of the export, with its whole name or without the ending; and recognised there."""
    assert companion_names.single_name(pattern, name) == companion
    assert companion_names.name_regex(pattern, name).fullmatch(companion)
    assert companion_names.matches_companion(pattern, companion, ["*.csv", "*plain*", "*/plain.*"])


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("{name}.ok", "a.csv"), ("{name}.ok", "erp/letter.txt.ok"), ("{stem}.ok", "x/a.ok"), ("*.md5", "a.md5.csv")],
)
def test_other_files_are_no_companions(pattern: str, name: str) -> None:
    """An export itself, and what belongs to a file that no feed wants."""
    assert not companion_names.matches_companion(pattern, name, ["erp/*.csv", "a.csv"])


def test_stars_stay_within_a_folder() -> None:
    """One manifest for many files, found in the folder of the export only."""
    wanted = companion_names.name_regex("sums_*.md5", "erp/a.csv")
    assert wanted.fullmatch("erp/sums_1.md5")
    assert not wanted.fullmatch("erp/old/sums_1.md5")
    assert not wanted.fullmatch("sums_1.md5")
    assert companion_names.single_name("sums_*.md5", "erp/a.csv") is None
    assert companion_names.matches_companion("sums_*.md5", "erp/sums_1.md5", ["erp/*.csv"])


@given(st.text("ab.*?[]{}()+\\ å", min_size=1, max_size=12).filter(lambda text: text not in (".", "..")))
def test_any_export_has_the_companion_that_it_names(base: str) -> None:
    """Signs that mean something in patterns are only signs in a name."""
    told = companion_names.single_name("{name}.ok", f"erp/{base}")
    assert told is not None
    assert companion_names.name_regex("{name}.ok", f"erp/{base}").fullmatch(told)
    assert companion_names.matches_companion("{name}.ok", told, ["erp/*"])


@pytest.mark.parametrize(
    "line",
    [
        f"{SHA256}  a.csv", f"{SHA256} *a.csv", f"{SHA256.upper()}\ta.csv", f"SHA256 (a.csv) = {SHA256}",
        f"sha256 (a.csv) = {SHA256}", f"{SHA256}  ./a.csv", f"{SHA256}  a.csv  ",
    ],
)  # fmt: skip
def test_lines_of_checksum_programs_are_understood(line: str) -> None:
    """md5sum and its kin, with --tag or without, in text or binary mode, either case."""
    assert companion_names.parse_manifest(line + "\n", "erp/sums.txt") == {"erp/a.csv": Checksum("sha256", SHA256)}


def test_one_manifest_lists_several_files() -> None:
    """Blank lines and remarks are passed over; names count from the folder of the manifest."""
    text = f"\ufeff# day 1\r\n\r\n{MD5}  a.csv\r\n{SHA256}  sub/b c.csv\r\n"
    assert companion_names.parse_manifest(text, "erp/sums.txt") == {
        "erp/a.csv": Checksum("md5", MD5),
        "erp/sub/b c.csv": Checksum("sha256", SHA256),
    }


def test_a_lone_checksum_is_of_the_file_in_the_manifests_name() -> None:
    """a.csv.md5 with nothing but the sum."""
    assert companion_names.parse_manifest(MD5, "erp/a.csv.md5") == {"erp/a.csv": Checksum("md5", MD5)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"{SHA256}  a name (1).csv", "a name (1).csv"),
        (f"{SHA256} *a=b(2).csv", "a=b(2).csv"),
        (f"{SHA256}\ta.csv \t", "a.csv"),
        (f"\\{SHA256}  a.csv", "a.csv"),
        (f"SHA256 (a (1)=2.csv) = {SHA256}", "a (1)=2.csv"),
        (f"sha-256(a.csv)= {SHA256.upper()}", "a.csv"),
    ],
)
def test_names_may_hold_what_separates(text: str, value: str) -> None:
    """Blanks, brackets and equals signs in the names of files."""
    assert companion_names.parse_manifest(text, "sums") == {value: Checksum("sha256", SHA256)}


@pytest.mark.parametrize("line", [" " * 300_000 + "x", "A (" * 100_000, "(=" * 150_000, "=" * 300_000])
def test_a_long_line_that_is_none_is_refused_in_linear_time(line: str) -> None:
    """A supplier may write a line of any length; the test would not end if the time grew with its square."""
    with pytest.raises(ValueError, match="line 1 is no checksum with a name"):
        companion_names.parse_manifest(line, "a.csv.sha256")


def test_a_long_line_with_a_checksum_is_read_in_linear_time() -> None:
    """Any number of blanks may follow the checksum."""
    line = SHA256 + " " * 300_000
    assert companion_names.parse_manifest(line, "a.csv.sha256") == {"a.csv": Checksum("sha256", SHA256)}


@pytest.mark.parametrize("text", ["hello", f"{MD5[:-1]}  a.csv", f"SHA256 (a.csv) = {MD5}", f"{MD5}  a.csv\n{MD5[:9]}"])
def test_what_is_no_manifest_is_said_with_its_line(text: str) -> None:
    """Also a manifest whose own upload is not complete, and a sum that is not of the kind it says."""
    with pytest.raises(ValueError, match=r"line \d"):
        companion_names.parse_manifest(text, "sums")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("{date}.ok", "{date} is no placeholder; use {name} or {stem}"),
        ("/{name}", "leads out of the folder of the export"),
        ("../{name}.ok", "leads out of the folder of the export"),
        ("done/../{name}.ok", "leads out of the folder of the export"),
        ("*.ok", "contains a star: a done file belongs to one export"),
        ("{stem}.o?", "contains a star: a done file belongs to one export"),
        ("done", "does not say which export it is of"),
        ("{name}", "is the export itself"),
    ],
)
def test_patterns_that_cannot_work_are_refused(pattern: str, reason: str) -> None:
    """With the reason that fits, for the mapping's author."""
    assert companion_names.find_companion_problem(pattern, allow_wildcards=False) == reason


def test_patterns_that_work() -> None:
    """Done files belong to one export, manifests to many."""
    assert companion_names.find_companion_problem("{name}.ok", allow_wildcards=False) is None
    assert companion_names.find_companion_problem("sums_*.md5", allow_wildcards=True) is None
    assert companion_names.find_companion_problem("a..b/{name}", allow_wildcards=False) is None
    assert companion_names.find_companion_problem("", allow_wildcards=True) == "is the export itself"
