"""What is made from `contract.yaml`: `contract.json`, which is read faster, and docs/connect.md (`make reference`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from etl.contract import spec as contracts
from etl.contract.spec import Contract, Field, Flag, Operation

HEAD = """\
# Connect, as this program knows it

Made from `etl/contract/contract.yaml` by `make reference`; a test fails when it is stale. Each import with its key,
what a full feed may switch off, its fields and the flags that write them. Flags of the kind `create_only` and
`limited_update` are chosen by name in a mapping (`flag:`), switches and row guards under `switches:`; plain ones
follow from the fields. What the words of a mapping mean is in [mapping.md](mapping.md).

Columns: *needed* is what Connect requires; *null* is what an emptied value does; *length* in brackets is what Norce
seems to store, without a promise. A field without a flag is read whenever it is present.
"""
NULL = {
    "ignored": "ignored, as is 0",
    "inherit": "inherits",
    "reset": "resets",
    "no_change": "changes nothing",
}


PACKAGE = Path(__file__).parent


def facts() -> str:
    """`contract.yaml` as JSON, with everything in its order."""
    from ruamel.yaml import YAML

    raw = YAML(typ="safe").load((PACKAGE / "contract.yaml").read_text(encoding="utf-8"))
    return json.dumps(raw, ensure_ascii=False, indent=1) + "\n"


def page() -> str:
    """The whole of docs/connect.md."""
    contract = contracts.load()
    parts = [HEAD]
    parts += ["\n".join(_operation(contract, operation)) for operation in contract.operations.values()]
    parts.append("\n".join(_enums(contract)))
    return "\n".join(parts)


def _operation(contract: Contract, operation: Operation) -> Iterator[str]:
    yield f"## {operation.id}\n"
    if operation.note:
        yield f"{operation.note}\n"
    key = ", ".join(f"`{path}`" for path in operation.key.paths)
    how = "the first of these that is given" if operation.key.match == "first_of" else "all of these"
    yield f"- **Key**: {key} ({how})" + "".join(f"; `{name}` in the header" for name in operation.key.header_fields)
    unknown = {"created": "created", "ignored": "ignored without a word", "not_stated": "not stated"}
    yield f"- **Unknown key**: {unknown[operation.unknown_key]}"
    if operation.create_needs:
        yield f"- **A new record needs**: {', '.join(f'`{path}`' for path in operation.create_needs)}"
    yield f"- **Full feed**: {_full(operation)}"
    yield f"- **Switched off by**: {_off(operation)}"
    yield f"- **Documentation**: {', '.join(f'<{page}>' for page in operation.pages)}\n"
    yield f"### Fields of {operation.id}\n"
    yield "| field | type | needed | null | length | flag | note |"
    yield "|---|---|---|---|---|---|---|"
    yield from _fields(contract, operation, operation.item, "")
    switches = [flag for flag in operation.flags if flag.kind in ("switch", "row_guard") and not flag.deprecated]
    if switches:
        yield f"\n### Switches of {operation.id}\n"
        yield "| switch | number | about | note |"
        yield "|---|---|---|---|"
        for flag in switches:
            about = ", ".join(f"`{path}`" for path in flag.affects or flag.paths)
            yield f"| `{flag.id}` | {flag.number} | {about} | {_cell(flag.note or '')} |"
    yield ""


def _full(operation: Operation) -> str:
    full = operation.full_file
    if not full.supported:
        return "there is none; everything is sent again with ordinary requests"
    scope = ", ".join(f"`{path}`" for path in full.scope) if full.scope else "not stated, so everything"
    rule = {
        "scope": "a scope is never cut over two requests",
        "cluster": "only with `destructive:` in the mapping, as a whole",
        "never": "only with `destructive:` in the mapping, as a whole",
        "free": "",
    }[full.split]
    return f"{full.effect}. Scope: {scope}; {rule}"


def _off(operation: Operation) -> str:
    off = operation.deactivation
    if off is None:
        return "nothing: `gone: deactivate` is not possible"
    return f"`{off.path}` = {str(off.off).lower()}" + ("" if off.on is None else f", and on by {str(off.on).lower()}")


def _fields(contract: Contract, operation: Operation, schema: str, prefix: str) -> Iterator[str]:
    for field in contract.schemas[schema].values():
        path = prefix + field.name
        if field.deprecated:
            continue
        flags = [flag for flag in operation.flags if path in flag.paths and flag.kind not in ("row_guard", "none")]
        yield (
            f"| `{path}{'[]' if field.is_list else ''}` | {_type(field)} | {_needed(field)} | {_null(field)} "
            f"| {_length(field)} | {', '.join(_flag(flag) for flag in flags if not flag.deprecated)} "
            f"| {_cell(' '.join(_notes(field)))} |"
        )
        if field.of in contract.schemas:
            yield from _fields(contract, operation, str(field.of), f"{path}[]." if field.is_list else f"{path}.")


def _type(field: Field) -> str:
    inside = str(field.of).partition(".")[2] or str(field.of)
    if field.is_list:
        return f"list of {inside}"
    return f"{inside} ({field.wire})" if field.type == "enum" else field.type if field.type != "object" else inside


def _needed(field: Field) -> str:
    return {"true": "yes", "on_create": "for a new one", "conditional": "at times", "unknown": "perhaps"}.get(
        field.required, ""
    )


def _null(field: Field) -> str:
    if field.is_list:
        return ""
    return NULL[field.empty] if field.empty else "" if field.nullable else "stores 0, false or nothing"


def _length(field: Field) -> str:
    return str(field.max_length) if field.max_length else f"({field.storage_length})" if field.storage_length else ""


def _flag(flag: Flag) -> str:
    return f"`{flag.id}` {flag.number}" + ("" if flag.kind == "value" else f" ({flag.kind})")


def _notes(field: Field) -> Iterator[str]:
    if field.row_key and field.is_list:
        yield f"Told apart by {', '.join(field.row_key)}."
    if field.list_rule:
        rules = {"merge": "Left-out ones stay.", "replace": "Left-out ones go.", "unknown": "Sent whole."}
        yield rules[field.list_rule]
    if field.companion:
        yield f"Read together with {field.companion}."
    if field.note:
        yield field.note.rstrip(".") + "."


def _enums(contract: Contract) -> Iterator[str]:
    yield "## Values\n"
    yield "| name | values |"
    yield "|---|---|"
    used = {field.of for fields in contract.schemas.values() for field in fields.values() if field.type == "enum"}
    for name, values in contract.enums.items():
        if name in used and not name.startswith("Job."):
            yield f"| {name} | {', '.join(f'{word} {number}' for word, number in values.items())} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (PACKAGE / "contract.json").write_text(facts(), encoding="utf-8")
    (PACKAGE.parents[1] / "docs" / "connect.md").write_text(page(), encoding="utf-8")
