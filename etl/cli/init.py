"""`etl init`: drafts a mapping from a sample file, with everything that the file shows.

The dialect is frozen as it was detected, columns get the types that all cells looked at have, and headers are held
against Connect's fields. What a file cannot tell is a TODO, never made up: a draft with gaps does not pass `etl check`,
and says at its end what the check still asks for.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl import filesystem, formats
from etl.contract import spec
from etl.contract.spec import Field, Operation
from etl.errors import ExitStatus, InvalidMappingError, UsageError
from etl.mapping import column_types, field_matching, load
from etl.mapping.column_types import TypeGuess
from etl.mapping.record import COMPATIBLE_COLUMN_TYPES
from etl.mapping.text import WHITESPACE
from etl.model.tables import Dialect, Table

if TYPE_CHECKING:
    from etl.formats.detect.dialect import Detection

#: Rows whose cells are looked at.
SAMPLE_ROWS = 5_000
PLAIN_SCALAR = re.compile(r"[A-Za-zÀ-ɏ][\wÀ-ɏ ./()%-]*[\wÀ-ɏ)%]|[A-Za-zÀ-ɏ]")
YAML_KEYWORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
#: The signs of an import: a field that only it has, and words in the names of its files.
OPERATION_HINTS = {
    "Product/ImportOnhands": ("OnhandValue", "stock inventory lager saldo bestand onhand varasto beholdning"),
    "Product/ImportSkuPriceLists": ("PriceSale", "price pris preis hinna hinta"),
    "Product/ImportProducts": ("ManufacturerPartNo", "product produkt artikel article varer tuote catalog katalog pim"),
    "Product/ImportRelations": ("RelatedPartNo", "relation relater accessor tillbehor zubehor"),
    "Product/ImportPriceLists": ("DefaultMinMarginPercent", "pricelists prislistor preislisten"),
    "Supplier/ImportProducts": ("SupplierPartNo", "supplier leverant lieferant"),
    "Customer/ImportCustomers": ("EmailAddress", "customer kunde kund asiakas"),
    "Customer/ImportCompanies": ("OrganizationNo", "compan foretag firmen yritys"),
}
#: The levels of a product: schema, and where its fields stand in the record.
PRODUCT_LEVELS = (
    ("Product.Product", ()),
    ("Product.ProductCulture", ("Cultures:", "sv-SE:  # TODO the language of these texts")),
    ("Product.Variant", ("Variants:", "rows:")),
    ("Product.Sku", ("Variants:", "rows:", "Skus:", "-")),
)


def init(file: Path, operation: str | None, output: Path | None) -> ExitStatus:
    """Write a draft to the terminal or to a new file, and what is missing in it to standard error."""
    chosen = _find_operation(operation) if operation else None
    if output is not None and output.exists():
        raise UsageError("file-exists", "the mapping file exists already", where=str(output), hint="choose a new name")
    text = draft_mapping(file, chosen)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        filesystem.write_atomically(output, text.encode())
        click.echo(f"{output} is written; look through its TODOs, then `etl check {output}`", err=True)
    return ExitStatus.OK


def draft_mapping(file: Path, operation: Operation | None) -> str:
    """Draft the mapping of a file, with the problems that `etl check` has with it as comments at the end."""
    detection = formats.detect_dialect(file)
    table = formats.read_table(file, detection.dialect)
    chosen, alternative = (operation, "") if operation else _guess_operation(table.columns, file.name)
    draft = _render_draft(file, detection, table, chosen, alternative)
    problems = find_draft_problems(draft)
    if not problems:
        return draft + "# `etl check` has nothing against this draft.\n"
    lines = "".join(f"#   {problem}\n" for problem in problems)
    return f"{draft}# Before `etl check` passes:\n{lines}"


def find_draft_problems(text: str) -> list[str]:
    """Return the problems that `etl check` finds in a mapping, one line each."""
    with tempfile.TemporaryDirectory(prefix="etl-draft-") as folder:
        path = Path(folder, "draft.yaml")
        path.write_text(text, encoding="utf-8")
        try:
            load.load_mapping(path)
        except InvalidMappingError as error:
            return [f"{problem.message}: {problem.hint}" for problem in error.problems]
    return []


def _find_operation(name: str) -> Operation:
    operations = spec.load_contract().operations
    matches = [id_ for id_ in operations if name.lower() in (id_.lower(), id_.partition("/")[2].lower())]
    if len(matches) != 1:
        message = f'"{name}" is no import of Connect' if not matches else f'"{name}" is two imports'
        raise UsageError("operation-unknown", message, hint=f"one of {', '.join(matches or operations)}")
    return operations[matches[0]]


def _record_levels(operation: Operation) -> Sequence[tuple[str, tuple[str, ...]]]:
    return PRODUCT_LEVELS if operation.item_schema == "Product.Product" else ((operation.item_schema, ()),)


def _draftable_fields(operation: Operation) -> dict[str, Field]:
    """Return the plain fields that may be proposed, by name; of two with the same name the outer one."""
    fields: dict[str, Field] = {}
    for schema, _ in _record_levels(operation):
        for name, field in spec.load_contract().schemas[schema].items():
            if field.type in COMPATIBLE_COLUMN_TYPES and not field.deprecated:
                fields.setdefault(name, field)
    return fields


def _guess_operation(headers: Sequence[str], file_name: str) -> tuple[Operation, str]:
    """Return the import whose fields fit the headers best, and the id of the second best where it is nearly as good."""
    name_words = field_matching.normalize_header(file_name)

    def score(operation: Operation) -> float:
        pairs = field_matching.match_fields(headers, _draftable_fields(operation))
        field, words = OPERATION_HINTS.get(operation.id, ("", ""))
        keys = operation.key.fields
        hints = 2.0 * (field in pairs) + 2.0 * any(word in name_words for word in words.split())
        return hints + len(pairs) + 1.5 * sum(key in pairs for key in keys) / len(keys)

    scores = sorted(((score(op), op.id) for op in spec.load_contract().operations.values()), reverse=True)
    return spec.load_contract().operations[scores[0][1]], scores[1][1] if scores[0][0] < scores[1][0] + 1 else ""


def _render_draft(file: Path, detection: Detection, table: Table, operation: Operation, alternative: str) -> str:
    cells = {
        name.strip(WHITESPACE): table.frame[name].head(SAMPLE_ROWS).drop_nulls().to_list() for name in table.columns
    }  # names as the checks of a run get them
    excel = detection.dialect.format == "excel"
    guesses = {name: column_types.guess_column_type(texts, excel=excel) for name, texts in cells.items()}
    fields = _draftable_fields(operation)
    usable = [name for name in cells if "{" not in name]
    mark = _decimal_mark(guesses.values())
    pairs = field_matching.match_fields(
        [name for name in usable if any(cell.strip(WHITESPACE) for cell in cells[name])], fields
    )
    doubtful: dict[str, str] = {}
    for name, header in list(pairs.items()):
        fitted = _adapt_guess(guesses[header], fields[name], cells[header], mark)
        if fitted is None or ("*" in header and fitted.type != "text"):
            doubtful[header] = f"{name} is a {fields[name].type}, the cells are {guesses[header].type}"
            del pairs[name]
        else:
            guesses[header] = fitted
    lines = _head_lines(file, detection, table, operation, alternative)
    used = set(pairs.values())
    for name in cells:
        lines += _column_lines(name, guesses[name], name in used, doubtful.get(name), name in usable)
    lines.append("record:")
    lines += [f"  {line}" for line in _record_lines(operation, pairs)]
    open_keys = [key for key in operation.key.fields if key not in pairs]
    if open_keys and operation.key.match == "all" and len(_record_levels(operation)) == 1:
        for key in open_keys:
            if key not in (operation.key.defaults or {}):
                lines.append(f"  # TODO {key}: part of the key; a column, or {{value: …}}")
    lines += ["# TODO supplier: the supplier's id in Norce Admin"] if operation.key.header_fields else []
    return "\n".join(lines) + "\n"


def _head_lines(file: Path, detection: Detection, table: Table, operation: Operation, alternative: str) -> list[str]:
    """Return the lines of a draft before its columns."""
    stem = re.sub(r"[\d_. -]+$", "", file.name.split(".")[0])
    lines = [f"# Drafted by `etl init` from {file.name}; {table.rows} rows."]
    lines += [f"# {sentence}" for sentence in detection.evidence]
    lines += [
        f"feed: {_feed_name(stem)}",
        f"operation: {operation.id}" + (f"  # TODO or {alternative}: which import is meant?" if alternative else ""),
        "source:",
        f"  files: {quote(re.sub(r'[0-9][0-9_.-]*(?=[._-]|$)|[0-9]{2,}', '*', file.name))}"
        "  # TODO the pattern of its names below the inbox",
        "  content: full  # TODO full: each file holds everything; changes: only what has changed",
        *(f"  {line}" for line in _dialect_lines(detection.dialect)),
        "columns:",
    ]
    return lines


def _feed_name(stem: str) -> str:
    """Return the words of the file's name without its numbers."""
    words = (field_matching.normalize_header(word) for word in re.split(r"[\W\d_]+", stem))
    return "-".join(word for word in words if len(word) > 1)[:60].strip("-") or "feed"


def _decimal_mark(type_guesses: Iterable[TypeGuess]) -> str:
    """Return the decimal mark that most decimal columns of the file have."""
    marks = Counter(str(guess.settings.get("decimal", ".")) for guess in type_guesses if guess.type == "decimal")
    return marks.most_common(1)[0][0] if marks else "."


def _adapt_guess(type_guess: TypeGuess, field: Field, cells: Sequence[str], decimal_mark: str) -> TypeGuess | None:
    """Return the type that the field needs; None if the cells do not fit it. Whole prices become decimals."""
    if field.type == "number" and type_guess.type == "integer":
        return TypeGuess("decimal", {} if decimal_mark == "." else {"decimal": decimal_mark}, type_guess.uncertainty)
    if field.type == "string":
        return (
            TypeGuess()
            if type_guess.type in ("integer", "decimal")
            else type_guess
            if type_guess.type == "text"
            else TypeGuess()
        )
    if field.type == "boolean":
        return column_types.guess_boolean(cells)
    if field.type in ("enum", "uuid", "uri"):
        return None
    return type_guess if type_guess.type in COMPATIBLE_COLUMN_TYPES[field.type] else None


def _dialect_lines(dialect: Dialect) -> Iterator[str]:
    usual = Dialect()
    for setting in dataclasses.fields(Dialect):
        value = getattr(dialect, setting.name)
        if value != getattr(usual, setting.name):
            json_value = list(value) if isinstance(value, tuple) else value
            yield f"{setting.name}: {json.dumps(json_value, ensure_ascii=False)}"


def _column_lines(
    name: str, type_guess: TypeGuess, is_used: bool, mismatch: str | None, is_usable: bool
) -> Iterator[str]:
    settings = "".join(
        f", {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in type_guess.settings.items()
    )
    remarks = [remark for remark in (type_guess.uncertainty, mismatch) if remark]
    if not is_usable:
        yield f"  # {quote(name)}: a name with {{ means a pattern here; rename it with source.columns"
        return
    if "*" in name:
        remark = "text" if is_used else "; ".join(remarks) or "not in the record"
        yield f"  # {quote(name)}: {remark} (a star means a pattern here, so it is not declared)"
        return
    if not is_used and not remarks:
        remarks = ["not in the record"]
    note = f"  # {'TODO ' if type_guess.uncertainty or mismatch else ''}{'; '.join(remarks)}" if remarks else ""
    yield f"  {'' if is_used else '# '}{quote(name)}: {{type: {type_guess.type}{settings}}}{note}"


def _record_lines(operation: Operation, headers_by_field: dict[str, str]) -> Iterator[str]:
    remaining_headers = dict(headers_by_field)
    open_path: tuple[str, ...] = ()
    for schema, path in _record_levels(operation):
        names = [name for name in remaining_headers if name in spec.load_contract().schemas[schema]]
        if not names and not any(key in spec.load_contract().schemas[schema] for key in operation.key.fields):
            continue
        shared = sum(1 for a, b in zip(open_path, path, strict=False) if a == b)
        for depth in range(shared, len(path)):
            if path[depth] != "-":
                yield "  " * depth + path[depth]
        open_path = path
        dash = path[-1:] == ("-",)
        indent = "  " * (len(path) - dash) + ("  " if dash else "")
        missing_keys = [
            key
            for key in operation.key.fields
            if key in spec.load_contract().schemas[schema] and key not in headers_by_field
        ]
        if dash and missing_keys:
            yield f"{indent[:-2]}- # TODO {missing_keys[0]}: part of the key; a column, or {{value: …}}"
        for at, name in enumerate(names):
            start = indent[:-2] + "- " if dash and at == 0 and not missing_keys else indent
            yield f"{start}{name}: {quote(remaining_headers.pop(name))}"


def quote(text: str) -> str:
    """Return a text as a YAML scalar, in quotes where YAML needs them."""
    if PLAIN_SCALAR.fullmatch(text) and text.lower() not in YAML_KEYWORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def explain_detection(file: Path) -> list[str]:
    """Return the evidence for the detected dialect of a file, and its columns, in sentences."""
    detection = formats.detect_dialect(file)
    names = ", ".join(name[:40] for name in detection.columns[:12]) + (" …" if len(detection.columns) > 12 else "")
    return [*detection.evidence, f"{len(detection.columns)} columns: {names}"]
