"""What the documents say, held against the code: modules, commands, settings, mapping keys, error codes, tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest

from etl.cli.main import main
from etl.config import settings
from etl.contract.spec import load_contract
from etl.errors import ExitStatus
from etl.mapping import columns, load, record
from etl.mapping.model import ColumnType
from etl.model.plan_facts import PlanFacts
from etl.model.tables import Dialect
from etl.plan.changes import guards
from etl.plan.rows import sql_values

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "etl"
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/decisions").glob("*.md")]
)

#: Exceptions of `etl.errors` whose first argument is a code.
CODED = {
    "ConnectError",
    "ConnectHttpError",
    "ConnectUnreachableError",
    "EtlError",
    "FetchError",
    "_ErrorReport",
    "InvalidFileError",
    "OutcomeUnknownError",
    "_RemoteFileMissing",
    "SettingsError",
    "StateError",
    "UsageError",
}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def sections(markdown: str) -> dict[str, str]:
    """Every heading with what stands below it, up to the next heading of its rank or a higher one."""
    heads = [(m.start(), len(m[1]), m[2].strip()) for m in re.finditer(r"(?m)^(#+) (.+)$", unfenced(markdown))]
    found = {}
    for n, (start, rank, title) in enumerate(heads):
        end = next((s for s, r, _ in heads[n + 1 :] if r <= rank), len(markdown))
        found[title] = markdown[start:end]
    return found


def unfenced(markdown: str) -> str:
    """The same length, with everything inside code fences blanked."""
    return re.sub(r"(?ms)^```.*?^```", lambda m: re.sub(r"[^\n]", " ", m[0]), markdown)


def named(part: str) -> set[str]:
    """Everything that stands in backticks."""
    return set(re.findall(r"`([^`\n]+)`", part))


def words(part: str) -> set[str]:
    """The words of everything that stands in backticks."""
    return {word for name in named(part) for word in re.findall(r"[A-Za-z_][\w-]*", name)}


@cache
def functions(folder: str) -> set[str]:
    return {
        node.name
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


# -- architecture -----------------------------------------------------------------------------------------------------


def modules() -> set[str]:
    files = {path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    return files | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def test_every_package_has_its_row() -> None:
    """ARCHITECTURE.md has one row for each package and module of the root, and none for one that does not exist."""
    table = sections(text("docs/ARCHITECTURE.md"))["Packages"]
    rows = [name for row in re.findall(r"(?m)^\| (`[\w/`, ]+`) \| .+ \|$", table) for name in re.findall(r"\w+", row)]
    assert len(rows) == len(set(rows))
    assert set(rows) == modules()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_are_named_exist(path: Path) -> None:
    """A file of the project that a document names is there."""
    for name in re.findall(r"`((?:etl|docs|tests|mappings|scripts)/[\w./-]+\.(?:py|md|yaml|yml))`", text(str(path))):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`etl\.(\w+)(?:\.\w+)*`", text(str(path))):
        assert name in modules() | {"toml"}, name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """A relative link leads to a file, and its fragment to a heading of that file."""
    for target in re.findall(r"\]\(([^)\s]+)\)", unfenced(text(str(path)))):
        if "://" in target:
            continue
        name, _, fragment = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), target
        if fragment:
            titles = re.findall(r"(?m)^#+ (.+)$", unfenced(file.read_text(encoding="utf-8")))
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert fragment in anchors, target


# -- command line -----------------------------------------------------------------------------------------------------


def commands(group: click.Group = main, before: str = "") -> dict[str, click.Command]:
    """Every command by its words, groups left out."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        words = f"{before}{name}"
        found |= commands(command, f"{words} ") if isinstance(command, click.Group) else {words: command}
    return found


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_is_described(name: str) -> None:
    """docs/cli.md has a section for each command that mentions each of its options and arguments."""
    part, command = sections(text("docs/cli.md"))[f"etl {name}"], commands()[name]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert words(part) >= {option.lstrip("-") for option in parameter.opts}, parameter.opts
        else:
            assert parameter.make_metavar(click.Context(command)).strip("[].") in part


def test_common_options_and_statuses_are_described() -> None:
    """docs/cli.md names the options before the command, and a row for each exit status."""
    document = text("docs/cli.md")
    for option in (name for parameter in main.params for name in parameter.opts if name.startswith("--")):
        assert option in document
    table = sections(document)["Exit statuses"]
    assert {int(number) for number in re.findall(r"(?m)^\| (\d+) \|", table)} == set(ExitStatus)


def test_no_command_is_made_up() -> None:
    """docs/cli.md describes no command that does not exist."""
    described = {title.removeprefix("etl ") for title in sections(text("docs/cli.md")) if title.startswith("etl ")}
    assert described == set(commands())


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", sorted(settings._SECTIONS))
def test_every_setting_is_described(section: str) -> None:
    """docs/settings.md has a row for each key of each section, with its default."""
    part = sections(text("docs/settings.md"))[f"[{section}]"]
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| ([^|]+) \|", part))
    fields = msgspec.structs.fields(settings._SECTIONS[section])
    assert set(rows) == {field.name for field in fields}
    for field in fields:
        if field.default not in (msgspec.NODEFAULT, None):
            shown = rows[field.name].strip("` ").strip('"').replace(" ", "")
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert shown == default.replace(" ", "") or float(shown) == float(default), field.name


def test_every_environment_variable_is_described() -> None:
    """docs/settings.md names each variable that the package reads, and no other."""
    found = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"\bETL_[A-Z][A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    assert set(re.findall(r"\bETL_[A-Z][A-Z_]+\b", text("docs/settings.md"))) == found


# -- mappings ---------------------------------------------------------------------------------------------------------


def examples() -> list[tuple[str, str]]:
    """The examples of docs/mapping.md that are said to be complete: feed and text."""
    blocks = re.findall(r"(?ms)^```yaml complete\n(.*?)^```", text("docs/mapping.md"))
    return [(re.search(r"feed: (\S+)", block)[1], block) for block in blocks]  # type: ignore[index]


@pytest.mark.parametrize(("feed", "block"), examples(), ids=lambda value: str(value)[:30].partition("\n")[0])
def test_examples_of_mappings_are_right(feed: str, block: str, tmp_path: Path) -> None:
    """Each complete example of docs/mapping.md is read without a problem."""
    for name, table in re.findall(r"(?ms)^```csv (\S+)\n(.*?)^```", text("docs/mapping.md")):
        (tmp_path / name).write_text(table, encoding="utf-8")
    path = tmp_path / f"{feed}.yaml"
    path.write_text(block, encoding="utf-8")
    assert load.load_mapping(path).feed == feed


def test_examples_show_every_operation() -> None:
    """The complete examples have names of their own and use each of Connect's imports at least once."""
    feeds = [feed for feed, _ in examples()]
    assert len(feeds) == len(set(feeds))
    used = {operation for _, block in examples() for operation in re.findall(r"(?m)^operation: (\S+)", block)}
    assert used == set(load_contract().operations)


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("Keys of the file", load.MAPPING_KEYS),
        ("source", load.SOURCE_KEYS),
        ("source", tuple(Dialect.__dataclass_fields__)),
        ("columns", columns.COLUMN_KEYS),
        ("columns", get_args(ColumnType)),
        ("Values", record.VALUE_KEYS),
        ("Lists", tuple({key for keys in record.LIST_KEYS.values() for key in keys})),
        ("Guards", guards.GUARD_NAMES),
    ],
    ids=["file", "source", "dialect", "columns", "types", "values", "lists", "guards"],
)
def test_every_key_of_a_mapping_is_described(title: str, keys: tuple[str, ...]) -> None:
    """docs/mapping.md names each key that the reader of mappings knows, where it belongs."""
    part = sections(text("docs/mapping.md"))[title]
    heads = {word for head in sections(part) for word in words(head) | {head}}
    rows = {word for row in re.findall(r"(?m)^\| (`[^|]+) \|", part) for word in words(row)}
    assert set(keys) <= heads | rows, set(keys) - heads - rows


# -- trouble ----------------------------------------------------------------------------------------------------------


def constants(node: ast.expr | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)


def codes() -> set[str]:
    """Every code that an error of the package can carry."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") in CODED for base in node.bases):
                for call in (inner for inner in ast.walk(node) if isinstance(inner, ast.Call)):
                    if ast.unparse(call.func) == "super().__init__" and call.args:
                        found.update(constants(call.args[0]))
            if not isinstance(node, ast.Call) or not node.args:
                continue
            callee = ast.unparse(node.func)
            if callee.rpartition(".")[2] in CODED:
                found.update(constants(node.args[0]))
            elif re.fullmatch(r"(self\.)?problems\.(add|add_unknown)", callee):
                found.update(f"mapping-{code}" for code in constants(node.args[0]))
            if callee.rpartition(".")[2] in CODED and ast.unparse(node.args[0]) == "code":
                for inner in ast.walk(tree):  # `code, hint = "…", "…"` before the call
                    if isinstance(inner, ast.Assign) and ast.unparse(inner.targets[0]) == "(code, hint)":
                        assert isinstance(inner.value, ast.Tuple)
                        found.update(constants(inner.value.elts[0]))
            elif callee == "_warning":
                found.update(f"mapping-{code}" for code in constants(node.args[0]))
            elif callee == "_one_of":
                found.update(f"mapping-{code}" for code in constants(node.args[1]))
    return found


def test_every_error_has_its_heading() -> None:
    """docs/operations.md has a heading for each code that the program can show, and for none that it cannot."""
    heads = {name for title in sections(text("docs/operations.md")) for name in named(title)}
    assert heads == codes()


# -- promises ---------------------------------------------------------------------------------------------------------


def test_named_tests_exist() -> None:
    """A test that a document names is there, in the file it is said to be in."""
    for path in DOCUMENTS:
        for name in re.findall(r"\btest_\w+", text(str(path))):
            assert name in functions("tests") | {p.stem for p in (ROOT / "tests").rglob("*.py")}, f"{path.name}: {name}"
        for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text(str(path))):
            assert f"def {name}" in text(file), f"{path.name}: {file}::{name}"


def test_every_threat_has_its_test() -> None:
    """Each row of docs/security.md ends with a test, and each part of it names one."""
    for title, part in sections(text("docs/security.md")).items():
        rows = [row for row in re.findall(r"(?m)^\|(.+)\|$", part) if "---" not in row and "threat" not in row]
        assert all("::test_" in row.rpartition(" | ")[2] for row in rows), rows
        assert "::test_" in part or title in ("Dependencies",), title


def test_every_promise_has_its_section() -> None:
    """docs/guarantees.md speaks of P1 to P8, each with a test or with the plain word that one is missing."""
    parts = sections(text("docs/guarantees.md"))
    for number in range(1, 9):
        part = next(body for title, body in parts.items() if title.startswith(f"P{number} "))
        assert "::test_" in part or "No test" in part


# -- JSON -------------------------------------------------------------------------------------------------------------


def keys_of(function: str, path: str) -> set[str]:
    """Every constant key of the dicts that a function writes down, and of what it assigns by key."""
    tree = ast.parse(text(path))
    body = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function)
    found: set[str] = set()
    for node in ast.walk(body):
        if isinstance(node, ast.Dict):
            found.update(key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            found.update(constants(node.slice))
    return found


@pytest.mark.parametrize(
    ("title", "function", "path"),
    [
        ("A run", "run_json", "etl/report/run_report.py"),
        ("The report", "report_json", "etl/report/run_report.py"),
        ("The report", "_record_error_json", "etl/report/run_report.py"),
        ("The status", "_status_json", "etl/cli/status.py"),
        ("The plan", "plan_json", "etl/cli/preview.py"),
        ("The plan", "_request_json", "etl/cli/preview.py"),
        ("The summary", "impact_to_json", "etl/plan/changes/impact.py"),
        ("The guards", "to_json", "etl/plan/changes/guards.py"),
        ("The guards", "to_json", "etl/plan/changes/impact.py"),
    ],
)
def test_every_key_of_the_json_outputs_is_described(title: str, function: str, path: str) -> None:
    """docs/cli.md names each key of what the commands print as JSON."""
    keys = keys_of(function, path)
    assert keys
    assert keys <= words(sections(text("docs/cli.md"))[title]), keys


def test_every_fact_of_a_plan_is_described() -> None:
    """docs/cli.md names each fact that a report has of its plan."""
    facts = {field.encode_name for field in msgspec.structs.fields(PlanFacts)}
    assert facts <= words(sections(text("docs/cli.md"))["The report"]), facts


def test_the_reasons_of_rejections_are_listed() -> None:
    """docs/operations.md lists each reason for which the reading of files rejects a row."""
    listed = named(sections(text("docs/operations.md"))["Rows were rejected"])
    assert sql_values.CODE in listed
    for path in [
        *PACKAGE.glob("formats/**/*.py"),
        PACKAGE / "plan/rows/transform.py",
        PACKAGE / "plan/rows/list_rules.py",
        PACKAGE / "plan/rows/convert.py",
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and len(node.args) > 2:
                callee = ast.unparse(node.func)
                if callee.endswith("malformed.add"):
                    assert set(constants(node.args[1])) <= listed
                elif callee in ("_reject", "Flaw"):
                    assert set(constants(node.args[2])) <= listed
