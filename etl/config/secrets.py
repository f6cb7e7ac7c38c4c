"""Secrets from the environment; they are never printed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.config.fetch_settings import FetchSettings
from etl.errors import SettingsError

#: What cannot be guessed over the network.
MIN_TOKEN_LENGTH = 20


class Secret:
    """A value that shows itself only when asked by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; call this only where the value is sent."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret is not pickled")


def load_client_secret(environ: Mapping[str, str] = os.environ) -> Secret:
    """Read the client secret from ETL_CLIENT_SECRET, or from the file that ETL_CLIENT_SECRET_FILE names."""
    return _load_secret("secret", "client secret", "ETL_CLIENT_SECRET", environ)


def load_webhook_token(environ: Mapping[str, str] = os.environ) -> Secret:
    """Read the token of the webhook from ETL_WEBHOOK_TOKEN, or from the file that ETL_WEBHOOK_TOKEN_FILE names."""
    token = _load_secret("webhook token", "webhook token", "ETL_WEBHOOK_TOKEN", environ)
    if len(token.reveal()) < MIN_TOKEN_LENGTH:
        raise SettingsError(
            "webhook-token-short",
            f"the webhook token has fewer than {MIN_TOKEN_LENGTH} characters",
            hint="make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return token


def _load_secret(short_name: str, full_name: str, variable: str, environ: Mapping[str, str]) -> Secret:
    if value := environ.get(variable, "").strip():
        return Secret(value)
    hint = f"set {variable}, or {variable}_FILE to a file that contains only the secret"
    if file := environ.get(f"{variable}_FILE"):
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError(
                "secret-unreadable", f"the {short_name} file cannot be read: {reason}", where=file, hint=hint
            ) from None
        if value:
            return Secret(value)
        raise SettingsError("secret-empty", f"the {short_name} file is empty", where=file, hint=hint)
    raise SettingsError("secret-missing", f"there is no {full_name}", hint=hint)


def load_fetch_secret(source: str, fetch: FetchSettings, environ: Mapping[str, str] = os.environ) -> Secret | None:
    """Read the password of a server, or the passphrase of its key; None when a key needs none. Raises SettingsError."""
    variable = "ETL_FETCH_" + source.upper().replace("-", "_") + "_PASSWORD"
    hint = f"set {variable}, or {variable}_FILE to a file that contains only the secret"
    value = environ.get(variable, "")
    if not value and (file := environ.get(f"{variable}_FILE")):
        try:
            value = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError(
                "secret-unreadable", f"the password file cannot be read: {reason}", where=file, hint=hint
            ) from None
    if not value and fetch.key is None:
        raise SettingsError(
            "fetch-secret", f"[fetch.{source}] has neither a key nor a password", where=f"fetch.{source}", hint=hint
        )
    return Secret(value) if value else None
