"""Reads YAML 1.2 and collects the problems of a mapping file, each with its line and column."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from etl.errors import InvalidMappingError, MappingProblem


class Problems:
    """Collects the problems of one file, to raise them together."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[MappingProblem] = []

    def location(self, node: Any, key: Any = None) -> str:
        """Return `file:line:column` of a key of an object, of an item of a list, or of the node itself."""
        line, column = 0, 0
        places = getattr(node, "lc", None)
        if places is not None:
            line, column = places.line, places.col
            if key is not None and places.data and key in places.data:
                line, column = places.data[key][0], places.data[key][1]
        return f"{self.path}:{line + 1}:{column + 1}"

    def text_location(self, node: Any, key: Any, offset: int) -> str:
        """Return `file:line:column` of a character of the text that is a key's value."""
        places = getattr(node, "lc", None)
        if places is None or not places.data or key not in places.data:
            return self.location(node, key)
        _, _, line, column = places.data[key]
        lines = self.path.read_text(encoding="utf-8").splitlines()
        quoted = lines[line][column : column + 1] in ("'", '"')
        return f"{self.path}:{line + 1}:{column + 1 + quoted + offset}"

    def add(self, code: str, message: str, *, where: str, hint: str) -> None:
        self.entries.append(MappingProblem(f"mapping-{code}", message, where=where, hint=hint))

    def add_unknown(self, code: str, message: str, name: str, choices: Iterable[str], *, where: str) -> None:
        """Add a problem about an unknown name; the hint is the most similar choice."""
        names = list(choices)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        lower = {candidate.lower(): candidate for candidate in names}
        if name.lower() in lower:
            near = [lower[name.lower()]]
        hint = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(sorted(names)) or 'nothing'}"
        self.add(code, message, where=where, hint=hint)

    def raise_if_any(self) -> None:
        if self.entries:
            raise InvalidMappingError(self.entries)


def load_yaml(path: Path) -> Any:
    """Load a YAML file with the locations of its keys. Raises InvalidMappingError where it holds no YAML object."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    problems = Problems(path)
    try:
        with path.open(encoding="utf-8") as stream:
            content = YAML(typ="rt").load(stream)
    except OSError as error:
        problems.add("unreadable", f"cannot be read: {error.strerror}", where=str(path), hint="check name and rights")
    except UnicodeDecodeError:
        problems.add("encoding", "is not UTF-8", where=str(path), hint="save the mapping file as UTF-8")
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        hint = "check indentation, colons and quotes; a key may occur only once"
        problems.add("yaml", f"is not valid YAML: {error.problem or error.context}", where=where, hint=hint)
    except YAMLError as error:
        problems.add("yaml", f"is not valid YAML: {error}", where=str(path), hint="check the file's characters")
    problems.raise_if_any()
    if not isinstance(content, dict):
        problems.add("yaml", "is no mapping", where=str(path), hint="start with `feed: name`")
        problems.raise_if_any()
    return content


#: Functions of SQL whose value for a row depends on other rows.
_FUNCTIONS_OF_ROWS = (
    "array_agg|avg|bit_and|bit_or|bit_xor|bool_and|bool_or|corr|count|covar(_pop|_samp)?|cume_dist|dense_rank|every|"
    "first|first_value|lag|last|last_value|lead|listagg|max|mean|median|min|mode|nth_value|ntile|percent_rank|"
    "quantile_cont|quantile_disc|percentile_cont|percentile_disc|rank|row_number|std|stdev(_pop|_samp)?|"
    "stddev(_pop|_samp)?|string_agg|sum|unnest|var(_pop|_samp)?|variance"
)
_OTHER_ROWS = re.compile(rf"\b(({_FUNCTIONS_OF_ROWS})\s*\(|select\b)|\)\s*over\b", re.IGNORECASE)


def _reads_other_rows(sql: str) -> bool:
    """Whether an expression has an aggregate, a window or a query; texts and quoted names count for nothing."""
    without_texts = re.sub(r"--[^\n]*|/\*.*?\*/", " ", re.sub(r"""'[^']*'|"[^"]*\"""", " x ", sql), flags=re.DOTALL)
    return _OTHER_ROWS.search(without_texts) is not None


def parse_sql_columns(sql: str, where: str, problems: Problems) -> tuple[str, ...]:
    """Return the columns that an SQL expression reads; a text that is none is a problem."""
    import polars as pl

    try:
        expression = pl.sql_expr(sql)
        columns = tuple(dict.fromkeys(expression.meta.root_names()))
        if _reads_other_rows(sql):
            hint = "a file is read in pieces, so each expression may read its own row only; compute it in the source"
            problems.add("sql", f"`{sql}` has an aggregate, a window or a query", where=where, hint=hint)
        return columns
    except Exception as error:  # polars raises several types for SQL that it cannot read
        text = str(error).partition("\n")[0]
        problems.add("sql", f"`{sql}` is no SQL expression: {text}", where=where, hint='quote odd names: "Art nr" > 1')
        return ()


def is_time_format(text: str) -> bool:
    """Whether polars can read dates or times written like this."""
    import polars as pl

    try:
        pl.select(pl.lit("").str.strptime(pl.Datetime("us"), text, strict=False))
    except pl.exceptions.PolarsError:
        return False
    return True


def pattern_error(pattern: str) -> str:
    """Return why polars cannot use a regular expression; empty if it can."""
    import polars as pl

    try:
        pl.select(pl.lit("").str.contains(f"^(?:{pattern})$"))
    except pl.exceptions.PolarsError as error:
        return " ".join(str(error).split())[-120:]
    return ""


def read_bool(node: Any, key: Any, where: str, problems: Problems) -> bool:
    """Read true or false; in YAML 1.2 `yes` and `no` are texts, and a problem here."""
    if not isinstance(node[key], bool):
        problems.add("switch", f"`{key}` is neither true nor false", where=where, hint=f"{key}: true")
    return node[key] is True


def as_list(raw: Any) -> list[Any]:
    """Return a value of the mapping as a list: none for nothing, a single value as a list of one."""
    if raw is None:
        return []
    return list(raw) if isinstance(raw, (list, tuple)) else [raw]
