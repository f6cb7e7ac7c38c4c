"""Settings from `etl.toml` and the environment, checked completely before anything starts.

Strict on purpose: an unknown key is a typing error that would otherwise silently leave a default in force. The
secret is never part of the file. Fast to import: `etl --help` and `etl status` pay for msgspec only.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from etl.config import fetch_settings
from etl.config.fetch_settings import FetchSettings
from etl.errors import SettingsError

#: Looked for in the current folder when neither a path nor ETL_CONFIG says otherwise.
DEFAULT_FILE = "etl.toml"


_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

T = TypeVar("T")

Text = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class ConnectSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[connect]`: the address of Norce, and the client that calls it."""

    base_url: Text  #: e.g. https://acme.api-se.playground.norce.tech
    scope: Text  #: the environment: playground, stage or prod
    application_id: int | Text
    account_id: int  #: the system account that writes are attributed to
    client_id: Text
    token_url: Text | None = None  #: default: base_url and the contract's token path
    job_prefix: Text | None = None  #: path of the Job service; default: the contract's prefix

    @property
    def token_endpoint(self) -> str:
        """The whole URL of the token endpoint."""
        from etl.contract import spec

        return self.token_url or self.base_url.rstrip("/") + spec.load_contract().token_path

    @property
    def target(self) -> str:
        """What a state folder belongs to: two targets must never share one."""
        return f"{self.base_url.rstrip('/')} application {self.application_id}"


class PathSettings(msgspec.Struct, frozen=True):
    """`[paths]`: relative ones count from the folder of the settings file."""

    inbox: Path = Path("inbox")
    mappings: Path = Path("mappings")
    state: Path = Path("var")


class LimitSettings(msgspec.Struct, frozen=True):
    """`[limits]`: what Connect grants, and how large a request may be."""

    requests: Count = 60
    per_seconds: Seconds = 60.0
    max_records: Count = 1000
    max_bytes: Count = 4_000_000
    in_flight: Count = 8  #: imports whose answer has not come, over all runs; as many questions beside them
    unfinished: Count = 300  #: imports whose job has not ended, over all runs
    packing: Literal["budget", "strict"] = "budget"  #: spare minutes, or also requests within a minute
    lost_answer_seconds: Seconds = 300.0  #: until Connect lists a job whose response was lost, at the latest
    #: when a job's number of items that differs from the number sent is believed
    trust_totals: Literal["never", "consistent", "always"] = "consistent"


class WatchSettings(msgspec.Struct, frozen=True):
    """`[watch]`: when a file counts as complete, and how often to look."""

    settle_seconds: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    rescan_seconds: Seconds = 30.0


class RetentionSettings(msgspec.Struct, frozen=True):
    """`[retention]`: days after which ended runs are deleted; 0: never."""

    archive_days: Annotated[int, msgspec.Meta(ge=0)] = 90
    ledger_days: Annotated[int, msgspec.Meta(ge=0)] = 400


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[webhook]`: where Norce's JobCompletedEvent arrives while `etl run` works."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    host: Text = "127.0.0.1"
    path: Annotated[str, msgspec.Meta(pattern=r"^/[\w./~-]*$")] = "/job-completed"
    header: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]+$")] = "x-etl-token"
    plain_http: bool = False  #: the token may come unencrypted from other machines


#: Account that writes to the built-in sandbox are attributed to.
SANDBOX_ACCOUNT_ID = 1


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. `connect` is None without a settings file: the sandbox is used then."""

    connect: ConnectSettings | None = None
    paths: PathSettings = PathSettings()
    limits: LimitSettings = LimitSettings()
    watch: WatchSettings = WatchSettings()
    fetch: dict[str, FetchSettings] = {}
    webhook: WebhookSettings | None = None
    retention: RetentionSettings = RetentionSettings()

    @property
    def account_id(self) -> int:
        """The account that writes are attributed to; without settings for Connect that of the sandbox."""
        return self.connect.account_id if self.connect is not None else SANDBOX_ACCOUNT_ID


_SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "connect": ConnectSettings,
    "paths": PathSettings,
    "limits": LimitSettings,
    "watch": WatchSettings,
    "fetch": FetchSettings,
    "webhook": WebhookSettings,
    "retention": RetentionSettings,
}


def resolve_state_folder(settings: Settings) -> Settings:
    """Return the settings with the state folder in use: the sandbox has one of its own."""
    if settings.connect is not None:
        return settings
    paths = msgspec.structs.replace(settings.paths, state=settings.paths.state / "sandbox")
    return msgspec.structs.replace(settings, paths=paths)


def load_settings(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Load the settings from `path`, the file ETL_CONFIG names, or `etl.toml`; without any, defaults without Connect.

    Raises SettingsError with the place of the first mistake.
    """
    named = path or (Path(environ["ETL_CONFIG"]) if environ.get("ETL_CONFIG") else None)
    file = named or Path(DEFAULT_FILE)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        if named is None:
            return _resolve_paths(Settings(), Path.cwd())
        raise SettingsError(
            "settings-missing", f"there is no settings file {file}", hint="give another --config or write this one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            "settings-unreadable", f"{file} cannot be read: {error}", hint="check its permissions; it must be UTF-8"
        ) from None
    settings = _resolve_paths(parse_settings(text, str(file)), file.resolve().parent)
    _check_folders(settings.paths, text, str(file))
    return settings


def parse_settings(text: str, file_name: str = DEFAULT_FILE) -> Settings:
    """Parse settings from TOML text; `name` is only for messages. Raises SettingsError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+), column (\d+)", str(error))
        where = f"{file_name}:{place[1]}:{place[2]}" if place else file_name
        raise SettingsError(
            "settings-syntax", f"not valid TOML: {error}", where=where, hint="text values need quotes"
        ) from None
    _check_known_keys(raw, text, file_name)
    servers = raw.get("fetch")
    for source, table in servers.items() if isinstance(servers, dict) else ():  # msgspec does not say which is wrong
        _convert(table, FetchSettings, f"fetch.{source}.", text, file_name)
    settings = _convert(raw, Settings, "", text, file_name)
    if settings.connect is not None:
        _check_url("connect.base_url", settings.connect.base_url, file_name, text)
        if settings.connect.token_url is not None:
            _check_url("connect.token_url", settings.connect.token_url, file_name, text)
    for source, fetch in settings.fetch.items():
        if sentence := fetch_settings.find_fetch_problem(source, fetch):
            where = _find_location(file_name, text, f"fetch.{source}")
            raise SettingsError(
                "settings-fetch", f"[fetch.{source}]: {sentence}", where=where, hint="see docs/settings.md"
            )
    webhook = settings.webhook
    if webhook is not None and webhook.host not in _LOOPBACK_HOSTS and not webhook.plain_http:
        raise SettingsError(
            "settings-url-plain",
            "webhook.host makes other machines send the token unencrypted",
            where=_find_location(file_name, text, "webhook.host"),
            hint="listen on 127.0.0.1 behind a server that speaks TLS; webhook.plain_http = true if it is elsewhere",
        )
    return settings


def _convert(raw: Any, kind: type[T], key_prefix: str, text: str, file_name: str) -> T:
    try:
        return msgspec.convert(raw, kind, strict=True, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `$")
        key = key_prefix + at.strip("`.")
        missing = re.search(r"missing required field `(\w+)`", message)
        if missing:
            key = f"{key.rstrip('.')}.{missing[1]}".strip(".")
            message = f"{key} is missing"
        elif key:
            message = f"{key}: {message[0].lower()}{message[1:]}"
        raise SettingsError(
            "settings-missing-key" if missing else "settings-value",
            message,
            where=_find_location(file_name, text, key),
            hint=f"write {key} = … under its section" if missing else "see docs/settings.md for the allowed values",
        ) from None


def _check_known_keys(raw: Mapping[str, Any], text: str, file_name: str) -> None:
    for section, values in raw.items():
        if section not in _SECTIONS:
            _raise_unknown_key(section, section, tuple(_SECTIONS), text, file_name)
        known = _SECTIONS[section].__struct_fields__
        tables = {section: values}
        if section == "fetch" and isinstance(values, Mapping):
            tables = {f"fetch.{source}": table for source, table in values.items()}
        for path, table in tables.items():
            for key in table if isinstance(table, Mapping) else ():
                if key not in known:
                    _raise_unknown_key(key, f"{path}.{key}", known, text, file_name)


def _raise_unknown_key(key: str, path: str, known_keys: tuple[str, ...], text: str, file_name: str) -> None:
    where = _find_location(file_name, text, path)
    if re.search(r"secret|passw", key, re.IGNORECASE):
        raise SettingsError(
            "settings-secret",
            f"{path} does not belong into the settings file",
            where=where,
            hint="remove it and set ETL_CLIENT_SECRET instead",
        )
    from difflib import get_close_matches

    near = get_close_matches(key, known_keys, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"keys: {', '.join(known_keys)}"
    raise SettingsError("settings-unknown-key", f'there is no setting "{path}"', where=where, hint=hint)


def _find_location(file_name: str, text: str, path: str) -> str:
    """Return `file:line, key`; a search finds the line, because tomllib keeps none."""
    section, _, key = path.rpartition(".") if path.startswith("fetch.") else path.partition(".")
    if section == "fetch":
        section, key = path, ""
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            here = header[1]
            if not key and here == section:
                return f"{file_name}:{number}, {path}"
        elif re.match(rf"\s*[\"']?{re.escape(key or section)}[\"']?\s*=", line) and here == (section if key else ""):
            return f"{file_name}:{number}, {path}"
    return f"{file_name}, {path}" if path else file_name


def _check_url(key: str, url: str, file_name: str, text: str) -> None:
    where = _find_location(file_name, text, key)
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        raise SettingsError("settings-url", f"{key} is not a web address", where=where, hint="write https://host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError(
            "settings-url", f"{key} carries more than an address", where=where, hint="leave out user, query and #"
        )
    if parts.scheme == "http" and host not in _LOOPBACK_HOSTS:
        raise SettingsError(
            "settings-url-plain",
            f"{key} would send the secret unencrypted",
            where=where,
            hint="write https://; plain http is for this machine only",
        )


def _decode_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    raise msgspec.ValidationError(f"Expected a path, got `{type(value).__name__}`")


def _check_folders(paths: PathSettings, text: str, file_name: str) -> None:
    """Raise SettingsError when one of inbox and state folder contains the other."""
    inbox, state = paths.inbox.resolve(), paths.state.resolve()
    if inbox == state or inbox in state.parents or state in inbox.parents:
        raise SettingsError(
            "settings-paths",
            "one of paths.inbox and paths.state contains the other: our own files would count as exports",
            where=_find_location(file_name, text, "paths.state"),
            hint="name two folders side by side, such as inbox and var",
        )


def _resolve_paths(settings: Settings, folder: Path) -> Settings:
    paths = settings.paths
    return msgspec.structs.replace(
        settings,
        paths=PathSettings(inbox=folder / paths.inbox, mappings=folder / paths.mappings, state=folder / paths.state),
        fetch={name: _resolve_fetch_paths(fetch, folder) for name, fetch in settings.fetch.items()},
    )


def _resolve_fetch_paths(fetch: FetchSettings, folder: Path) -> FetchSettings:
    key = folder / fetch.key if fetch.key is not None else None
    return msgspec.structs.replace(fetch, key=key, known_hosts=folder / fetch.known_hosts)
