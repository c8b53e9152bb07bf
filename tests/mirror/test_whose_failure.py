"""A registry counts as failing when it fails, not when what it was to be sent does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mirror.budget import Budget
from mirror.engine import Cancelled
from mirror.ledger import Ledger
from registry.client import RemoteRepository
from registry.endpoint import Endpoint, Timeouts
from registry.errors import DigestMismatch, RegistryError, Throttled, Unreachable
from registry.exchange import Registry
from registry.repository import BLOCK, Upload
from tests.support.opening import Nobody
from tests.support.scripted import BLOB, HELD, LAYER, UPLOADS, described
from tests.support.valkey import ValkeyServer
from tests.support.wire import Wire, answering, routed

IMPATIENT = Timeouts(connect_s=5.0, read_s=5.0, commit_s=0.2)
LARGE = bytes(64 * BLOCK)


@pytest.fixture
def ledger(valkey: ValkeyServer) -> Iterator[Ledger]:
    with valkey.client() as client:
        yield Ledger(client, "test:")


@pytest.fixture
def target(ledger: Ledger, wire: Wire) -> Iterator[RemoteRepository]:
    endpoint = Endpoint(wire.host, timeouts=IMPATIENT, max_connections=1)
    registry = Registry(endpoint, Nobody(), gate=Budget(ledger))
    yield RemoteRepository(registry, "team/app")
    registry.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(answering(201)) as wire:
        yield wire


def told(ledger: Ledger) -> tuple[list[str], list[str]]:
    """How its requests were answered, and how it fared."""
    ledger.traffic.flush()
    read = ledger.gauges.read().told
    return [one.labels["status"] for one in read.of("requests")], [
        one.labels["fared"] for one in read.of("met")
    ]


def send(target: RemoteRepository, wire: Wire, error: Exception) -> None:
    """An upload whose content ends with ``error``, which comes out."""

    def chunks() -> Iterator[bytes]:
        yield LAYER[:1000]
        raise error

    with pytest.raises(type(error)) as caught:
        target.finish_upload(Upload(f"{wire.url}{UPLOADS}abc"), BLOB, chunks())
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [Unreachable("source.example", "a layer", "hung up"), Cancelled("run"), OSError("a disk")],
    ids=["source", "cancelled", "disk"],
)
def test_an_upload_whose_content_fails_says_nothing_of_the_registry(
    target: RemoteRepository, ledger: Ledger, wire: Wire, error: Exception
) -> None:
    send(target, wire, error)

    assert told(ledger) == ([], [])


def test_an_upload_that_was_dropped_since_it_stalled_is_the_registrys_failure(
    target: RemoteRepository, ledger: Ledger, wire: Wire
) -> None:
    send(target, wire, Unreachable(wire.host, "a layer", "takes no bytes any more"))

    assert told(ledger) == (["none"], ["failure"])


def test_an_upload_that_the_registry_cuts_is_its_failure(
    target: RemoteRepository, ledger: Ledger, wire: Wire
) -> None:
    wire.script = lambda call: call.hang_up(reset=True)

    with pytest.raises(Unreachable):
        target.finish_upload(Upload(f"{wire.url}{UPLOADS}abc"), described(LARGE), iter([LARGE]))

    assert told(ledger) == (["none"], ["failure"])


def test_content_of_another_size_says_nothing_of_the_registry(
    target: RemoteRepository, ledger: Ledger, wire: Wire
) -> None:
    with pytest.raises(DigestMismatch):
        target.finish_upload(Upload(f"{wire.url}{UPLOADS}abc"), BLOB, iter([LAYER[:-1]]))

    assert told(ledger) == ([], [])


def test_a_request_for_which_no_connection_is_free_says_nothing_of_the_registry(
    target: RemoteRepository, ledger: Ledger, wire: Wire
) -> None:
    wire.script = answering(200, LAYER)

    with target.open_blob(BLOB), pytest.raises(RegistryError, match="in use"):
        target.blob_size(BLOB.digest)

    assert wire.asked() == [("GET", HELD)]
    assert told(ledger) == (["2xx"], ["success"])


def test_a_token_server_that_is_asked_too_often_says_nothing_of_the_registry(
    target: RemoteRepository, ledger: Ledger, wire: Wire
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{wire.url}/token",service="registry"'}
    wire.script = routed({("HEAD", HELD): answering(401, b"", challenge), ("GET", "/token"): answering(429)})

    with pytest.raises(Throttled):
        target.blob_size(BLOB.digest)

    assert told(ledger) == (["4xx"], ["success"]), "the registry's own answer"
