"""The shape of one feed's records: every field that a record can carry, and what is sent with it.

A record is nested, a frame is flat. So each field gets a *leaf*: a column named by its place, with list
elements named by their code (`Cultures[sv-SE].Name`). The layout knows which leaves must be sent together, so that
comparing and batching only handle sets of leaves, as bits of an integer:

- a *flag* covers a leaf: its own flag, or that of the object or list around it;
- a *bundle* is sent whole: a list that Connect replaces, or an object under one flag;
- *identifiers* (key fields, codes) identify an object or list element and are sent with every part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from etl.contract.spec import Field, Operation
from etl.mapping.model import Node, Value


@dataclass(frozen=True, slots=True)
class Leaf:
    """One field at one place."""

    index: int  #: its bit
    name: str  #: place in the record, also the frame's column, e.g. `Cultures[sv-SE].Name`
    path: str  #: the contract's path, e.g. `Cultures[].Name`
    field: Field
    value: Value
    flag_id: str | None  #: the flag that covers it
    outer_flags: tuple[str, ...]  #: flags of the objects and lists around it
    bundle: str
    parents: tuple[str, ...]  #: places of the objects and elements around it, outermost first
    identifier: bool  #: identifies the object or element around it, or is read with every part of it
    required: bool  #: an identifier without which there is no such object or element
    key: bool
    column: str  #: frame column; differs from `name` for leaves inside a list made of rows
    inner: str | None = None  #: name inside the list's element
    identifies_list: str | None = None  #: the element that the list around this leaf identifies

    @property
    def constant(self) -> bool:
        return self.value.kind == "constant" and self.value.constant is not None

    @property
    def synthetic(self) -> bool:
        """Whether no row gives it: it only deactivates and activates records."""
        return self.value.synthetic

    def is_content_of(self, identifier: Leaf) -> bool:
        """Whether this is a value in the place that `identifier` identifies, not an identifier of that place."""
        return identifier.parent in self.parents and not (self.identifier and self.parent == identifier.parent)

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
    unit_list: str | None  #: place of the list whose elements are one source row each and carry the key
    item_leaves: frozenset[int] = frozenset()  #: leaves above the units
    switches: tuple[str, ...] = ()
    lists: Map[str, Branch] = field(default_factory=dict)  #: lists made of rows or of a split cell, by column
    contract_paths: Map[str, str] = field(default_factory=dict)  #: contract path of every object and element, by place

    @cached_property
    def identifiers(self) -> dict[str, int]:
        """Bits of the identifiers of every place."""
        bits: dict[str, int] = {}
        for leaf in self.leaves:
            if leaf.identifier or leaf.key:
                bits[leaf.parent] = bits.get(leaf.parent, 0) | 1 << leaf.index
            if leaf.identifies_list is not None:
                bits[leaf.identifies_list] = bits.get(leaf.identifies_list, 0) | 1 << leaf.index
        return bits

    @cached_property
    def read_with(self) -> dict[int, int]:
        """By index of a leaf that Connect reads only with another field or list: the bits of that one in the file."""
        bits: dict[int, int] = {}
        for leaf in self.leaves:
            if leaf.field.read_with is not None:
                place = leaf.name.removesuffix(leaf.field.name) + leaf.field.read_with
                companions = (o for o in self.leaves if o.name == place or o.name.startswith(f"{place}["))
                bits[leaf.index] = sum(1 << companion.index for companion in companions)
        return bits

    def active_flags(self, bits: int, *, full_file: bool = False) -> frozenset[str]:
        """Return the ids of all flags in a set's header: those of its leaves, and the switches that go with them."""
        active = set(self.flags_of(bits))
        sent = {leaf.path for leaf in self.leaves_in(bits)}
        for path in list(sent):
            parts = path.split(".")
            sent.update(".".join(parts[: i + 1]).removesuffix("[]") for i in range(len(parts)))
        for flag_id in self.switches:
            flag = self.operation.flag(flag_id)
            is_enabled = not flag.enabling_flags or any(enabling in active for enabling in flag.enabling_flags)
            is_relevant = (
                full_file
                if flag.name == "FullfileResetInheritance"
                else not flag.affected_paths or sent & {*flag.affected_paths}
            )
            if is_enabled and is_relevant:
                active.add(flag_id)
        return frozenset(active)

    @cached_property
    def uniform_leaves(self) -> int:
        """Bits of the leaves that all rows of a request send, or none: leaving them out empties them too."""
        leaves = 0
        for leaf in self.leaves:
            empties = leaf.value.empty == "clear" or leaf.inner is not None
            if empties and not (leaf.required or self.has_own_flag(leaf)):
                leaves |= 1 << leaf.index
        return leaves

    def has_own_flag(self, leaf: Leaf) -> bool:
        """Whether a leaf has a flag of its own: then Connect expects it in every element of its list."""
        return leaf.flag_id is not None and leaf.path in self.operation.flag(leaf.flag_id).paths

    @cached_property
    def overridden_by(self) -> dict[int, Leaf]:
        """By index of a leaf that Connect ignores where another leaf has a value: that other leaf."""
        overriding = {}
        for leaf in self.leaves:
            for name in self.operation.flag(leaf.flag_id).overrides if leaf.flag_id else ():
                place = leaf.name.removesuffix(leaf.field.name) + name
                overriding.update({other.index: leaf for other in self.leaves if other.name == place})
        return overriding

    @cached_property
    def activates(self) -> dict[int, Leaf]:
        """By index of a leaf whose value makes Connect set a sibling to true: that sibling.

        A price must not activate a row that the file deactivates.
        """
        siblings: dict[int, Leaf] = {}
        for leaf in self.leaves:
            sibling = self.operation.flag(leaf.flag_id).activates if leaf.flag_id else None
            if sibling is not None:
                place = f"{leaf.parent}.{sibling}" if leaf.parent else sibling
                mapped = (other for other in self.leaves if other.name == place and not other.synthetic)
                siblings.update((leaf.index, other) for other in mapped)
        return siblings

    @cached_property
    def bundles(self) -> dict[str, int]:
        bits: dict[str, int] = {}
        for leaf in self.leaves:
            bits[leaf.bundle] = bits.get(leaf.bundle, 0) | 1 << leaf.index
        return bits

    @cached_property
    def descendants(self) -> dict[str, int]:
        """Bits of all leaves in an object or list, by its place."""
        return {
            place: sum(
                1 << leaf.index
                for leaf in self.leaves
                if leaf.column == place or leaf.name.startswith((f"{place}.", f"{place}["))
            )
            for place in self.contract_paths
        }

    @cached_property
    def containers(self) -> frozenset[str]:
        """Contract paths of objects and lists, without the `[]`: any leaf inside is enough for their flags."""
        return frozenset(path.removesuffix("[]") for path in self.contract_paths.values())

    @cached_property
    def leaf_at(self) -> dict[tuple[str, str], Leaf]:
        """Leaves by the place they are in and their contract path."""
        return {(leaf.parent, leaf.path): leaf for leaf in self.leaves}

    @cached_property
    def always_sent(self) -> int:
        """Bits that every record carries, changed or not: key, code of the cluster, fields that Connect requires."""
        needs = set(self.operation.full_file.required_fields)
        bits = 0
        for leaf in self.leaves:
            required = leaf.field.required == "true" and "." not in leaf.path
            if leaf.path in needs or required or (leaf.key and self.operation.key.match == "all"):
                bits |= 1 << leaf.index
        return bits

    @cached_property
    def counted_values(self) -> int:
        """Bits of the values that are counted as sent: all but keys, codes, and fields that every record carries."""
        return sum(1 << leaf.index for leaf in self.leaves if not (leaf.key or leaf.identifier)) & ~self.always_sent

    def count_values(self, bits: int) -> int:
        """Count the values that a set sends."""
        return (bits & self.counted_values).bit_count()

    def deciding_key(self, sendable: int) -> int:
        """Return the bit of the first key field that a record can send, or 0 where all fields together are the key."""
        if self.operation.key.match == "all":
            return 0
        bits = (1 << self.by_path[path].index for path in self.operation.key.paths if path in self.by_path)
        return next((bit for bit in bits if sendable & bit), 0)

    @cached_property
    def deactivation_leaf(self) -> Leaf | None:
        """The leaf that deactivates a record."""
        deactivation = self.operation.deactivation
        return self.by_path.get(deactivation.path) if deactivation else None

    @cached_property
    def leading_key(self) -> Leaf | None:
        """The first field of the key that the layout has."""
        paths = self.operation.key.paths
        return next((self.by_path[path] for path in paths if path in self.by_path), None)

    @cached_property
    def by_path(self) -> dict[str, Leaf]:
        """First leaf of each contract path."""
        leaves: dict[str, Leaf] = {}
        for leaf in self.leaves:
            leaves.setdefault(leaf.path, leaf)
        return leaves

    def leaves_in(self, bits: int) -> Iterator[Leaf]:
        """Yield the leaves of a set."""
        while bits:
            low = bits & -bits
            yield self.leaves[low.bit_length() - 1]
            bits ^= low

    def flags_of(self, bits: int) -> frozenset[str]:
        """Return the ids of all flags of a set of leaves, with those of the objects and lists around them."""
        flags: set[str] = set()
        for leaf in self.leaves_in(bits):
            flags.update(leaf.outer_flags)
            if leaf.flag_id:
                flags.add(leaf.flag_id)
        return frozenset(flags)
