"""How requests travel: Sealift's own transport for bulk data, and httpx's stock one under the same rules.

Both are ``httpx.BaseTransport``: HTTP/1.1, no redirects, nothing from the environment, one address check.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Iterator

import httpcore
import httpx

from registry.dialing import ABANDON, AddressGuard, dial
from registry.endpoint import Endpoint
from registry.errors import Misconfigured
from registry.heads import Answer
from registry.http1 import Body, Connection, NoAnswer, Origin, Phases, body_length, counted
from registry.repository import BLOCK

VIEWS, AT_ONCE = "sealift.views", "sealift.at-once"
"""Request extension: the answer's blocks may be views of one buffer. Other transports ignore it."""
IDLE_S = 30.0
"""Shorter than what servers and load balancers commonly grant an idle connection (60 s)."""
_PORTS = {"http": 80, "https": 443}

TlsSource = Callable[[], ssl.SSLContext]
"""Asked when the first TLS connection is made: a context costs tens of milliseconds."""


class DirectTransport(httpx.BaseTransport):
    """Moves bodies between a blocking socket and its caller in blocks of BLOCK bytes, with no layers between.

    Thread-safe. A request is sent once; only one without a body is sent again, once and on a fresh
    connection, where a kept-alive connection proves dead before any byte of an answer.
    """

    def __init__(
        self,
        guard: AddressGuard,
        tls: TlsSource = httpx.create_ssl_context,
        max_connections: int = 16,
        max_idle_s: float = IDLE_S,
    ) -> None:
        """``max_connections`` is how many exchanges go on at once, and how many idle connections are kept."""
        self._guard = guard
        self._tls = tls
        self._slots = threading.BoundedSemaphore(max_connections)
        self._idle = _IdleConnections(max_connections, max_idle_s)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.TransportError; whatever the request body's iterator raises comes out unchanged."""
        timeouts = Phases.of(request)
        length = body_length(request)
        origin = _origin(request.url)
        if not self._slots.acquire(timeout=timeouts.pool):
            raise httpx.PoolTimeout("every connection is in use")
        try:
            connection, answer = self._exchange(origin, request, length, timeouts)
        except BaseException:
            self._slots.release()
            raise

        def done(reusable: bool) -> None:  # noqa: FBT001 - a callback with one obvious argument
            self._slots.release()
            if reusable:
                self._idle.give(connection)
            else:
                connection.close()

        return httpx.Response(
            answer.status,
            headers=answer.fields,
            stream=Body(
                answer,
                reuse=bool(request.extensions.get(VIEWS)),
                done=done,
                block=request.extensions.get(AT_ONCE, BLOCK),
            ),
            extensions={"http_version": b"HTTP/1.1"},
        )

    def close(self) -> None:
        """Close idle connections at once and those in use when their exchange ends."""
        self._idle.close()

    def _exchange(
        self, origin: Origin, request: httpx.Request, length: int, timeouts: Phases
    ) -> tuple[Connection, Answer]:
        if kept := self._idle.take(origin):
            try:
                return kept, _sent(kept, request, length, timeouts)
            except NoAnswer as dead:
                if length:
                    raise dead.error from dead
        tls = self._tls() if origin[0] == "https" else None
        fresh = Connection(origin, dial(self._guard, origin[1], origin[2], tls, timeouts.connect))
        try:
            return fresh, _sent(fresh, request, length, timeouts)
        except NoAnswer as dead:
            raise dead.error from dead


class StockTransport(httpx.HTTPTransport):
    """httpx's own transport, with the same address check: for endpoints behind a proxy, and to compare."""

    def __init__(
        self,
        guard: AddressGuard,
        tls: TlsSource = httpx.create_ssl_context,
        max_connections: int = 16,
        max_idle_s: float = IDLE_S,
        proxy: str | None = None,
    ) -> None:
        limits = httpx.Limits(
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=max_idle_s,
        )
        super().__init__(verify=tls(), trust_env=False, http2=False, limits=limits, proxy=proxy)
        self._guard = guard
        self._proxied = proxy is not None
        if not self._proxied:
            # httpx has no argument for httpcore's network backend; the pool does, under this name.
            self._pool._network_backend = _GuardedBackend(guard)  # noqa: SLF001

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._proxied:
            self._guard.check_name(request.url.host)
        if "content-length" in request.headers:
            request.stream = _Counted(request.stream, body_length(request))
        return super().handle_request(request)


class _Unusable(httpx.BaseTransport):
    """For an endpoint that was set up wrongly: who opens it need not ask it, and must not fail by that."""

    def __init__(self, fault: Misconfigured) -> None:
        self._fault = fault

    def handle_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002 - none is sent
        raise Misconfigured(*self._fault.args)


def transport_for(endpoint: Endpoint, tls: TlsSource) -> httpx.BaseTransport:
    """The transport that ``endpoint`` asks for; ``tls`` gives the context that all of an endpoint's share.

    Of terms that cannot be used one that raises Misconfigured, whatever it is to send.
    """
    guard = AddressGuard.of(endpoint)
    if endpoint.fault:
        return _Unusable(Misconfigured(endpoint.host, "", endpoint.fault))
    if endpoint.transport != "httpx" and not endpoint.proxy:
        return DirectTransport(guard, tls, endpoint.max_connections)
    try:
        return StockTransport(guard, tls, endpoint.max_connections, proxy=endpoint.proxy)
    except Misconfigured as fault:
        return _Unusable(fault)


class _Counted(httpx.SyncByteStream):
    """A request body whose length is checked here: h11's complaint gets past httpx untranslated."""

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, length: int) -> None:
        self._blocks = counted(stream, length)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._blocks  # type: ignore[misc]  # httpx's type says bytes, sockets take any buffer


class _GuardedBackend(httpcore.SyncBackend):
    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError(f"no address of {host}")
        options = [*(socket_options or ()), ABANDON]
        for _, address in self._guard.addresses(host, port):
            try:
                return super().connect_tcp(str(address[0]), port, timeout, local_address, options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _IdleConnections:
    """Kept-alive connections, the most recently used first; the oldest makes room."""

    def __init__(self, limit: int, max_idle_s: float) -> None:
        self._limit = limit
        self._max_idle_s = max_idle_s
        self._lock = threading.Lock()
        self._kept: list[Connection] = []
        self._is_closed = False

    def take(self, origin: Origin) -> Connection | None:
        while connection := self._pop(origin):
            if connection.is_usable(self._max_idle_s):
                return connection
            connection.close()
        return None

    def give(self, connection: Connection) -> None:
        connection.rest()
        with self._lock:
            refused = self._is_closed
            if not refused:
                self._kept.append(connection)
            oldest = self._kept.pop(0) if len(self._kept) > self._limit else None
        for unwanted in (connection if refused else None, oldest):
            if unwanted is not None:
                unwanted.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def _pop(self, origin: Origin) -> Connection | None:
        with self._lock:
            for position in range(len(self._kept) - 1, -1, -1):
                if self._kept[position].origin == origin:
                    return self._kept.pop(position)
        return None


def _sent(connection: Connection, request: httpx.Request, length: int, timeouts: Phases) -> Answer:
    try:
        return connection.exchange(request, length, timeouts)
    except BaseException:
        connection.abandon()
        raise


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in _PORTS:
        raise httpx.UnsupportedProtocol(f"not an HTTP URL: {url.scheme}")
    return url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]
