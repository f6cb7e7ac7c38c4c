"""What must be sent together, so that a header never names a field that a record of the request lacks.

A flag speaks for every element of the list it belongs to: naming `Cultures[].Description` for the Swedish
text makes Connect expect one in the English element too, and take its absence for an empty value. So a set of
changed leaves is first *closed* (bundles, companions, anchors, and whatever the lit flags ask for), and where
a record cannot give what is asked for, its elements are sent in several passes with a header each.
"""

from __future__ import annotations

from etl.mapping.layout import Layout, Leaf


def split_into_passes(send: int, sendable: int, layout: Layout) -> tuple[int, ...] | None:
    """Closed sets of leaves, in the order they are to be sent; None when an element alone contradicts itself.

    `send` and `able` are sets as bits: what has to be sent and what could be.
    """
    if send & ~sendable:
        return None
    send = _drop_identity_only(_include_replaced_objects(send, sendable, layout), layout)
    whole = closure(send, sendable, layout)
    if whole is not None:
        return (whole,) if send else ()
    groups: dict[str, int] = {}
    for leaf in layout.leaves_in(send):
        groups[leaf.parent] = groups.get(leaf.parent, 0) | 1 << leaf.index
    waiting = list(groups.values())
    made: list[int] = []
    while waiting:
        together, later = waiting[0], []
        closed = closure(together, sendable, layout)
        if closed is None:
            return None
        for group in waiting[1:]:
            wider = closure(together | group, sendable, layout)
            if wider is None:
                later.append(group)
            else:
                together, closed = together | group, wider
        made.append(closed)
        waiting = later
    return tuple(made)


def closure(send: int, sendable: int, layout: Layout) -> int | None:
    """The smallest set around `send` that a header can name; None when `able` does not allow one."""
    bits = (send | layout.always_sent | layout.deciding_key(sendable)) & sendable
    while True:
        grown = bits
        inside: set[str] = set()
        for leaf in layout.leaves_in(bits):
            grown |= layout.bundles[leaf.bundle] & sendable
            grown |= _read_with(leaf, layout) & sendable
            inside.update(leaf.parents)
        for place in inside:
            grown |= layout.identifiers.get(place, 0) & sendable
        for flag in layout.flags_of(grown):
            for path in layout.operation.flag(flag).paths:
                for place in inside:
                    if layout.contract_paths[place] == path.rpartition(".")[0]:
                        asked = _leaves_for_flag(place, path, grown, sendable, layout)
                        if not asked:
                            return None
                        grown |= asked
        if grown == bits:
            return bits
        bits = grown


def _leaves_for_flag(place: str, path: str, bits: int, sendable: int, layout: Layout) -> int:
    """What a flag asks of one object or element: the field, or at least the identity of what stands under it."""
    if path in layout.containers:
        element = f"{place}[]" if place in layout.lists else place
        under = layout.descendants.get(element + path.removeprefix(layout.contract_paths[place]), 0)
        return bits & under or sendable & under
    leaf = layout.leaf_at.get((place, path))
    return 0 if leaf is None else sendable & 1 << leaf.index


def _read_with(leaf: Leaf, layout: Layout) -> int:
    """What Connect only reads together: a rule's value with the rule, a list with the word how it is meant."""
    found = layout.read_with.get(leaf.index, 0)
    for index, bits in layout.read_with.items():
        if bits & 1 << leaf.index:
            found |= 1 << index
    return found


def _include_replaced_objects(send: int, sendable: int, layout: Layout) -> int:
    """An object whose identity changed is another object: all of it goes."""
    for leaf in list(layout.leaves_in(send)):
        told = leaf.identifies_list or (leaf.parent if leaf.identifier and not leaf.key else None)
        if told is not None:
            for other in layout.leaves:
                if told in other.parents:
                    send |= 1 << other.index & sendable
    return send


def _drop_identity_only(send: int, layout: Layout) -> int:
    """An element of which there is nothing but its identity to send is left out."""
    kept = send
    for leaf in layout.leaves_in(send):
        if not leaf.identifier or leaf.key:
            continue
        content = 0
        for other in layout.leaves:
            if leaf.parent in other.parents and not (other.identifier and other.parent == leaf.parent):
                content |= 1 << other.index
        if content and not send & content:
            kept &= ~(1 << leaf.index)
    return kept
