"""Connections to a registry: which addresses may be dialled, and on what TLS terms."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import struct
import time
from dataclasses import dataclass

import httpx

from registry.endpoint import Endpoint
from registry.errors import Misconfigured
from registry.reference import is_loopback

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_KEEPALIVE_IDLE_S = 30
ABANDON = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""A connection that is closed, or whose process is killed, takes back what it has not delivered: a tag's
PUT that was given up on must not arrive later, when the tag has been taken back (G2)."""
ORDERLY = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
"""For a connection on which nothing is under way."""

Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class ForbiddenAddress(httpx.ConnectError):
    """The name belongs to an address inside the network, and nobody configured it."""


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Decides at connect time which addresses of a host may be dialled (design section 7, rule 4).

    Hosts that the configuration names may be anywhere. A host that only a registry named, in a redirect or
    a realm, must be globally routable: names can lie, so the looked-up address counts and is the one dialled.
    """

    trusted: frozenset[str]
    trusts_loopback: bool = False
    """Whether every name of this machine is as good as the registry's own."""

    @classmethod
    def of(cls, endpoint: Endpoint) -> AddressGuard:
        """The guard for everything that is sent on behalf of ``endpoint``."""
        own = httpx.URL(endpoint.base_url).host
        named = (host_of(name) for name in (*endpoint.upload_hosts, *endpoint.token_hosts))
        return cls(frozenset({own, *named}), is_loopback(own))

    def trusts(self, host: str) -> bool:
        return host in self.trusted or (self.trusts_loopback and is_loopback(host))

    def check_name(self, host: str) -> None:
        """Raise ForbiddenAddress where the name alone betrays it; a proxy looks up the others."""
        literal = _literal(host)
        if not self.trusts(host) and (is_loopback(host) or (literal is not None and not _is_public(literal))):
            raise ForbiddenAddress(f"{host} is not a public address, and nobody configured it")

    def addresses(self, host: str, port: int) -> list[Address]:
        """What ``host`` may be dialled as, in the resolver's order; never empty.

        Raises ForbiddenAddress where every address is barred, httpx.ConnectError where there is none.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"cannot look up {host}: {error}") from error
        free = self.trusts(host)
        # Element 4 starts with the numeric address, whatever its family.
        allowed: list[Address] = [
            (entry[0], entry[4]) for entry in found if free or _is_public(_literal(str(entry[4][0])))
        ]
        if not allowed:
            raise ForbiddenAddress(f"{host} is at no public address, and nobody configured it")
        return allowed


def host_of(name: str) -> str:
    """The host of ``host[:port]``, lower case, an IPv6 address without brackets."""
    return httpx.URL(f"//{name}").host


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """The system's authorities and ``ca_file`` besides: redirects to public storage must go on working.

    Expensive (tens of milliseconds): make one for an endpoint and share it. Raises Misconfigured
    where a file of the endpoint cannot be used.
    """
    system = ssl.get_default_verify_paths()
    context = ssl.create_default_context() if system.cafile or system.capath else httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    try:
        if endpoint.ca_file:
            context.load_verify_locations(endpoint.ca_file)
        if endpoint.client_cert:
            context.load_cert_chain(*endpoint.client_cert)
    except OSError as error:
        files = ", ".join(filter(None, (endpoint.ca_file, *(endpoint.client_cert or ()))))
        reason = f"cannot use its certificate files {files}: {error}"
        raise Misconfigured(endpoint.host, "", reason) from error
    return context


def dial(
    guard: AddressGuard, host: str, port: int, tls: ssl.SSLContext | None, timeout_s: float | None
) -> socket.socket:
    """A connected socket, TLS included; the addresses of ``host`` share ``timeout_s``.

    Raises httpx.ConnectError (ForbiddenAddress among them) and httpx.ConnectTimeout.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    addresses = guard.addresses(host, port)
    failure: OSError = OSError(f"no address of {host}")
    for position, address in enumerate(addresses):
        left = None if deadline is None else max(0.1, deadline - time.monotonic())
        # One address that swallows packets must leave time for the next.
        share = None if left is None else left / (len(addresses) - position)
        try:
            return _connect(address, host, tls, share)
        except ssl.SSLCertVerificationError as error:
            raise httpx.ConnectError(f"the certificate of {host}: {error.verify_message}") from error
        except OSError as error:
            failure = error
    kind = httpx.ConnectTimeout if isinstance(failure, TimeoutError) else httpx.ConnectError
    raise kind(f"cannot connect to {host}:{port}: {failure.strerror or failure}") from failure


def _connect(
    address: Address, host: str, tls: ssl.SSLContext | None, timeout_s: float | None
) -> socket.socket:
    family, where = address
    raw = socket.socket(family, socket.SOCK_STREAM)
    try:
        raw.settimeout(timeout_s)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(*ABANDON)
        if hasattr(socket, "TCP_KEEPIDLE"):
            # A registry may commit an upload in silence for minutes; address translators forget sooner.
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
        raw.connect(where)
        if tls is None:
            return raw
        # A body that ends with its connection is whole only if TLS says so: never suppress a ragged end.
        return tls.wrap_socket(raw, server_hostname=host, suppress_ragged_eofs=False)
    except BaseException:
        raw.close()
        raise


def _literal(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        address = _inner(address) or address
    return address is not None and address.is_global and not address.is_multicast


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: mapped, 6to4, or NAT64 (RFC 6052)."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
