"""What an ended job means: only what Connect is known to have taken counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from etl.apply.job_log import RecordIdentity, match_log
from etl.apply.job_outcome import Accept, Fail, Halve, JobOutcome, Repeat, SendRemainder, decide
from etl.model.runs import Chunk, Job, LogRow

CHUNK = Chunk("r", 1, 1, "Product/ImportOnhands", {}, Path("p"), "d", 4, 4)
RECORDS = [RecordIdentity(key, (key,), row) for row, key in enumerate(("AA", "BB", "CC", "DD"), 2)]


def judge(
    status: int,
    failed: int | None = 0,
    *rows: LogRow,
    chunk: Chunk = CHUNK,
    messages: tuple[str, ...] = (),
    bad: int = 0,
) -> JobOutcome:
    records = RECORDS[: chunk.records]
    return decide(
        replace(chunk, messages=messages, validation_failures=bad),
        Job(9, status, True, total=chunk.records, failed=failed),
        rows,
        lambda found: match_log(records, found),
        lambda: records[0],
    )


def keys(verdict: JobOutcome) -> list[str]:
    assert isinstance(verdict, Accept | SendRemainder | Fail)
    return [item.key for item in verdict.record_errors]


def test_clean_success_is_accepted() -> None:
    """No failures, no complaints: all of it."""
    assert judge(2, 0, LogRow(1, "Start"), LogRow(1, "Stop")) == Accept()


def test_named_rows_are_refused_and_the_rest_accepted() -> None:
    """As many failures as named rows: those are refused."""
    assert keys(judge(2, 2, LogRow(3, "AA bad"), LogRow(3, "CC bad"))) == ["AA", "CC"]


def test_warnings_keep_their_record_unaccepted() -> None:
    """Severity 2 dropped a part of the record: it goes again."""
    assert keys(judge(2, 0, LogRow(2, "BB: category unknown"))) == ["BB"]


def test_untraceable_warnings_are_only_reported() -> None:
    """A warning that names nobody refuses nobody, and is counted."""
    assert judge(2, 0, LogRow(2, "something")) == Accept(unmatched=1)


@pytest.mark.parametrize(
    ("failed", "rows"),
    [
        (1, ()),
        (2, (LogRow(3, "AA bad"),)),
        (1, (LogRow(3, "somebody bad"),)),
        (0, (LogRow(3, "somebody bad"),)),
        (2, (LogRow(3, "AA or BB bad"), LogRow(3, "somebody bad"))),
    ],
)
def test_more_failures_than_names_halve(failed: int, rows: tuple[LogRow, ...]) -> None:
    """Whatever is not explained by names is looked for by halving."""
    assert isinstance(judge(2, failed, *rows), Halve)


def test_single_record_with_an_unnamed_failure_is_the_bad_one() -> None:
    """Alone, it needs no name."""
    assert keys(judge(2, 1, LogRow(3, "?"), chunk=replace(CHUNK, records=1))) == ["AA"]


def test_success_that_took_nothing_fails_the_chunk() -> None:
    """When all records failed without a name, halving would only repeat it."""
    assert isinstance(judge(2, 4), Fail)


def test_validation_failures_of_the_answer_count() -> None:
    """The import's own summary is read like a log."""
    assert keys(judge(2, 0, messages=("item DD: bad",), bad=1)) == ["DD"]
    assert isinstance(judge(2, 0, bad=1), Halve)


def test_after_validation_failed_the_rest_goes_again() -> None:
    """Status 4 imported nothing: without the named ones it is sent again, unnamed it is halved."""
    verdict = judge(4, 1, LogRow(3, "BB bad"))
    assert isinstance(verdict, SendRemainder)
    assert verdict.positions == {1}
    assert isinstance(judge(4, 0), Halve)
    assert isinstance(judge(4, 4), Halve)
    assert keys(judge(4, 1, chunk=replace(CHUNK, records=1))) == ["AA"]
    assert isinstance(judge(4, 0, bad=4), Fail)


def test_failed_job_without_a_reason_is_repeated_once() -> None:
    """Status 3 without any hint: once more, then given up."""
    assert isinstance(judge(3, 0), Repeat)
    assert isinstance(judge(3, 4, LogRow(3, "The import failed")), Repeat)
    assert isinstance(judge(3, 0, chunk=replace(CHUNK, repeats=1)), Fail)
    assert isinstance(judge(3, 4, chunk=replace(CHUNK, repeats=1)), Fail)
    assert isinstance(judge(3, 1), Halve)
    assert isinstance(judge(3, 1, LogRow(3, "CC bad")), SendRemainder)


def test_ended_with_an_unknown_status_is_not_accepted() -> None:
    """A finished job whose status we do not know proves nothing."""
    assert isinstance(judge(7, 0), Repeat)
