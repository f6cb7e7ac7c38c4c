"""What must be sent together, so that a header never names a field that a record of the request lacks.

A flag speaks for every element of the list it belongs to: naming `Cultures[].Description` for the Swedish
text makes Connect expect one in the English element too, and take its absence for an empty value. So a set of
changed leaves is first *closed* (bundles, companions, anchors, and whatever the lit flags ask for), and where
a record cannot give what is asked for, its elements are sent in several passes with a header each.
"""

from __future__ import annotations

from etl.mapping.layout import Layout, Leaf


def passes(send: int, able: int, layout: Layout) -> tuple[int, ...] | None:
    """Closed sets of leaves, in the order they are to be sent; None when an element alone contradicts itself.

    `send` and `able` are sets as bits: what has to be sent and what could be.
    """
    if send & ~able:
        return None
    send = _prune(_widen(send, able, layout), layout)
    whole = close(send, able, layout)
    if whole is not None:
        return (whole,) if send else ()
    groups: dict[str, int] = {}
    for leaf in layout.of(send):
        groups[leaf.parent] = groups.get(leaf.parent, 0) | 1 << leaf.index
    waiting = list(groups.values())
    made: list[int] = []
    while waiting:
        together, later = waiting[0], []
        closed = close(together, able, layout)
        if closed is None:
            return None
        for group in waiting[1:]:
            wider = close(together | group, able, layout)
            if wider is None:
                later.append(group)
            else:
                together, closed = together | group, wider
        made.append(closed)
        waiting = later
    return tuple(made)


def close(send: int, able: int, layout: Layout) -> int | None:
    """The smallest set around `send` that a header can name; None when `able` does not allow one."""
    bits = (send | layout.always | layout.identity(able)) & able
    while True:
        grown = bits
        inside: set[str] = set()
        for leaf in layout.of(bits):
            grown |= layout.bundles[leaf.bundle] & able
            grown |= _companion(leaf, layout) & able
            inside.update(leaf.parents)
        for place in inside:
            grown |= layout.anchors.get(place, 0) & able
        for flag in layout.flags(grown):
            for path in layout.operation.flag(flag).paths:
                for place in inside:
                    if layout.paths[place] == path.rpartition(".")[0]:
                        asked = _asked(place, path, grown, able, layout)
                        if not asked:
                            return None
                        grown |= asked
        if grown == bits:
            return bits
        bits = grown


def _asked(place: str, path: str, bits: int, able: int, layout: Layout) -> int:
    """What a flag asks of one object or element: the field, or at least the identity of what stands under it."""
    if path in layout.containers:
        element = f"{place}[]" if place in layout.lists else place
        under = layout.under.get(element + path.removeprefix(layout.paths[place]), 0)
        return bits & under or able & under
    leaf = layout.at.get((place, path))
    return 0 if leaf is None else able & 1 << leaf.index


def _companion(leaf: Leaf, layout: Layout) -> int:
    """What Connect only reads together: a rule's value with the rule, a list with the word how it is meant."""
    found = layout.companions.get(leaf.index, 0)
    for index, bits in layout.companions.items():
        if bits & 1 << leaf.index:
            found |= 1 << index
    return found


def _widen(send: int, able: int, layout: Layout) -> int:
    """An object whose identity changed is another object: all of it goes."""
    for leaf in list(layout.of(send)):
        told = leaf.tells or (leaf.parent if leaf.anchor and not leaf.key else None)
        if told is not None:
            for other in layout.leaves:
                if told in other.parents:
                    send |= 1 << other.index & able
    return send


def _prune(send: int, layout: Layout) -> int:
    """An element of which there is nothing but its identity to send is left out."""
    kept = send
    for leaf in layout.of(send):
        if not leaf.anchor or leaf.key:
            continue
        content = 0
        for other in layout.leaves:
            if leaf.parent in other.parents and not (other.anchor and other.parent == leaf.parent):
                content |= 1 << other.index
        if content and not send & content:
            kept &= ~(1 << leaf.index)
    return kept
