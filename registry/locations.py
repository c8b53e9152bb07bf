"""Where a registry may send its client: rules for ``Location`` and ``Link`` (design section 7, 3 and 6).

Texts of ForbiddenLocation name hosts only: the rest of such a URL may be signed, and so a secret.
"""

from __future__ import annotations

import re

import httpx

from registry.endpoint import Endpoint
from registry.urls import origin_of, plain_in_place, plain_of

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(rb"[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?|[0-9a-f:.]{2,45}")


class ForbiddenLocation(ValueError):
    """A registry names a place that its client must not go to."""


def redirected(current: httpx.URL, location: str) -> httpx.URL:
    """Where a redirect from ``current`` leads; whether credentials may come along is another question."""
    target = _joined(current, location)
    if current.scheme == "https" and target.scheme != "https":
        raise ForbiddenLocation(f"it redirects from https to {target.scheme} at {target.host}")
    return target


def upload_location(endpoint: Endpoint, current: httpx.URL, location: str) -> tuple[httpx.URL, bool]:
    """Where an upload continues, and whether that is the registry itself, so that credentials go along."""
    if plain := plain_of(endpoint.base_url, location):
        return plain, True
    base = origin_of(endpoint.base_url)
    target = _joined(current, location)
    if _is_same_host(target, base):
        return _as_of(base, target), True
    allowed = {name.lower() for name in endpoint.upload_hosts}
    if target.host not in allowed and _with_port(target) not in allowed:
        raise ForbiddenLocation(
            f"it wants uploads sent to {target.host}; if that is right, add {target.host} to upload_hosts"
        )
    if base.scheme == "https" and target.scheme != "https":
        raise ForbiddenLocation(f"it wants uploads sent in the clear to {target.host}")
    return target, False


def next_page(endpoint: Endpoint, current: httpx.URL, link: str) -> httpx.URL:
    """The page after ``current``, on the registry's own host and nowhere else."""
    base = origin_of(endpoint.base_url)
    target = _joined(current, link)
    if not _is_same_host(target, base):
        raise ForbiddenLocation(f"its next page is on another host, {target.host}")
    return _as_of(base, target)


def with_query(url: httpx.URL, parameters: str) -> httpx.URL:
    """``url`` with ``parameters`` after those it has, which stay byte for byte: they may be signed."""
    query = f"{url.query.decode('ascii')}&{parameters}" if url.query else parameters
    path = url.raw_path.partition(b"?")[0].decode("ascii")
    return plain_in_place(url, f"{path}?{query}") or url.copy_with(query=query.encode("ascii"))


def is_same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Equal scheme, host and port: what credentials are bound to."""
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def _joined(current: httpx.URL, location: str) -> httpx.URL:
    try:
        target = current.join(location)
    except (httpx.InvalidURL, ValueError) as error:
        raise ForbiddenLocation("it names a place that is no URL") from error
    if target.scheme not in _PORTS:
        raise ForbiddenLocation(f"it names a place that is not HTTP ({target.scheme})")
    if not _HOST.fullmatch(target.raw_host):
        raise ForbiddenLocation("it names a place that is no host")
    if target.userinfo:
        raise ForbiddenLocation(f"it names a place with a user name or password in it, at {target.host}")
    return target.copy_with(fragment=None)


def _is_same_host(target: httpx.URL, base: httpx.URL) -> bool:
    """Whether both have the same host and, default ports being equal, the same port."""
    return (target.host, target.port) == (base.host, base.port)


def _as_of(base: httpx.URL, target: httpx.URL) -> httpx.URL:
    """``target`` by the scheme of ``base``: registries behind a TLS proxy often call themselves http."""
    return target if target.scheme == base.scheme else target.copy_with(scheme=base.scheme)


def _with_port(url: httpx.URL) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or _PORTS[url.scheme]}"
