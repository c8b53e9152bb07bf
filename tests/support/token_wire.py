"""A registry's refusals and its token server, as an Authorizer sees them: values, no sockets."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx

from registry.auth import Authorizer
from registry.credentials import Credential, CredentialSource
from registry.endpoint import Endpoint

HOST = "r.acme.example"
REALM = "https://auth.acme.example/token"
PULL = ("repository:a/b:pull",)
PUSH = ("repository:a/b:pull,push",)
OTHER = ("repository:c/d:pull",)
ANN = Credential("ann", "s3cr3tValue")
BEARER = f'Bearer realm="{REALM}",service="{HOST}",scope="repository:a/b:pull"'
ANN_BASIC = "Basic " + base64.b64encode(b"ann:s3cr3tValue").decode()

Reply = Callable[[httpx.Request], httpx.Response]


@dataclass
class Held(CredentialSource):
    """Credentials of one host; ``credential`` may be changed or be an error."""

    credential: Credential | Exception | None = None
    host: str = HOST

    def lookup(self, host: str) -> Credential | None:
        if isinstance(self.credential, Exception):
            raise self.credential
        return self.credential if host == self.host else None


@dataclass
class Wire:
    """A token server at the other end of ``send``: numbers its tokens, notes what it is asked."""

    reply: Reply | None = None
    document: dict[str, Any] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            self.requests.append(request)
            number = len(self.requests)
        if self.reply is not None:
            return self.reply(request)
        return httpx.Response(200, json={"token": f"t{number}", "expires_in": 300, **self.document})

    @property
    def count(self) -> int:
        return len(self.requests)

    def scopes(self) -> list[list[str]]:
        return [parse_qs(request.url.query.decode()).get("scope", []) for request in self.requests]


def authorizer(wire: Wire, credential: Credential | Exception | None = None, host: str = HOST) -> Authorizer:
    return Authorizer(Endpoint(host), Held(credential, host), wire)


def refusal(*challenges: str) -> httpx.Response:
    headers = [("WWW-Authenticate", challenge) for challenge in challenges]
    return httpx.Response(401, headers=headers, content=b"{}")


def learned(authorizer: Authorizer, scopes: tuple[str, ...] = PULL, challenge: str = BEARER) -> str | None:
    """What is sent after a first request without credentials was refused."""
    assert authorizer.challenged(refusal(challenge), scopes, authorizer.header(scopes))
    return authorizer.header(scopes)


def answering(status: int, content: bytes = b"{}", headers: Mapping[str, str] | None = None) -> Reply:
    return lambda _: httpx.Response(status, content=content, headers=headers)
