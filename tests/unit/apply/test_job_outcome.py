"""What an ended job means: only what Connect is known to have taken counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from etl.apply.import_history import ImportHistory
from etl.apply.job_judge import JobJudge, ReadAgain
from etl.apply.job_log import LogMatches, RecordIdentity
from etl.apply.job_outcome import (
    Accept,
    Evidence,
    Fail,
    Halve,
    JobOutcome,
    Repeat,
    SendRemainder,
    count_failures,
    decide,
    totals_difference,
)
from etl.model.runs import Chunk, Job, LogRow

CHUNK = Chunk("r", 1, 1, "Product/ImportOnhands", {}, Path("p"), "d", 4, 4)
RECORDS = [RecordIdentity(key, (key,), row) for row, key in enumerate(("AA", "BB", "CC", "DD"), 2)]


START, FINISH = LogRow(1, "Start"), LogRow(1, "Finished")


def judge(
    status: int,
    failed: int = 0,
    *rows: LogRow,
    chunk: Chunk = CHUNK,
    messages: tuple[str, ...] = (),
    bad: int = 0,
    total: int | None = None,
    history: ImportHistory | None = None,
) -> JobOutcome:
    chunk = replace(chunk, messages=messages, validation_failures=bad)
    job = Job(9, status, True, total=chunk.records if total is None else total, failed=failed)
    judged = JobJudge(lambda _: RECORDS[: chunk.records], history or ImportHistory())
    outcome = judged.judge(chunk, job, (START, *rows, FINISH), 0.0)
    assert not isinstance(outcome, ReadAgain)
    return outcome


def keys(verdict: JobOutcome) -> list[str]:
    assert isinstance(verdict, Accept | SendRemainder | Fail)
    return [item.key for item in verdict.record_errors]


def test_clean_success_is_accepted() -> None:
    """No failures, no complaints: all of it."""
    assert judge(2, 0) == Accept()


def test_named_rows_are_refused_and_the_rest_accepted() -> None:
    """As many failures as named rows: those are refused."""
    assert keys(judge(2, 2, LogRow(3, "AA bad"), LogRow(3, "CC bad"))) == ["AA", "CC"]


def test_warnings_keep_their_record_unaccepted() -> None:
    """Severity 2 dropped a part of the record: it goes again."""
    assert keys(judge(2, 0, LogRow(2, "BB: category unknown"))) == ["BB"]


def test_a_warning_without_a_record_is_looked_for_by_halving() -> None:
    """It may mean that a part of some record was dropped; alone, the record is the one."""
    warning = LogRow(2, "something was dropped")
    assert judge(2, 0, warning) == Halve("job 9 warns of something without a record", is_certain=False)
    assert keys(judge(2, 0, warning, chunk=replace(CHUNK, records=1))) == ["AA"]
    assert isinstance(judge(2, 0, warning, LogRow(2, "BB: category unknown")), Halve)


def test_a_warning_of_three_jobs_concerns_none_of_their_records() -> None:
    """Numbers in it may differ; the third job of the import is accepted with it, jobs of other imports are not."""
    history = ImportHistory()
    other = replace(CHUNK, operation="Product/ImportProducts")
    chunks = [CHUNK, *[replace(CHUNK, records=2, first=first) for first in (0, 2)]]
    chunks += [replace(CHUNK, number=number, origin_chunk=number) for number in (7, 8)]
    outcomes = [
        judge_job(number, history, LogRow(2, f"Cache of {number} images was rebuilt"), chunk=chunk)
        for number, chunk in enumerate(chunks)
    ]
    assert [type(outcome) for outcome in outcomes] == [Halve, Halve, Halve, Accept, Accept]
    assert outcomes[-1] == Accept(warnings=("Cache of 4 images was rebuilt",))
    assert isinstance(judge_job(5, history, LogRow(2, "Cache of 4 images was rebuilt"), chunk=other), Halve)
    assert isinstance(judge_job(6, history, LogRow(2, "Another")), Halve)


def judge_job(number: int, history: ImportHistory, *rows: LogRow, chunk: Chunk = CHUNK) -> JobOutcome:
    job = Job(number, 2, True, total=chunk.records, failed=0)
    outcome = JobJudge(lambda _: RECORDS[: chunk.records], history).judge(chunk, job, (START, *rows, FINISH), 0.0)
    assert not isinstance(outcome, ReadAgain)
    return outcome


@pytest.mark.parametrize("total", [0, 1, 3, 5])
def test_a_job_that_counts_other_items_than_were_sent_is_halved(total: int) -> None:
    """It may have lost some; a single record that the job does not count is not accepted."""
    assert judge(2, 0, total=total) == Halve(f"job 9 counts {total} of 4 records", is_certain=False)
    if total != 1:
        assert isinstance(judge(2, 0, total=total, chunk=replace(CHUNK, records=1)), Fail)


def test_items_that_failed_validation_need_not_be_counted() -> None:
    """Validation comes before the job."""
    assert keys(judge(2, 0, messages=("item DD: bad",), bad=1, total=3)) == ["DD"]
    assert isinstance(judge(2, 0, messages=("item DD: bad",), bad=1, total=2), Halve)


def test_failures_of_validation_and_of_the_job_are_summed() -> None:
    """One of each, one name: somebody is missing."""
    assert isinstance(judge(2, 1, LogRow(3, "PartNo AA: bad"), bad=1, total=3), Halve)
    assert keys(judge(2, 1, LogRow(3, "AA: bad"), messages=("item DD: bad",), bad=1, total=3)) == ["AA", "DD"]


def test_an_import_that_counts_in_its_own_way_is_believed() -> None:
    """When its first three clean jobs differ in the same way; never or always if the settings say so."""
    history = ImportHistory()
    assert [type(judge(2, 0, total=0, history=history)) for _ in range(4)] == [Halve, Halve, Accept, Accept]
    assert isinstance(judge(2, 0, total=3, history=history), Halve)
    mixed = ImportHistory()
    judge(2, 0, history=mixed)
    assert [type(judge(2, 0, total=0, history=mixed)) for _ in range(4)] == [Halve] * 4
    failing = ImportHistory()
    for _ in range(5):
        judge(2, 0, LogRow(3, "AA bad"), total=0, history=failing)
    assert isinstance(judge(2, 0, total=0, history=failing), Halve)
    assert isinstance(judge(2, 0, total=0, history=ImportHistory("always")), Accept)
    never = ImportHistory("never")
    assert [type(judge(2, 0, total=0, history=never)) for _ in range(4)] == [Halve] * 4


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


def test_two_numbers_that_make_up_all_records_do_not_say_that_none_was_taken() -> None:
    """Validation and job may count the same record: the request is halved, so that what was taken is known."""
    assert isinstance(judge(2, 2, bad=2), Halve)
    assert isinstance(judge(2, 0, bad=4), Fail)


ONE = replace(CHUNK, records=1)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (judge(2, 1), "job 9 dropped records that its log does not name"),
        (judge(2, 4), "job 9 took none of its 4 records"),
        (judge(3, 0), "job 9 ended with status 3"),
        (judge(3, 1), "job 9 ended with status 3"),
        (judge(4, 1, LogRow(3, "BB bad")), "job 9 ended with status 4"),
        (judge(4, 0, bad=4), "job 9 ended with status 4: all 4 records failed validation"),
        (judge(3, 0, chunk=replace(CHUNK, repeats=1)), "job 9 ended with status 3, twice, without a reason"),
        (judge(4, 1, chunk=ONE), "job 9 ended with status 4"),
    ],
)
def test_each_outcome_names_the_job_and_what_it_said(outcome: JobOutcome, reason: str) -> None:
    """The reason is what a person reads in the log and on the page."""
    assert not isinstance(outcome, Accept)
    assert outcome.reason == reason


def test_a_single_record_has_the_worst_message_of_its_job() -> None:
    """The error is said of it although the log does not name it; without a message the job's reason is."""
    outcome = judge(4, 1, LogRow(2, "somewhat bad"), LogRow(3, "very bad"), LogRow(2, "a bit bad"), chunk=ONE)
    assert isinstance(outcome, Fail)
    assert [(error.severity, error.message) for error in outcome.record_errors] == [(3, "very bad")]
    silent = judge(2, 1, chunk=ONE)
    assert isinstance(silent, Accept)
    assert [(error.severity, error.message) for error in silent.record_errors] == [
        (3, "job 9 dropped records that its log does not name")
    ]


def test_one_repeat_is_enough() -> None:
    """A job that fails all records is repeated once; the second time the named reasons decide."""
    assert isinstance(judge(3, 4, chunk=CHUNK), Repeat)
    assert isinstance(judge(3, 5, chunk=CHUNK), Repeat)
    assert isinstance(judge(3, 3, chunk=CHUNK), Halve)
    assert isinstance(judge(3, 1, chunk=replace(ONE, repeats=1)), Fail)
    assert isinstance(judge(3, 0, LogRow(3, "nobody is named"), chunk=replace(CHUNK, repeats=1)), Halve)


@pytest.mark.parametrize(
    ("total", "bad", "difference"),
    [
        (None, 0, "missing"), (4, 0, "none"), (3, 1, "none"), (4, 1, "none"), (0, 0, "zero"), (0, 4, "none"),
        (3, 0, "fewer"), (2, 1, "fewer"), (5, 0, "more"), (1, 0, "fewer"),
    ],
)  # fmt: skip
def test_the_count_of_a_job_is_compared_with_what_was_sent(total: int | None, bad: int, difference: str) -> None:
    """With all items of the request, or with those that passed the validation."""
    assert totals_difference(replace(CHUNK, validation_failures=bad), Job(9, 2, True, total=total)) == difference


def test_failures_of_the_validation_and_of_the_job_add_up() -> None:
    """A job that gives no number has none of its own."""
    chunk = replace(CHUNK, validation_failures=2)
    assert [count_failures(chunk, Job(9, 2, True, failed=failed)) for failed in (None, 0, 1)] == [2, 2, 3]


def test_two_records_of_which_one_failed_are_both_refused() -> None:
    """The log cannot tell them apart, and names enough records for the failures: nothing has to be halved."""
    assert keys(judge(2, 1, LogRow(3, "AA or BB bad"))) == ["AA", "BB"]


@pytest.mark.parametrize("failed", [0, 1])
def test_an_error_without_a_record_beside_enough_names_is_no_failure(failed: int) -> None:
    """The job counts no more failures than its log names for certain."""
    assert keys(judge(2, failed, LogRow(3, "AA bad"), LogRow(3, "nobody is named"))) == ["AA"]


def test_a_success_that_took_nothing_but_names_a_record_is_halved() -> None:
    """What the log names shows that the others may have other reasons."""
    assert isinstance(judge(2, 4, LogRow(3, "AA bad")), Halve)


def test_a_single_record_without_any_hint_is_repeated() -> None:
    """Its failed job says nothing about it, so the job may have failed for other reasons."""
    assert isinstance(judge(3, 0, chunk=ONE), Repeat)


def test_two_records_that_both_failed_validation_fail() -> None:
    """Halving would only repeat what the validation has said of each."""
    outcome = judge(4, 0, chunk=replace(CHUNK, records=2), bad=2)
    assert isinstance(outcome, Fail)
    assert outcome.record_errors == ()


def test_the_message_of_a_record_is_its_own_if_there_is_one() -> None:
    """Not that of a warning beside it; an empty message gives way to the job's reason."""
    own = judge(2, 0, LogRow(2, "something was dropped"), LogRow(2, "AA: category"), chunk=ONE)
    assert isinstance(own, Accept)
    assert [error.message for error in own.record_errors] == ["AA: category"]
    empty = judge(4, 1, LogRow(3, ""), chunk=ONE)
    assert isinstance(empty, Fail)
    assert [error.message for error in empty.record_errors] == ["job 9 ended with status 4"]


@pytest.mark.parametrize("status", [2, 4])
def test_a_record_that_cannot_be_read_has_no_error(status: int) -> None:
    """The outcome stays the same without it."""
    outcome = decide(ONE, Job(9, status, True, total=1, failed=1), Evidence(LogMatches()), lambda: None)
    assert isinstance(outcome, Accept | Fail)
    assert outcome.record_errors == ()


@pytest.mark.parametrize(("usual", "accepted"), [(True, True), (False, False)])
def test_a_count_that_is_usual_for_the_import_is_no_difference(usual: bool, accepted: bool) -> None:
    """Some imports count other items than we send."""
    evidence = Evidence(LogMatches(), difference="more", difference_is_usual=usual)
    outcome = decide(CHUNK, Job(9, 2, True, total=9, failed=0), evidence, lambda: None)
    assert isinstance(outcome, Accept) is accepted
