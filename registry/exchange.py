"""One registry and the one way to talk to it: every request is an exchange of its Registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal, Protocol

import httpx

from registry.answers import failure, kept, translated
from registry.auth import Authorizer
from registry.credentials import CredentialSource
from registry.dialing import tls_context
from registry.endpoint import Endpoint
from registry.errors import Misconfigured, Refused, RegistryError, Transient, Unsafe
from registry.gate import Admission, Answer, Asking, Gate
from registry.locations import ForbiddenLocation, is_same_origin, redirected
from registry.ratelimits import rate_limits
from registry.repository import BLOCK
from registry.retry_after import retry_after_s
from registry.tokens import subject
from registry.transport import AT_ONCE, VIEWS, transport_for
from registry.urls import at, origin_of

Kind = Literal["manifest", "blob", "upload", "tags", "referrers", "catalog", "token", "api"]
Observer = Callable[[str, Kind, int], None]
"""Told the method, the kind and the status of every answer, redirects and refusals included."""

MAX_REDIRECTS = 5
MAX_CHALLENGES = 2
USER_AGENT = "sealift"
_FINAL = frozenset({403, 404, 429})
"""Answers to a HEAD that a GET need not be tried after."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Authorization(Protocol):
    """Which Authorization goes along; :class:`registry.auth.Authorizer` is the usual one."""

    def header(self, scopes: tuple[str, ...], /) -> str | None:
        """What to send now; None: nothing."""
        ...

    def challenged(self, response: httpx.Response, scopes: tuple[str, ...], sent: str | None, /) -> bool:
        """Learn from a 401 to what was sent with ``sent``; whether to send once more."""
        ...


class Content(httpx.SyncByteStream):
    """A request body that can be sent again."""

    failure: Exception | None = None
    is_repeatable = True

    def __init__(self, content: bytes = b"") -> None:
        self._content = content
        self.size = len(content)

    def __iter__(self) -> Iterator[bytes]:
        yield self._content


class Outgoing(httpx.SyncByteStream):
    """A request body that comes from elsewhere, once."""

    is_repeatable = False

    def __init__(self, chunks: Iterable[bytes | memoryview], size: int) -> None:
        self._chunks = chunks
        self.size = size
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks  # type: ignore[misc]  # httpx's type says bytes, sockets take any buffer
        except Exception as error:
            # Unmarked it would pass for a failure of the connection that these chunks go to.
            self.failure = error
            raise


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be asked; ``what`` names the content in errors."""

    method: str
    kind: Kind
    url: httpx.URL
    what: str
    scopes: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    body: Content | Outgoing = field(default_factory=Content)
    accepted: frozenset[int] = frozenset({200})
    is_own: bool = True
    """Whether ``url`` is the registry's own, so that its credentials go along."""
    follows: bool = False
    """Whether redirects are followed; only reading calls may."""
    views: bool = False
    """Whether the answer's blocks may be views of one buffer."""
    block: int = BLOCK
    """How much of the answer is waited for at once, in bytes."""
    gives_way: bool = False
    """Whether it leaves the reserve of pulls to others."""

    @property
    def writes(self) -> bool:
        return self.method not in {"GET", "HEAD"}


class Registry:
    """One registry: connections, authentication and what was learned about it. Thread-safe.

    Reading, writing and token requests have connections of their own: with one pool for all, copies that hold
    it with their reads would wait for each other's writes for ever.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: CredentialSource,
        observer: Observer | None = None,
        gate: Gate | None = None,
        account: str = "",
        authorization: Authorization | None = None,
    ) -> None:
        """``account`` names this one to the ``gate`` where the registry has several.

        ``authorization`` takes the place of what the registry protocol does with ``credentials``.
        """
        self.endpoint = endpoint
        self.account = account
        self._gate = gate
        self.host = endpoint.host
        self.base = endpoint.base_url
        self.has_referrers_api = True
        """Until it says otherwise; then the tag schema is used without asking again."""
        self._origin = origin_of(endpoint.base_url)
        self._observer = observer
        tls = cache(lambda: tls_context(endpoint))
        self._reading, self._writing, self._asking = (transport_for(endpoint, tls) for _ in range(3))
        self._authorizer = authorization or Authorizer(endpoint, credentials, self._ask_for_token)

    def close(self) -> None:
        for transport in (self._reading, self._writing, self._asking):
            transport.close()

    @contextmanager
    def exchange(self, call: Call) -> Iterator[httpx.Response]:
        """Have ``call`` answered; the answer's body is still unread and is closed at the end.

        Sent once, and once more with a fresh token after a 401. Raises :mod:`registry.errors` for every
        status that ``call`` does not accept, and for what goes wrong on the wire before the body.
        """
        response = self._answer(call)
        try:
            if response.status_code not in call.accepted:
                raise failure(self.host, call.what, response)
            yield response
        finally:
            response.close()

    @contextmanager
    def greeting(self) -> Iterator[httpx.Response]:
        """The answer to ``GET /v2/`` without credentials: 200, or 401 where it wants some.

        Everything else is an error of :mod:`registry.errors`.
        """
        call = Call("GET", "api", at(self.base, "/v2/"), "", ())
        _, response = self._admitted(call, call.url)
        try:
            if response.status_code not in {200, 401}:
                raise failure(self.host, call.what, response)
            yield self._kept(call, response)
        finally:
            response.close()

    def authenticate(self, response: httpx.Response, scopes: tuple[str, ...]) -> bool:
        """After a 401: have a token issued for ``scopes``; False where a password is wanted instead.

        Raises as :meth:`registry.auth.Authorizer.challenged` does.
        """
        self._authorizer.challenged(response, scopes, None)
        return (self._authorizer.header(scopes) or "").startswith("Bearer ")

    def _answer(self, call: Call) -> httpx.Response:
        """The last answer of a chain of redirects; credentials that were left behind once stay behind."""
        url, is_own = call.url, call.is_own
        for _ in range(MAX_REDIRECTS + 1):
            response = self._authorized(call, url) if is_own else self._send(call, url, None)
            if not call.follows or response.status_code not in _REDIRECTS:
                return response
            url = self._redirected(call, url, response)
            is_own = is_own and is_same_origin(url, self._origin)
        raise Unsafe(self.host, call.what, f"more than {MAX_REDIRECTS} redirects")

    def _authorized(self, call: Call, url: httpx.URL) -> httpx.Response:
        sent, response = self._admitted(call, url)
        for _ in range(MAX_CHALLENGES):
            if response.status_code != 401:
                break
            response = self._kept(call, response)
            if not self._authorizer.challenged(response, call.scopes, sent):
                break
            if not call.body.is_repeatable:
                raise Transient(self.host, call.what, "the token was refused in the middle of an upload", 401)
            sent, response = self._admitted(call, url, looked=True)
        return response

    def _admitted(
        self, call: Call, url: httpx.URL, *, looked: bool = False
    ) -> tuple[str | None, httpx.Response]:
        """Send once the gate lets it pass: (the Authorization that was sent, the answer)."""
        if self._gate is None:
            sent = self._authorizer.header(call.scopes)
            return sent, self._send(call, url, sent)
        asking = self._asking_for(call)
        admission = self._gate.admit(asking, looked=looked)
        if admission is None:
            look = self._authorized(replace(call, method="HEAD"), url)
            look.close()
            if look.status_code in _FINAL:
                return None, look
            admission = self._gate.admit(asking, looked=True) or Admission(asking)
        answer = Answer(was_sent=False)
        try:
            sent = self._authorizer.header(call.scopes)
            answer = Answer()
            response = self._send(call, url, sent)
            answer = _answer_of(response, call.kind)
        except Exception as error:
            answer = replace(answer, was_sent=answer.was_sent and not self._is_ours(call, error))
            raise
        finally:
            patience = self._gate.answered(admission, answer)
        if response.status_code == 429 and patience is not None and answer.retry_after_s is None:
            # The registry does not say how long: then it is as long as everybody else leaves it alone.
            response.headers["retry-after"] = str(math.ceil(patience))
        return sent, response

    def _asking_for(self, call: Call) -> Asking:
        repository = subject(call.scopes)
        return Asking(self.host, self.account, repository, call.what, call.method, call.kind, call.gives_way)

    def _send(self, call: Call, url: httpx.URL, authorization: str | None) -> httpx.Response:
        request = httpx.Request(
            call.method,
            url,
            headers=_headers(call, url, authorization),
            stream=call.body,
            extensions={
                "timeout": self._timeouts(commits=call.method in {"PUT", "PATCH"}),
                VIEWS: call.views,
                AT_ONCE: call.block,
            },
        )
        transport = self._writing if call.writes else self._reading
        try:
            response = transport.handle_request(request)
        except httpx.HTTPError as error:
            if error is call.body.failure:
                raise
            raise translated(self.host, call.what, error) from error
        self._observe(call.method, call.kind, response.status_code)
        return response

    def _is_ours(self, call: Call, error: Exception) -> bool:
        """Whether the registry has no part in it: its content failed, no connection was free, wrong terms."""
        if error is call.body.failure:
            return not (isinstance(error, RegistryError) and error.end == self.host)
        own = httpx.PoolTimeout | httpx.LocalProtocolError
        return isinstance(error, Misconfigured) or isinstance(error.__cause__, own)

    def _redirected(self, call: Call, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        response = self._kept(call, response)
        location = response.headers.get("location")
        if not location:
            raise Refused(self.host, call.what, "a redirect without a Location", response.status_code)
        try:
            return redirected(url, location)
        except ForbiddenLocation as error:
            raise Unsafe(self.host, call.what, str(error), response.status_code) from error

    def _kept(self, call: Call, response: httpx.Response) -> httpx.Response:
        try:
            return kept(response)
        except httpx.HTTPError as error:
            raise translated(self.host, call.what, error) from error

    def _ask_for_token(self, request: httpx.Request) -> httpx.Response:
        """For the Authorizer: no redirects, at most 64 KiB; raises httpx.HTTPError."""
        request.headers["accept-encoding"] = "identity"
        request.extensions.setdefault("timeout", self._timeouts(commits=False))
        response = kept(self._asking.handle_request(request))
        self._observe(request.method, "token", response.status_code)
        if response.status_code == 429 and self._gate is not None:
            asking = Asking(self.host, self.account, "", "", request.method, "token")
            self._gate.answered(Admission(asking), _answer_of(response, "token"))
        return response

    def _timeouts(self, *, commits: bool) -> dict[str, float | None]:
        """By phase. A wait for a free connection is a wait for another exchange, which may be an upload's."""
        timeouts = self.endpoint.timeouts
        return {
            "connect": timeouts.connect_s,
            "read": timeouts.commit_s if commits else timeouts.read_s,
            "write": timeouts.read_s,
            "pool": timeouts.commit_s,
            "whole": timeouts.whole_s,
        }

    def _observe(self, method: str, kind: Kind, status: int) -> None:
        if self._observer is not None:
            self._observer(method, kind, status)


def _answer_of(response: httpx.Response, kind: Kind) -> Answer:
    status = response.status_code
    asked = retry_after_s(response.headers) if status == 429 else None
    return Answer(status, rate_limits(response.headers) if kind == "manifest" else None, asked)


def _headers(call: Call, url: httpx.URL, authorization: str | None) -> list[tuple[str, str]]:
    headers = [
        ("Host", url.netloc.decode("ascii")),
        ("User-Agent", USER_AGENT),
        ("Accept-Encoding", "identity"),
        *call.headers,
    ]
    if call.writes:
        headers.append(("Content-Length", str(call.body.size)))
    if authorization is not None:
        headers.append(("Authorization", authorization))
    return headers
