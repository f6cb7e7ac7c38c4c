"""The command around mutmut: which tests, which functions, which line."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from tests.mutation import changes, nearest, results

ROOT = Path(__file__).parents[2]

MODULE = Path("etl/plan/limits.py")
WRITTEN = """class Limit:
    def allows(self, count):
        # the limit itself is allowed
        return count <= self.most


def double(count):
    return count * 2
"""
MUTATED = """class Limit:
    def xǁLimitǁallows__mutmut_orig(self, count):
        # the limit itself is allowed
        return count <= self.most
    def xǁLimitǁallows__mutmut_1(self, count):
        # the limit itself is allowed
        return count < self.most


def x_double__mutmut_orig(count):
    return count * 2
def x_double__mutmut_1(count):
    return count / 2
"""
RESULTS = "    etl.plan.limits.xǁLimitǁallows__mutmut_1: survived\n    etl.plan.limits.x_double__mutmut_1: killed\n"


def test_every_module_has_tests() -> None:
    """Each module under mutation has nearest tests, and all of them are files."""
    modules = [module for package in nearest.PACKAGES for module in nearest.modules_of(ROOT, package)]
    tests = {module: nearest.nearest_tests(ROOT, module) for module in modules}
    assert len(modules) > 100
    assert [module for module, files in tests.items() if not files] == []
    assert all((ROOT / file).is_file() for files in tests.values() for file in files)


@pytest.mark.parametrize("target", ["plan.changes.guards", "plan/changes/guards", "etl/plan/changes/guards.py"])
def test_a_target_is_a_package_or_a_module(target: str) -> None:
    """A module is named with dots, with slashes or as a path; an unknown name is an error."""
    assert nearest.modules_of(ROOT, target) == [Path("etl/plan/changes/guards.py")]
    assert nearest.nearest_tests(ROOT, Path("etl/plan/changes/guards.py"))[0].name == "test_guards.py"
    with pytest.raises(LookupError):
        nearest.modules_of(ROOT, "plan.nothing")


def test_a_survivor_has_its_line_and_difference(tmp_path: Path) -> None:
    """A mutant names the line of the module, the function with its class, and what changed."""
    mutants = _read(tmp_path)
    survivor = mutants[0]
    assert (survivor.function, survivor.line, survivor.status) == ("Limit.allows", 4, "survived")
    assert survivor.removed == ("return count <= self.most",)
    assert survivor.added == ("return count < self.most",)
    score = results.score_mutants(MODULE, mutants, [], whole=True)
    assert (score.noticed, score.survivors, score.share) == (1, (survivor,), 0.5)
    assert all(len(line) <= 80 for line in results.render_table([score]).splitlines())


def test_an_equivalent_survivor_does_not_count(tmp_path: Path) -> None:
    """A listed survivor leaves the score; an entry that matches no survivor of a whole run is stale."""
    mutants = _read(tmp_path)
    listed = results.Equivalent(MODULE, "Limit.allows", mutants[0].removed, mutants[0].added, "no count is the limit")
    killed = results.Equivalent(MODULE, "double", mutants[1].removed, mutants[1].added, "a test notices it")
    score = results.score_mutants(MODULE, mutants, [listed, killed], whole=True)
    assert (score.survivors, score.equivalent, score.stale) == ((), 1, (killed,))
    assert results.score_mutants(MODULE, mutants, [killed], whole=False).stale == ()


def test_equivalent_survivors_stand_in_the_code() -> None:
    """The lines of each entry of the list stand in the function that it names."""
    for entry in results.load_equivalents():
        tree = ast.parse((ROOT / entry.module).read_text(encoding="utf-8"))
        source = (ROOT / entry.module).read_text(encoding="utf-8").splitlines()
        owner, _, name = entry.function.rpartition(".")
        within = (
            [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner] if owner else [tree]
        )
        found = [
            node for part in within for node in part.body if isinstance(node, ast.FunctionDef) and node.name == name
        ]
        assert found, f"{entry.module}: {entry.function}"
        lines = {line.strip() for line in source[found[0].lineno - 1 : found[0].end_lineno]}
        assert set(entry.removed) <= lines, f"{entry.module}: {entry.function}: {entry.removed}"


def test_changed_functions_of_the_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the functions whose lines the commits since the named one changed are run."""
    monkeypatch.delenv(changes.SINCE, raising=False)
    path = tmp_path / MODULE
    path.parent.mkdir(parents=True)
    _git(tmp_path, "init", "--quiet", "--initial-branch=work")
    assert changes.find_previous_landing(tmp_path) is None
    for text in (WRITTEN, WRITTEN.replace("<=", "<")):
        path.write_text(text, encoding="utf-8")
        _git(tmp_path, "add", ".")
        _git(tmp_path, "commit", "--quiet", "--message", "a change")
    since = changes.find_previous_landing(tmp_path)
    assert since is not None
    assert changes.changed_functions(tmp_path, since) == {MODULE: ["xǁLimitǁallows"]}
    monkeypatch.setenv(changes.SINCE, "HEAD")
    named = changes.find_previous_landing(tmp_path)
    assert named is not None
    assert changes.changed_functions(tmp_path, named) == {}


def _read(folder: Path) -> list[results.Mutant]:
    for place, text in (("written", WRITTEN), ("mutated", MUTATED)):
        (folder / place / MODULE).parent.mkdir(parents=True)
        (folder / place / MODULE).write_text(text, encoding="utf-8")
    return results.read_mutants(folder / "written", folder / "mutated", MODULE, RESULTS)


def _git(folder: Path, *words: str) -> None:
    settings = ["-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *settings, *words], cwd=folder, check=True, capture_output=True)
