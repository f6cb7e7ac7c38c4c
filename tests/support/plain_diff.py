"""What changes, said once more in plain Python: a record is a dict, and its change is what differs in another dict.

One record at a time and nothing clever. It shares the feed's layout with `etl.plan.changes.diff`, and no code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from etl.mapping.layout import Layout, Leaf
from etl.model.columns import DEACTIVATED, KEY

Row = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What is to be sent of one record, by the names of its leaves, and what could be."""

    new: bool
    gone: bool
    send: frozenset[str]
    able: frozenset[str]


@dataclass
class Told:
    """A file against *accepted*; records with nothing to send are counted only."""

    changes: dict[str, Change] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    unchanged: int = 0
    withheld: int = 0
    cleared: int = 0

    def count(self, *, new: bool = False, gone: bool = False) -> int:
        return sum((one.new, one.gone) == (new, gone) for one in self.changes.values())


@dataclass(frozen=True)
class Naive:
    """`known`: leaves of which *accepted* says something. `theirs`: by key, the columns that another feed owns."""

    layout: Layout
    known: frozenset[str]
    everything: bool = False
    theirs: Map[str, Collection[str]] = field(default_factory=dict)

    def told(self, rows: Iterable[Row], accepted: Iterable[Row], off: Iterable[str] = ()) -> Told:
        """`off`: keys of what is switched off because the file lacks it."""
        before = {row[KEY]: row for row in accepted}
        told = Told()
        for row in rows:
            self.record(row, before.get(row[KEY]), told)
        for key in off:
            told.changes[key] = self.retired(before[key])
        return told

    def record(self, row: Row, old: Row | None, told: Told) -> None:
        """One row of the file, laid into `told`."""
        back = old is not None and bool(old[DEACTIVATED])
        new = old is None or back
        switch = self.layout.deactivation_leaf
        if back and switch is not None and switch.synthetic:
            row = {**row, switch.name: True}
        row = self.kept(row, old or {})
        able = {leaf.name: leaf for leaf in self.layout.leaves if self.able(leaf, row, new=new, back=back)}
        send = {name for name, leaf in able.items() if self.is_due(leaf, row, old, able, new)}
        told.withheld += sum(row[leaf.column] is not None and not self.says(leaf, row) for leaf in self.doubtful)
        if not send:
            told.unchanged += 1
            return
        told.changes[row[KEY]] = Change(new, False, frozenset(send), frozenset(able))
        told.rows[row[KEY]] = row
        told.cleared += sum(able[name].inner is None and row[able[name].column] is None for name in send)

    def is_due(self, leaf: Leaf, row: Row, old: Row | None, able: Collection[str], new: bool) -> bool:
        """Whether a leaf that can be sent has to be."""
        if leaf.key and self.layout.operation.key.match == "all":
            return False  # it goes along with everything
        inside = self.inside(leaf.parent)
        content = [one for one in inside if not (one.identifier and one.parent == leaf.parent)]
        if leaf.constant and leaf.identifier and content:
            return False  # the code of an element that holds more than its code
        if leaf.identifier and not leaf.key and content and not any(one.name in able for one in content):
            return False  # an element of which nothing but its code can be said
        lost = old is not None and any(self.is_lost(one, row, old) for one in self.bundles[leaf.bundle])
        differs = leaf.name not in self.known or value(leaf, row) != value(leaf, old)
        return new or self.everything or lost or differs

    def says(self, leaf: Leaf, row: Row) -> bool:
        """Whether a row has a value that Connect would take as one."""
        given = row[leaf.column]
        if leaf.inner is not None:
            if given is None or leaf.value.empty == "clear":
                return given is not None
            there = [element[leaf.inner] is not None for element in given]
            return all(there) if leaf.required or self.layout.has_own_flag(leaf) else any(there)
        if leaf.value.empty != "clear" and (given is None or (leaf.field.null_effect == "ignored" and given == 0)):
            return False
        if any(row[switch.column] is False for switch in self.wakes(leaf)):
            return False
        return not any(self.says(other, row) for other in self.rivals(leaf))

    def wakes(self, leaf: Leaf) -> list[Leaf]:
        """The switch beside a leaf that Connect would turn on with it."""
        sibling = self.layout.operation.flag(leaf.flag_id).activates if leaf.flag_id else None
        return [one for one in self.beside(leaf) if one.field.name == sibling and not one.synthetic]

    def rivals(self, leaf: Leaf) -> list[Leaf]:
        """The leaves beside it that leave nothing of it, where they have a value."""
        flagged = ((one, self.layout.operation.flag(one.flag_id)) for one in self.beside(leaf) if one.flag_id)
        return [one for one, flag in flagged if leaf.field.name in flag.overrides]

    def beside(self, leaf: Leaf) -> list[Leaf]:
        trunk = leaf.name.removesuffix(leaf.field.name)
        return [one for one in self.layout.leaves if one.name == trunk + one.field.name]

    @cached_property
    def doubtful(self) -> list[Leaf]:
        """Leaves whose values may be left unsent for what Connect would make of them."""
        plain = [leaf for leaf in self.layout.leaves if leaf.inner is None]
        return [one for one in plain if one.field.null_effect == "ignored" or self.wakes(one) or self.rivals(one)]

    def able(self, leaf: Leaf, row: Row, *, new: bool, back: bool) -> bool:
        """Whether a leaf can be sent: it stands, as does what it is read with, and its bundle is no other feed's."""
        if not self.stands(leaf, row, new=new, back=back):
            return False
        if leaf.field.read_with is not None:
            trunk = leaf.name.removesuffix(leaf.field.name) + leaf.field.read_with
            others = [one for one in self.layout.leaves if one.name == trunk or one.name.startswith(f"{trunk}[")]
            if not any(self.stands(one, row, new=new, back=back) for one in others):
                return False
        alone = leaf.identifier and leaf.bundle == leaf.name
        columns = {one.column for one in self.bundles[leaf.bundle]}
        return leaf.key or alone or not columns & set(self.theirs.get(row[KEY], ()))

    def stands(self, leaf: Leaf, row: Row, *, new: bool, back: bool) -> bool:
        """Whether a leaf has a value, which is ours to send, in an object or element that is there."""
        if not self.says(leaf, row) or (not leaf.value.own and (back or not new)):
            return False
        return all(self.is_there(place, row) for place in leaf.parents)

    def is_there(self, place: str, row: Row) -> bool:
        """Whether a row has an object or element: something is given of it, and what tells it apart."""
        if not self.is_given(place, row):
            return False
        tokens = self.tokens(place)
        needed = [one for one in tokens if one.required or one.identifies_list == place]
        if needed:
            return all(self.says(one, row) for one in needed)
        return not tokens or any(self.says(one, row) for one in tokens)

    def is_given(self, place: str, row: Row) -> bool:
        """Whether a row says anything of an element of a list beyond what the mapping says of all."""
        given = [one for one in self.inside(place) if not one.constant]
        return not place.endswith("]") or not given or any(self.says(one, row) for one in given)

    def kept(self, row: Row, old: Row) -> Row:
        """With the empty cells of what Connect takes as a whole filled with what Norce has."""
        made = dict(row)
        for leaf in self.layout.leaves:
            listed = leaf.inner is not None and leaf.bundle == leaf.column
            if listed or leaf.constant or leaf.value.empty == "clear" or len(self.bundles[leaf.bundle]) < 2:
                continue
            tokens = [one for place in leaf.parents for one in self.tokens(place)]
            same = all(one.constant or one.column not in old or row[one.column] == old[one.column] for one in tokens)
            if same and all(self.is_given(place, row) for place in leaf.parents) and row[leaf.column] is None:
                made[leaf.column] = old.get(leaf.column)
        return made

    def is_lost(self, leaf: Leaf, row: Row, old: Row) -> bool:
        """Whether Norce has something of a list or object that is sent whole, and a row no longer gives it."""
        if leaf.constant or len(self.bundles[leaf.bundle]) < 2 or old.get(leaf.column) is None:
            return False
        return row[leaf.column] is None if leaf.inner is not None else not self.says(leaf, row)

    def retired(self, old: Row) -> Change:
        """A record that is gone: its switch, and what Connect needs to find it."""
        switch = self.layout.deactivation_leaf
        assert switch is not None
        tokens = [
            leaf for leaf in self.layout.leaves if leaf.key or (leaf.identifier and leaf.parent in switch.parents)
        ]
        able = {switch.name, *(leaf.name for leaf in self.layout.leaves_in(self.layout.always_sent))}
        able -= {leaf.name for leaf in tokens if old.get(leaf.column) is None}
        able |= {leaf.name for leaf in tokens if old.get(leaf.column) is not None}
        return Change(False, True, frozenset({switch.name}), frozenset(able))

    @cached_property
    def bundles(self) -> dict[str, list[Leaf]]:
        """What travels together."""
        found: dict[str, list[Leaf]] = {}
        for leaf in self.layout.leaves:
            found.setdefault(leaf.bundle, []).append(leaf)
        return found

    def inside(self, place: str) -> list[Leaf]:
        return [leaf for leaf in self.layout.leaves if place in leaf.parents]

    def tokens(self, place: str) -> list[Leaf]:
        """What tells an object or element apart."""
        direct = [leaf for leaf in self.layout.leaves if leaf.parent == place and (leaf.identifier or leaf.key)]
        return direct + [leaf for leaf in self.layout.leaves if leaf.identifies_list == place]


def value(leaf: Leaf, row: Row | None) -> Any:
    """What a record has in a leaf; of a list made of rows one value for each element."""
    found = None if row is None else row.get(leaf.column)
    if leaf.inner is None or found is None:
        return found
    return [element.get(leaf.inner) for element in found]
