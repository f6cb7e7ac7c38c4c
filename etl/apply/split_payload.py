"""Cuts a planned request into smaller ones: halves, or the rest without refused records.

Elements are copied byte for byte, so decimals stay what they were. The new payload files are synced before
anybody hears of them, and named after their content, so that cutting again after a crash overwrites like with like.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

import msgspec

from etl import filesystem as durable
from etl.errors import Defect
from etl.model.runs import Chunk, ChunkState


def halves(chunk: Chunk) -> tuple[Chunk, Chunk]:
    """Two chunks with half of the records each, payloads on disk; their numbers are the ledger's business."""
    if chunk.records < 2:
        raise Defect("a single record was to be halved")
    middle = (chunk.records + 1) // 2
    everything = range(chunk.records)
    elements = _elements(chunk)
    return _part(chunk, everything[:middle], elements), _part(chunk, everything[middle:], elements)


def rest(chunk: Chunk, left_out: Collection[int]) -> Chunk | None:
    """The chunk without the records at these positions of its own array; None when nothing would be left."""
    kept = [position for position in range(chunk.records) if position not in left_out]
    return _part(chunk, kept, _elements(chunk)) if kept else None


def same(chunk: Chunk) -> Chunk:
    """The very same request once more, as a chunk of its own."""
    return replace(_fresh(chunk), repeats=chunk.repeats + 1)


def join(elements: Sequence[bytes]) -> bytes:
    """A JSON array of elements that already are JSON."""
    return b"[" + b",".join(elements) + b"]"


def _elements(chunk: Chunk) -> list[bytes]:
    elements = [bytes(raw) for raw in msgspec.json.decode(chunk.payload.read_bytes(), type=list[msgspec.Raw])]
    if len(elements) != chunk.records:
        raise Defect(f"a request says {chunk.records} records and holds {len(elements)}", where=str(chunk.payload))
    return elements


def _part(chunk: Chunk, positions: Sequence[int], elements: Sequence[bytes]) -> Chunk:
    data = join([elements[position] for position in positions])
    digest = hashlib.sha256(data).hexdigest()
    payload = chunk.payload.with_name(f"part-{digest[:24]}.json")
    durable.write(payload, data)
    indexes = chunk.indexes
    mine = [indexes[position] for position in positions]
    return replace(
        _fresh(chunk),
        payload=payload,
        digest=digest,
        records=len(mine),
        values=chunk.values * len(mine) // chunk.records,
        first=mine[0],
        without=tuple(sorted(set(range(mine[0], mine[-1] + 1)).difference(mine))),
        repeats=0,
    )


def _fresh(chunk: Chunk) -> Chunk:
    return Chunk(
        run=chunk.run,
        number=0,
        wave=chunk.wave,
        operation=chunk.operation,
        header=chunk.header,
        payload=chunk.payload,
        digest=chunk.digest,
        records=chunk.records,
        values=chunk.values,
        state=ChunkState.PLANNED,
        origin=chunk.origin or chunk.number,
        first=chunk.first,
        without=chunk.without,
        repeats=chunk.repeats,
    )
