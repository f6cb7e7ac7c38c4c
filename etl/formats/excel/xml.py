"""XML of workbooks, streamed and without entities: no declaration inside the file can make it grow."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from xml.parsers import expat

from etl.formats.archives import ARCHIVE_ERRORS
from etl.formats.excel.sheet import WorkbookError

READ_CHUNK = 1 << 18
StartHandler = Callable[[str, dict[str, str]], None]


def local_name(name: str) -> str:
    """Return a tag without its prefix: writers differ in prefixes and namespaces (strict, transitional)."""
    return name.rsplit(":", 1)[-1]


def read_chunks(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    """Yield the bytes of a part in pieces."""
    try:
        with archive.open(part) as stream:
            while piece := stream.read(READ_CHUNK):
                yield piece
    except KeyError:
        raise WorkbookError(f"its part {part} is missing") from None
    except ARCHIVE_ERRORS as error:
        raise WorkbookError(f"its part {part} is damaged: {error}") from None


class XmlParser:
    """Calls back with plain tag names, and knows how deep it is."""

    def __init__(
        self,
        part: str,
        start: StartHandler,
        end: Callable[[str], None] | None = None,
        text: Callable[[str], None] | None = None,
    ) -> None:
        self.part = part
        self.depth = 0  #: elements that are open
        self.last_tag = ""  #: tag that was opened, if nothing was closed since
        self.encoding: str | None = None  #: what the part declares
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        names: dict[str, str] = {}

        def on_start(name: str, attributes: dict[str, str]) -> None:
            self.depth += 1
            self.last_tag = names.get(name) or names.setdefault(name, local_name(name))
            start(self.last_tag, attributes)

        def on_end(name: str) -> None:
            self.depth -= 1
            self.last_tag = ""
            if end is not None:
                end(names[name])

        def declared(_version: str, encoding: str | None, _standalone: int) -> None:
            self.encoding = encoding

        def forbid(*_: object) -> None:
            raise WorkbookError("it declares XML entities, which a workbook must not do")

        parser.StartElementHandler = on_start
        parser.EndElementHandler = on_end
        parser.XmlDeclHandler = declared
        if text is not None:
            parser.CharacterDataHandler = text
        parser.EntityDeclHandler = forbid

    def feed(self, data: bytes | str, *, final: bool = False) -> None:
        """Parse the next piece of the part. Raises Unreadable when it is no valid XML."""
        try:
            self._parser.Parse(data, final)
        except (expat.ExpatError, LookupError) as error:  # LookupError: an unknown encoding
            raise WorkbookError(f"its part {self.part} is no valid XML: {error}") from None


def parse_part(
    archive: zipfile.ZipFile,
    part: str,
    start: StartHandler,
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    """Parse a whole part."""
    parser = XmlParser(part, start, end, text)
    for piece in read_chunks(archive, part):
        parser.feed(piece)
    parser.feed(b"", final=True)


def find_attribute(attributes: dict[str, str], name: str) -> str | None:
    """Find an attribute whatever its prefix."""
    return next((value for key, value in attributes.items() if local_name(key) == name), None)
