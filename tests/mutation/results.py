"""Read the results of a run of mutmut: each mutant with its status, place and difference."""

from __future__ import annotations

import ast
import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

EQUIVALENT = Path(__file__).parent / "equivalent.toml"

NOTICED = {"killed", "timeout", "segfault", "caught by type check"}
SURVIVED = {"survived", "no tests"}


@dataclass(frozen=True)
class Mutant:
    """A changed copy of one function."""

    module: Path
    function: str  #: with its class, if any
    line: int  #: of the module, 1 for the first
    removed: tuple[str, ...]  #: lines without indentation
    added: tuple[str, ...]
    status: str  #: in the words of mutmut

    def describe(self) -> str:
        """Return place, status and difference on lines of their own."""
        head = f"{self.module}:{self.line} {self.function} ({self.status})"
        return "\n".join([head, *(f"    - {line}" for line in self.removed), *(f"    + {line}" for line in self.added)])


@dataclass(frozen=True)
class Equivalent:
    """A mutant that no test can notice, with the reason."""

    module: Path
    function: str
    removed: tuple[str, ...]
    added: tuple[str, ...]
    reason: str

    def matches(self, mutant: Mutant) -> bool:
        """Return whether it is this mutant."""
        return (self.module, self.function, self.removed, self.added) == (
            mutant.module,
            mutant.function,
            mutant.removed,
            mutant.added,
        )


@dataclass(frozen=True)
class Score:
    """The result of one module."""

    module: Path
    noticed: int
    survivors: tuple[Mutant, ...]
    equivalent: int
    not_run: int
    stale: tuple[Equivalent, ...]  #: entries that match no survivor although all mutants ran

    @property
    def share(self) -> float:
        """The share of the mutants that the tests noticed, without the equivalent ones; 1 where there are none."""
        return self.noticed / max(self.noticed + len(self.survivors), 1) if self.survivors else 1.0


def load_equivalents(path: Path = EQUIVALENT) -> list[Equivalent]:
    """Return the listed equivalent mutants.

    Raises:
        ValueError: An entry has no reason or lacks a part.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    for entry in entries:
        if set(entry) != {"module", "function", "removed", "added", "reason"} or not entry["reason"].strip():
            raise ValueError(f"{path.name}: an entry needs module, function, removed, added and a reason: {entry}")
    return [
        Equivalent(
            module=Path(entry["module"]),
            function=entry["function"],
            removed=_stripped(entry["removed"].splitlines()),
            added=_stripped(entry["added"].splitlines()),
            reason=entry["reason"].strip(),
        )
        for entry in entries
    ]


def read_mutants(root: Path, mutated: Path, module: Path, results: str) -> list[Mutant]:
    """Return the mutants of a module.

    `root` holds the module as it is written, `mutated` the copy with the mutants, and `results` is what `mutmut
    results` prints, one mutant and its status on a line.
    """
    prefix = ".".join(module.with_suffix("").parts) + "."
    statuses = dict(line.strip().split(": ", 1) for line in results.splitlines() if line.strip().startswith(prefix))
    if not statuses:
        return []
    source = (mutated / module).read_text(encoding="utf-8")
    texts = {name: "\n".join(lines) for name, lines, _ in _functions(source)}
    lines = {_mangled(name): first for name, _, first in _functions((root / module).read_text(encoding="utf-8"))}
    return [_mutant(module, name.removeprefix(prefix), status, texts, lines) for name, status in statuses.items()]


def _mutant(module: Path, name: str, status: str, texts: dict[str, str], lines: dict[str, int]) -> Mutant:
    mangled = name.partition("__mutmut_")[0]
    before = texts[f"{mangled}__mutmut_orig"].splitlines()
    after = [line.replace(name, f"{mangled}__mutmut_orig") for line in texts[name].splitlines()]
    parts = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    changes = [(a, b, c, d) for kind, a, b, c, d in parts if kind != "equal"]
    return Mutant(
        module=module,
        function=mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", "."),
        line=lines.get(mangled, 1) + (changes[0][0] if changes else 0),
        removed=_stripped(line for a, b, _, _ in changes for line in before[a:b]),
        added=_stripped(line for _, _, c, d in changes for line in after[c:d]),
        status=status,
    )


def _functions(source: str) -> list[tuple[str, list[str], int]]:
    """Return name, lines and first line of each function; a method of the source has its class before a dot."""
    lines = source.splitlines()
    found = []
    for node in ast.parse(source).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        for inner in inside:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                within = isinstance(node, ast.ClassDef) and "__mutmut_" not in inner.name
                name = f"{node.name}.{inner.name}" if within and isinstance(node, ast.ClassDef) else inner.name
                found.append((name, lines[inner.lineno - 1 : inner.end_lineno], inner.lineno))
    return found


def _mangled(name: str) -> str:
    """Return the name that mutmut gives to a function of the source."""
    owner, _, function = name.rpartition(".")
    return f"xǁ{owner}ǁ{function}" if owner else f"x_{function}"


def score_mutants(module: Path, mutants: list[Mutant], equivalents: list[Equivalent], whole: bool) -> Score:
    """Return the score of a module; `whole` says that all its mutants were asked for."""
    listed = [entry for entry in equivalents if entry.module == module]
    lived = [mutant for mutant in mutants if mutant.status in SURVIVED]
    survivors = tuple(mutant for mutant in lived if not any(entry.matches(mutant) for entry in listed))
    noticed = sum(mutant.status in NOTICED for mutant in mutants)
    not_run = len(mutants) - len(lived) - noticed
    stale = [entry for entry in listed if not any(entry.matches(mutant) for mutant in lived)]
    return Score(
        module=module,
        noticed=noticed,
        survivors=survivors,
        equivalent=len(lived) - len(survivors),
        not_run=not_run,
        stale=tuple(stale) if whole and not not_run else (),
    )


def render_table(scores: Iterable[Score]) -> str:
    """Return the scores as a table of at most 80 columns, with a row for the total."""
    rows = [f"{'module':<41}{'mutants':>8}{'noticed':>8}{'equiv.':>7}{'not run':>8}{'score':>7}"]
    total = [0, 0, 0, 0]
    for score in scores:
        counts = [score.noticed + len(score.survivors), score.noticed, score.equivalent, score.not_run]
        total = [sum(pair) for pair in zip(total, counts, strict=True)]
        rows.append(_row(str(score.module.relative_to("etl")), counts))
    return "\n".join([*rows, _row("all", total)])


def _row(name: str, counts: list[int]) -> str:
    mutants, noticed, equivalent, not_run = counts
    share = f"{noticed / mutants:.0%}" if mutants else "-"
    return f"{name[-40:]:<41}{mutants:>8}{noticed:>8}{equivalent:>7}{not_run:>8}{share:>7}"


def _stripped(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(line.strip() for line in lines)
