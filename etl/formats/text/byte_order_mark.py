"""Finds the byte order mark at the start of a file, and checks that it fits the encoding of the mapping."""

from __future__ import annotations

import codecs

from etl.formats import errors

#: Longest first: the UTF-32 mark begins with the UTF-16 one.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def find_bom(head: bytes) -> tuple[bytes, str] | None:
    """Return the byte order mark at the start of a file and the codec that it tells; None without one."""
    return next(((bom, name) for bom, name in BYTE_ORDER_MARKS if head.startswith(bom)), None)


def is_wide_codec(codec: str) -> bool:
    """Return whether a codec is UTF-16 or UTF-32: not a superset of ASCII."""
    return codec.replace("_", "-").startswith(("utf-16", "utf-32"))


def check_bom(where: str, encoding: str, codec_list: tuple[str, ...], bom: bytes, bom_codec: str) -> tuple[str, ...]:
    """Return the codecs of a file with a byte order mark, which has to fit the mapping's encoding.

    Raises InvalidFileError when it does not.
    """
    fits = any(codec.replace("_", "-").startswith(bom_codec) for codec in codec_list)
    endian = {codecs.BOM_UTF16_LE: "le", codecs.BOM_UTF32_LE: "le"}.get(bom, "be")
    explicit = [codec for codec in codec_list if is_wide_codec(codec) and codec[-3:] in ("-le", "-be")]
    if not fits or any(codec[-2:] != endian for codec in explicit):
        raise errors.wrong_encoding(where, encoding, bom_codec, "its first bytes are that encoding's mark")
    if bom_codec == "utf-8":
        return ("utf-8",) if "utf-8" in codec_list else codec_list
    return (f"{bom_codec}-{endian}",)
