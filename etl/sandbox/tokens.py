"""OAuth2 client credentials (docs.norce.io/api-reference/accessing-apis-with-oauth2-accounts)."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs

from etl.sandbox.http import Answer, Call, answer
from etl.sandbox.rate_windows import Bucket
from etl.sandbox.settings import Settings


class Tokens:
    """Issued tokens and when they expire."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bucket = Bucket(settings.token_requests / settings.token_per_seconds, settings.token_burst)
        self.live: dict[str, float] = {}
        self.issued = 0

    def valid(self, authorization: str, now: float) -> bool:
        scheme, _, token = authorization.partition(" ")
        return scheme == "Bearer" and self.live.get(token, 0.0) > now

    def revoke(self) -> None:
        self.live.clear()

    def wait(self, peer: str, now: float) -> float:
        """0 when this address may ask for a token, else the seconds until it may."""
        return self._bucket.take(peer, now)

    def answer(self, call: Call, now: float) -> Answer:
        """The token endpoint, once the limit let the request pass."""
        if not call.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return answer(400, {"error": "invalid_request", "error_description": "the body is not a form"})
        form = {name: values[0] for name, values in parse_qs(call.body.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != "client_credentials":
            return answer(400, {"error": "unsupported_grant_type"})
        known = (form.get("client_id"), form.get("client_secret"))
        if known != (self._settings.client_id, self._settings.client_secret):
            return answer(401, {"error": "invalid_client"})
        scope = form.get("scope", "")
        if not scope or (self._settings.scope is not None and scope != self._settings.scope):
            return answer(400, {"error": "invalid_scope"})
        token = secrets.token_urlsafe(24)
        self.live[token] = now + self._settings.expires_in
        self.issued += 1
        expires = int(self._settings.expires_in)
        return answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": expires, "scope": scope})
