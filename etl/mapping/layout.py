"""The shape of one feed's records: every field that a record can carry, and what goes along with it.

A record is nested, a frame is flat. So each field gets a *leaf*: a column named by its place, with list
elements named by their code (`Cultures[sv-SE].Name`). What must travel together is worked out here once, so
that diff and chunk only handle sets of leaves, as bits of an integer:

- a *flag* covers a leaf, its own one or that of the object or list around it;
- a *bundle* is sent whole: a list that Connect replaces, or an object under one flag;
- *anchors* tell an object or list element apart (key fields, codes) and go with whatever is sent of it.
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
    flag_id: str | None  #: id of the flag that covers it
    outer_flags: tuple[str, ...]  #: flags of the objects and lists around it
    bundle: str
    parents: tuple[str, ...]  #: places of the objects and elements around it, outermost first
    identifier: bool  #: tells the object or element it is in apart, or is read with whatever is sent of it
    required: bool  #: an anchor without which there is no such object or element
    key: bool
    column: str  #: frame column; differs from `name` for leaves inside a list made of rows
    inner: str | None = None  #: name inside the list's element
    identifies_list: str | None = None  #: the element that the list around this leaf tells apart

    @property
    def constant(self) -> bool:
        return self.value.kind == "constant" and self.value.constant is not None

    @property
    def synthetic(self) -> bool:
        """Never given by a row; only used to switch a record off and on."""
        return self.value.synthetic

    def is_content_of(self, identifier: Leaf) -> bool:
        """Whether this is more than identity in the place that `anchor` tells apart."""
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
        """Bits of the anchors of every place."""
        found: dict[str, int] = {}
        for leaf in self.leaves:
            if leaf.identifier or leaf.key:
                found[leaf.parent] = found.get(leaf.parent, 0) | 1 << leaf.index
            if leaf.identifies_list is not None:
                found[leaf.identifies_list] = found.get(leaf.identifies_list, 0) | 1 << leaf.index
        return found

    @cached_property
    def read_with(self) -> dict[int, int]:
        """Leaves that Connect only reads with another field or list, and the bits of that, if the file has any."""
        found: dict[int, int] = {}
        for leaf in self.leaves:
            if leaf.field.read_with is not None:
                place = leaf.name.removesuffix(leaf.field.name) + leaf.field.read_with
                its = (one for one in self.leaves if one.name == place or one.name.startswith(f"{place}["))
                found[leaf.index] = sum(1 << one.index for one in its)
        return found

    def active_flags(self, bits: int, *, full_file: bool = False) -> frozenset[str]:
        """Ids of all flags of a set's header: those of its leaves, and the switches that go with them."""
        lit = set(self.flags_of(bits))
        sent = {leaf.path for leaf in self.leaves_in(bits)}
        for path in list(sent):
            parts = path.split(".")
            sent.update(".".join(parts[: i + 1]).removesuffix("[]") for i in range(len(parts)))
        for flag_id in self.switches:
            flag = self.operation.flag(flag_id)
            gated = not flag.enabling_flags or any(gate in lit for gate in flag.enabling_flags)
            about = (
                full_file
                if flag.name == "FullfileResetInheritance"
                else not flag.affected_paths or sent & {*flag.affected_paths}
            )
            if gated and about:
                lit.add(flag_id)
        return frozenset(lit)

    @cached_property
    def uniform_leaves(self) -> int:
        """Leaves in which the rows of one request cannot differ: left out is told from emptied there by nothing."""
        found = 0
        for leaf in self.leaves:
            empties = leaf.value.empty == "clear" or leaf.inner is not None
            if empties and not (leaf.required or self.has_own_flag(leaf)):
                found |= 1 << leaf.index
        return found

    def has_own_flag(self, leaf: Leaf) -> bool:
        """Whether a leaf has a flag of its own, which then asks it of every element of its list."""
        return leaf.flag_id is not None and leaf.path in self.operation.flag(leaf.flag_id).paths

    @cached_property
    def overridden_by(self) -> dict[int, Leaf]:
        """Leaves that count for nothing where another one has a value: that other one, by their bit."""
        found = {}
        for leaf in self.leaves:
            for name in self.operation.flag(leaf.flag_id).overrides if leaf.flag_id else ():
                place = leaf.name.removesuffix(leaf.field.name) + name
                found.update({other.index: leaf for other in self.leaves if other.name == place})
        return found

    @cached_property
    def activates(self) -> dict[int, Leaf]:
        """Leaves whose value makes Connect set a sibling to true, and that sibling: a price must not wake up a row that
        the file switches off."""
        found: dict[int, Leaf] = {}
        for leaf in self.leaves:
            sibling = self.operation.flag(leaf.flag_id).activates if leaf.flag_id else None
            if sibling is not None:
                place = f"{leaf.parent}.{sibling}" if leaf.parent else sibling
                here = (other for other in self.leaves if other.name == place and not other.synthetic)
                found.update((leaf.index, other) for other in here)
        return found

    @cached_property
    def bundles(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for leaf in self.leaves:
            found[leaf.bundle] = found.get(leaf.bundle, 0) | 1 << leaf.index
        return found

    @cached_property
    def descendants(self) -> dict[str, int]:
        """Bits of everything in an object or list, by its place."""
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
        """Contract paths of objects and lists, without the `[]`: their flags are met by anything inside."""
        return frozenset(path.removesuffix("[]") for path in self.contract_paths.values())

    @cached_property
    def leaf_at(self) -> dict[tuple[str, str], Leaf]:
        """Leaves by the place they are in and their contract path."""
        return {(leaf.parent, leaf.path): leaf for leaf in self.leaves}

    @cached_property
    def always_sent(self) -> int:
        """Bits that every record carries whatever changed: key, what a cluster is told by, what Connect requires."""
        needs = set(self.operation.full_file.required_fields)
        bits = 0
        for leaf in self.leaves:
            required = leaf.field.required == "true" and "." not in leaf.path
            if leaf.path in needs or required or (leaf.key and self.operation.key.match == "all"):
                bits |= 1 << leaf.index
        return bits

    @cached_property
    def counted_values(self) -> int:
        """Bits of the values that are counted as sent: neither key nor code, nor what goes with every record."""
        return sum(1 << leaf.index for leaf in self.leaves if not (leaf.key or leaf.identifier)) & ~self.always_sent

    def count_values(self, bits: int) -> int:
        """How many values a set sends."""
        return (bits & self.counted_values).bit_count()

    def deciding_key(self, sendable: int) -> int:
        """The key's bit where the first key field that a record has decides; nothing where all of them make the key."""
        if self.operation.key.match == "all":
            return 0
        bits = (1 << self.by_path[path].index for path in self.operation.key.paths if path in self.by_path)
        return next((bit for bit in bits if sendable & bit), 0)

    @cached_property
    def deactivation_leaf(self) -> Leaf | None:
        """The leaf that switches a record off."""
        off = self.operation.deactivation
        return self.by_path.get(off.path) if off else None

    @cached_property
    def leading_key(self) -> Leaf | None:
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

    def leaves_in(self, bits: int) -> Iterator[Leaf]:
        """The leaves of a set."""
        while bits:
            low = bits & -bits
            yield self.leaves[low.bit_length() - 1]
            bits ^= low

    def flags_of(self, bits: int) -> frozenset[str]:
        """Ids of all flags that a set of leaves lights, the ones above included."""
        lit: set[str] = set()
        for leaf in self.leaves_in(bits):
            lit.update(leaf.outer_flags)
            if leaf.flag_id:
                lit.add(leaf.flag_id)
        return frozenset(lit)
