"""The inbox: a file is stable when it has not changed; unfinished and foreign files are left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.ingest.scan import FileStat, Observations, find_stable, may_be_export


@pytest.mark.parametrize("name", ["a.csv", "sub/a.xlsx", "a.tmp.csv", "part", "å ä.csv"])
def test_exports_are_wanted(name: str) -> None:
    """Ordinary names, also in folders."""
    assert may_be_export(name)


@pytest.mark.parametrize(
    "name",
    ["a.csv.part", "a.tmp", "a.FILEPART", "a.crdownload", "a.csv~", ".a.csv", ".hidden/a.csv", "sub/.git/x", "s/.x"],
)
def test_uploads_and_dot_files_are_not(name: str) -> None:
    """Whatever an uploader or an editor leaves while it works."""
    assert not may_be_export(name)


def test_a_file_is_stable_after_it_has_not_changed() -> None:
    """Time counts from the last change, and a replaced file starts anew."""
    one, two, other = FileStat(1, 5, 9), FileStat(2, 6, 9), FileStat(2, 6, 10)
    snapshot, ready = find_stable({}, {"a": one}, 0, 2)
    assert not ready
    snapshot, ready = find_stable(snapshot, {"a": two}, 1.9, 2)
    snapshot, ready = find_stable(snapshot, {"a": two}, 3.8, 2)
    assert not ready
    snapshot, ready = find_stable(snapshot, {"a": two}, 3.9, 2)
    assert ready == {"a"}
    snapshot, ready = find_stable(snapshot, {"a": other}, 4.0, 2)
    assert not ready


@given(st.lists(st.tuples(st.floats(0, 5), st.dictionaries(st.sampled_from("abc"), st.integers(0, 2))), max_size=20))
def test_ready_files_were_unchanged_for_the_whole_time(steps: list[tuple[float, dict[str, int]]]) -> None:
    """No history of changes makes a file ready that was seen otherwise within `settle_seconds`."""
    now = 0.0
    snapshot: Observations = {}
    history: list[tuple[float, dict[str, int]]] = []
    for pause, sizes in steps:
        now += pause
        history.append((now, sizes))
        snapshot, ready = find_stable(snapshot, {name: FileStat(size, 0, 0) for name, size in sizes.items()}, now, 2.0)
        for name in ready:
            others = [look for look, (_, seen) in enumerate(history) if seen.get(name) != sizes[name]]
            first_same, _ = history[max(others, default=-1) + 1]
            assert now - first_same >= 2.0
