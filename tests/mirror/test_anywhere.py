"""Content that several repositories may hold, read from whichever has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from mirror.anywhere import Anywhere
from mirror.reading import Reading
from mirror.retry import Patience
from registry.connections import Connections
from registry.credentials import ChainedCredentials
from registry.descriptor import Descriptor
from registry.endpoint import Endpoint
from registry.errors import DigestMismatch, NotFound, RegistryError
from registry.images import build_artifact, build_image, random_layer
from registry.memory import Cut, ErrorReply, MemoryRegistry
from tests.support.engine import TIMEOUTS

IMAGE = build_image({}, layers=[random_layer(3 * 2**20, 1)])
LAYER = next(blob for blob in IMAGE.manifest.blobs if blob.size > 2**20)


@dataclass
class World:
    one: MemoryRegistry
    other: MemoryRegistry
    anywhere: Anywhere


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        one, other = (stack.enter_context(MemoryRegistry()) for _ in "12")
        connections = Connections(lambda host: Endpoint(host, timeouts=TIMEOUTS), ChainedCredentials(()))
        stack.callback(connections.close)
        yield World(one, other, Anywhere([connections.open(f"{where.host}/app") for where in (one, other)]))


def read(place: Anywhere, blob: Descriptor) -> bytes:
    with place.open_blob(blob) as blocks:
        return b"".join(bytes(block) for block in blocks)


def test_what_one_lacks_is_read_from_the_other(world: World) -> None:
    world.other.hold("app", IMAGE)

    assert world.anywhere.resolve(IMAGE.digest).digest == IMAGE.digest
    assert world.anywhere.manifest(IMAGE.digest).digest == IMAGE.digest
    assert world.anywhere.blob_size(LAYER.digest) == LAYER.size
    assert len(read(world.anywhere, LAYER)) == LAYER.size


def test_who_served_last_is_asked_first(world: World) -> None:
    world.other.hold("app", IMAGE)
    world.anywhere.manifest(IMAGE.digest)
    world.one.forget_requests()
    read(world.anywhere, LAYER)

    assert world.one.requests == []


def test_what_nobody_has_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.anywhere.manifest(IMAGE.digest)


def test_one_that_could_not_be_asked_is_named_instead_of_one_that_has_nothing(world: World) -> None:

    def unwell(_: str, __: str) -> None:
        raise ErrorReply(503, "UNAVAILABLE")

    world.other.on_request = unwell

    with pytest.raises(RegistryError) as raised:
        world.anywhere.manifest(IMAGE.digest)
    assert raised.value.end == world.other.host
    assert not isinstance(raised.value, NotFound)


def test_signatures_of_all_of_them_are_found(world: World) -> None:
    signatures = [
        build_artifact({"text": text}, artifact_type="application/vnd.test", subject=IMAGE)
        for text in (b"one", b"two")
    ]
    for registry, signature in zip((world.one, world.other), signatures, strict=True):
        registry.hold("app", IMAGE)
        registry.hold("app", signature)

    found = {one.digest for one in world.anywhere.referrers(IMAGE.digest)}

    assert found == {signature.digest for signature in signatures}


def test_a_tag_is_nobodys_question(world: World) -> None:
    with pytest.raises(ValueError, match="is a tag"):
        world.anywhere.resolve("v1")


def read_right(place: Anywhere) -> bytes:
    """As a copy reads it: proved."""
    with Reading(LAYER, place, Patience(attempts=1)) as reading:
        return b"".join(bytes(block) for block in reading.take(LAYER.size))


def test_who_sends_wrong_bytes_is_blamed_and_the_next_is_asked_for_them(world: World) -> None:
    for registry in (world.one, world.other):
        registry.hold("app", IMAGE)
    world.one.blobs[LAYER.digest] = b"x" * LAYER.size

    with pytest.raises(DigestMismatch) as raised:
        read_right(world.anywhere)
    assert raised.value.end == world.one.host
    assert world.anywhere.goes_on(LAYER.digest)

    world.one.forget_requests()
    read_right(world.anywhere)
    assert world.one.requests == []
    assert not world.anywhere.goes_on(LAYER.digest)
    assert world.anywhere.manifest(IMAGE.digest).digest == IMAGE.digest
    assert world.one.count("manifest") == 0, "who served last is asked first"


def test_wrong_bytes_of_all_end_in_the_blame_of_one(world: World) -> None:
    for registry in (world.one, world.other):
        registry.hold("app", IMAGE)
        registry.blobs[LAYER.digest] = b"x" * LAYER.size

    for goes_on in (True, False):
        with pytest.raises(DigestMismatch):
            read_right(world.anywhere)
        assert world.anywhere.goes_on(LAYER.digest) == goes_on
    with pytest.raises(DigestMismatch, match="its bytes hash to"):
        read_right(world.anywhere)


def test_of_bytes_that_two_have_sent_the_last_one_is_asked_for_all(world: World) -> None:
    for registry in (world.one, world.other):
        registry.hold("app", IMAGE)
    world.one.blobs[LAYER.digest] = b"x" * LAYER.size

    def cut(_: str, path: str) -> None:
        if "/blobs/" in path:
            raise Cut(LAYER.size // 2)

    world.one.on_request = cut

    with pytest.raises(DigestMismatch):
        read_right(world.anywhere)
    assert world.anywhere.goes_on(LAYER.digest)
    world.one.forget_requests()
    read_right(world.anywhere)
    assert world.one.requests == []
