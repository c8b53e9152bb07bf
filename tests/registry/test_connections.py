from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.connections import Connections
from registry.endpoint import Endpoint
from registry.errors import Misconfigured, NotFound, RegistryError
from registry.exchange import Registry
from registry.reference import MalformedReference, Reference
from tests.support.opening import QUICK, Nobody
from tests.support.scripted import BLOB, LAYER
from tests.support.wire import Wire, answering


@pytest.fixture
def connections() -> Iterator[Connections]:
    opened = Connections(lambda host: Endpoint(host, timeouts=QUICK), Nobody())
    yield opened
    opened.close()


def test_a_repository_is_opened_by_reference_or_by_name(connections: Connections) -> None:
    by_name = connections.open("ghcr.io/team/app:1.0")
    by_reference = connections.open(Reference.parse("ghcr.io/team/app"))

    assert by_name.name == by_reference.name == "ghcr.io/team/app"
    assert by_name.host == "ghcr.io"


def test_docker_hub_has_one_name_and_an_api_elsewhere(connections: Connections) -> None:
    hub = connections.registry("docker.io")

    assert connections.open("alpine").name == "docker.io/library/alpine"
    assert connections.open("index.docker.io/library/alpine").name == "docker.io/library/alpine"
    assert hub.base == "https://registry-1.docker.io"


def test_a_layout_folder_is_a_repository_too(connections: Connections, tmp_path: Path) -> None:
    layout = connections.open(f"oci:{tmp_path}/images:1.0")

    assert layout.name == f"oci:{tmp_path}/images"
    with pytest.raises(NotFound, match="image layout"):
        list(layout.tags())


def test_repositories_of_a_host_share_its_registry(connections: Connections) -> None:
    found: list[Registry] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.append(connections.registry("ghcr.io"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(map(id, found))) == 1
    assert connections.registry("quay.io") is not found[0]


def test_a_host_that_is_not_configured_is_reached_on_the_usual_terms() -> None:
    with Wire(answering(200, LAYER)) as wire:
        configured = Endpoint("ghcr.io", plain_http=True)
        connections = Connections({"ghcr.io": configured}, Nobody())

        assert connections.open(wire.host + "/team/app").blob_size(BLOB.digest) == BLOB.size
        assert connections.registry("ghcr.io").endpoint is configured
        assert connections.registry("quay.io").endpoint == Endpoint("quay.io")
        connections.close()


def test_a_text_that_is_no_reference_is_not_opened(connections: Connections) -> None:
    for text in ("", "https://ghcr.io/team/app", "ghcr.io/UPPER", "oci:"):
        with pytest.raises(MalformedReference):
            connections.open(text)


def test_closing_ends_idle_connections_and_what_is_opened_later_is_new(connections: Connections) -> None:
    with Wire(answering(200, LAYER)) as wire:
        for _ in range(2):
            repository = connections.open(f"{wire.host}/team/app")
            with repository.open_blob(BLOB) as blocks:
                assert sum(len(block) for block in blocks) == BLOB.size
            connections.close()

        assert wire.connections == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the threads are the test's own server
def test_connections_that_were_made_before_a_fork_work_after_it(connections: Connections) -> None:
    with Wire(answering(200, LAYER)) as wire:
        name = f"{wire.host}/team/app"
        child = os.fork()
        if child == 0:
            in_child(lambda: connections.open(name).blob_size(BLOB.digest) == BLOB.size)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert connections.open(name).blob_size(BLOB.digest) == BLOB.size


def in_child(works: Callable[[], bool]) -> None:
    """End this process without the parent's clean-up; 0 if ``works``."""
    code = 1
    try:
        code = 0 if works() else 1
    finally:
        os._exit(code)


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        (Endpoint("127.0.0.1:9", plain_http=False, ca_file="/nowhere/ca.pem"), r"/nowhere/ca\.pem"),
        (Endpoint("127.0.0.1:9", ca_file="/nowhere/ca.pem", proxy="http://127.0.0.1:9"), r"/nowhere/ca\.pem"),
        (Endpoint("127.0.0.1:9", fault="PROXY is not set"), "PROXY is not set"),
    ],
)
def test_what_is_set_up_wrongly_can_be_opened_and_is_named_when_it_is_asked(
    terms: Endpoint, named: str
) -> None:
    connections = Connections({terms.host: terms}, Nobody())
    repository = connections.open("127.0.0.1:9/team/app")

    for _ in range(2):
        with pytest.raises(Misconfigured, match=named):
            repository.resolve("1.0")
    connections.close()


def test_a_broken_host_does_not_spoil_another(connections: Connections) -> None:
    with Wire(answering(200, LAYER)) as wire, Wire(answering()) as gone:
        gone.close()
        with pytest.raises(RegistryError):
            connections.open(f"{gone.host}/team/app").resolve("1.0")

        with connections.open(f"{wire.host}/team/app").open_blob(BLOB) as blocks:
            assert b"".join(map(bytes, blocks)) == LAYER
