from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry import http1
from registry.dialing import AddressGuard, ForbiddenAddress
from registry.repository import BLOCK
from registry.transport import DirectTransport, StockTransport
from tests.support.certificates import Certificates, make_certificates
from tests.support.exchanges import LOOPBACK_IS_FINE, Stream, fetch, request, upload
from tests.support.waiting import until
from tests.support.wire import Call, Script, Wire, answering, in_turn, silent_until

BODY = os.urandom(3 * BLOCK + 17)

Transport = DirectTransport | StockTransport
Maker = Callable[..., Transport]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=[DirectTransport, StockTransport], ids=["direct", "httpx"])
def maker(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Maker]:
    """Makes transports of one kind; every test runs on both."""
    context = ssl.create_default_context(cafile=str(certificates.authority))
    made: list[Transport] = []

    def make(guard: AddressGuard = LOOPBACK_IS_FINE, **options: Any) -> Transport:
        made.append(request.param(guard, lambda: context, **options))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture
def transport(maker: Maker) -> Transport:
    return maker()


@pytest.fixture(params=["plain", "tls"])
def serve(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Callable[[Script], Wire]]:
    context = certificates.server_context() if request.param == "tls" else None
    wires: list[Wire] = []

    def start(script: Script) -> Wire:
        wires.append(Wire(script, context))
        return wires[-1]

    yield start
    for wire in wires:
        wire.close()


def test_a_body_arrives_whole_and_the_connection_is_used_again(
    transport: Transport, serve: Callable[[Script], Wire]
) -> None:
    wire = serve(answering(200, BODY))

    for _ in range(3):
        assert fetch(transport, wire.url) == (200, BODY)

    assert wire.connections == 1


def test_a_body_in_views_is_the_same_body(transport: Transport, serve: Callable[[Script], Wire]) -> None:
    wire = serve(answering(200, BODY))

    assert fetch(transport, wire.url, views=True) == (200, BODY)


def test_without_views_a_reader_may_keep_every_block(transport: Transport) -> None:
    with Wire(answering(200, BODY)) as wire:
        response = transport.handle_request(request("GET", wire.url))

        assert response.read() == BODY


def test_a_chunked_body_arrives_whole(transport: Transport, serve: Callable[[Script], Wire]) -> None:
    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(BODY), 50_000):
            piece = BODY[start : start + 50_000]
            call.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        call.send(b"0\r\n\r\n")

    wire = serve(script)

    assert fetch(transport, wire.url) == (200, BODY)
    assert fetch(transport, wire.url) == (200, BODY)
    assert wire.connections == 1


def test_a_body_that_ends_with_its_connection_arrives(transport: Transport) -> None:
    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
        call.hang_up()

    with Wire(script) as wire:
        assert fetch(transport, wire.url) == (200, BODY)


def test_answers_without_a_body_leave_the_connection_usable(
    transport: Transport, serve: Callable[[Script], Wire]
) -> None:
    wire = serve(lambda call: call.answer(204 if call.method == "DELETE" else 200, b"", {}))

    for method in ("HEAD", "DELETE", "POST", "HEAD"):
        fetch(transport, wire.url, method)

    assert wire.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nthis\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDocker-Con",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 2",
    ],
    ids=["length", "chunk", "last-chunk", "header", "no-headers", "status"],
)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_an_answer_cut_short_is_an_error_never_a_short_body(
    transport: Transport, serve: Callable[[Script], Wire], answer: bytes, *, reset: bool
) -> None:
    def script(call: Call) -> None:
        call.send(answer)
        call.hang_up(reset=reset)

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        fetch(transport, serve(script).url)


@pytest.mark.parametrize(
    "answer",
    [
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 4000) for n in range(90)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
    ],
    ids=["noise", "two-lengths", "word", "negative", "header", "coding", "long", "large", "many", "interim"],
)
def test_a_malformed_answer_is_refused(transport: Transport, answer: bytes) -> None:
    def script(call: Call) -> None:
        call.send(answer)
        call.hang_up()

    with Wire(script) as wire, pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        fetch(transport, wire.url)


def test_an_upload_arrives_as_it_was_given(transport: Transport, serve: Callable[[Script], Wire]) -> None:
    received: list[bytes] = []

    def script(call: Call) -> None:
        received.append(call.body())
        call.answer(201)

    wire = serve(script)
    chunks = [BODY[:1], BODY[1 : 2 * BLOCK + 5], b"", BODY[2 * BLOCK + 5 :]]

    assert upload(transport, wire.url, *chunks, length=len(BODY)) == 201
    assert received == [BODY]
    assert wire.calls[0].headers["content-length"] == str(len(BODY))
    assert "transfer-encoding" not in wire.calls[0].headers


@pytest.mark.parametrize("sent", [5, 15], ids=["short", "long"])
def test_a_body_that_is_not_of_its_length_fails_at_once(transport: Transport, sent: int) -> None:
    with Wire(lambda call: call.answer(201 if len(call.body()) == 10 else 400)) as wire:
        with pytest.raises(httpx.LocalProtocolError):
            upload(transport, wire.url, b"x" * sent, length=10)

        until(lambda: not wire._open, 5, "the connection to be closed")


class SourceBroke(Exception):
    """What a source raises in the middle of its blob."""


def test_what_breaks_the_body_comes_out_unchanged_and_ends_the_connection(
    transport: Transport, serve: Callable[[Script], Wire]
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 1000
        raise SourceBroke

    wire = serve(lambda call: call.answer(201))
    wire.script = lambda call: call.answer(201) if len(call.body()) == 5000 else call.hang_up()

    with pytest.raises(SourceBroke):
        transport.handle_request(request("PUT", wire.url, Stream(broken), length=5000))

    until(lambda: not wire._open, 5, "the connection to be closed")
    assert upload(transport, wire.url, b"x" * 5000, length=5000) == 201


@pytest.mark.parametrize("status", [401, 413])
def test_an_early_answer_to_an_upload_is_not_lost(
    transport: Transport, serve: Callable[[Script], Wire], status: int
) -> None:
    """A registry that refuses an upload answers before it has read it, and hangs up."""

    def refuse(call: Call) -> None:
        call.answer(status, b"no", {"Connection": "close"})
        call.hang_up()

    wire = serve(in_turn(answering(202), refuse))
    fetch(transport, wire.url, "POST")
    chunks = Stream(lambda: (bytes(BLOCK) for _ in range(64)))
    response = transport.handle_request(request("PUT", wire.url, chunks, length=64 * BLOCK))
    response.close()

    assert response.status_code == status
    assert wire.connections == 1


def test_an_upload_that_is_cut_without_an_answer_is_an_error(
    transport: Transport, serve: Callable[[Script], Wire]
) -> None:
    wire = serve(lambda call: call.hang_up(reset=True))
    chunks = Stream(lambda: (bytes(BLOCK) for _ in range(64)))

    with pytest.raises((httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError)):
        transport.handle_request(request("PUT", wire.url, chunks, length=64 * BLOCK))

    assert len(wire.calls) == 1


def test_silence_ends_with_a_timeout_of_its_phase(transport: Transport) -> None:
    go_on = threading.Event()
    with Wire(silent_until(go_on)) as wire:
        with pytest.raises(httpx.ReadTimeout):
            fetch(transport, wire.url, timeout={"read": 0.1})
        go_on.set()


def test_what_of_a_request_was_not_delivered_when_it_was_given_up_never_is(transport: Transport) -> None:
    go_on, heard = threading.Event(), threading.Event()
    arrived: list[bytes] = []
    waiting = BODY[: 768 * 1024]  # what the kernel's buffers hold

    def late(call: Call) -> None:
        go_on.wait(5)
        with suppress(ConnectionError):
            arrived.append(call.body())
        heard.set()
        call.hang_up()

    with Wire(late) as wire:
        stream = Stream(lambda: iter([waiting]))
        put = request("PUT", wire.url, stream, length=len(waiting), timeout={"read": 0.1, "write": 0.5})
        with pytest.raises(httpx.ReadTimeout):
            transport.handle_request(put)
        go_on.set()
        assert heard.wait(5)

    assert waiting not in arrived


def test_a_server_that_takes_no_more_bytes_ends_with_a_timeout(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "_EARLY_ANSWER_S", 0.1)
    go_on = threading.Event()
    chunks = Stream(lambda: (bytes(BLOCK) for _ in range(200)))
    timeout = {"write": 0.1, "read": 0.1}
    with Wire(silent_until(go_on)) as wire:
        with pytest.raises((httpx.WriteTimeout, httpx.ReadTimeout)):
            transport.handle_request(request("PUT", wire.url, chunks, length=200 * BLOCK, timeout=timeout))
        go_on.set()


def test_silence_in_the_middle_of_a_body_ends_with_a_timeout(transport: Transport) -> None:
    go_on = threading.Event()

    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        go_on.wait(5)

    with Wire(script) as wire:
        with pytest.raises(httpx.ReadTimeout):
            fetch(transport, wire.url, timeout={"read": 0.1})
        go_on.set()


def test_an_idle_connection_that_the_server_closed_is_not_used(
    transport: Transport, serve: Callable[[Script], Wire]
) -> None:
    wire = serve(answering(201))
    upload(transport, wire.url, b"once", length=4)
    wire.drop_connections()
    until(lambda: not wire._open, 5, "the connection to be closed")

    assert upload(transport, wire.url, b"more", length=4) == 201
    assert wire.connections == 2


def test_a_connection_left_idle_for_too_long_is_not_used(maker: Maker) -> None:
    transport = maker(max_idle_s=0.01)
    with Wire(answering(200, b"x")) as wire:
        fetch(transport, wire.url)
        threading.Event().wait(0.05)
        fetch(transport, wire.url)

        assert wire.connections == 2


def test_a_body_that_was_not_read_to_its_end_ends_its_connection(transport: Transport) -> None:
    with Wire(answering(200, BODY)) as wire:
        transport.handle_request(request("GET", wire.url)).close()

        assert fetch(transport, wire.url) == (200, BODY)
        assert wire.connections == 2


def test_there_are_no_more_connections_than_allowed(maker: Maker) -> None:
    transport = maker(max_connections=1)
    with Wire(answering(200, BODY)) as wire:
        response = transport.handle_request(request("GET", wire.url))
        with pytest.raises(httpx.PoolTimeout):
            fetch(transport, wire.url, timeout={"pool": 0.05})
        response.close()

        assert fetch(transport, wire.url) == (200, BODY)


def test_redirects_are_for_the_caller(transport: Transport) -> None:
    with Wire(answering(307, b"", {"Location": "http://elsewhere.example/"})) as wire:
        assert fetch(transport, wire.url)[0] == 307


def test_the_environments_proxies_are_left_alone(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Wire(answering(200, b"direct")) as wire:
        assert fetch(maker(), wire.url) == (200, b"direct")


def test_nobody_listening_is_a_connect_error(transport: Transport) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(httpx.ConnectError):
            fetch(transport, f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_a_certificate_of_an_unknown_authority_is_refused(
    certificates: Certificates, tmp_path: Path, maker: Maker
) -> None:
    strange = make_certificates(tmp_path)
    with Wire(answering(200, b"x"), strange.server_context()) as wire:
        with pytest.raises(httpx.ConnectError, match="certificate"):
            fetch(maker(), wire.url)

        assert wire.calls == []


def test_only_the_address_that_was_checked_is_dialled(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is checked and local when it is dialled gets nowhere."""
    lookups: list[str] = []
    real = socket.getaddrinfo

    def lying(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host != "cdn.example":
            return real(host, port, *args, **kwargs)
        lookups.append(host)
        return real("192.0.2.1" if len(lookups) % 2 else "127.0.0.1", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lying)
    with Wire(answering(200, b"internal")) as wire:
        for _ in range(2):
            with pytest.raises(ForbiddenAddress):
                fetch(maker(), f"http://cdn.example:{wire.port}/")

        assert wire.connections == 0
    assert len(lookups) == 2


def test_of_several_addresses_the_public_ones_are_dialled(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[str] = []

    def connect(self: socket.socket, address: tuple[Any, ...]) -> None:
        dialled.append(address[0])
        raise ConnectionRefusedError

    def addresses(host: str, port: int, *_: Any, **__: Any) -> Any:
        found = [host] if host[0].isdigit() else ["10.0.0.1", "8.8.8.8", "::ffff:127.0.0.1", "8.8.4.4"]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    monkeypatch.setattr(socket.socket, "connect", connect)

    with pytest.raises(httpx.ConnectError):
        fetch(maker(), "http://cdn.example/")

    assert dialled == ["8.8.8.8", "8.8.4.4"]


def test_a_header_with_a_line_break_is_not_sent(transport: Transport) -> None:
    with Wire(answering()) as wire:
        bad = request("GET", wire.url)
        bad.headers["X-Evil"] = "a\r\nX-More: b"
        with pytest.raises(httpx.LocalProtocolError):
            transport.handle_request(bad)

        assert wire.calls == []


def test_a_proxy_is_asked_for_the_whole_url_and_not_for_what_is_inside_our_network() -> None:
    with Wire(answering(200, b"by proxy")) as proxy:
        transport = StockTransport(AddressGuard(frozenset()), ssl.create_default_context, proxy=proxy.url)

        assert fetch(transport, "http://registry.example/v2/") == (200, b"by proxy")
        with pytest.raises(ForbiddenAddress):
            fetch(transport, "http://169.254.169.254/latest/meta-data")

        assert proxy.asked() == [("GET", "http://registry.example/v2/")]
        transport.close()
