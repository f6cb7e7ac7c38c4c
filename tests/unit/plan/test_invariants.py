"""What holds for every mapping and every file: drawn from the contract, held against the strict sandbox's rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.mapping.leaf_set import WORD_BITS, join_words, own_set_columns
from etl.model.columns import ITEM, KEY
from etl.model.tables import Table
from etl.plan.batches import encode, flag_closure
from etl.plan.changes import diff
from etl.plan.inputs import RequestLimits
from etl.plan.requests import Request
from etl.sandbox import http
from tests.support.builders import Outcome, complaints, days, nothing, plain, records, run, table
from tests.support.random_mappings import OPERATIONS, Feed, feeds, files, modest

MODEST = modest(2)
TIGHT = RequestLimits(max_records=2, max_bytes=600, requests_per_minute=2)
each_operation = pytest.mark.parametrize("operation", OPERATIONS)


def read(feed: Feed, rows: list[dict[str, str | None]]) -> Table:
    return table(rows) if rows else table(",".join(feed.cells))


@each_operation
@MODEST
@given(data=st.data())
def test_the_strict_sandbox_has_no_complaint(operation: str, data: st.DataObject) -> None:
    """Header and payload are sound and agree on every day: nothing listed is absent, nothing sent is unlisted."""
    feed = data.draw(feeds(operation))
    first, second = (read(feed, data.draw(files(feed))) for _ in range(2))
    for outcome in days(feed.mapping, first, second, first):
        assert complaints(outcome) == []


@each_operation
@MODEST
@given(data=st.data())
def test_the_same_file_again_sends_nothing(operation: str, data: st.DataObject) -> None:
    """compare(x, x) is empty: no request, nothing new, changed or gone."""
    feed = data.draw(feeds(operation))
    first, second = (read(feed, data.draw(files(feed))) for _ in range(2))
    _, again, _, twice = days(feed.mapping, first, first, second, second)
    for outcome in (again, twice):
        assert outcome.sent == []
        counts = outcome.plan.counts  # records that no header can carry are rejected, and count as new until then
        assert counts.new + counts.changed <= counts.rejected


@each_operation
@MODEST
@given(data=st.data())
def test_what_was_sent_makes_the_new_records(operation: str, data: st.DataObject) -> None:
    """A, B, A ends as A: laid over what Norce had, the requests give every value of the file that is ours."""
    feed = data.draw(feeds(operation))
    first, second = (read(feed, data.draw(files(feed))) for _ in range(2))
    for outcome, file in zip(days(feed.mapping, first, second, first), (first, second, first), strict=True):
        missing = lacking(outcome, run(feed.mapping, file))
        assert missing == {}


def lacking(after: Outcome, fresh: Outcome) -> dict[tuple[str, str], object]:
    """Values that sending the file to an empty catalogue gives, and that are otherwise in `after`."""
    unowned = {leaf.column for leaf in fresh.plan.layout.leaves if not leaf.value.own or leaf.inner is not None}
    have = plain(after.accepted)
    return {
        (key, name): value
        for key, values in plain(fresh.accepted).items()
        for name, value in values.items()
        if name not in unowned and have[key].get(name) != value
    }


@each_operation
@MODEST
@given(data=st.data())
def test_requests_joined_are_the_change_set(operation: str, data: st.DataObject) -> None:
    """However small requests are: no change is lost, no key twice in a wave, nothing unowned goes to known records."""
    feed = data.draw(feeds(operation))
    first, second = (read(feed, data.draw(files(feed, most=6))) for _ in range(2))
    before = run(feed.mapping, first).accepted
    outcome = run(feed.mapping, second, before, TIGHT)
    made, layout = records(feed.mapping, second)
    changes = diff.compare(made, before, layout)
    wanted = {row[KEY]: bits_of(row, "c", changes.word_count) for row in changes.frame.iter_rows(named=True)}
    able = {row[KEY]: bits_of(row, "v", changes.word_count) for row in changes.frame.iter_rows(named=True)}
    refused = {row["value"] for row in outcome.plan.rejections.frame.iter_rows(named=True)}
    went: Counter[str] = Counter()
    for sent in outcome.sent:
        for key, bits in own_sets(sent.request):
            went[f"{sent.request.wave} {key}"] += 1
            assert bits & ~able[key] == 0
            wanted[key] &= ~bits
    left = {
        key: bits
        for key, bits in wanted.items()
        if bits
        and key.replace("\x1f", " / ") not in refused
        and flag_closure.split_into_passes(bits, able[key], layout)
    }
    assert left == {}
    assert all(count == 1 for count in went.values())
    known = set(before[KEY])
    for sent in outcome.sent:
        if known.intersection(sent.request.frame[KEY]):
            assert all(leaf.value.own for _, bits in own_sets(sent.request) for leaf in layout.leaves_in(bits))


def own_sets(request: Request) -> list[tuple[str, int]]:
    """Each key of a request with the set of leaves that it is sent with."""
    words = own_set_columns(request.frame)
    rows = request.frame.select(KEY, *words).iter_rows()
    return [(key, join_words(tuple(row)) if words else request.bits) for key, *row in rows]


@each_operation
@MODEST
@given(data=st.data())
def test_sharing_a_header_changes_no_record(operation: str, data: st.DataObject) -> None:
    """Records that share a request though their sets differ are sent as each would be alone, under the same header."""
    feed = data.draw(feeds(operation))
    first, second = (read(feed, data.draw(files(feed, most=8))) for _ in range(2))
    for outcome in days(feed.mapping, first, second):
        for sent in outcome.sent:
            layout = outcome.plan.layout
            alone = []
            for item in sent.request.frame.partition_by(ITEM, maintain_order=True):
                ((_, bits),) = {(item[ITEM][0], bits) for _, bits in own_sets(replace(sent.request, frame=item))}
                assert layout.active_flags(bits) == layout.active_flags(sent.request.bits)
                alone += http.decode_json(encode.encode_payload(item.drop(own_set_columns(item)), bits, layout))
            assert sent.records == alone


def bits_of(row: dict[str, int], kind: str, words: int) -> int:
    bits = 0
    for word in range(words):
        bits |= row[f"_{kind}{word}"] << word * WORD_BITS
    return bits


@each_operation
@MODEST
@given(data=st.data())
def test_small_requests_say_the_same(operation: str, data: st.DataObject) -> None:
    """Limits cut requests and never change what Norce ends with; the sandbox takes the small ones too."""
    feed = data.draw(feeds(operation))
    first, second = (read(feed, data.draw(files(feed, most=6))) for _ in range(2))
    wide, tight = days(feed.mapping, first, second), days(feed.mapping, first, second, limits=TIGHT)
    assert plain(wide[1].accepted) == plain(tight[1].accepted)
    for outcome in tight:
        assert complaints(outcome) == []
        assert all(sent.request.records <= TIGHT.max_records for sent in outcome.sent)


@each_operation
@MODEST
@given(data=st.data())
def test_the_same_inputs_give_the_same_bytes(operation: str, data: st.DataObject) -> None:
    """A plan depends on its inputs only: header and payload are equal byte for byte."""
    feed = data.draw(feeds(operation))
    file = read(feed, data.draw(files(feed)))
    one, two = (run(feed.mapping, file, nothing()) for _ in range(2))
    assert [(sent.request.header, sent.request.payload) for sent in one.sent] == [
        (sent.request.header, sent.request.payload) for sent in two.sent
    ]
