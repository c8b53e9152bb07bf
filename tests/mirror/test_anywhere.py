"""Content that several repositories may hold, read from whichever has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from mirror.anywhere import Anywhere
from registry.connections import Connections
from registry.credentials import ChainedCredentials
from registry.descriptor import Descriptor
from registry.endpoint import Endpoint
from registry.errors import NotFound, RegistryError
from registry.images import build_artifact, build_image, random_layer
from registry.memory import ErrorReply, MemoryRegistry
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
