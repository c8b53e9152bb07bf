"""The client against CNCF distribution, in the clear and over TLS, on both transports."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry.client import RemoteRepository
from registry.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor, digest_of
from registry.errors import DigestMismatch, NotFound, Unauthorized, Unreachable
from registry.manifest import Manifest
from registry.repository import BLOCK
from tests.support.certificates import make_certificates
from tests.support.opening import PASSWORD, USERNAME, Opener
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.scripted import described, read

LAYER = os.urandom(5 * BLOCK + 4321)
BLOB = described(LAYER)
CONFIG = described(b"{}", OCI_CONFIG)


@dataclass(frozen=True, slots=True)
class Served:
    """A registry that runs, and on what terms it is reached."""

    registry: DockerRegistry
    terms: dict[str, Any]


@pytest.fixture(scope="module", params=["plain", "tls"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("distribution")
    options, terms = RegistryOptions(), {}
    if request.param == "tls":
        made = make_certificates(folder)
        options = RegistryOptions(tls=(made.certificate, made.key))
        terms = {"plain_http": False, "ca_file": str(made.authority)}
    with DockerRegistry(folder, options) as registry:
        yield Served(registry, terms)


@pytest.fixture
def target(served: Served, open_at: Opener, request: pytest.FixtureRequest) -> RemoteRepository:
    """A repository of the test's own."""
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    return open_at(served.registry.host, f"tests/{name}", **served.terms)


def push(repository: RemoteRepository, content: bytes, blob: Descriptor) -> None:
    session = repository.start_upload(blob)
    assert session is not None
    repository.finish_upload(session, blob, [content])


def image(repository: RemoteRepository, **members: Any) -> Manifest:
    """An image whose blobs the repository holds."""
    push(repository, LAYER, BLOB)
    push(repository, b"{}", CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": CONFIG.document(),
        "layers": [BLOB.document()],
        **members,
    }
    return Manifest.parse(json.dumps(document, indent=3).encode())


def test_a_blob_goes_up_and_comes_down_again(target: RemoteRepository) -> None:
    with pytest.raises(NotFound):
        target.blob_size(BLOB.digest)
    push(target, LAYER, BLOB)

    assert target.blob_size(BLOB.digest) == BLOB.size
    assert read(target, BLOB) == LAYER
    assert read(target, BLOB, offset=BLOCK + 1) == LAYER[BLOCK + 1 :]


def test_a_blob_is_copied_without_being_held(
    served: Served, open_at: Opener, target: RemoteRepository
) -> None:
    other = open_at(served.registry.host, f"{target.name.partition('/')[2]}-copy", **served.terms)
    push(target, LAYER, BLOB)
    digest = hashlib.sha256()

    def through(blocks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for block in blocks:
            digest.update(block)
            yield block

    session = other.start_upload(BLOB)
    assert session is not None
    with target.open_blob(BLOB) as blocks:
        other.finish_upload(session, BLOB, through(blocks))

    assert f"sha256:{digest.hexdigest()}" == BLOB.digest
    assert read(other, BLOB) == LAYER


def test_a_known_blob_is_mounted_and_an_unknown_one_uploaded(
    served: Served, open_at: Opener, target: RemoteRepository
) -> None:
    push(target, LAYER, BLOB)
    path = target.name.partition("/")[2]
    other = open_at(served.registry.host, f"{path}-mounted", **served.terms)

    assert other.start_upload(BLOB, mount_from=path) is None
    assert other.blob_size(BLOB.digest) == BLOB.size

    session = other.start_upload(CONFIG, mount_from="nobody/nowhere")
    assert session is not None
    other.finish_upload(session, CONFIG, [b"{}"])


def test_wrong_bytes_are_refused_by_the_registry(target: RemoteRepository) -> None:
    session = target.start_upload(BLOB)
    assert session is not None

    with pytest.raises(DigestMismatch) as caught:
        target.finish_upload(session, BLOB, [bytes(BLOB.size)])

    assert caught.value.code == "DIGEST_INVALID"
    target.cancel_upload(session)
    target.cancel_upload(session)


def test_a_manifest_goes_through_byte_for_byte(target: RemoteRepository) -> None:
    manifest = image(target)

    assert target.put_manifest("1.0", manifest)
    assert target.put_manifest(manifest.digest, manifest)

    assert target.resolve("1.0") == Descriptor(OCI_MANIFEST, manifest.digest, manifest.size)
    assert target.resolve(manifest.digest).digest == manifest.digest
    assert target.manifest("1.0").content == manifest.content
    assert list(target.tags()) == [["1.0"]]


def test_a_deleted_manifest_is_gone(target: RemoteRepository) -> None:
    manifest = image(target)
    target.put_manifest("1.0", manifest)

    target.delete_manifest(manifest.digest)

    for name in ("1.0", manifest.digest):
        with pytest.raises(NotFound):
            target.manifest(name)
    with pytest.raises(NotFound):
        target.delete_manifest(manifest.digest)


def test_referrers_are_kept_by_tag_where_there_is_no_api(target: RemoteRepository) -> None:
    manifest = image(target)
    signature = image(
        target,
        subject=manifest.descriptor.document(),
        artifactType="application/vnd.example.signature",
        annotations={"made": "today"},
    )
    target.put_manifest("1.0", manifest)

    assert not target.put_manifest(signature.digest, signature)
    assert target.referrers(manifest.digest) == []
    target.add_referrer(manifest.digest, signature.descriptor)
    target.add_referrer(manifest.digest, signature.descriptor)

    (found,) = target.referrers(manifest.digest)
    assert found == signature.descriptor
    assert found.artifact_type == "application/vnd.example.signature"
    assert found.annotations == (("made", "today"),)


def test_what_is_not_there_is_not_found(target: RemoteRepository) -> None:
    for ask in (target.resolve, target.manifest):
        with pytest.raises(NotFound):
            ask("1.0")
    with pytest.raises(NotFound):
        list(target.tags())


def test_a_registry_with_passwords_wants_ours(open_at: Opener, tmp_path: Path) -> None:
    with DockerRegistry(tmp_path, RegistryOptions(users=((USERNAME, PASSWORD),))) as registry:
        push(open_at(registry.host, someone=True), LAYER, BLOB)

        with pytest.raises(Unauthorized) as caught:
            open_at(registry.host).blob_size(BLOB.digest)
        assert PASSWORD not in str(caught.value)


def test_a_registry_that_comes_back_is_used_again(open_at: Opener, tmp_path: Path) -> None:
    with DockerRegistry(tmp_path) as registry:
        repository = open_at(registry.host)
        push(repository, b"{}", CONFIG)
        registry.stop()
        with pytest.raises(Unreachable):
            repository.blob_size(CONFIG.digest)
        registry.restart()

        assert repository.blob_size(digest_of(b"{}")) == 2


def test_a_certificate_of_an_unknown_authority_is_refused(served: Served, open_at: Opener) -> None:
    if served.terms:
        with pytest.raises(Unreachable, match="certificate"):
            open_at(served.registry.host, plain_http=False).blob_size(BLOB.digest)
