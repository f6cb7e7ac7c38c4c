"""A change set held against plain Python: for any file each record's leaves, its values, and every count."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from etl.mapping.layout import Layout
from etl.mapping.leaf_set import WORD_BITS, join_words
from etl.model.columns import DEACTIVATED, ITEM, KEY, NEW, OWNED_ELSEWHERE, ROW
from etl.model.tables import Records
from etl.plan.changes import absence, diff
from etl.plan.changes.diff import ChangeSet
from etl.plan.rows import sendable
from tests.support.plain_diff import Naive, Told
from tests.support.strategies import FEEDS, ROWS, Case, known

each_feed = pytest.mark.parametrize("name", FEEDS)


def naive(case: Case, accepted: pl.DataFrame, **more: Any) -> Naive:
    return Naive(case.layout, frozenset(leaf.name for leaf in case.layout.leaves if known(accepted, leaf)), **more)


def assert_same(changes: ChangeSet, told: Told, layout: Layout) -> None:
    """The same records in the same order, each with the same leaves and values, and the same counts."""
    rows = list(changes.frame.iter_rows(named=True))
    assert [row[KEY] for row in rows] == list(told.changes)
    for row in rows:
        expected = told.changes[row[KEY]]
        for kind, leaves in (("c", expected.send), ("v", expected.able)):
            bits = join_words(tuple(row[f"_{kind}{word}"] for word in range(changes.word_count)))
            assert {leaf.name for leaf in layout.leaves_in(bits)} == leaves, row[KEY]
        assert (row[NEW], row[DEACTIVATED]) == (expected.new, expected.gone)
        assert (row[ROW] is None) == expected.gone
        for leaf in layout.leaves:
            if leaf.name in expected.send and not expected.gone:
                assert row[leaf.column] == told.rows[row[KEY]][leaf.column]
    assert changes.word_count == -(-len(layout.leaves) // WORD_BITS)
    assert (changes.new, changes.changed, changes.deactivated) == (
        told.count(new=True), told.count(), told.count(gone=True),
    )  # fmt: skip
    assert (changes.unchanged, changes.suppressed, changes.cleared) == (told.unchanged, told.withheld, told.cleared)


@each_feed
@pytest.mark.parametrize("everything", [False, True])
def test_a_change_is_what_differs_between_two_dicts(name: str, everything: bool) -> None:
    """Against a file and *accepted* drawn at random, and once more with everything sent again."""
    case = Case(name, 1)
    changes = diff.compare(case.records, case.accepted, case.layout, send_all=everything)
    told = naive(case, case.accepted, everything=everything).told(case.rows, case.accepted.to_dicts())
    assert len(told.changes) > 20
    assert_same(changes, told, case.layout)


@each_feed
def test_what_another_feed_owns_stays_behind_with_its_whole(name: str) -> None:
    """Columns of a third of the records are another feed's; of keys that are not in the file, nothing is said."""
    case = Case(name, 2)
    columns = sorted({leaf.column for leaf in case.layout.leaves if not leaf.synthetic})
    owned = {
        row[KEY]: {column for column in columns if case.chance.random() < 0.1}
        for row in case.rows
        if case.chance.random() < 0.6
    } | {"nobody": set(columns)}
    named = columns[1:]  # of the first nobody says anything
    barred = pl.DataFrame(
        [{KEY: key, **{OWNED_ELSEWHERE + name: name in its or None for name in named}} for key, its in owned.items()],
        schema={KEY: pl.String, **{OWNED_ELSEWHERE + name: pl.Boolean for name in named}},
    )
    changes = diff.compare(case.records, case.accepted, case.layout, owned_elsewhere=barred)
    theirs = {key: its - {columns[0]} for key, its in owned.items()}
    assert_same(
        changes, naive(case, case.accepted, theirs=theirs).told(case.rows, case.accepted.to_dicts()), case.layout
    )


@each_feed
def test_a_column_that_accepted_lacks_is_a_change_everywhere(name: str) -> None:
    """Each column of the feed in turn was never accepted, and of each list each field of its elements."""
    case = Case(name, 3)
    for leaf in case.chance.sample(case.layout.leaves, min(12, len(case.layout.leaves))):
        accepted = without(case.accepted, leaf.column, leaf.inner)
        changes = diff.compare(case.records, accepted, case.layout)
        assert_same(changes, naive(case, accepted).told(case.rows, accepted.to_dicts()), case.layout)


def without(accepted: pl.DataFrame, column: str, inner: str | None) -> pl.DataFrame:
    """*Accepted* before the mapping had a field."""
    if inner is None:
        return accepted.drop(column)
    kind = accepted.schema[column]
    assert isinstance(kind, pl.List)
    assert isinstance(kind.inner, pl.Struct)
    fields = [pl.element().struct.field(field.name) for field in kind.inner.fields if field.name != inner]
    if not fields:
        return accepted.drop(column)
    return accepted.with_columns(pl.col(column).list.eval(pl.struct(fields)))


@each_feed
@pytest.mark.parametrize("bare", [False, True])
def test_what_is_gone_goes_by_its_key_and_its_switch(name: str, bare: bool) -> None:
    """Half of the file is missing: what Norce has of it is switched off, but for what rejected rows mention.

    `bare`: of a feed that has only ever been told its keys there is no item, nothing is off, and few columns are known.
    """
    case = Case(name, 4)
    half = case.half()
    accepted = (
        case.accepted.drop(ITEM, DEACTIVATED, case.layout.leaves[-1].column, strict=False) if bare else case.accepted
    )
    lead = case.layout.leading_key
    assert lead is not None
    mentioned = pl.Series([*accepted[lead.column].cast(pl.String).to_list()[::3], None])
    switch = case.layout.deactivation_leaf
    changes = diff.compare(
        half,
        accepted,
        case.layout,
        missing_records=absence.find_missing(half, accepted, case.layout, mentioned),
    )
    rows = accepted.with_columns(pl.lit(False).alias(DEACTIVATED)).to_dicts() if bare else accepted.to_dicts()
    here = set(half.frame[KEY])
    left = [
        row
        for row in rows
        if row[KEY] not in here and not row[DEACTIVATED] and str(row[lead.column]) not in set(mentioned)
    ]
    off = [row[KEY] for row in left] if switch is not None else []
    assert len(left) > 3
    assert_same(changes, naive(case, accepted).told(half.frame.to_dicts(), rows, off), case.layout)
    assert absence.find_missing(half, accepted, case.layout, mentioned)[KEY].to_list() == [row[KEY] for row in left]
    gone = changes.frame.filter(DEACTIVATED)
    if switch is not None and not gone.is_empty():
        assert case.layout.operation.deactivation is not None
        assert set(gone[switch.column]) == {case.layout.operation.deactivation.off_value}
        before = {row[KEY]: row for row in rows}
        for row in gone.iter_rows(named=True):
            assert row[ITEM] == (row[KEY] if bare else before[row[KEY]][ITEM])
            known = [
                leaf.column for leaf in case.layout.leaves if leaf.column in accepted.columns and leaf is not switch
            ]
            assert {name: row[name] for name in known} == {name: before[row[KEY]][name] for name in known}


@each_feed
def test_what_a_row_can_give_depends_on_the_row_alone(name: str) -> None:
    """Before anything is compared, and for what is ours: the same conditions, asked of the rows of a file."""
    case = Case(name, 5)
    frame = case.records.frame.with_columns(pl.lit(False).alias(NEW))
    found = sendable.sendable_leaves(case.layout)
    ours = [leaf for leaf in case.layout.leaves if leaf.value.own and not leaf.synthetic]
    able = frame.select(found[leaf.index].alias(leaf.name) for leaf in ours).to_dicts()
    model = naive(case, case.accepted)
    assert able == [{leaf.name: model.able(leaf, row, new=False, back=False) for leaf in ours} for row in case.rows]


def test_elements_with_and_without_a_value() -> None:
    """What tells elements apart, or has a flag of its own, is given by all of them or counts for nothing.

    Rows like these are rejected; a mapping that used to empty the field has left some of them in *accepted*.
    """
    case = Case(ROWS, 6)
    for row in case.rows:
        for element in row["PriceRules"] or ():
            for name in ("Type", "LimitToRecPrice", "MinValue", "Value"):
                if case.chance.random() < 0.3:
                    element[name] = None
    frame = pl.DataFrame(case.rows, schema=case.records.frame.schema)
    changes = diff.compare(Records(frame, case.records.row_numbers), case.accepted, case.layout)
    assert_same(changes, naive(case, case.accepted).told(case.rows, case.accepted.to_dicts()), case.layout)
