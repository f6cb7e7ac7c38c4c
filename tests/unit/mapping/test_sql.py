"""SQL of a mapping reads its own row only: anything else would depend on how a file is cut into pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.mapping.problems import Problems, parse_sql_columns


@pytest.mark.parametrize(
    "sql",
    [
        "max(a)",
        "a <= 1.5 * AVG (a)",
        "sum(a) OVER (PARTITION BY b)",
        "rank() over (order by a)",
        "count(*)",
        "array_agg(a)",
        "unnest(s)",
    ],
)
def test_aggregates_and_windows_are_refused(sql: str) -> None:
    problems = Problems(Path())
    parse_sql_columns(sql, "here", problems)
    assert [problem.code for problem in problems.entries] == ["mapping-sql"]


@pytest.mark.parametrize(
    "sql",
    ["GREATEST(a, b)", "a in (1, 2)", "s = 'max(a)'", '"sum (kr)" > 1', "round(over_all, 2)", "NULLIF(a, 0) + count"],
)
def test_expressions_over_a_row_pass(sql: str) -> None:
    problems = Problems(Path())
    assert parse_sql_columns(sql, "here", problems)
    assert problems.entries == []
