"""Completes a set of leaves, so that a header never names a field that a record of the request lacks.

A flag covers every element of its list: naming `Cultures[].Description` for the Swedish text makes Connect expect one
in the English element too, and take its absence for an empty value. So a set of changed leaves is first *closed*: it
gets bundles, companions, identifiers and the leaves that the active flags need. Where a record cannot send all of
these, its elements are sent in several passes with a header each.
"""

from __future__ import annotations

from etl.mapping.layout import Layout, Leaf


def split_into_passes(send: int, sendable: int, layout: Layout) -> tuple[int, ...] | None:
    """Return closed sets of leaves in the order of sending; None where no header can carry an element even alone.

    Args:
        send: the leaves to send, as bits.
        sendable: the leaves that the record could send.
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
    passes: list[int] = []
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
        passes.append(closed)
        waiting = later
    return tuple(passes)


def closure(send: int, sendable: int, layout: Layout) -> int | None:
    """Return the smallest closed set that contains `send`; None when it needs a leaf that is not sendable."""
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
                        needed = _leaves_for_flag(place, path, grown, sendable, layout)
                        if not needed:
                            return None
                        grown |= needed
        if grown == bits:
            return bits
        bits = grown


def _leaves_for_flag(place: str, path: str, bits: int, sendable: int, layout: Layout) -> int:
    """Return the leaves that a flag needs in one object or element: the field, or those inside the object or list."""
    if path in layout.containers:
        element = f"{place}[]" if place in layout.lists else place
        under = layout.descendants.get(element + path.removeprefix(layout.contract_paths[place]), 0)
        return bits & under or sendable & under
    leaf = layout.leaf_at.get((place, path))
    return 0 if leaf is None else sendable & 1 << leaf.index


def _read_with(leaf: Leaf, layout: Layout) -> int:
    """Return the leaves that Connect reads only together with this one, e.g. a rule with its value."""
    companions = layout.read_with.get(leaf.index, 0)
    for index, bits in layout.read_with.items():
        if bits & 1 << leaf.index:
            companions |= 1 << index
    return companions


def _include_replaced_objects(send: int, sendable: int, layout: Layout) -> int:
    """Add all leaves of an object whose identifier changed: for Connect it is another object."""
    for leaf in list(layout.leaves_in(send)):
        replaced = leaf.identifies_list or (leaf.parent if leaf.identifier and not leaf.key else None)
        if replaced is not None:
            for other in layout.leaves:
                if replaced in other.parents:
                    send |= 1 << other.index & sendable
    return send


def _drop_identity_only(send: int, layout: Layout) -> int:
    """Leave out an element of which only the identifier would be sent."""
    remaining = send
    for leaf in layout.leaves_in(send):
        if not leaf.identifier or leaf.key:
            continue
        content = 0
        for other in layout.leaves:
            if leaf.parent in other.parents and not (other.identifier and other.parent == leaf.parent):
                content |= 1 << other.index
        if content and not send & content:
            remaining &= ~(1 << leaf.index)
    return remaining
