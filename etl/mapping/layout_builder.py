"""Builds the layout of a feed from its mapping, the contract, and the columns of a file.

The builder walks down the record and makes a leaf of every value. On the way it collects the flags around the leaf,
the list or object that is sent whole with it, and the fields that identify that list element or object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Map
from dataclasses import dataclass, replace

from etl.contract import spec
from etl.contract.spec import Field, Flag
from etl.mapping.layout import Branch, Layout, Leaf
from etl.mapping.model import Mapping, Node, Scalar, Value, bind_pattern, match_pattern


def build_layout(mapping: Mapping, columns: Iterable[str]) -> Layout:
    """Build the layout for a file with these columns; patterns of the mapping are matched against them."""
    return _LayoutBuilder(mapping, tuple(columns)).build()


class _LayoutBuilder:
    def __init__(self, mapping: Mapping, columns: tuple[str, ...]) -> None:
        self.mapping = mapping
        self.operation = mapping.operation
        self.columns = columns
        self.leaves: list[Leaf] = []
        self.lists: dict[str, Branch] = {}
        self.contract_paths: dict[str, str] = {}
        self.contract = spec.load_contract()
        self.value_flags: dict[str, Flag] = {}
        for flag in self.operation.flags:
            if flag.kind == "value" or (flag.kind == "create_only" and not flag.deprecated):
                for path in flag.paths:
                    if flag.kind == "value" or path not in self.value_flags:
                        self.value_flags[path] = flag
        self.replaced_paths = {
            path for switch in mapping.switches for path in self.operation.flag(switch).affected_paths
        }
        row = self.operation.key.list_path.partition("[]")[0]
        node = mapping.record.get(row)
        self.unit_list = row if row and node is not None and node.kind == "rows" else None

    def build(self) -> Layout:
        tree = self.build_branches(self.mapping.record, "", _Context())
        deactivation = self.operation.deactivation
        if (
            deactivation
            and deactivation.on_value is not None
            and all(leaf.path != deactivation.path for leaf in self.leaves)
        ):
            # The mapping does not have the field: it is sent only with a record that is deactivated or reappears.
            field = self.contract.field(self.operation, deactivation.path)
            node = Node("value", field, deactivation.path, "gone", value=Value("constant", synthetic=True))
            tree += self.build_branches({deactivation.path: node}, "", _Context())
        items = frozenset(
            leaf.index for leaf in self.leaves if self.unit_list and not leaf.path.startswith(self.unit_list + "[]")
        )
        return Layout(
            operation=self.operation,
            leaves=tuple(self.leaves),
            tree=tree,
            unit_list=self.unit_list,
            item_leaves=items,
            switches=self.mapping.switches,
            lists=self.lists,
            contract_paths=self.contract_paths,
        )

    def build_branches(self, nodes: Map[str, Node], place: str, context: _Context) -> tuple[Branch, ...]:
        """Build the children of one place; `context.identifiers` are the names of the fields that identify it."""
        branches = []
        for name, node in nodes.items():
            branch = self.build_branch(name, node, f"{place}.{name}" if place else name, context)
            if branch is not None:
                branches.append(branch)
        return tuple(branches)

    def build_branch(self, name: str, node: Node, place: str, context: _Context) -> Branch | None:
        if node.kind == "value":
            assert node.value is not None
            index = self.add_leaf(name, node, node.value, place, context)
            return None if index is None else Branch("leaf", name, place, leaf=index)
        inside = self.descend(node, place, context)
        if name in context.identifiers and context.parents and inside.identifies_list is None:
            inside = replace(inside, identifies_list=context.parents[-1])
        self.contract_paths[place] = node.path
        inside = self.with_identifiers(inside, node.field)
        if node.kind == "object":
            inside = replace(inside, parents=(*inside.parents, place))
            return Branch("object", name, place, children=self.build_branches(node.children, place, inside))
        if node.kind == "rows" and place == self.unit_list:
            return Branch("units", name, place, children=self.build_branches(node.children, place + "[]", inside))
        if node.kind in ("rows", "split"):
            return self.build_list(name, node, place, inside)
        return self.build_elements(name, node, place, inside)

    def build_list(self, name: str, node: Node, place: str, context: _Context) -> Branch | None:
        """Build a list whose elements come from the rows of a record, or from the parts of a cell."""
        inside = replace(context, column=place, parents=(*context.parents, place))
        children = self.build_element(node.children, place + "[]", inside)
        if not children:
            return None
        branch = Branch("rows", name, place, children=children, scalar="" in node.children, node=node)
        self.lists[place] = branch
        return branch

    def build_elements(self, name: str, node: Node, place: str, context: _Context) -> Branch:
        """Build a list whose elements the mapping names, one by one or by a pattern of columns."""
        elements, scalar = [], False
        for code, fields, captures in self.named_elements(node):
            element_place = f"{place}[{code}]"
            self.contract_paths[element_place] = node.path
            scalar = scalar or "" in fields
            inside = replace(context, parents=(*context.parents, element_place), captures=captures or context.captures)
            if node.kind == "keyed":
                fields = {node.field.row_key[0]: self.make_code_node(node, code), **fields}
            children = self.build_element(fields, element_place, inside)
            if children:
                elements.append(children)
        return Branch("elements", name, place, elements=tuple(elements), scalar=scalar)

    def build_element(self, fields: Map[str, Node], place: str, context: _Context) -> tuple[Branch, ...]:
        """Build a list element; none where its cells come from optional columns and the file has none of them."""
        start = len(self.leaves)
        children = self.build_branches(fields, place, context)
        if _reads_cells(fields) and all(leaf.constant for leaf in self.leaves[start:]):
            del self.leaves[start:]
            return ()
        return children

    def named_elements(self, node: Node) -> Iterator[tuple[str, Map[str, Node], tuple[str, ...] | None]]:
        if node.kind != "columns":
            for code, fields in node.elements:
                yield code, fields, None
            return
        for column in self.columns:
            captures = match_pattern(node.pattern, column)
            if captures is not None:
                yield column, node.children, (column, *captures)

    def make_code_node(self, node: Node, code: str) -> Node:
        name = node.field.row_key[0]
        inner = self.contract.fields_of(node.field)[name]
        constant: Scalar = code
        if inner.type == "enum":
            values = self.contract.enums[str(inner.inner_type)]
            constant = code if inner.wire_type == "name" else values.get(code, code)
        elif inner.type == "integer":
            constant = int(code)
        value = Value("constant", constant=constant, where=node.where)
        return Node("value", inner, f"{node.path}.{name}", node.where, value=value)

    def with_identifiers(self, context: _Context, field: Field) -> _Context:
        """Add the fields that identify an object or element of this kind, or that Connect requires in it."""
        inside = self.contract.fields_of(field)
        keys = {name for name in field.row_key if name in inside}
        sole_keys = keys if len(field.row_key) == 1 else {name for name in keys if inside[name].required == "unknown"}
        required = sole_keys | {name for name, inner in inside.items() if inner.required == "true" or inner.always_sent}
        return replace(context, identifiers=frozenset(keys | required), required=frozenset(required))

    def descend(self, node: Node, place: str, context: _Context) -> _Context:
        """Return the context inside an object or list: its flag is active there, and it may be sent whole."""
        path = node.path.removesuffix("[]")
        flag = node.flag_id or (self.value_flags[path].id if path in self.value_flags else None)
        outer_flags = (*context.outer_flags, flag) if flag else context.outer_flags
        bundle = context.bundle
        unit = place == self.unit_list or path in (p.removesuffix("[]") for p in self.key_lists())
        replaced = node.field.list_rule != "merge" or path in self.replaced_paths
        if bundle is None and node.field.is_list and not unit and replaced:
            bundle = place
        covered = (
            flag or context.covering_flag if (flag or path in self.operation.unflagged_paths) else context.covering_flag
        )
        if path in self.operation.unflagged_paths:
            covered = None
        trail = (*context.trail, (path, place))
        return replace(context, outer_flags=outer_flags, bundle=bundle, covering_flag=covered, trail=trail)

    def key_lists(self) -> list[str]:
        parts = self.operation.key.list_path.split(".") if self.operation.key.list_path else []
        return [".".join(parts[: i + 1]) for i in range(len(parts))]

    def add_leaf(self, name: str, node: Node, value: Value, place: str, context: _Context) -> int | None:
        bound = self.bind_value(value, context.captures)
        if bound is None:
            return None
        path = node.path
        index = len(self.leaves)
        flag = node.flag_id or (self.value_flags[path].id if path in self.value_flags else None)
        bundle = context.bundle or place
        if flag is None and path not in self.operation.unflagged_paths:
            flag = context.covering_flag
            if flag is not None:
                whole = self.covered_place(flag, context)
                if context.bundle is None or context.bundle.startswith((f"{whole}.", f"{whole}[")):
                    bundle = whole
        if flag is None and context.bundle is None and context.trail:
            list_path, list_place = context.trail[-1]
            if list_path in self.operation.unflagged_paths:
                bundle = next((p for p in context.parents if p.startswith(list_place)), list_place)
        self.leaves.append(
            Leaf(
                index=index,
                name=place,
                path=path,
                field=node.field,
                value=bound,
                flag_id=flag,
                outer_flags=context.outer_flags,
                bundle=bundle,
                parents=context.parents,
                identifier=name in context.identifiers,
                required=name in context.required,
                key=path in self.operation.key.paths,
                column=context.column or place,
                inner=place.removeprefix(context.column + "[]").removeprefix(".") if context.column else None,
                identifies_list=context.identifies_list,
            )
        )
        return index

    def covered_place(self, flag_id: str, context: _Context) -> str:
        """Return the place of the object or list element that an outer flag covers as a whole."""
        paths = self.operation.flag(flag_id).paths
        for path, place in reversed(context.trail):
            if path in paths:
                inside = [parent for parent in context.parents if parent.startswith(place)]
                return inside[0] if inside else place
        return context.trail[-1][1]

    def bind_value(self, value: Value, captures: tuple[str, ...] | None) -> Value | None:
        """Bind a column pattern into a value; None where the file lacks a column that the value needs."""
        if captures is None and self.mapping.per and (value.kind == "cell" or "{" in value.text):
            return value
        bound = bind_pattern(value, captures)
        needs = (bound.text,) if bound.kind == "column" else bound.input_columns
        return bound if all(name in self.columns for name in needs) else None


def _reads_cells(nodes: Map[str, Node]) -> bool:
    """Return whether anything inside has its value from the file."""
    return any(
        (node.value is not None and node.value.kind != "constant")
        or node.kind in ("columns", "split")
        or _reads_cells(node.children)
        or any(_reads_cells(fields) for _, fields in node.elements)
        for node in nodes.values()
    )


@dataclass(frozen=True, slots=True)
class _Context:
    """Where the builder stands in the record, and what the places around it mean for a leaf."""

    outer_flags: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    identifiers: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    bundle: str | None = None
    covering_flag: str | None = None
    column: str = ""
    captures: tuple[str, ...] | None = None
    trail: tuple[tuple[str, str], ...] = ()
    identifies_list: str | None = None
