"""Repositories opened for tests, on either transport, and what they asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from registry.client import RemoteRepository
from registry.credentials import Credential
from registry.endpoint import Endpoint, Timeouts
from registry.exchange import Registry

TransportName = Literal["direct", "httpx"]
TRANSPORTS: tuple[TransportName, ...] = ("direct", "httpx")
QUICK = Timeouts(connect_s=5.0, read_s=5.0, commit_s=10.0)
USERNAME = "someone"
PASSWORD = "correct horse battery staple"

Opener = Callable[..., RemoteRepository]


class Nobody:
    """No credentials for anybody."""

    def lookup(self, host: str) -> Credential | None:  # noqa: ARG002 - whoever asks
        return None


class Someone:
    """The same account everywhere."""

    def lookup(self, host: str) -> Credential | None:  # noqa: ARG002 - whoever asks
        return Credential(USERNAME, PASSWORD)


@contextmanager
def opener(transport: TransportName) -> Iterator[Opener]:
    """Open repositories: ``open(host, "team/app", someone=True, upload_hosts=...)``; closed at the end."""
    opened: list[Registry] = []

    def open_repository(
        host: str, repository: str = "team/app", *, someone: bool = False, observer: Any = None, **terms: Any
    ) -> RemoteRepository:
        endpoint = replace(Endpoint(host, transport=transport, timeouts=QUICK), **terms)
        opened.append(Registry(endpoint, Someone() if someone else Nobody(), observer))
        return RemoteRepository(opened[-1], repository)

    yield open_repository
    for registry in opened:
        registry.close()
