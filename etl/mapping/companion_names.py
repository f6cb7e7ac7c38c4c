"""Names and content of companion files: done files and checksum manifests. Pure.

A pattern of the mapping gives the name beside the export: `{name}.ok` for `prices.csv` is `prices.csv.ok`, `{stem}.ok`
is `prices.ok`. The pattern of a manifest may contain stars, and one manifest may list many files.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

#: Algorithms by the length of their checksum in hex.
ALGORITHMS = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}

_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_HEX = re.compile(r"[0-9A-Fa-f]+")


@dataclass(frozen=True, slots=True)
class Checksum:
    """The checksum of one file in a manifest."""

    algorithm: str
    value: str  #: hex, lower case


def find_companion_problem(pattern: str, *, allow_wildcards: bool) -> str | None:
    """Return what is wrong with a pattern for done files or manifests, or None."""
    unknown = [word for word in _PLACEHOLDER.findall(pattern) if word not in ("name", "stem")]
    if unknown:
        return f"{{{unknown[0]}}} is no placeholder; use {{name}} or {{stem}}"
    if pattern.startswith("/") or ".." in pattern.split("/"):
        return "leads out of the folder of the export"
    if not allow_wildcards and re.search(r"[*?]", pattern):
        return "contains a star: a done file belongs to one export"
    if not allow_wildcards and not _PLACEHOLDER.search(pattern):
        return "does not say which export it is of"
    if pattern in ("{name}", ""):
        return "is the export itself"
    return None


def name_regex(pattern: str, name: str) -> re.Pattern[str]:
    """Return an expression for the names of an export's companion files, below the inbox."""
    folder, base = posixpath.split(name)
    words = {"name": base, "stem": _stem(base)}
    return re.compile(
        re.escape(folder + "/" if folder else "") + _to_regex(pattern, lambda word: re.escape(words[word]))
    )


def single_name(pattern: str, name: str) -> str | None:
    """Return the only name that an export's companion file can have; None where the pattern has stars."""
    if re.search(r"[*?]", pattern):
        return None
    folder, base = posixpath.split(name)
    words = {"name": base, "stem": _stem(base)}
    return posixpath.join(folder, _PLACEHOLDER.sub(lambda place: words[place[1]], pattern))


def matches_companion(pattern: str, name: str, file_patterns: Iterable[str]) -> bool:
    """Whether a name below the inbox may be the companion file of an export that matches one of `file_patterns`."""
    placeholders: list[str] = []

    def capture(word: str) -> str:
        placeholders.append(word)
        return f"(?P<{word}{len(placeholders)}>[^/]+)"

    match = re.fullmatch(r"(?P<folder>(?:.*/)?)" + _to_regex(pattern, capture), name)
    if match is None:
        return False
    if not placeholders:
        return True
    stem = match[f"{placeholders[0]}1"] if placeholders[0] == "stem" else None
    for file in file_patterns:
        base = match[f"{placeholders[0]}1"] if stem is None else f"{stem}.{file.rpartition('.')[2]}"
        if fnmatchcase(match["folder"] + base, file):
            return True
    return False


def parse_manifest(text: str, manifest_name: str) -> Mapping[str, Checksum]:
    """Parse a manifest; returns the checksums by names below the inbox. Raises ValueError with the line that is none.

    Lines are those of md5sum and similar programs, of `md5sum --tag`, or only a checksum; the name of the manifest
    without its suffix is then the name of the export.
    """
    folder = posixpath.dirname(manifest_name)
    checksums: dict[str, Checksum] = {}
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        kind, value, file_name = _split_tagged_line(line) or _split_plain_line(line)
        algorithm = ALGORITHMS.get(len(value)) if _HEX.fullmatch(value) else None
        if algorithm is None or kind not in ("", algorithm):
            raise ValueError(f"line {number} is no checksum with a name")
        file_name = file_name or posixpath.basename(manifest_name).rpartition(".")[0]
        path = posixpath.normpath(posixpath.join(folder, file_name.replace("\\", "/")))
        checksums[path] = Checksum(algorithm, value.lower())
    return checksums


def _split_tagged_line(line: str) -> tuple[str, str, str] | None:
    """Split a line such as `SHA256 (prices.csv) = 0f1e…` into algorithm, checksum and name; None for another one.

    Both splits take linear time, whatever a supplier writes into the line.
    """
    before, sign, value = line.rpartition("=")
    kind, bracket, name = before.partition("(")
    name = name.rstrip()
    if not sign or not bracket or not name.endswith(")") or not kind.strip().replace("-", "").isalnum():
        return None
    return kind.strip().lower().replace("-", ""), value.strip(), name[:-1]


def _split_plain_line(line: str) -> tuple[str, str, str]:
    """Split a line such as `0f1e… *prices.csv` into no algorithm, checksum and name."""
    value, _, name = line.strip().removeprefix("\\").replace("\t", " ").partition(" ")
    return "", value, name.strip().removeprefix("*")


def _stem(base: str) -> str:
    return base.rpartition(".")[0] or base


def _to_regex(pattern: str, expand: Callable[[str], str]) -> str:
    """Return the pattern as a regular expression; its stars match no slash."""
    regex, at = "", 0
    for placeholder in _PLACEHOLDER.finditer(pattern):
        regex += _wildcards_to_regex(pattern[at : placeholder.start()]) + expand(placeholder[1])
        at = placeholder.end()
    return regex + _wildcards_to_regex(pattern[at:])


def _wildcards_to_regex(part: str) -> str:
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign)) for sign in part)
