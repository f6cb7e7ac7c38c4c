"""The shape of one feed's records: every field that a record can carry, and what goes along with it.

A record is nested, a frame is flat. So each field gets a *leaf*: a column named by its place, with list
elements named by their code (`Cultures[sv-SE].Name`). What must travel together is worked out here once, so
that diff and chunk only handle sets of leaves, as bits of an integer:

- a *flag* covers a leaf, its own one or that of the object or list around it;
- a *bundle* is sent whole: a list that Connect replaces, or an object under one flag;
- *anchors* tell an object or list element apart (key fields, codes) and go with whatever is sent of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Map
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from etl import contract as contracts
from etl.contract import Field, Flag, Operation
from etl.mapping import Mapping, Node, Scalar, Value, matches


@dataclass(frozen=True, slots=True)
class Leaf:
    """One field at one place."""

    index: int  #: its bit
    name: str  #: place in the record, also the frame's column, e.g. `Cultures[sv-SE].Name`
    path: str  #: the contract's path, e.g. `Cultures[].Name`
    field: Field
    value: Value
    flag: str | None  #: id of the flag that covers it
    up: tuple[str, ...]  #: flags of the objects and lists around it
    bundle: str
    parents: tuple[str, ...]  #: places of the objects and elements around it, outermost first
    anchor: bool
    key: bool
    column: str  #: frame column; differs from `name` for leaves inside a list made of rows
    inner: str | None = None  #: name inside the list's element
    tells: str | None = None  #: the element that the list around this leaf tells apart

    @property
    def constant(self) -> bool:
        return self.value.kind == "constant" and self.value.constant is not None

    @property
    def silent(self) -> bool:
        """Never given by a row; only used to switch a record off and on."""
        return self.value.silent

    def is_content_of(self, anchor: Leaf) -> bool:
        """Whether this is more than identity in the place that `anchor` tells apart."""
        return anchor.parent in self.parents and not (self.anchor and self.parent == anchor.parent)

    @property
    def parent(self) -> str:
        return self.parents[-1] if self.parents else ""


@dataclass(frozen=True, slots=True)
class Branch:
    """One node of the payload tree: a leaf, an object, a list with named elements, or a list made of rows."""

    kind: Literal["leaf", "object", "elements", "rows", "units"]
    name: str  #: field name in the JSON
    place: str
    leaf: int | None = None
    children: tuple[Branch, ...] = ()  #: of objects, row templates and unit templates
    elements: tuple[tuple[Branch, ...], ...] = ()  #: of lists with named elements
    scalar: bool = False  #: the list holds plain values
    node: Node | None = None  #: rows: how the list is made


@dataclass(frozen=True)
class Layout:
    """All leaves of a feed for one set of source columns."""

    operation: Operation
    leaves: tuple[Leaf, ...]
    tree: tuple[Branch, ...]
    units: str | None  #: place of the list whose elements are one source row each and carry the key
    item_leaves: frozenset[int] = frozenset()  #: leaves above the units
    switches: tuple[str, ...] = ()
    lists: Map[str, Branch] = field(default_factory=dict)  #: lists made of rows or of a split cell, by column
    paths: Map[str, str] = field(default_factory=dict)  #: contract path of every object and element, by place

    @cached_property
    def anchors(self) -> dict[str, int]:
        """Bits of the anchors of every place."""
        found: dict[str, int] = {}
        for leaf in self.leaves:
            if leaf.anchor or leaf.key:
                found[leaf.parent] = found.get(leaf.parent, 0) | 1 << leaf.index
            if leaf.tells is not None:
                found[leaf.tells] = found.get(leaf.tells, 0) | 1 << leaf.index
        return found

    @cached_property
    def companions(self) -> tuple[tuple[Leaf, str], ...]:
        """Leaves that go along with another place, and that place."""
        return tuple(
            (leaf, leaf.name.removesuffix(leaf.field.name) + leaf.field.companion)
            for leaf in self.leaves
            if leaf.field.companion is not None
        )

    @cached_property
    def bundles(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for leaf in self.leaves:
            found[leaf.bundle] = found.get(leaf.bundle, 0) | 1 << leaf.index
        return found

    @cached_property
    def under(self) -> dict[str, int]:
        """Bits of everything in an object or list, by its place."""
        return {
            place: sum(
                1 << leaf.index
                for leaf in self.leaves
                if leaf.column == place or leaf.name.startswith((f"{place}.", f"{place}["))
            )
            for place in self.paths
        }

    @cached_property
    def containers(self) -> frozenset[str]:
        """Contract paths of objects and lists, without the `[]`: their flags are met by anything inside."""
        return frozenset(path.removesuffix("[]") for path in self.paths.values())

    @cached_property
    def at(self) -> dict[tuple[str, str], Leaf]:
        """Leaves by the place they are in and their contract path."""
        return {(leaf.parent, leaf.path): leaf for leaf in self.leaves}

    @cached_property
    def always(self) -> int:
        """Bits that every record carries whatever changed: key, what a cluster is told by, what Connect requires."""
        needs = set(self.operation.full_file.needs)
        bits = 0
        for leaf in self.leaves:
            required = leaf.field.required == "true" and "." not in leaf.path
            if leaf.path in needs or required or (leaf.key and self.operation.key.match == "all"):
                bits |= 1 << leaf.index
        return bits

    def identity(self, able: int) -> int:
        """The key's bit where the first key field that a record has decides; nothing where all of them make the key."""
        if self.operation.key.match == "all":
            return 0
        bits = (1 << self.by_path[path].index for path in self.operation.key.paths if path in self.by_path)
        return next((bit for bit in bits if able & bit), 0)

    @cached_property
    def retiring(self) -> Leaf | None:
        """The leaf that switches a record off."""
        off = self.operation.deactivation
        return self.by_path.get(off.path) if off else None

    @cached_property
    def lead(self) -> Leaf | None:
        """The most telling part of the key."""
        paths = self.operation.key.paths
        return next((self.by_path[path] for path in paths if path in self.by_path), None)

    @cached_property
    def by_path(self) -> dict[str, Leaf]:
        """First leaf of each contract path."""
        found: dict[str, Leaf] = {}
        for leaf in self.leaves:
            found.setdefault(leaf.path, leaf)
        return found

    def of(self, bits: int) -> Iterator[Leaf]:
        """The leaves of a set."""
        while bits:
            low = bits & -bits
            yield self.leaves[low.bit_length() - 1]
            bits ^= low

    def flags(self, bits: int) -> frozenset[str]:
        """Ids of all flags that a set of leaves lights, the ones above included."""
        lit: set[str] = set()
        for leaf in self.of(bits):
            lit.update(leaf.up)
            if leaf.flag:
                lit.add(leaf.flag)
        return frozenset(lit)


def build(mapping: Mapping, columns: Iterable[str]) -> Layout:
    """The layout for a file with these columns; patterns are resolved against them."""
    return _Builder(mapping, tuple(columns)).layout()


class _Builder:
    def __init__(self, mapping: Mapping, columns: tuple[str, ...]) -> None:
        self.mapping = mapping
        self.operation = mapping.operation
        self.columns = columns
        self.leaves: list[Leaf] = []
        self.lists: dict[str, Branch] = {}
        self.paths: dict[str, str] = {}
        self.contract = contracts.load()
        self.value_flags: dict[str, Flag] = {}
        for flag in self.operation.flags:
            if flag.kind == "value" or (flag.kind == "create_only" and not flag.deprecated):
                for path in flag.paths:
                    if flag.kind == "value" or path not in self.value_flags:
                        self.value_flags[path] = flag
        self.replaced = {path for switch in mapping.switches for path in self.operation.flag(switch).affects}
        row = self.operation.key.row.partition("[]")[0]
        node = mapping.record.get(row)
        self.unit_list = row if row and node is not None and node.kind == "rows" else None

    def layout(self) -> Layout:
        tree = self.branches(self.mapping.record, "", _Context())
        off = self.operation.deactivation
        if off and off.on is not None and all(leaf.path != off.path for leaf in self.leaves):
            # Nobody maps it, so nothing is said of it except when a record goes or comes back.
            field = self.contract.field(self.operation, off.path)
            silent = Node("value", field, off.path, "gone", value=Value("constant", silent=True))
            tree += self.branches({off.path: silent}, "", _Context())
        items = frozenset(
            leaf.index for leaf in self.leaves if self.unit_list and not leaf.path.startswith(self.unit_list + "[]")
        )
        return Layout(
            operation=self.operation,
            leaves=tuple(self.leaves),
            tree=tree,
            units=self.unit_list,
            item_leaves=items,
            switches=self.mapping.switches,
            lists=self.lists,
            paths=self.paths,
        )

    def branches(self, nodes: Map[str, Node], place: str, context: _Context) -> tuple[Branch, ...]:
        """Children of one place; `context.keys` are the field names that tell this place apart."""
        made = []
        for name, node in nodes.items():
            branch = self.branch(name, node, f"{place}.{name}" if place else name, context)
            if branch is not None:
                made.append(branch)
        return tuple(made)

    def branch(self, name: str, node: Node, place: str, context: _Context) -> Branch | None:
        if node.kind == "value":
            assert node.value is not None
            index = self.leaf(name, node, node.value, place, context)
            return None if index is None else Branch("leaf", name, place, leaf=index)
        inside = self.enter(node, place, context)
        if name in context.keys and context.parents and inside.tells is None:
            inside = replace(inside, tells=context.parents[-1])
        self.paths[place] = node.path
        if node.kind == "object":
            inside = replace(inside, parents=(*inside.parents, place), keys=self.required(node.field))
            return Branch("object", name, place, children=self.branches(node.children, place, inside))
        if node.kind == "rows" and place == self.unit_list:
            inside = replace(inside, keys=self.required(node.field))
            return Branch("units", name, place, children=self.branches(node.children, place + "[]", inside))
        if node.kind in ("rows", "split"):
            inside = replace(inside, column=place, keys=self.required(node.field), parents=(*inside.parents, place))
            branch = Branch(
                "rows",
                name,
                place,
                children=self.branches(node.children, place + "[]", inside),
                scalar="" in node.children,
                node=node,
            )
            self.lists[place] = branch
            return branch
        elements, scalar = [], False
        for code, fields, matched in self.elements(node):
            here = f"{place}[{code}]"
            self.paths[here] = node.path
            scalar = scalar or "" in fields
            within = replace(
                inside,
                parents=(*inside.parents, here),
                keys=self.required(node.field),
                matched=matched or inside.matched,
            )
            if node.kind == "keyed":
                fields = {node.field.row_key[0]: self.code_node(node, code), **fields}
            children = self.branches(fields, here, within)
            if children:
                elements.append(children)
        return Branch("elements", name, place, elements=tuple(elements), scalar=scalar)

    def elements(self, node: Node) -> Iterator[tuple[str, Map[str, Node], tuple[str, ...] | None]]:
        if node.kind != "columns":
            for code, fields in node.elements:
                yield code, fields, None
            return
        for column in self.columns:
            found = matches(node.pattern, column)
            if found is not None:
                yield column, node.children, (column, *found)

    def code_node(self, node: Node, code: str) -> Node:
        name = node.field.row_key[0]
        inner = self.contract.fields_of(node.field)[name]
        constant: Scalar = code
        if inner.type == "enum":
            values = self.contract.enums[str(inner.of)]
            constant = code if inner.wire == "name" else values.get(code, code)
        elif inner.type == "integer":
            constant = int(code)
        value = Value("constant", constant=constant, where=node.where)
        return Node("value", inner, f"{node.path}.{name}", node.where, value=value)

    def required(self, field: Field) -> frozenset[str]:
        """Names of the fields that tell an object or element of this kind apart, or that it cannot be without."""
        inside = self.contract.fields_of(field)
        must = {name for name, inner in inside.items() if inner.required == "true" or inner.always}
        return frozenset(must.union(name for name in field.row_key if name in inside))

    def enter(self, node: Node, place: str, context: _Context) -> _Context:
        """Going into an object or list: its flag is lit from here on, and it may bind what is in it."""
        path = node.path.removesuffix("[]")
        flag = node.flag or (self.value_flags[path].id if path in self.value_flags else None)
        up = (*context.up, flag) if flag else context.up
        bundle = context.bundle
        unit = place == self.unit_list or path in (p.removesuffix("[]") for p in self.key_lists())
        replaced = node.field.list_rule != "merge" or path in self.replaced
        if bundle is None and node.field.is_list and not unit and replaced:
            bundle = place
        covered = flag or context.covered if (flag or path in self.operation.unflagged) else context.covered
        if path in self.operation.unflagged:
            covered = None
        trail = (*context.trail, (path, place))
        return replace(context, up=up, bundle=bundle, covered=covered, trail=trail)

    def key_lists(self) -> list[str]:
        parts = self.operation.key.row.split(".") if self.operation.key.row else []
        return [".".join(parts[: i + 1]) for i in range(len(parts))]

    def leaf(self, name: str, node: Node, value: Value, place: str, context: _Context) -> int | None:
        bound = self.bind(value, context.matched)
        if bound is None:
            return None
        path = node.path
        index = len(self.leaves)
        flag = node.flag or (self.value_flags[path].id if path in self.value_flags else None)
        bundle = context.bundle or place
        if flag is None and path not in self.operation.unflagged:
            flag = context.covered
            if flag is not None:
                whole = self.covered_place(flag, context)
                if context.bundle is None or context.bundle.startswith((f"{whole}.", f"{whole}[")):
                    bundle = whole
        if flag is None and context.bundle is None and context.trail:
            list_path, list_place = context.trail[-1]
            if list_path in self.operation.unflagged:
                bundle = next((p for p in context.parents if p.startswith(list_place)), list_place)
        self.leaves.append(
            Leaf(
                index=index,
                name=place,
                path=path,
                field=node.field,
                value=bound,
                flag=flag,
                up=context.up,
                bundle=bundle,
                parents=context.parents,
                anchor=name in context.keys,
                key=path in self.operation.key.paths,
                column=context.column or place,
                inner=place.removeprefix(context.column + "[]").removeprefix(".") if context.column else None,
                tells=context.tells,
            )
        )
        return index

    def covered_place(self, flag: str, context: _Context) -> str:
        """The object or list element that a flag from above covers as a whole."""
        paths = self.operation.flag(flag).paths
        for path, place in reversed(context.trail):
            if path in paths:
                inside = [parent for parent in context.parents if parent.startswith(place)]
                return inside[0] if inside else place
        return context.trail[-1][1]

    def bind(self, value: Value, matched: tuple[str, ...] | None) -> Value | None:
        """None when the file lacks a column that the value needs: then nothing is said about the field."""
        if matched is None and self.mapping.per and (value.kind == "cell" or "{" in value.text):
            return value
        bound = bind(value, matched)
        needs = (bound.text,) if bound.kind == "column" else bound.roots
        return bound if all(name in self.columns for name in needs) else None


def bind(value: Value, matched: tuple[str, ...] | None) -> Value:
    """Put the texts that a column pattern matched, `(column, {1}, {2}, …)`, into a value."""
    if matched is not None:
        for number, text in enumerate(matched[1:], 1):
            value = replace(value, text=value.text.replace(f"{{{number}}}", text))
        if value.kind == "cell":
            value = replace(value, kind="column", text=matched[0])
    if value.kind == "constant" and value.constant is None and not value.silent:
        text = value.text
        for old, new in value.replace:
            text = text.replace(old, new)
        if value.table is not None and text in value.table:
            return replace(value, constant=value.table[text], table=None)
        return replace(value, constant=text)
    return value


@dataclass(frozen=True, slots=True)
class _Context:
    """What is known on the way down."""

    up: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()
    bundle: str | None = None
    covered: str | None = None
    column: str = ""
    matched: tuple[str, ...] | None = None
    trail: tuple[tuple[str, str], ...] = ()
    tells: str | None = None
