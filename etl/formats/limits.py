"""Bounds of what is read of one file.

A file above a bound is invalid; without bounds it could end the process. The defaults are far above ordinary exports.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Bounds of one read; a file above them is invalid, and never cut."""

    rows: int = 20_000_000
    columns: int = 16_384  #: as many as Excel has
    record_characters: int = 4 * MIB  #: characters of one record, and so of any cell
    block_bytes: int = 4 * MIB  #: bytes of a delimited file in memory at a time, where that can be proved safe
    sheet_block_bytes: int = 4 * MIB  #: bytes of a sheet's XML that are worked on at a time
    sheets: int = 256
    members: int = 1_000  #: files in an archive
    unpacked_bytes: int = 4_096 * MIB  #: bytes of an archive's member, or of all parts of a workbook
    unpack_ratio: int = 250  #: unpacked by packed size, looked at above `ratio_from`
    ratio_min_bytes: int = 32 * MIB
    memory_bytes: int = 2_048 * MIB  #: address space of the process that opens a workbook
    seconds: float = 60.0  #: processor and wall time of that process
