"""`[fetch.NAME]` of the settings: a supplier's server, and what about it cannot work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]

#: Names of `[fetch.NAME]`; they become part of variables of the environment.
_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")


class FetchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[fetch.NAME]`: a supplier's server, from which files are fetched into the inbox."""

    host: Text
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 22
    user: Text
    key: Path | None = None  #: a private key; its passphrase comes from the environment. None: a password does
    known_hosts: Path  #: in OpenSSH's form
    folder: Text = "."
    files: Text = "*"  #: names within the folder
    into: str | None = None  #: folder below the inbox; default: the name of the section
    schedule: Text = "*/5 * * * *"  #: cron, local time
    after: Literal["keep", "delete", "move"] = "keep"
    move_to: Text | None = None  #: folder on the server
    checksum: Text = "none"  #: or "server", or the name of a file of checksums
    settle_seconds: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    timeout_seconds: Seconds = 60.0


def find_fetch_problem(source: str, settings: FetchSettings) -> str | None:
    """Return what cannot work in these settings, as a sentence, or None."""
    from etl import cron
    from etl.mapping import companion_names

    named = settings.checksum not in ("none", "server")
    stars = companion_names.find_companion_problem(settings.checksum, allow_wildcards=False) if named else None
    into = Path(settings.into or "")
    wrong = {
        "its name is not written with lower-case letters, digits, - and _": not _SOURCE_NAME.fullmatch(source),
        f'"{settings.schedule}" is no timetable as in cron': not cron.is_cron(settings.schedule),
        'after = "move" needs move_to': settings.after == "move" and settings.move_to is None,
        "into leads out of the inbox": ".." in into.parts or into.is_absolute(),
        f'checksum = "{settings.checksum}" {stars}': stars is not None,
    }
    return next((sentence for sentence, is_wrong in wrong.items() if is_wrong), None)
