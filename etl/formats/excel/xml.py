"""XML of workbooks, streamed and without entities: no declaration inside the file can make it grow."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from xml.parsers import expat

from etl.formats.archives import DAMAGES
from etl.formats.excel.sheet import Unreadable

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
    except DAMAGES as error:
        raise Unreadable(f"its part {part} is damaged: {error}") from None


class Parser:
    """Calls back with plain tag names, and knows how deep it is."""

    def __init__(
        self,
        part: str,
        start: Start,
        end: Callable[[str], None] | None = None,
        text: Callable[[str], None] | None = None,
    ) -> None:
        self.part = part
        self.depth = 0  #: elements that are open
        self.last = ""  #: tag that was opened, if nothing was closed since
        self.encoding: str | None = None  #: what the part declares
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        names: dict[str, str] = {}

        def on_start(name: str, attributes: dict[str, str]) -> None:
            self.depth += 1
            self.last = names.get(name) or names.setdefault(name, local(name))
            start(self.last, attributes)

        def on_end(name: str) -> None:
            self.depth -= 1
            self.last = ""
            if end is not None:
                end(names[name])

        def declared(_version: str, encoding: str | None, _standalone: int) -> None:
            self.encoding = encoding

        def forbid(*_: object) -> None:
            raise Unreadable("it declares XML entities, which no honest workbook does")

        parser.StartElementHandler = on_start
        parser.EndElementHandler = on_end
        parser.XmlDeclHandler = declared
        if text is not None:
            parser.CharacterDataHandler = text
        parser.EntityDeclHandler = forbid

    def feed(self, data: bytes | str, *, final: bool = False) -> None:
        """The next piece of the part; Unreadable when it is no valid XML."""
        try:
            self._parser.Parse(data, final)
        except (expat.ExpatError, LookupError) as error:  # LookupError: an encoding that nobody knows
            raise Unreadable(f"its part {self.part} is no valid XML: {error}") from None


def parse(
    archive: zipfile.ZipFile,
    part: str,
    start: Start,
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    """A whole part."""
    parser = Parser(part, start, end, text)
    for piece in chunks(archive, part):
        parser.feed(piece)
    parser.feed(b"", final=True)


def attribute(attributes: dict[str, str], name: str) -> str | None:
    """An attribute whatever its prefix."""
    return next((value for key, value in attributes.items() if local(key) == name), None)
