"""`shrink`: what is too little, counted in rows and bytes."""

from __future__ import annotations

import pytest

from etl.errors import InvalidMappingError
from etl.plan.changes import previous_file
from etl.plan.changes.previous_file import PreviousFile
from tests.support.builders import PRICES, mapping, nothing, plan_file, table

FULL = PRICES.replace("content: full", "content: full, shrink: SHARE")
CHANGES = PRICES.replace("content: full", "content: changes")


@pytest.mark.parametrize(
    ("text", "now", "before", "held"),
    [
        (PRICES, 80, 100, False),
        (PRICES, 79, 100, True),
        (PRICES, 1, 10, False),
        (PRICES, 0, 1, True),
        (PRICES, 0, 0, False),
        (PRICES, 200, 100, False),
        (FULL.replace("SHARE", "50%"), 50, 100, False),
        (FULL.replace("SHARE", "50%"), 49, 100, True),
        (FULL.replace("SHARE", "1.5 %"), 2, 3, True),
        (FULL.replace("SHARE", "off"), 0, 100, False),
        (CHANGES, 0, 100, False),
        (CHANGES.replace("changes", "changes, shrink: 10%"), 89, 100, True),
    ],
)
def test_rows(text: str, now: int, before: int, held: bool) -> None:
    """A fifth less is too little for a whole file, but a handful always may go; a set share counts exactly."""
    assert bool(previous_file.shrink_warnings(mapping(text), now, PreviousFile("r1", before))) is held


def test_bytes() -> None:
    """As many rows with far fewer bytes are held too; where no size is known, none is compared."""
    feed = mapping(PRICES)
    (doubt,) = previous_file.shrink_warnings(feed, 100, PreviousFile("r1", 100, 50_000, 30_000))
    assert "30000 bytes, 50000 in run r1" in doubt
    assert previous_file.shrink_warnings(feed, 100, PreviousFile("r1", 100, 5_000, 3_000)) == ()
    assert previous_file.shrink_warnings(feed, 100, PreviousFile("r1", 100)) == ()
    assert previous_file.shrink_warnings(feed, 100, None) == ()


def test_the_plan_is_held_with_the_numbers() -> None:
    """The doubt stands among those of the plan, with both numbers, the run and the share."""
    made = plan_file(
        table("part,price,cost\nA,1,1\n"), mapping(PRICES), nothing(), previous_file=PreviousFile("r1", 900)
    )
    assert made.hold_reasons == ("1 rows, 900 in run r1 before it (`shrink` allows 20 %): is the file complete?",)


@pytest.mark.parametrize("word", ["20", "all", "-5%", "150%", "yes"])
def test_what_is_no_share(word: str) -> None:
    """Anything else than a percentage or `off` is a problem of the mapping, with a hint."""
    with pytest.raises(InvalidMappingError, match="no share of a file") as caught:
        mapping(FULL.replace("SHARE", word))
    assert "shrink: 20%" in caught.value.hint
