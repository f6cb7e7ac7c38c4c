"""`make mutants`: change the code in one place at a time with mutmut, and list what the tests do not notice.

Each module runs by itself, with the tests nearest to it (see `nearest.py`), in a copy of the project outside of it.
Survivors do not fail the command: it ends with 1 when an entry of `equivalent.toml` matches no survivor any more, and
with 2 when mutmut itself fails, for example because the tests fail without a change.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.mutation import changes, nearest, results

ROOT = Path(__file__).parents[2]

#: What the tests read besides `etl/`, as links in the folder that mutmut copies from.
NEEDED = ("etl", "tests", "mappings", "docs", "deploy", "scripts", "README.md", "CHANGELOG.md", "Makefile")

#: Lines with a sentence are for people, and stay as they are: a word in it is no mistake that a test has to notice.
SENTENCES = r"""["'][^"']*[A-Za-z.,;:'}] [^"']*["']"""

#: Seconds that a module gets at least in a run with a limit, if that many are left.
LEAST = 45.0


class MutmutError(Exception):
    """mutmut failed, or the tests fail without a change."""


@dataclass(frozen=True)
class Plan:
    """What to run for one module."""

    module: Path
    tests: list[Path]
    functions: list[str]  #: by their names in mutmut; all where empty

    @property
    def patterns(self) -> list[str]:
        """The mutants that are asked for, as mutmut's patterns."""
        prefix = ".".join(self.module.with_suffix("").parts)
        return [f"{prefix}.{name}__mutmut_*" for name in self.functions]

    @property
    def marks(self) -> str:
        """The tests to take by their marks: slow ones only where a whole file is slow."""
        slow = any(
            "\npytestmark = pytest.mark.slow" in (ROOT / path).read_text(encoding="utf-8") for path in self.tests
        )
        return "" if slow else "not slow"


def run_plan(plan: Plan, jobs: int, seconds: float | None) -> list[results.Mutant]:
    """Run the mutants of a module and return them with their statuses.

    Raises:
        MutmutError: mutmut failed, or the tests fail without a change.
    """
    with _workspace(plan) as folder:
        output = folder / "output.txt"
        code = _run_mutmut(folder, ["run", "--max-children", str(jobs), *plan.patterns], output, seconds)
        text = output.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
        untested = "could not find any test case for any mutant" in text
        if code and "nothing matches" not in text and not untested:
            raise MutmutError(f"{plan.module}: mutmut ended with {code}:\n{text[-3000:]}")
        listed = folder / "results.txt"
        if _run_mutmut(folder, ["results", "--all", "true"], listed, None):
            raise MutmutError(f"{plan.module}: mutmut lists no results:\n{listed.read_text(encoding='utf-8')[-3000:]}")
        lines = listed.read_text(encoding="utf-8")
        if untested:
            lines = lines.replace(": not checked", ": no tests")
        mutants = results.read_mutants(ROOT, folder / "mutants", plan.module, lines)
    if not plan.functions:
        return mutants
    asked = {re.sub(r"^xǁ|^x_", "", name).replace("ǁ", ".") for name in plan.functions}
    return [mutant for mutant in mutants if mutant.function in asked]


@contextmanager
def _workspace(plan: Plan) -> Iterator[Path]:
    """Make a folder with links to the project and the settings of mutmut for one module."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        for part in NEEDED:
            (folder / part).symlink_to(ROOT / part)
        settings = "\n".join(
            [
                "",
                "[tool.mutmut]",
                'source_paths = ["etl"]',
                f'only_mutate = ["{plan.module}"]',
                f"also_copy = {list(NEEDED[2:])}",
                f"do_not_mutate_patterns = ['''{SENTENCES}''']",
                'process_isolation = "forkserver"',
                f"pytest_add_cli_args = {['-m', plan.marks] if plan.marks else []}",
                f"pytest_add_cli_args_test_selection = {[str(path) for path in plan.tests]}",
                "use_git_change_detection = false",
                "",
            ]
        )
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        (folder / "pyproject.toml").write_text(text + settings, encoding="utf-8")
        yield folder


def _run_mutmut(folder: Path, words: list[str], output: Path, seconds: float | None) -> int:
    """Return the exit status of mutmut; 0 when it was stopped because the time is over."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)  # it names the code without changes
    samples = ROOT.parent / "shared" / "samples"
    if samples.is_dir():
        environment.setdefault("ETL_SAMPLES", str(samples))
    command = [str(Path(sys.executable).parent / "mutmut"), *words]
    with output.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            return 0
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a stopped mutmut save its results, then end what is left of its processes."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def plan_targets(targets: list[str]) -> list[Plan]:
    """Return what to run for the packages and modules that are named; all packages where none is."""
    modules = [module for target in targets or nearest.PACKAGES for module in nearest.modules_of(ROOT, target)]
    return [Plan(module, nearest.nearest_tests(ROOT, module), []) for module in dict.fromkeys(modules)]


def plan_landing() -> list[Plan]:
    """Return what to run for the functions changed since the last landing.

    Modules that decide come first, then those with the fewest changed functions: a limit of time reaches more modules.
    """
    since = changes.find_previous_landing(ROOT)
    if since is None:
        print("no earlier commit is known; nothing to compare with")
        return []
    print(f"functions changed since {since[:10]}")
    found = changes.changed_functions(ROOT, since)
    ordered = sorted(
        found.items(), key=lambda item: (not str(item[0]).startswith(nearest.DECIDING), len(item[1]), item[0])
    )
    return [Plan(module, nearest.nearest_tests(ROOT, module), names) for module, names in ordered]


def run_plans(plans: list[Plan], words: argparse.Namespace) -> list[results.Score]:
    """Run the modules one after another within the limit, print the survivors of each, and return the scores."""
    equivalents = results.load_equivalents()
    end = time.monotonic() + words.minutes * 60 if words.minutes else None
    scores = []
    for number, plan in enumerate(plans):
        left = end - time.monotonic() if end is not None else None
        if left is not None and left < min(LEAST, words.minutes * 60):
            later = [str(later.module) for later in plans[number:]]
            print(
                f"\nno time left for {len(later)} modules: {', '.join(later[:10])}{', ...' if len(later) > 10 else ''}"
            )
            break
        begun = time.monotonic()
        share = None if left is None else min(left, max(LEAST, left / (len(plans) - number)))
        mutants = run_plan(plan, words.jobs, share) if plan.tests else []
        score = results.score_mutants(plan.module, mutants, equivalents, whole=not plan.functions)
        scores.append(score)
        print(f"\n{plan.module}: {score.noticed} noticed, {len(score.survivors)} survived, ", end="")
        print(f"{score.not_run} not run, {time.monotonic() - begun:.0f} s", flush=True)
        listed = "".join(f"{mutant.describe()}\n" for mutant in score.survivors)
        print(listed, end="", flush=True)
        if words.survivors:
            name = str(plan.module.with_suffix("").relative_to("etl")).replace("/", "-")
            (words.survivors / f"survivors-{name}.txt").write_text(listed, encoding="utf-8")
    return scores


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help="packages or modules: plan, plan/changes/guards; all unless given")
    parser.add_argument("--changed", action="store_true", help="only functions changed since the last landing")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--survivors", type=Path, help="folder for a file of survivors per module")
    words = parser.parse_args()
    try:
        plans = plan_landing() if words.changed else plan_targets(words.targets)
        scores = run_plans(plans, words)
    except (MutmutError, LookupError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n" + results.render_table(scores))
    stale = [entry for score in scores for entry in score.stale]
    for entry in stale:
        print(f"equivalent.toml: no survivor is this any more: {entry.module} {entry.function} {entry.removed}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
