"""Where and how one registry is reached: plain values, handed in by whoever composes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from registry.reference import DOCKER_HUB, is_loopback

ListingKind = Literal["catalog", "dockerhub", "quay", "gitlab", "harbor"]
KNOWN_LISTINGS: Mapping[str, ListingKind] = {
    DOCKER_HUB: "dockerhub",
    "quay.io": "quay",
    "registry.gitlab.com": "gitlab",
}
"""Registries that are known to list their repositories so; all others by their catalog."""
KNOWN_LISTING_HOSTS = {DOCKER_HUB: "hub.docker.com", "registry.gitlab.com": "gitlab.com"}
"""Where the API for that is, if not at the registry's own host."""


@dataclass(frozen=True, slots=True)
class ListingTerms:
    """How the repositories of one registry are listed, and at which host."""

    kind: ListingKind
    host: str

    @classmethod
    def usual(cls, host: str) -> ListingTerms:
        """For a registry of which nothing else is said."""
        return cls(KNOWN_LISTINGS.get(host, "catalog"), KNOWN_LISTING_HOSTS.get(host, host))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of silence that end an exchange; none but ``whole_s`` is a limit on the whole transfer."""

    connect_s: float = 10.0
    read_s: float = 60.0
    commit_s: float = 300.0
    """For the answer to an upload's PUT: a registry commits after the last byte."""
    whole_s: float | None = None
    """For the whole of an answer, however it trickles; None: no limit. Kept by the direct transport only."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One registry: ``host`` as in references, and the terms on which to talk to it."""

    host: str
    plain_http: bool | None = None
    """None: plain for loopback hosts, as docker does, else HTTPS."""
    ca_file: str | None = None
    client_cert: tuple[str, str] | None = None
    """Files of a client certificate and its key, in PEM."""
    proxy: str | None = field(default=None, repr=False)
    """May hold a password."""
    token_hosts: tuple[str, ...] = ()
    """Hosts that may issue this registry's tokens although they are of another site."""
    upload_hosts: tuple[str, ...] = ()
    """Other hosts that upload and download locations may name; never with credentials."""
    max_connections: int = 16
    transport: Literal["direct", "httpx"] = "direct"
    timeouts: Timeouts = field(default_factory=Timeouts)
    fault: str = ""
    """Why these terms cannot be used: whatever is asked fails by it. Empty: they can."""

    @property
    def is_plain(self) -> bool:
        return is_loopback(self.host) if self.plain_http is None else self.plain_http

    @property
    def base_url(self) -> str:
        """Scheme and API host, without a path: Docker Hub's API has a host of its own."""
        api_host = "registry-1.docker.io" if self.host == DOCKER_HUB else self.host
        return f"{'http' if self.is_plain else 'https'}://{api_host}"
