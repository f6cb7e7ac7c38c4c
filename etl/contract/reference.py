"""Makes from `contract.yaml`: `contract.json`, which is read faster, and docs/connect.md (`make reference`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from etl.contract import spec
from etl.contract.spec import Contract, Field, Flag, Operation

PAGE_INTRO = """\
# Connect, as this program knows it

Made from `etl/contract/contract.yaml` by `make reference`; a test fails when it is stale. Each import with its key,
what a full feed may deactivate, its fields and the flags that write them. Flags of the kind `create_only` and
`limited_update` are chosen by name in a mapping (`flag:`), switches and row guards under `switches:`; plain ones
follow from the fields. What the words of a mapping mean is in [mapping.md](mapping.md).

Columns: *needed* is what Connect requires; *null* is what an emptied value does; *length* in brackets is what Norce
seems to store, without a promise. A field without a flag is read whenever it is present.
"""
NULL_EFFECTS = {
    "ignored": "ignored, as is 0",
    "inherit": "inherits",
    "reset": "resets",
    "no_change": "changes nothing",
}


PACKAGE_FOLDER = Path(__file__).parent


def contract_json() -> str:
    """Return `contract.yaml` as JSON, everything in its order."""
    from ruamel.yaml import YAML

    raw = YAML(typ="safe").load((PACKAGE_FOLDER / "contract.yaml").read_text(encoding="utf-8"))
    return json.dumps(raw, ensure_ascii=False, indent=1) + "\n"


def render_reference() -> str:
    """Render docs/connect.md."""
    contract = spec.load_contract()
    parts = [PAGE_INTRO]
    parts += ["\n".join(_operation_section(contract, operation)) for operation in contract.operations.values()]
    parts.append("\n".join(_enum_section(contract)))
    return "\n".join(parts)


def _operation_section(contract: Contract, operation: Operation) -> Iterator[str]:
    yield f"## {operation.id}\n"
    if operation.note:
        yield f"{operation.note}\n"
    key = ", ".join(f"`{path}`" for path in operation.key.paths)
    how = "the first of these that is given" if operation.key.match == "first_of" else "all of these"
    yield f"- **Key**: {key} ({how})" + "".join(f"; `{name}` in the header" for name in operation.key.header_fields)
    unknown = {"created": "created", "ignored": "ignored without a message", "not_stated": "not stated"}
    yield f"- **Unknown key**: {unknown[operation.unknown_key]}"
    if operation.required_on_create:
        yield f"- **A new record needs**: {', '.join(f'`{path}`' for path in operation.required_on_create)}"
    yield f"- **Full feed**: {_full_file_text(operation)}"
    yield f"- **Deactivated by**: {_deactivation_text(operation)}"
    yield f"- **Documentation**: {', '.join(f'<{page}>' for page in operation.doc_pages)}\n"
    yield f"### Fields of {operation.id}\n"
    yield "| field | type | needed | null | length | flag | note |"
    yield "|---|---|---|---|---|---|---|"
    yield from _field_rows(contract, operation, operation.item_schema, "")
    switches = [flag for flag in operation.flags if flag.kind in ("switch", "row_guard") and not flag.deprecated]
    if switches:
        yield f"\n### Switches of {operation.id}\n"
        yield "| switch | number | about | note |"
        yield "|---|---|---|---|"
        for flag in switches:
            about = ", ".join(f"`{path}`" for path in flag.affected_paths or flag.paths)
            yield f"| `{flag.id}` | {flag.number} | {about} | {_escape_cell(flag.note or '')} |"
    yield ""


def _full_file_text(operation: Operation) -> str:
    full = operation.full_file
    if not full.is_supported:
        return "there is none; everything is sent again with ordinary requests"
    scope = ", ".join(f"`{path}`" for path in full.scope) if full.scope else "not stated, so everything"
    rule = {
        "scope": "a scope is never cut over two requests",
        "cluster": "only with `destructive:` in the mapping, as a whole",
        "never": "only with `destructive:` in the mapping, as a whole",
        "free": "",
    }[full.split]
    return f"{full.effect}. Scope: {scope}; {rule}"


def _deactivation_text(operation: Operation) -> str:
    off = operation.deactivation
    if off is None:
        return "nothing: `gone: deactivate` is not possible"
    return f"`{off.path}` = {str(off.off_value).lower()}" + (
        "" if off.on_value is None else f", and on by {str(off.on_value).lower()}"
    )


def _field_rows(contract: Contract, operation: Operation, schema: str, prefix: str) -> Iterator[str]:
    for field in contract.schemas[schema].values():
        path = prefix + field.name
        if field.deprecated:
            continue
        flags = [flag for flag in operation.flags if path in flag.paths and flag.kind not in ("row_guard", "none")]
        yield (
            f"| `{path}{'[]' if field.is_list else ''}` | {_type_text(field)} | {_required_text(field)} "
            f"| {_null_text(field)} | {_length_text(field)} | "
            f"{', '.join(_flag_text(flag) for flag in flags if not flag.deprecated)} "
            f"| {_escape_cell(' '.join(_field_notes(field)))} |"
        )
        if field.inner_type in contract.schemas:
            yield from _field_rows(
                contract, operation, str(field.inner_type), f"{path}[]." if field.is_list else f"{path}."
            )


def _type_text(field: Field) -> str:
    inside = str(field.inner_type).partition(".")[2] or str(field.inner_type)
    if field.is_list:
        return f"list of {inside}"
    return f"{inside} ({field.wire_type})" if field.type == "enum" else field.type if field.type != "object" else inside


def _required_text(field: Field) -> str:
    return {"true": "yes", "on_create": "for a new one", "conditional": "at times", "unknown": "perhaps"}.get(
        field.required, ""
    )


def _null_text(field: Field) -> str:
    if field.is_list:
        return ""
    return (
        NULL_EFFECTS[field.null_effect] if field.null_effect else "" if field.nullable else "stores 0, false or nothing"
    )


def _length_text(field: Field) -> str:
    return str(field.max_length) if field.max_length else f"({field.storage_length})" if field.storage_length else ""


def _flag_text(flag: Flag) -> str:
    return f"`{flag.id}` {flag.number}" + ("" if flag.kind == "value" else f" ({flag.kind})")


def _field_notes(field: Field) -> Iterator[str]:
    if field.row_key and field.is_list:
        yield f"Told apart by {', '.join(field.row_key)}."
    if field.list_rule:
        rules = {"merge": "Left-out ones stay.", "replace": "Left-out ones go.", "unknown": "Sent as a whole."}
        yield rules[field.list_rule]
    if field.read_with:
        yield f"Read together with {field.read_with}."
    if field.note:
        yield field.note.rstrip(".") + "."


def _enum_section(contract: Contract) -> Iterator[str]:
    yield "## Values\n"
    yield "| name | values |"
    yield "|---|---|"
    used = {
        field.inner_type for fields in contract.schemas.values() for field in fields.values() if field.type == "enum"
    }
    for name, values in contract.enums.items():
        if name in used and not name.startswith("Job."):
            yield f"| {name} | {', '.join(f'{word} {number}' for word, number in values.items())} |"
    yield ""


def _escape_cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (PACKAGE_FOLDER / "contract.json").write_text(contract_json(), encoding="utf-8")
    (PACKAGE_FOLDER.parents[1] / "docs" / "connect.md").write_text(render_reference(), encoding="utf-8")
