"""Which URLs may be asked for a registry's tokens: rule 1 of the registry client (design, section 7).

The realm comes from the registry's own 401. Used unchecked it sends credentials and requests wherever a
hostile or hijacked registry likes (CVE-2020-15157, CVE-2026-33540, CVE-2026-48978 and others).
"""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

import httpx

from registry.dialing import AddressGuard, ForbiddenAddress
from registry.endpoint import Endpoint
from registry.reference import DOCKER_HUB, is_loopback

KNOWN_TOKEN_HOSTS = {
    DOCKER_HUB: ("auth.docker.io",),
    "registry-1.docker.io": ("auth.docker.io",),
    "dhi.io": ("auth.docker.io",),
    "lscr.io": ("ghcr.io",),
    "registry.gitlab.com": ("gitlab.com",),
    "registry.ipv6.docker.com": ("auth.ipv6.docker.com", "auth.docker.io"),
}
"""Registries that are known to have their tokens issued by another host."""

_SHARED_SUFFIXES = frozenset(
    {
        # Below these everybody can have a name, so that two of them say nothing about each other.
        *(
            "amazonaws.com",
            "amazonaws.com.cn",
            "azurecr.io",
            "azurecr.cn",
            "azurewebsites.net",
            "windows.net",
        ),
        *("appspot.com", "run.app", "pkg.dev", "web.app", "firebaseapp.com", "cloudfunctions.net"),
        *("github.io", "gitlab.io", "githubusercontent.com", "herokuapp.com", "fly.dev", "vercel.app"),
        *("netlify.app", "pages.dev", "workers.dev", "cloudfront.net", "ngrok.io", "ngrok.app", "jfrog.io"),
        *("ocir.io", "icr.io", "aliyuncs.com", "myhuaweicloud.com", "scw.cloud", "digitaloceanspaces.com"),
        *("blogspot.com", "duckdns.org", "sslip.io", "nip.io", "ddns.net", "ts.net", "hf.space"),
    }
)
_SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gov", "gob", "mil", "ne", "net", "nom", "or", "org"})


class ForbiddenRealm(ValueError):
    """The token server's URL breaks rule 1; the text says why and how to allow it, if that is possible."""


def check_realm(realm: str, endpoint: Endpoint) -> str:
    """Return ``realm`` if ``endpoint`` may have its tokens issued there, else raise ForbiddenRealm.

    A host in ``token_hosts`` was named by the operator: it may be of another site and have a private
    address.
    """
    url = _split(realm)
    host = (url.hostname or "").rstrip(".")
    if url.scheme != "https" and not (url.scheme == "http" and endpoint.is_plain):
        raise ForbiddenRealm(f"its URL is {url.scheme or 'without a scheme'}, not https")
    if url.username is not None or url.password is not None:
        raise ForbiddenRealm("its URL holds a user name or a password")
    if _is_own(host, endpoint) or _is_listed(host, url.port, endpoint.token_hosts):
        return realm
    if host not in KNOWN_TOKEN_HOSTS.get(_own_names(endpoint)[0], ()) and not _same_site(host, endpoint):
        raise ForbiddenRealm(f"it is of another site; if that is right, add {host} to token_hosts")
    _check_address(host, url.port or 443, endpoint)
    return realm


def _check_address(host: str, port: int, endpoint: Endpoint) -> None:
    """The same look-up comes again when the connection is made; here it has a text that helps.

    A proxy may know names that this machine does not; without one the connection fails by itself.
    """
    guard = AddressGuard.of(endpoint)
    try:
        guard.check_name(host)
        guard.addresses(host, port)
    except ForbiddenAddress:
        raise ForbiddenRealm(
            f"it is not at a public address; if that is right, add {host} to token_hosts"
        ) from None
    except httpx.ConnectError:
        return


def realm_host(realm: str) -> str:
    """``host[:port]`` of a realm, for texts."""
    try:
        url = _split(realm)
    except ForbiddenRealm:
        return "with the malformed URL"
    name = url.hostname or ""
    bracketed = f"[{name}]" if ":" in name else name
    return f"{bracketed}:{url.port}" if url.port else bracketed


def _split(realm: str) -> SplitResult:
    if not realm.isascii() or not realm.isprintable() or any(c in realm for c in ' "\\<>'):
        raise ForbiddenRealm("its URL holds characters that no URL has")
    try:
        url = urlsplit(realm)
        _ = url.port
    except ValueError:
        raise ForbiddenRealm("its URL is malformed") from None
    if not url.hostname:
        raise ForbiddenRealm("its URL names no host")
    return url


def _own_names(endpoint: Endpoint) -> tuple[str, str]:
    """The registry's host names, as users write it and as the API is reached."""
    own = urlsplit(f"//{endpoint.host}").hostname or endpoint.host
    return own, urlsplit(endpoint.base_url).hostname or own


def _is_own(host: str, endpoint: Endpoint) -> bool:
    own = _own_names(endpoint)
    return host in own or (is_loopback(own[0]) and is_loopback(host))


def _is_listed(host: str, port: int | None, token_hosts: tuple[str, ...]) -> bool:
    bracketed = f"[{host}]" if ":" in host else host
    listed = {name.lower() for name in token_hosts}
    return not listed.isdisjoint({host, bracketed, f"{bracketed}:{port or 443}"})


def _same_site(host: str, endpoint: Endpoint) -> bool:
    site = _site(host)
    return site is not None and site == _site(_own_names(endpoint)[0])


def _site(host: str) -> str | None:
    """The registrable domain, None where there is none: addresses, single labels, shared suffixes.

    Without a copy of the public suffix list this errs on the narrow side: a site taken for two is refused
    with advice, two sites taken for one would be trusted.
    """
    if _is_address(host):
        return None
    labels = host.split(".")
    longest = max((s.count(".") + 1 for s in _SHARED_SUFFIXES if f".{host}".endswith(f".{s}")), default=0)
    country_code = 2
    if not longest:
        by_country = len(labels[-1]) == country_code and len(labels) > 1 and labels[-2] in _SECOND_LEVEL
        longest = 2 if by_country else 1
    return ".".join(labels[-longest - 1 :]) if len(labels) > longest else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
