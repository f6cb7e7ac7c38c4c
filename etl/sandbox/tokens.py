"""OAuth2 client credentials (docs.norce.io/api-reference/accessing-apis-with-oauth2-accounts)."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs

from etl.sandbox.http import ApiRequest, ApiResponse, json_response
from etl.sandbox.rate_windows import RefillingLimit
from etl.sandbox.settings import SandboxSettings


class TokenIssuer:
    """Issued tokens and when they expire."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._bucket = RefillingLimit(settings.token_requests / settings.token_per_seconds, settings.token_burst)
        self.expiry_times: dict[str, float] = {}
        self.issued_count = 0

    def is_valid(self, authorization: str, now: float) -> bool:
        scheme, _, token = authorization.partition(" ")
        return scheme == "Bearer" and self.expiry_times.get(token, 0.0) > now

    def revoke_all(self) -> None:
        self.expiry_times.clear()

    def acquire(self, peer: str, now: float) -> float:
        """Return 0 when this address may ask for a token, else the seconds until it may."""
        return self._bucket.acquire(peer, now)

    def token_response(self, request: ApiRequest, now: float) -> ApiResponse:
        """Return the response of the token endpoint to a request within the limit."""
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return json_response(400, {"error": "invalid_request", "error_description": "the body is not a form"})
        form = {name: values[0] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != "client_credentials":
            return json_response(400, {"error": "unsupported_grant_type"})
        credentials = (form.get("client_id"), form.get("client_secret"))
        if credentials != (self._settings.client_id, self._settings.client_secret):
            return json_response(401, {"error": "invalid_client"})
        scope = form.get("scope", "")
        if not scope or (self._settings.scope is not None and scope != self._settings.scope):
            return json_response(400, {"error": "invalid_scope"})
        token = secrets.token_urlsafe(24)
        self.expiry_times[token] = now + self._settings.expires_in
        self.issued_count += 1
        expires = int(self._settings.expires_in)
        return json_response(
            200, {"access_token": token, "token_type": "Bearer", "expires_in": expires, "scope": scope}
        )
