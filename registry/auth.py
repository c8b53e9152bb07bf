"""Authentication at one registry: anonymous, Basic, or Bearer tokens from a token server.

Rules 1 and 2 of the registry client (design, section 7) hold here: credentials go to the registry's own
host after its own Basic challenge, or to a token server that :mod:`registry.realm` lets pass, and nowhere
else; token requests follow no redirect.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

import httpx

from registry.challenge import Challenge, parse_challenges
from registry.credentials import Credential, CredentialError, CredentialSource
from registry.endpoint import Endpoint
from registry.errors import Denied, RegistryError, Transient, Unauthorized, Unsafe
from registry.realm import ForbiddenRealm, check_realm, realm_host
from registry.redact import redacted
from registry.tokens import Token, TokenCache, TokenKey, rights, subject
from registry.tokenserver import Send, TokenServer, account_name, basic_header, no_credentials


@dataclass(frozen=True, slots=True)
class _Basic:
    """The registry asked for user name and password itself."""


@dataclass(frozen=True, slots=True)
class _Bearer:
    """The registry sent us to a token server, which was checked."""

    realm: str
    service: str


class _OneThread(threading.local):
    """What one thread's current request is about: it must not try the same answer for ever."""

    resending = False
    """The next header belongs to a request that was refused once already."""
    fresh: str | None = None
    """The header just handed out, if nothing newer can be had."""
    fetched_for: _Bearer | None = None
    """Where ``fresh`` came from; None if it answers a refusal."""


class Authorizer:
    """The Authorization headers for one registry. Thread-safe; a request and its one re-send share a thread.

    The registry is asked without credentials first, and its challenge is remembered: from then on tokens are
    fetched before the request that needs them.
    """

    def __init__(self, endpoint: Endpoint, credentials: CredentialSource, send: Send) -> None:
        """Talk to token servers by ``send``, which follows no redirects and caps bodies at 64 KiB."""
        self._endpoint = endpoint
        self._credentials = credentials
        self._server = TokenServer(endpoint, send)
        self._lock = threading.Lock()
        self._latest: _Basic | _Bearer | None = None
        # Some registries have a realm per repository; the latest is a guess for those not yet asked.
        self._challenges: dict[str, _Basic | _Bearer] = {}
        self._cache = TokenCache()
        self._flights: dict[TokenKey, Future[Token]] = {}
        self._thread = _OneThread()

    def header(self, scopes: tuple[str, ...]) -> str | None:
        """What to send as Authorization now; None: nothing.

        Fetches a token if there is none for ``scopes``: raises what :meth:`challenged` raises.
        """
        self._thread.fresh = None
        resending, self._thread.resending = self._thread.resending, False
        challenge = self._challenges.get(subject(scopes), self._latest)
        if challenge is None:
            return None
        credential = self._credential(scopes)
        if isinstance(challenge, _Basic):
            return basic_header(credential) if credential and credential.password else None
        token, is_new = self._token(challenge, scopes, credential)
        if resending or is_new:
            self._thread.fresh = token.header
            self._thread.fetched_for = None if resending else challenge
        return token.header

    def challenged(self, response: httpx.Response, scopes: tuple[str, ...], sent: str | None) -> bool:
        """Learn from a 401; ``sent`` is the header that was refused. True: send once more.

        Never True for the answer to that second sending. Raises Unauthorized where credentials are missing
        or wrong, Denied where they are known and the right is missing, Unsafe where the token server must
        not be asked, and Unreachable, Throttled, Transient or Refused where it fails.
        """
        offers = parse_challenges(response.headers.get_list("www-authenticate"))
        challenge = self._learn(offers, scopes)
        credential = self._credential(scopes)
        if isinstance(challenge, _Basic):
            self._check_basic(credential, scopes, sent)
        else:
            if sent is not None and sent == self._thread.fresh and self._is_final(challenge):
                raise self._refusal(offers, scopes, credential)
            if sent is not None:
                with self._lock:
                    self._cache.drop(sent)
            self._token(challenge, scopes, credential)
        self._thread.resending = True
        return True

    def _is_final(self, challenge: _Bearer) -> bool:
        """Whether the refused fresh token came from where the registry still sends us."""
        return self._thread.fetched_for in {None, challenge}

    def _learn(self, offers: list[Challenge], scopes: tuple[str, ...]) -> _Basic | _Bearer:
        bearer = next((offer for offer in offers if offer.scheme == "bearer"), None)
        challenge: _Basic | _Bearer
        if bearer is not None:
            challenge = self._checked(bearer, scopes)
        elif any(offer.scheme == "basic" for offer in offers):
            challenge = _Basic()
        else:
            offered = ", ".join(offer.scheme for offer in offers)[:80] or "none"
            reason = (
                f"it offers no supported way to authenticate (Bearer or Basic; offered: {redacted(offered)})"
            )
            raise Unauthorized(self._endpoint.host, subject(scopes), reason, 401)
        with self._lock:
            self._latest = self._challenges[subject(scopes)] = challenge
        return challenge

    def _checked(self, offer: Challenge, scopes: tuple[str, ...]) -> _Bearer:
        challenge = _Bearer(offer.parameters.get("realm", ""), offer.parameters.get("service", ""))
        if challenge in {self._latest, self._challenges.get(subject(scopes))}:
            return challenge
        try:
            check_realm(challenge.realm, self._endpoint)
        except ForbiddenRealm as error:
            reason = f"its token server {realm_host(challenge.realm)} may not be asked: {error}"
            raise Unsafe(self._endpoint.host, subject(scopes), reason) from None
        return challenge

    def _check_basic(self, credential: Credential | None, scopes: tuple[str, ...], sent: str | None) -> None:
        if credential is not None and not credential.password:
            reason = "it wants a user name and a password, and there is only an identity token; log in again"
        elif credential is None:
            reason = f"it wants a user name and a password: {no_credentials(self._endpoint.host)}"
        elif sent == basic_header(credential):
            reason = f"{account_name(credential)} was refused: wrong password, or no such user"
        else:
            return
        raise Unauthorized(self._endpoint.host, subject(scopes), reason, 401)

    def _credential(self, scopes: tuple[str, ...]) -> Credential | None:
        try:
            return self._credentials.lookup(self._endpoint.host)
        except CredentialError as error:
            raise Unauthorized(self._endpoint.host, subject(scopes), redacted(str(error))) from error

    def _token(
        self, challenge: _Bearer, scopes: tuple[str, ...], credential: Credential | None
    ) -> tuple[Token, bool]:
        """A token, and whether it was fetched just now; threads that want the same one fetch it once."""
        account = account_name(credential) if credential else ""
        key = TokenKey(challenge.realm, challenge.service, account, tuple(sorted(set(scopes))))
        with self._lock:
            if token := self._cache.find(key, time.monotonic()):
                return token, False
            if flight := self._flights.get(key):
                leads = False
            else:
                flight, leads = self._flights.setdefault(key, Future()), True
        return (self._lead(flight, key, credential) if leads else self._follow(flight, scopes)), True

    def _lead(self, flight: Future[Token], key: TokenKey, credential: Credential | None) -> Token:
        try:
            token = self._server.fetch(key, credential)
        except BaseException as error:
            # Whatever ends this thread, those that wait for it must hear of it.
            with self._lock:
                del self._flights[key]
            flight.set_exception(error)
            raise
        with self._lock:
            del self._flights[key]
            self._cache.add(key, token, time.monotonic())
        flight.set_result(token)
        return token

    def _follow(self, flight: Future[Token], scopes: tuple[str, ...]) -> Token:
        """What another thread fetched, or its failure as an error of this thread's own."""
        error = flight.exception()
        if error is None:
            return flight.result()
        if isinstance(error, RegistryError):
            raise type(error)(*error.args) from error
        reason = f"the token request that this one waited for was cut short by {type(error).__name__}"
        raise Transient(self._endpoint.host, subject(scopes), reason) from error

    def _refusal(
        self, offers: list[Challenge], scopes: tuple[str, ...], credential: Credential | None
    ) -> RegistryError:
        """Why a fresh token was refused (RFC 6750, section 3.1)."""
        host, what = self._endpoint.host, subject(scopes)
        if any(offer.parameters.get("error") == "invalid_token" for offer in offers):
            return Unauthorized(host, what, "it does not accept the token of its own token server", 401)
        if credential is None:
            reason = f"not everybody may {rights(scopes)}: {no_credentials(host)}"
            return Unauthorized(host, what, reason, 401)
        return Denied(host, what, f"{account_name(credential)} may not {rights(scopes)}", 401)
