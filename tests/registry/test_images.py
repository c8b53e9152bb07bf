from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform as machine
import subprocess
import tarfile
from pathlib import Path

import pytest

from registry.descriptor import (
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Platform,
    digest_of,
)
from registry.hello import hello_index, hello_program
from registry.images import (
    LINUX_ARM64,
    Blob,
    Image,
    Index,
    build_artifact,
    build_image,
    build_index,
    build_signature,
    push,
    random_layer,
    signature_tag,
)
from registry.layout import LayoutRepository
from registry.memory import MemoryRegistry
from registry.repository import BLOCK
from tests.support.skopeo import copy, inspect, needs_skopeo, raw_manifest

FILES = {"etc/motd": b"welcome\n", "bin/run": b"#!/bin/sh\n", "bin/tool": b"\x7fELF"}


def content(blob: Blob) -> bytes:
    return b"".join(blob.open())


def test_the_same_files_give_the_same_image() -> None:
    first, second = build_image(FILES), build_image(dict(reversed(FILES.items())))

    assert first.digest == second.digest
    assert build_image({**FILES, "etc/motd": b"changed\n"}).digest != first.digest


def test_every_blob_is_what_its_descriptor_says() -> None:
    image = build_image(FILES, layers=[random_layer(10_000)])

    for blob in image.blobs:
        assert digest_of(content(blob)) == blob.descriptor.digest
        assert len(content(blob)) == blob.descriptor.size


def test_the_config_names_each_layer_by_its_tar() -> None:
    image = build_image(FILES, base=build_image({"base": b"1"}), layers=[random_layer(4096)])

    config = json.loads(content(image.config))

    packed, own, random = (content(layer) for layer in image.layers)
    tars = [gzip.decompress(packed), gzip.decompress(own), random]
    assert config["rootfs"]["diff_ids"] == [digest_of(tar) for tar in tars]
    assert len(config["history"]) == 3


def test_a_layer_unpacks_to_its_files_with_folders_first_and_programs_executable() -> None:
    layer = build_image(FILES).layers[0]

    with tarfile.open(fileobj=io.BytesIO(content(layer))) as archive:
        modes = {entry.name: entry.mode for entry in archive}
        motd = archive.extractfile("etc/motd")
        assert motd is not None
        assert motd.read() == b"welcome\n"

    assert list(modes) == ["bin", "bin/run", "bin/tool", "etc", "etc/motd"]
    assert modes["bin/run"] == modes["bin/tool"] == modes["bin"] == 0o755
    assert modes["etc/motd"] == 0o644


def test_a_docker_image_has_docker_media_types_all_the_way_down() -> None:
    image = build_image(FILES, docker=True, base=build_image({"base": b"1"}))
    index = build_index([image], docker=True)

    assert image.manifest.media_type == DOCKER_MANIFEST
    assert {layer.descriptor.media_type for layer in image.layers} == {DOCKER_LAYER}
    assert index.manifest.media_type == DOCKER_INDEX
    assert index.manifest.children[0].platform == Platform("linux", "amd64")


def test_an_index_may_hold_an_index() -> None:
    inner = build_index([build_image(FILES), build_image(FILES, platform=LINUX_ARM64)])
    outer = build_index([inner, build_image({})])

    assert outer.manifest.children[0].media_type == OCI_INDEX
    assert outer.manifest.children[0].digest == inner.digest
    assert outer.manifest.children[1].media_type == OCI_MANIFEST


def test_a_random_layer_is_a_tar_of_the_size_asked_for() -> None:
    layer = random_layer(3 * BLOCK, seed=7)
    data = content(layer)

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["data/7.bin"]
    assert layer.descriptor.size == len(data) == 3 * BLOCK
    assert layer.diff_id == layer.descriptor.digest == digest_of(data)
    assert len(gzip.compress(data, 1)) > 0.99 * len(data)
    assert random_layer(3 * BLOCK, seed=8).descriptor.digest != layer.descriptor.digest


def test_a_random_layer_is_made_in_blocks_of_a_bounded_size() -> None:
    assert max(len(chunk) for chunk in random_layer(20 * BLOCK).open()) <= BLOCK


def test_an_artifact_is_about_its_subject() -> None:
    image = build_image(FILES)
    sbom = build_artifact({"sbom.json": b"{}"}, artifact_type="application/spdx+json", subject=image)

    assert sbom.manifest.subject == image.manifest.descriptor
    assert sbom.manifest.artifact_type == "application/spdx+json"
    assert sbom.layers[0].descriptor.annotations == (("org.opencontainers.image.title", "sbom.json"),)


def test_a_signature_lies_at_the_tag_of_the_digest_it_signs() -> None:
    image = build_image(FILES)
    signature = build_signature(image)

    payload = json.loads(content(signature.layers[0]))

    assert signature_tag(image.digest) == f"sha256-{image.digest[7:]}.sig"
    assert payload["critical"]["image"]["docker-manifest-digest"] == image.digest
    assert "dev.cosignproject.cosign/signature" in dict(signature.layers[0].descriptor.annotations)


def test_the_hello_program_says_hello(tmp_path: Path) -> None:
    if (machine.system(), machine.machine()) != ("Linux", "x86_64"):
        pytest.skip("runs a linux/amd64 program")
    program = tmp_path / "hello"
    program.write_bytes(hello_program("amd64", b"Hello\n"))
    program.chmod(0o755)

    done = subprocess.run([os.fspath(program)], capture_output=True, timeout=10, check=False)

    assert (done.returncode, done.stdout) == (0, b"Hello\n")


def test_versions_of_hello_share_their_base_layer() -> None:
    one, two = hello_index("1.0").children[0], hello_index("2.0").children[0]

    assert isinstance(one, Image)
    assert isinstance(two, Image)
    assert one.layers[0].descriptor == two.layers[0].descriptor
    assert one.layers[1].descriptor != two.layers[1].descriptor


@needs_skopeo
@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_skopeo_understands_the_hello_image(docker: bool) -> None:  # noqa: FBT001  (pytest's own call)
    index = hello_index("1.0", docker=docker)

    with MemoryRegistry() as registry:
        registry.hold("demo/hello", index, "1.0")
        told = inspect(f"docker://{registry.host}/demo/hello:1.0", "--override-arch=arm64")
        raw = raw_manifest(f"docker://{registry.host}/demo/hello:1.0")

    assert told["Labels"]["org.opencontainers.image.version"] == "1.0"
    assert told["Architecture"] == "arm64"
    assert len(told["Layers"]) == 2
    assert raw == index.manifest.content


@needs_skopeo
def test_skopeo_copies_an_image_with_a_random_layer_unchanged(tmp_path: Path) -> None:
    image = build_image(FILES, layers=[random_layer(100_000)])
    push(LayoutRepository(tmp_path / "a"), image, "big")

    copy(f"oci:{tmp_path}/a:big", f"oci:{tmp_path}/b:big", "--preserve-digests")

    copied = LayoutRepository(tmp_path / "b")
    assert copied.resolve("big").digest == image.digest
    with copied.open_blob(image.layers[1].descriptor) as chunks:
        hashed = hashlib.sha256()
        for chunk in chunks:
            hashed.update(chunk)
    assert image.layers[1].descriptor.digest == f"sha256:{hashed.hexdigest()}"


def test_push_puts_children_first_and_the_tag_last(tmp_path: Path) -> None:
    index = build_index([build_image(FILES), build_artifact({}, artifact_type="application/x-note")])
    layout = LayoutRepository(tmp_path)

    assert push(layout, index, "v1") == index.manifest.descriptor

    assert [tag for page in layout.tags() for tag in page] == ["v1"]
    assert layout.manifest("v1").content == index.manifest.content
    assert isinstance(index, Index)
    for child in index.children:
        assert layout.resolve(child.digest).digest == child.digest
