"""What every known input comes to is what the golden files say: headers, payloads and counts."""

from __future__ import annotations

import pytest

from tests.golden import golden, inputs
from tests.golden.adapter import Golden


def compare(group: str, plans: dict[str, Golden]) -> None:
    """Fail with each input that comes out differently, and what differs in it."""
    wrong = list(golden.differences(golden.read(group), plans))
    if wrong:
        hint = "If this is on purpose: `make golden`, and the commit lists each changed input with the reason."
        pytest.fail("\n".join([f"{len(wrong)} inputs come out differently.", *wrong[:20], hint]), pytrace=False)
    assert (golden.FOLDER / f"{group}.json").read_text(encoding="utf-8") == golden.text(plans)


@pytest.mark.slow
@pytest.mark.parametrize("group", inputs.GROUPS)
def test_plans_are_the_golden_ones(group: str) -> None:
    """Every input of the repository, to the byte."""
    compare(group, golden.gathered(inputs.GROUPS[group]()))


@pytest.mark.slow
def test_plans_of_real_exports_are_the_golden_ones(request: pytest.FixtureRequest) -> None:
    """Every real export, where they are at hand."""
    try:
        folder = request.getfixturevalue("samples")
    except pytest.skip.Exception as reason:
        pytest.skip(f"{reason}; {len(golden.read(inputs.SAMPLES))} golden plans are not compared")
    compare(inputs.SAMPLES, golden.gathered(inputs.samples(folder)))


def test_a_difference_is_named() -> None:
    """With its input, its request and both values, and a header whose fields change places is another one."""
    old = {"a": {"counts": {"new": 1}, "requests": [{"header": {"A": 1, "B": 2}, "sha256": "x"}]}, "b": {}}
    new = {"a": {"counts": {"gone": 2}, "requests": [{"header": {"B": 2, "A": 1}, "sha256": "x"}]}, "c": {}}
    assert list(golden.differences(old, old)) == []
    assert "\n".join(golden.differences(old, new)).splitlines() == [
        "a:",
        "    counts, new: 1 before, 0 now",
        "    counts, gone: 0 before, 2 now",
        '    request 1, header: {"A": 1, "B": 2} before, {"B": 2, "A": 1} now',
        "b: the input is gone",
        "c: the input is new",
    ]
