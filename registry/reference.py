"""``host/repository[:tag][@digest]`` and ``oci:DIR[:tag]`` as values.

Grammar: distribution's reference.go and distribution-spec 1.1 ("Pulling manifests"); Docker Hub's
short names as docker resolves them. Nothing that fails this grammar ever reaches a URL or a path.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from registry.descriptor import is_digest

DOCKER_HUB = "docker.io"
LAYOUT = "oci:"
"""The ``host`` of every reference to an OCI image layout folder; no registry can be named so."""

_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?P<name>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_SOME = "a"
"""Stands in for a repository's last part where only what comes before it is given."""
ANY = "*"
MAX_NAME = 255
MAX_PORT = 65535


class MalformedReference(ValueError):
    """The text is not a reference; the message says which part is wrong and what is expected."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository, and in it a tag, a digest, both or neither.

    ``host`` is as users write it, with port, lower case (``docker.io``, ``localhost:5000``,
    ``[::1]:5000``), or LAYOUT; ``repository`` is then the folder, as given.
    """

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raise MalformedReference unless ``text`` is a reference in full."""
        if text.startswith(LAYOUT):
            return _parse_layout(text)
        if "://" in text:
            raise MalformedReference(f"{text!r} is a URL; write a reference without the scheme")
        rest, at, digest = text.partition("@")
        if at and not is_digest(digest):
            raise MalformedReference(f"{text!r}: {digest!r} is not a digest (sha256:<64 hex digits>)")
        host, repository = _split_host(rest)
        last = repository.rpartition("/")[2]
        tag: str | None = None
        if ":" in last:
            repository, _, tag = repository.rpartition(":")
            check_tag(tag)
        host = _check_host(host, text)
        if host == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        check_repository(repository, text, host)
        return cls(host, repository, tag, digest or None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    @property
    def name(self) -> str:
        """``host/repository`` or ``oci:DIR``: the repository without tag and digest."""
        return f"{LAYOUT}{self.repository}" if self.is_layout else f"{self.host}/{self.repository}"

    @property
    def is_layout(self) -> bool:
        return self.host == LAYOUT

    @property
    def bare(self) -> Reference:
        """The same repository without tag and digest."""
        return replace(self, tag=None, digest=None)

    def at(self, tag_or_digest: str) -> Reference:
        """The same repository at a tag or at a digest."""
        if is_digest(tag_or_digest):
            return replace(self, tag=None, digest=tag_or_digest)
        return replace(self, tag=check_tag(tag_or_digest), digest=None)


@dataclass(frozen=True, slots=True)
class Wildcard:
    """``host/*`` or ``host/prefix/*``: every repository below the prefix; ``oci:DIR/*``: folders there."""

    host: str
    prefix: str
    """Empty, or what every repository's name begins with, ``/`` at its end included."""

    @classmethod
    def parse(cls, text: str) -> Wildcard:
        """Raise MalformedReference unless ``text`` ends in ``/*`` and has no other ``*``."""
        body = text.removesuffix(f"/{ANY}")
        if body == text or ANY in body:
            raise MalformedReference(
                f"{text!r}: {ANY!r} stands for all that is below a prefix: it comes last, as in ghcr.io/org/*"
            )
        if body.startswith(LAYOUT):
            folder = _parse_layout(body)
            if folder != folder.bare:
                raise MalformedReference(f"{text!r}: the path of a layout folder may not hold ':' or '@'")
            return cls(LAYOUT, f"{folder.repository}/")
        host, below = _split_host(f"{body}/{_SOME}")
        host = _check_host(host, text)
        check_repository(below, text, host)
        return cls(host, below.removesuffix(_SOME))

    def __str__(self) -> str:
        return f"{self.prefix_name}{ANY}"

    @property
    def prefix_name(self) -> str:
        """What the full name of every repository begins with."""
        return f"{LAYOUT}{self.prefix}" if self.host == LAYOUT else f"{self.host}/{self.prefix}"


def is_wildcard(text: str) -> bool:
    """Whether ``text`` is meant as one, well written or not."""
    return ANY in text


def check_tag(tag: str) -> str:
    """Return ``tag``; MalformedReference unless it fits the distribution-spec's grammar."""
    if not _TAG.fullmatch(tag):
        raise MalformedReference(f"{tag!r} is not a tag (letters, digits, '_', '.', '-', at most 128)")
    return tag


def check_repository(repository: str, text: str, host: str = "") -> None:
    """MalformedReference unless ``repository`` fits the distribution-spec's grammar."""
    if not _REPOSITORY.fullmatch(repository):
        hint = " (repository names are lower case)" if repository != repository.lower() else ""
        raise MalformedReference(f"{text!r}: {repository!r} is not a repository name{hint}")
    if len(host) + 1 + len(repository) > MAX_NAME:
        raise MalformedReference(f"{text!r}: host and repository are longer than {MAX_NAME} characters")


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine by a loopback address or as localhost: plain HTTP by default."""
    match = _HOST.fullmatch(host)
    name = (match["name"] if match else host).strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _split_host(rest: str) -> tuple[str, str]:
    """The first component is a host if it has a dot or a port or is localhost, as docker decides."""
    first, slash, others = rest.partition("/")
    if slash and (first.startswith("[") or "." in first or ":" in first or first.lower() == "localhost"):
        return first, others
    return DOCKER_HUB, rest


def _check_host(host: str, text: str) -> str:
    match = _HOST.fullmatch(host)
    if not match or (match["port"] and not 0 < int(match["port"]) <= MAX_PORT):
        raise MalformedReference(f"{text!r}: {host!r} is not a registry host (name[:port])")
    if match["name"].startswith("["):
        try:
            ipaddress.IPv6Address(match["name"][1:-1])
        except ValueError:
            raise MalformedReference(f"{text!r}: {match['name']} is not an IPv6 address") from None
    host = host.lower()
    return DOCKER_HUB if host in _HUB_NAMES else host


def _parse_layout(text: str) -> Reference:
    """``oci:DIR[:tag][@digest]``; a folder whose name holds ``:`` or ``@`` cannot be named."""
    rest, at, digest = text[len(LAYOUT) :].partition("@")
    if at and not is_digest(digest):
        raise MalformedReference(f"{text!r}: {digest!r} is not a digest (sha256:<64 hex digits>)")
    folder, colon, tag = rest.partition(":")
    if not folder or "\0" in folder:
        raise MalformedReference(f"{text!r}: name the folder, as in oci:/srv/images:1.0")
    return Reference(LAYOUT, folder, check_tag(tag) if colon else None, digest or None)
