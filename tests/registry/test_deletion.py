"""Deleting one tag: where registries do it by tag, where only by digest, and where not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.client import RemoteRepository
from registry.deletion import delete_tag, tombstone
from registry.errors import CannotDelete, Denied, NotFound, TagImmutable, Transient
from registry.images import build_image, build_index, push
from registry.layout import LayoutRepository
from registry.memory import ErrorReply, MemoryRegistry
from tests.support import skopeo
from tests.support.opening import Opener
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.scripted import refusing
from tests.support.wire import Call, Wire

IMAGE = build_image({"app": b"1"})
OTHER = build_index([build_image({"app": b"2"})])


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("deleting")) as registry:
        yield registry


@pytest.fixture
def target(docker: DockerRegistry, open_at: Opener, request: pytest.FixtureRequest) -> RemoteRepository:
    """A repository of the test's own in CNCF distribution, which deletes by digest alone."""
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    return open_at(docker.host, f"tests/{name}")


def test_distribution_loses_one_tag_and_keeps_all_others(
    target: RemoteRepository,
) -> None:
    for tag in ("1.0", "1", "latest"):
        push(target, IMAGE, tag)
    push(target, OTHER, "2.0")

    delete_tag(target, "1.0")

    assert sorted(skopeo.tags(target.name)) == ["1", "2.0", "latest"]
    assert skopeo.digest(f"{target.name}:latest") == IMAGE.digest
    assert target.manifest(IMAGE.digest).content == IMAGE.manifest.content
    with pytest.raises(NotFound):
        target.resolve(tombstone(target.name, "1.0").digest)


def test_what_was_cut_short_is_gone_on_with(target: RemoteRepository) -> None:
    push(target, IMAGE, "1.0")
    push(target, IMAGE, "other")
    delete_tag(target, "other")  # the tombstones' config is there now
    target.put_manifest("1.0", tombstone(target.name, "1.0"))

    delete_tag(target, "1.0")

    with pytest.raises(NotFound):
        target.resolve("1.0")
    with pytest.raises(NotFound):
        delete_tag(target, "1.0")


def test_a_distribution_that_deletes_nothing_is_left_as_it_is(open_at: Opener, tmp_path: Path) -> None:
    with DockerRegistry(tmp_path, RegistryOptions(delete=False)) as docker:
        target = open_at(docker.host)
        push(target, IMAGE, "1.0")
        docker.forget_requests()

        with pytest.raises(CannotDelete, match="does not delete by this API"):
            delete_tag(target, "1.0")

        assert target.resolve("1.0").digest == IMAGE.digest
        assert not docker.counts()["PUT"] + docker.counts()["POST"]


def test_a_registry_that_deletes_tags_is_asked_once(open_at: Opener) -> None:
    with MemoryRegistry() as registry:
        registry.hold("team/app", IMAGE, "1.0")
        registry.hold("team/app", IMAGE, "1")
        delete_tag(open_at(registry.host), "1.0")

        assert registry.tags("team/app") == {"1": IMAGE.digest}
        assert [one.method for one in registry.requests] == ["DELETE"]


def test_in_a_folder_the_entry_goes_and_the_image_stays(tmp_path: Path) -> None:
    layout = LayoutRepository(tmp_path)
    push(layout, IMAGE, "1.0")
    delete_tag(layout, "1.0")

    assert layout.manifest(IMAGE.digest).content == IMAGE.manifest.content
    with pytest.raises(NotFound):
        layout.resolve("1.0")


@pytest.mark.parametrize("status", [403, 503])
def test_a_tag_goes_back_where_its_tombstone_cannot_be_deleted(open_at: Opener, status: int) -> None:
    def refuse_the_tombstone(method: str, path: str) -> None:
        if method == "DELETE" and path.endswith(marker.digest):
            raise ErrorReply(status, "DENIED", "not that one")

    with MemoryRegistry(deletes="digests", on_request=refuse_the_tombstone) as registry:
        registry.hold("team/app", IMAGE, "1.0")
        target = open_at(registry.host)
        marker = tombstone(target.name, "1.0")

        with pytest.raises((Denied, Transient)):
            delete_tag(target, "1.0")

        assert registry.tag("team/app", "1.0") == IMAGE.digest


def test_a_deletion_that_fails_takes_nothing_from_somebody_who_pushed_meanwhile(open_at: Opener) -> None:
    def push_and_refuse(method: str, path: str) -> None:
        if method == "DELETE" and path.endswith(marker.digest):
            registry.hold("team/app", OTHER, "1.0")
            raise ErrorReply(403, "DENIED", "not that one")

    with MemoryRegistry(deletes="digests", on_request=push_and_refuse) as registry:
        registry.hold("team/app", IMAGE, "1.0")
        target = open_at(registry.host)
        marker = tombstone(target.name, "1.0")

        with pytest.raises(Denied):
            delete_tag(target, "1.0")

        assert registry.tag("team/app", "1.0") == OTHER.digest


def test_a_tag_goes_back_where_it_outlives_its_manifest(open_at: Opener, wire: Wire) -> None:
    put: list[str] = []
    target = open_at(wire.host)
    marker = tombstone(target.name, "1.0")

    def script(call: Call) -> None:
        """A registry that forgets a deleted manifest and still has the tag at it."""
        is_tag = call.path.endswith("/manifests/1.0")
        at = IMAGE.manifest if not put or put[-1] != "tombstone" else marker
        headers = {"Content-Type": at.media_type, "Docker-Content-Digest": at.digest}
        if call.method == "PUT":
            put.append("tombstone" if call.body() == marker.content else "image")
            call.answer(201)
        elif call.method == "DELETE":
            call.answer(202 if call.path.endswith(marker.digest) else 405 if is_tag else 404)
        elif "/blobs/" in call.path:
            call.answer(200, headers={"Content-Length": "83"})
        else:
            call.answer(200, at.content if call.method == "GET" else b"", headers)

    wire.script = script

    with pytest.raises(CannotDelete, match="the tag stays"):
        delete_tag(target, "1.0")

    assert put == ["tombstone", "image"]


@pytest.mark.parametrize("host", ["docker.io", "ghcr.io"])
def test_registries_that_never_delete_are_named(
    monkeypatch: pytest.MonkeyPatch, open_at: Opener, wire: Wire, host: str
) -> None:
    wire.script = refusing(403, "DENIED", "requested access to the resource is denied")
    target = open_at(wire.host)
    with pytest.raises(Denied):
        delete_tag(target, "1.0")

    monkeypatch.setattr(RemoteRepository, "host", host)
    with pytest.raises(CannotDelete, match=r"(Docker Hub|GHCR) deletes tags on .* website only"):
        delete_tag(target, "1.0")


def test_an_immutable_tag_gets_no_tombstone(open_at: Opener, wire: Wire) -> None:
    message = "Failed to process request due to 'app:1.0' configured as immutable."
    wire.script = refusing(412, "PRECONDITION", message)
    with pytest.raises(TagImmutable, match="configured as immutable"):
        delete_tag(open_at(wire.host), "1.0")

    assert [method for method, _ in wire.asked()] == ["DELETE"]
