"""Cuts a planned request into smaller ones: halves, or the rest without refused records.

Elements are copied byte for byte, so decimals stay what they were. The new payload files are synced before
anybody hears of them, and named after their content, so that cutting again after a crash overwrites like with like.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

import msgspec

from etl import filesystem
from etl.errors import InternalError
from etl.model.runs import Chunk, ChunkState


def halve(chunk: Chunk) -> tuple[Chunk, Chunk]:
    """Return two chunks with half of the records each, payloads synced; the ledger numbers them."""
    if chunk.records < 2:
        raise InternalError("a single record was to be halved")
    middle = (chunk.records + 1) // 2
    everything = range(chunk.records)
    elements = _read_elements(chunk)
    return _make_part(chunk, everything[:middle], elements), _make_part(chunk, everything[middle:], elements)


def without_records(chunk: Chunk, excluded: Collection[int]) -> Chunk | None:
    """Return the chunk without the records at these positions of its array; None when none is left."""
    positions = [position for position in range(chunk.records) if position not in excluded]
    return _make_part(chunk, positions, _read_elements(chunk)) if positions else None


def duplicate(chunk: Chunk) -> Chunk:
    """Return a chunk that repeats the same request."""
    return replace(_reset_chunk(chunk), repeats=chunk.repeats + 1)


def join_elements(elements: Sequence[bytes]) -> bytes:
    """Return a JSON array of elements that are JSON already."""
    return b"[" + b",".join(elements) + b"]"


def _read_elements(chunk: Chunk) -> list[bytes]:
    elements = [bytes(raw) for raw in msgspec.json.decode(chunk.payload.read_bytes(), type=list[msgspec.Raw])]
    if len(elements) != chunk.records:
        raise InternalError(
            f"a request says {chunk.records} records and holds {len(elements)}", where=str(chunk.payload)
        )
    return elements


def _make_part(chunk: Chunk, positions: Sequence[int], elements: Sequence[bytes]) -> Chunk:
    data = join_elements([elements[position] for position in positions])
    digest = hashlib.sha256(data).hexdigest()
    payload = chunk.payload.with_name(f"part-{digest[:24]}.json")
    filesystem.write_atomically(payload, data)
    indexes = chunk.indexes
    mine = [indexes[position] for position in positions]
    return replace(
        _reset_chunk(chunk),
        payload=payload,
        digest=digest,
        records=len(mine),
        values=chunk.values * len(mine) // chunk.records,
        first=mine[0],
        excluded_indexes=tuple(sorted(set(range(mine[0], mine[-1] + 1)).difference(mine))),
        repeats=0,
    )


def _reset_chunk(chunk: Chunk) -> Chunk:
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
        state=ChunkState.READY,
        origin_chunk=chunk.origin_chunk or chunk.number,
        first=chunk.first,
        excluded_indexes=chunk.excluded_indexes,
        repeats=chunk.repeats,
    )
