"""Requests are cut where they are too large in bytes, and nothing is lost or doubled by it."""

from __future__ import annotations

import pytest

from etl.errors import InvalidFileError
from etl.plan.inputs import RequestLimits
from tests.support.builders import PRICES, mapping, run, table

ROWS = 40
FILE = table("part,price,cost\n" + "\n".join(f"P{number:03},{number}.5,1" for number in range(ROWS)))


@pytest.mark.parametrize("limit", [200, 700, 1_500, 100_000])
def test_a_request_is_halved_until_it_fits(limit: int) -> None:
    """No body is larger than the limit, and all records are sent once, in order."""
    made = run(mapping(PRICES), FILE, limits=RequestLimits(max_bytes=limit))
    assert all(len(sent.request.payload) <= limit for sent in made.sent)
    assert [record["PartNo"] for record in made.records] == [f"P{number:03}" for number in range(ROWS)]
    assert [sent.request.number for sent in made.sent] == list(range(1, len(made.sent) + 1))
    assert (len(made.sent) == 1) == (limit == 100_000)


def test_one_record_goes_whatever_its_size() -> None:
    """What is larger alone than the limit cannot be cut; Connect may take it nevertheless."""
    made = run(mapping(PRICES), FILE, limits=RequestLimits(max_bytes=10))
    assert [len(sent.records) for sent in made.sent] == [1] * ROWS
    assert all(len(sent.request.payload) > 10 for sent in made.sent)


def test_a_whole_scope_is_refused_rather_than_cut() -> None:
    """Each half of a scope under `FullFile=true` would switch off the other's records."""
    assert run(mapping(PRICES), FILE, full=True).plan.full_file
    with pytest.raises(InvalidFileError, match="full-scope-too-large"):
        run(mapping(PRICES), FILE, limits=RequestLimits(max_bytes=700), full=True)
