"""Asking a token server for a token, and reading its answer.

Sources: distribution's ``spec/auth/token.md`` and ``oauth.md``. Rule 2 of the registry client holds here:
no redirect is followed, no body above 64 KiB is read.
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeGuard
from urllib.parse import quote, urlencode

import httpx

from registry.credentials import Credential
from registry.dialing import ForbiddenAddress
from registry.endpoint import Endpoint
from registry.errors import Refused, RegistryError, Throttled, Transient, Unauthorized, Unreachable, Unsafe
from registry.realm import realm_host
from registry.redact import redacted
from registry.retry_after import retry_after_s
from registry.tokens import Token, TokenKey, subject

CLIENT_ID = "sealift"
DEFAULT_LIFETIME_S = 60.0
"""What the specification says where a token server does not."""
MAX_LIFETIME_S = 86400.0
MARGIN_S = 15.0
"""A token is renewed this long before it expires, so that it does not on its way; at most MARGIN_SHARE."""
MARGIN_SHARE = 0.25
MAX_BODY = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+")

Send = Callable[[httpx.Request], httpx.Response]
"""One exchange with the body read; follows no redirects."""


class MalformedAnswer(ValueError):
    """The token server's 200 holds no token; the text never quotes it."""


class TokenServer:
    """The token servers of one registry, whose realms were checked before."""

    def __init__(self, endpoint: Endpoint, send: Send) -> None:
        self._host = endpoint.host
        self._send = send
        silence = endpoint.timeouts.read_s
        self._timeouts = {
            "connect": endpoint.timeouts.connect_s,
            "read": silence,
            "write": silence,
            "pool": silence,
        }

    def fetch(self, key: TokenKey, credential: Credential | None) -> Token:
        """A new token. Raises Unauthorized, Refused, Unsafe, Unreachable, Throttled or Transient."""
        server, what = realm_host(key.realm), subject(key.scopes)
        asked_at = time.monotonic()
        try:
            response = self._send(token_request(key, credential, self._timeouts))
        except ForbiddenAddress as error:
            reason = f"its token server {server} may not be asked: {error}"
            raise Unsafe(self._host, what, reason) from error
        except httpx.HTTPError as error:
            cause = redacted(str(error)) or type(error).__name__
            raise Unreachable(self._host, what, f"its token server {server}: {cause}") from error
        if not response.is_success:
            raise self._failure(response, server, what, credential)
        try:
            return parse_token(response, asked_at)
        except MalformedAnswer as error:
            raise Refused(self._host, what, f"its token server {server}: {error}", 200) from None

    def _failure(
        self, response: httpx.Response, server: str, what: str, credential: Credential | None
    ) -> RegistryError:
        """A token server's answer that is no success, as what the caller does next."""
        status = response.status_code
        # OAuth 2 says 400 where the refresh token is wrong (RFC 6749, section 5.2).
        if status in {401, 403} or (status == 400 and b'"invalid_grant"' in response.content[:MAX_BODY]):
            who = (
                f"refused {account_name(credential)}"
                if credential
                else f"wants to know us: {no_credentials(self._host)}"
            )
            return Unauthorized(self._host, what, f"its token server {server} {who}", status)
        if status == 429:
            reason = f"its token server {server} asks for patience"
            return Throttled(self._host, what, reason, status, None, retry_after_s(response.headers))
        if status in {408, 425} or status >= 500:
            return Transient(self._host, what, f"its token server {server} is unwell", status)
        if 300 <= status < 400:
            reason = f"its token server {server} answers with a redirect, which is never followed"
            return Unsafe(self._host, what, reason, status)
        return Refused(self._host, what, f"its token server {server} gives no token", status)


def no_credentials(host: str) -> str:
    """That there are none, and where they are looked for."""
    return f"no credentials for {host} in the fleet file, docker's config.json or its credential helpers"


def account_name(credential: Credential) -> str:
    return f"user {credential.username}" if credential.username else "the identity token"


def basic_header(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {b64encode(pair).decode()}"


def token_request(
    key: TokenKey, credential: Credential | None, timeouts: Mapping[str, float]
) -> httpx.Request:
    """The request for a token of ``key``: OAuth 2 where there is an identity token, else the plain GET."""
    extensions = {"timeout": dict(timeouts)}
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": CLIENT_ID}
    if credential is not None and credential.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": key.service,
            "client_id": CLIENT_ID,
            "scope": " ".join(key.scopes),
            "refresh_token": credential.identity_token,
        }
        return httpx.Request("POST", key.realm, data=form, headers=headers, extensions=extensions)
    query = [("service", key.service)] if key.service else []
    query += [("scope", scope) for scope in key.scopes]
    if credential is not None:
        headers["Authorization"] = basic_header(credential)
        query += [("account", credential.username)]
    joint = "&" if "?" in key.realm else "?"
    url = f"{key.realm.partition('#')[0]}{joint}{urlencode(query, quote_via=quote, safe='/:,')}"
    return httpx.Request("GET", url, headers=headers, extensions=extensions)


def parse_token(response: httpx.Response, asked_at: float) -> Token:
    """The token of a 200, its life counted from ``asked_at`` (``time.monotonic`` before the request).

    ``issued_at`` may lie before that, if the server hands out a token it already had. It is compared with
    the answer's own Date, never with this machine's clock: the two clocks may differ.
    """
    document = _document(response)
    value = document.get("token") or document.get("access_token")
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise MalformedAnswer("its answer holds no token")
    seconds = document.get("expires_in")
    lifetime = float(min(seconds, MAX_LIFETIME_S)) if _is_positive(seconds) else DEFAULT_LIFETIME_S
    age = _age(document.get("issued_at"), response.headers.get("date"))
    # An age beyond the lifetime is a server's zero date or wrong zone: nobody hands out dead tokens.
    lifetime -= age if age < lifetime else 0.0
    return Token(value, asked_at + lifetime - min(MARGIN_S, lifetime * MARGIN_SHARE))


def _document(response: httpx.Response) -> dict[str, Any]:
    if len(response.content) > MAX_BODY:
        raise MalformedAnswer(f"its answer is larger than {MAX_BODY // 1024} KiB")
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError):
        raise MalformedAnswer("its answer is not JSON") from None
    if not isinstance(document, dict):
        raise MalformedAnswer("its answer is not a JSON object")
    return document


def _is_positive(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _age(issued_at: object, date: str | None) -> float:
    """Seconds from ``issued_at`` to the answer's Date; 0 where either is missing or makes no sense."""
    if not isinstance(issued_at, str) or date is None:
        return 0.0
    try:
        age = parsedate_to_datetime(date) - datetime.fromisoformat(_short(issued_at))
    except (ValueError, TypeError):
        return 0.0
    return max(age.total_seconds(), 0.0)


def _short(stamp: str) -> str:
    """RFC 3339 with the nanoseconds that Go writes cut to the microseconds that Python reads."""
    return re.sub(r"(\.\d{6})\d+", r"\1", stamp)
