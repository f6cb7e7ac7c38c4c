"""XML of workbooks, streamed and without entities: no declaration inside the file can make it grow."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from xml.parsers import expat

from etl.formats.sheet import Unreadable

CHUNK = 1 << 18
Start = Callable[[str, dict[str, str]], None]


def local(name: str) -> str:
    """A tag without its prefix: writers differ in prefixes and namespaces (strict, transitional)."""
    return name.rsplit(":", 1)[-1]


def chunks(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    """A part's bytes, in pieces."""
    try:
        with archive.open(part) as stream:
            while piece := stream.read(CHUNK):
                yield piece
    except KeyError:
        raise Unreadable(f"its part {part} is missing") from None
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise Unreadable(f"its part {part} is damaged: {error}") from None


def parse(
    archive: zipfile.ZipFile,
    part: str,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    """Calls back with plain tag names."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    names: dict[str, str] = {}

    def on_start(name: str, attributes: dict[str, str]) -> None:
        start(names.get(name) or names.setdefault(name, local(name)), attributes)

    def on_end(name: str) -> None:
        if end is not None:
            end(names[name])

    def forbid(*_: object) -> None:
        raise Unreadable("it declares XML entities, which no honest workbook does")

    parser.StartElementHandler = on_start
    parser.EndElementHandler = on_end
    if text is not None:
        parser.CharacterDataHandler = text
    parser.EntityDeclHandler = forbid
    try:
        for piece in chunks(archive, part):
            parser.Parse(piece)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Unreadable(f"its part {part} is no valid XML: {error}") from None


def attribute(attributes: dict[str, str], name: str) -> str | None:
    """An attribute whatever its prefix."""
    return next((value for key, value in attributes.items() if local(key) == name), None)
