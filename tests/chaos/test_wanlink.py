"""A link that is cut lets nothing through, in either direction, and heals."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.proxy import Fabric, Link
from tests.chaos.weather import Weather
from tests.support.ports import LOOPBACK
from tests.support.wanlink import Unavailable, WanLink, enter

SHORT_S, LONG_S = 0.4, 10.0
LARGE = bytes(range(256)) * 2000


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    fabric = Fabric(Weather(seed=1))
    yield fabric
    fabric.close()


@pytest.fixture
def wan(fabric: Fabric) -> WanLink:
    try:
        return fabric.wan()
    except Unavailable as reason:
        pytest.skip(f"needs root, and a kernel with network namespaces and TUN: {reason}")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as listening:
        listening.settimeout(LONG_S)
        yield listening


def far_socket(wan: WanLink) -> socket.socket:
    """A socket of the namespace: it stays there, whichever thread uses it."""

    def make() -> socket.socket:
        enter(wan.namespace)
        return socket.socket()

    with ThreadPoolExecutor(1) as apart:
        made = apart.submit(make).result()
    made.settimeout(SHORT_S)
    return made


def ends(wan: WanLink, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    far = far_socket(wan)
    far.connect(server.getsockname())
    near, peer = server.accept()
    near.settimeout(SHORT_S)
    assert peer[0] == wan.address
    return far, near


def test_what_is_in_the_namespace_reaches_this_machine_by_the_same_addresses_and_nothing_else(
    wan: WanLink, server: socket.socket
) -> None:
    far, near = ends(wan, server)
    with far, near:
        far.sendall(b"question")
        assert near.recv(100) == b"question"
        near.sendall(LARGE)
        with far.makefile("rb") as answer:
            assert answer.read(len(LARGE)) == LARGE
    with far_socket(wan) as lost, pytest.raises(OSError, match="unreachable"):
        lost.connect(("192.0.2.1", 80))


def test_nothing_passes_a_link_that_is_cut_and_connections_go_on_when_it_heals(
    wan: WanLink, server: socket.socket
) -> None:
    far, near = ends(wan, server)
    with far, near:
        wan.switch("cut")
        for one, other in ((far, near), (near, far)):
            one.sendall(b"late")
            with pytest.raises(TimeoutError):
                other.recv(100)
        with far_socket(wan) as another, pytest.raises(TimeoutError):
            another.connect(server.getsockname())
        wan.switch("through", resets=False)
        for one in (near, far):
            one.settimeout(LONG_S)
            assert one.recv(100) == b"late"


def test_a_link_can_heal_with_the_loss_of_its_connections(
    fabric: Fabric, wan: WanLink, server: socket.socket
) -> None:
    gate: Link = fabric.link(server.getsockname()[1])
    far = far_socket(wan)
    far.connect((LOOPBACK, gate.port))
    near = socket.create_connection((LOOPBACK, gate.port), timeout=SHORT_S)
    with far, near, server.accept()[0], server.accept()[0]:
        wan.switch("cut")
        wan.switch("through")
        with pytest.raises(ConnectionResetError):
            far.recv(100)
        with pytest.raises(TimeoutError):
            near.recv(100)


def test_a_link_leaves_nothing_behind(fabric: Fabric, wan: WanLink) -> None:
    device = Path("/sys/class/net") / wan.device
    assert device.exists()
    fabric.wans.remove(wan)
    wan.close()

    assert not device.exists()
