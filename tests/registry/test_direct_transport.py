from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from registry.repository import BLOCK
from registry.transport import DirectTransport
from tests.support.certificates import Certificates, make_certificates
from tests.support.exchanges import LOOPBACK_IS_FINE, Stream, fetch, request, upload
from tests.support.waiting import until
from tests.support.wire import Call, Script, Wire, answering, in_turn

BODY = bytes(range(256)) * (3 * BLOCK // 256) + b"seventeen more..."


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


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


@pytest.fixture
def direct() -> Iterator[DirectTransport]:
    transport = DirectTransport(LOOPBACK_IS_FINE)
    yield transport
    transport.close()


def test_many_threads_get_their_own_answers(
    serve: Callable[[Script], Wire], certificates: Certificates
) -> None:
    """httpx's transport is left out: httpcore takes a connection that is just being used for one that the
    server closed, and closes it."""
    context = ssl.create_default_context(cafile=str(certificates.authority))
    transport = DirectTransport(LOOPBACK_IS_FINE, lambda: context, max_connections=4)
    wire = serve(lambda call: call.answer(200, call.path.encode() * 100))
    wrong: list[str] = []

    def ask(thread: int) -> None:
        for number in range(20):
            path = f"/{thread}/{number}"
            if fetch(transport, wire.url + path) != (200, path.encode() * 100):
                wrong.append(path)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert len(wire.calls) == 160
    assert wire.connections <= 4
    transport.close()


def test_an_idle_connection_on_which_bytes_came_unasked_is_not_used(direct: DirectTransport) -> None:
    """They would pass for the answer to the next request."""

    def script(call: Call) -> None:
        call.answer(200, b"asked for")
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        sent.set()

    sent = threading.Event()
    with Wire(script) as wire:
        fetch(direct, wire.url)
        assert sent.wait(5)

        assert fetch(direct, wire.url) == (200, b"asked for")


def keeps_once_then_hangs_up(call: Call) -> None:
    """Answers the first request of each connection and hangs up on the second."""
    call.body()
    if call.connection == 1 and call.target == "/second":
        call.hang_up()
    call.answer(200, b"answer")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_bodiless_request_survives_the_death_of_its_idle_connection(
    direct: DirectTransport, method: str
) -> None:
    with Wire(keeps_once_then_hangs_up) as wire:
        fetch(direct, wire.url + "/first")

        assert fetch(direct, wire.url + "/second", method)[0] == 200
        assert [call.connection for call in wire.calls] == [1, 1, 2]


def test_a_request_with_a_body_is_never_sent_twice(direct: DirectTransport) -> None:
    with Wire(keeps_once_then_hangs_up) as wire:
        fetch(direct, wire.url + "/first")
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            upload(direct, wire.url + "/second", b"body", length=4)

        assert [call.target for call in wire.calls] == ["/first", "/second"]


def test_a_fresh_connection_that_dies_is_not_tried_again(direct: DirectTransport) -> None:
    with Wire(lambda call: call.hang_up()) as wire:
        with pytest.raises(httpx.RemoteProtocolError):
            fetch(direct, wire.url)

        assert wire.connections == 1


def test_a_request_is_not_sent_again_once_a_byte_of_the_answer_came(direct: DirectTransport) -> None:
    def cut(call: Call) -> None:
        call.send(b"H")
        call.hang_up()

    with Wire(in_turn(answering(200, b"x"), cut)) as wire:
        fetch(direct, wire.url)
        with pytest.raises(httpx.RemoteProtocolError):
            fetch(direct, wire.url)

        assert len(wire.calls) == 2


def test_an_upload_is_kept_back_once_the_server_has_refused_it(
    serve: Callable[[Script], Wire], certificates: Certificates
) -> None:
    """Also where the server leaves the connection open and would read on."""
    refused = threading.Event()
    sent = 0

    def refuse(call: Call) -> None:
        call.answer(413, b"too large")
        refused.set()

    def blocks() -> Iterator[bytes]:
        nonlocal sent
        for number in range(1000):
            if number == 2:
                assert refused.wait(5)
            sent += 1
            yield bytes(1000)

    wire = serve(refuse)
    context = ssl.create_default_context(cafile=str(certificates.authority))
    transport = DirectTransport(LOOPBACK_IS_FINE, lambda: context)
    response = transport.handle_request(request("PUT", wire.url, Stream(blocks), length=1_000_000))

    assert response.status_code == 413
    assert response.read() == b"too large"
    assert sent < 10
    transport.close()


def test_an_interim_answer_does_not_stop_an_upload(direct: DirectTransport) -> None:
    interim = threading.Event()

    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        interim.set()
        call.answer(201 if len(call.body()) == 6 else 400)

    def blocks() -> Iterator[bytes]:
        yield b"one"
        assert interim.wait(5)
        yield b"two"

    with Wire(script) as wire:
        response = direct.handle_request(request("PUT", wire.url, Stream(blocks), length=6))

        assert response.status_code == 201


def test_a_failed_exchange_gives_its_place_back() -> None:
    transport = DirectTransport(LOOPBACK_IS_FINE, max_connections=1)
    timeout = {"pool": 0.1}
    with Wire(lambda call: call.hang_up()) as wire:
        with pytest.raises(httpx.RemoteProtocolError):
            fetch(transport, wire.url, timeout=timeout)
        with pytest.raises(httpx.LocalProtocolError):
            upload(transport, wire.url, b"x", length=2)
        wire.script = answering(200, b"answer")

        assert fetch(transport, wire.url, timeout=timeout) == (200, b"answer")
    transport.close()


def test_a_request_body_without_a_length_is_refused(direct: DirectTransport) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        direct.handle_request(httpx.Request("PUT", "http://127.0.0.1:9/", content=iter([b"x"])))


def test_a_block_in_views_is_at_most_a_block_long(direct: DirectTransport) -> None:
    with Wire(answering(200, BODY)) as wire:
        response = direct.handle_request(request("GET", wire.url, views=True))
        assert isinstance(response.stream, httpx.SyncByteStream)

        assert [len(block) for block in response.stream] == [BLOCK, BLOCK, BLOCK, 17]


def test_connections_in_use_when_the_transport_closes_end_with_their_exchange(
    direct: DirectTransport,
) -> None:
    with Wire(answering(200, BODY)) as wire:
        response = direct.handle_request(request("GET", wire.url))
        direct.close()

        assert response.read() == BODY
        until(lambda: not wire._open, 5, "the connection to be closed")
