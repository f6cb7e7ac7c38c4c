"""Reads what relates mappings to each other: order, references between feeds, and when a feed is sent in full again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Map
from typing import Any

from etl import cron
from etl.contract import spec
from etl.contract.spec import Operation
from etl.mapping import expectations
from etl.mapping.model import Mapping, Node
from etl.mapping.problems import Problems

#: Imports that others refer to come first: price lists before prices, products before their stock.
OPERATION_ORDER = (
    "Product/ImportPriceLists",
    "Supplier/ImportProducts",
    "Product/ImportProducts",
    "Product/ImportOnhands",
    "Product/ImportSkuPriceLists",
    "Product/ImportRelations",
    "Product/ImportCompetitorSkus",
    "Customer/ImportCompanies",
    "Customer/ImportCustomers",
)


def read_references(
    raw: Any, operation: Operation, record: Map[str, Node], problems: Problems
) -> dict[str, tuple[str, str]]:
    """Read `references: {PartNo: products.PartNo}`: by mapped field the feed and field that must have its value."""
    references: dict[str, tuple[str, str]] = {}
    entries = raw.get("references")
    if entries is None:
        return references
    where = problems.location(raw, "references")
    if not isinstance(entries, dict):
        problems.add("references", "`references` is empty", where=where, hint="{PartNo: pim-products.PartNo}")
        return references
    for field, target in entries.items():
        here = f"{problems.location(entries, field)}, references.{field}"
        node = record.get(str(field))
        if (
            str(field) not in spec.load_contract().schemas[operation.item_schema]
            or node is None
            or node.kind != "value"
        ):
            names = [name for name, mapped in record.items() if mapped.kind == "value"]
            problems.add_unknown("references", f'"{field}" is no field mapped here', str(field), names, where=here)
            continue
        feed, dot, name = str(target).rpartition(".")
        if not dot:
            feed, name = str(target), str(field)
        references[str(field)] = (feed, name)
    return references


def read_full_schedule(raw: Any, problems: Problems) -> str | None:
    """Read `full: "0 3 * * SUN"`."""
    expression = raw.get("full")
    if expression is None:
        return None
    if not cron.is_cron(str(expression)):
        message = f'"{expression}" is no time table'
        problems.add("full", message, where=problems.location(raw, "full"), hint='as in cron: full: "0 3 * * SUN"')
        return None
    return str(expression)


def read_expectations(raw: Any, problems: Problems) -> tuple[str | None, str | None]:
    """Read `expect: "every day by 06:00 Europe/Stockholm"`, or `{arrives: …, changes: every 3 days}`."""
    entry = raw.get("expect")
    if entry is None:
        return None, None
    if not isinstance(entry, dict):
        return _read_expectation(raw, "expect", expectations.parse_expectation, problems), None
    for key in entry:
        if key not in ("arrives", "changes"):
            message = f'"{key}" means nothing in `expect`'
            where = problems.location(entry, key)
            problems.add_unknown("unknown-key", message, str(key), ("arrives", "changes"), where=where)
    return _read_expectation(entry, "arrives", expectations.parse_expectation, problems), _read_expectation(
        entry, "changes", expectations.parse_max_gap, problems
    )


def _read_expectation(node: Any, key: str, parse: Callable[[str], object], problems: Problems) -> str | None:
    if node.get(key) is None:
        return None
    text = str(node[key])
    try:
        parse(text)
    except expectations.ExpectationError as error:
        where = problems.text_location(node, key, error.offset)
        problems.add("expect", f"`{key}` {error.message}", where=where, hint=f'{key}: "{error.hint}"')
    return text


def validate_dependencies(mapping: Mapping, mappings: Sequence[Mapping], problems: Problems) -> None:
    """Check that the feeds and fields that a mapping names exist, and that no two feeds wait for each other."""
    feeds = {other.feed: other for other in mappings}
    for name in mapping.after:
        if name not in feeds:
            message = f'`after` names the feed "{name}", which no mapping makes'
            problems.add_unknown("after", message, name, feeds, where=str(mapping.path))
        elif mapping.feed in _feeds_before(name, feeds, set()):
            message = f"{mapping.feed} and {name} wait for each other"
            problems.add("after", message, where=str(mapping.path), hint="take one of them out of `after`")
    for field, (feed, target) in mapping.references.items():
        if feed not in feeds:
            message = f'{field} refers to the feed "{feed}", which no mapping makes'
            problems.add_unknown("references", message, feed, feeds, where=str(mapping.path))
        elif not any(path.rpartition(".")[2] == target for path in _value_paths(feeds[feed].record.values())):
            message = f"{field} refers to {target}, which {feed} does not map"
            problems.add("references", message, where=str(mapping.path), hint=f"map {target} in {feed}")


def _feeds_before(feed: str, feeds: Map[str, Mapping], seen: set[str]) -> set[str]:
    """Return all feeds that a feed waits for, directly or not."""
    if feed in seen or feed not in feeds:
        return seen
    for name in feeds[feed].after:
        if name not in seen:
            seen.add(name)
            _feeds_before(name, feeds, seen)
    return seen


def prerequisites(mappings: Iterable[Mapping]) -> dict[str, frozenset[str]]:
    """Return for each feed the feeds that must be processed before it, directly or not."""
    direct = {m.feed: {*m.after, *(feed for feed, _ in m.references.values())} for m in mappings}
    prerequisites_of: dict[str, frozenset[str]] = {}
    for feed in direct:
        seen: set[str] = set()
        unvisited = list(direct[feed])
        while unvisited:
            name = unvisited.pop()
            if name not in seen:
                seen.add(name)
                unvisited += direct.get(name, ())
        prerequisites_of[feed] = frozenset(seen - {feed})
    return prerequisites_of


def also_writes(mappings: Iterable[Mapping]) -> dict[str, frozenset[str]]:
    """Return for each feed the other imports whose records it writes too.

    A product's standard price is a row of a price list.
    """
    return {
        mapping.feed: frozenset({"Product/ImportSkuPriceLists"})
        for mapping in mappings
        if any(".StandardPrice." in path for path in _value_paths(mapping.record.values()))
    }


def _value_paths(nodes: Iterable[Node]) -> Iterable[str]:
    for node in nodes:
        if node.kind == "value":
            yield node.path
        yield from _value_paths(node.children.values())
        for _, fields in node.elements:
            yield from _value_paths(fields.values())


def run_order(mappings: Sequence[Mapping]) -> dict[str, tuple[int, int, str]]:
    """Return the rank of each feed in the order of work: by operation, then after its prerequisites."""
    feeds = {mapping.feed: mapping for mapping in mappings}
    ranks: dict[str, tuple[int, int, str]] = {}

    def rank(feed: str, above: frozenset[str]) -> tuple[int, int, str]:
        if feed not in ranks:
            mapping = feeds[feed]
            first = (OPERATION_ORDER.index(mapping.operation.id), 0)
            needed = [*mapping.after, *(target for target, _ in mapping.references.values())]
            prerequisite_ranks = [rank(name, above | {feed}) for name in needed if name in feeds and name not in above]
            place = max([first, *((prerequisite[0], prerequisite[1] + 1) for prerequisite in prerequisite_ranks)])
            ranks[feed] = (*place, feed)
        return ranks[feed]

    for mapping in mappings:
        rank(mapping.feed, frozenset({mapping.feed}))
    return ranks
