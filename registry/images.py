"""Small real images, built on the spot for trials and tests: valid for every tool, no container engine.

The same arguments give the same bytes and digests, so that a test may build an image twice and compare.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from random import Random
from typing import Any

from registry.descriptor import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Platform,
    digest_of,
)
from registry.errors import NotFound
from registry.manifest import Manifest
from registry.repository import BLOCK, Repository

DOCKER_LAYER_TAR = "application/vnd.docker.image.rootfs.diff.tar"
COSIGN_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
TITLE = "org.opencontainers.image.title"
LINUX_AMD64 = Platform("linux", "amd64")
LINUX_ARM64 = Platform("linux", "arm64")

_CREATED = "2024-01-01T00:00:00Z"
_SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ELF = b"\x7fELF"
_TAR_BLOCK = 512
_TAR_END = bytes(2 * _TAR_BLOCK)
_SMALLEST_TAR = len(_TAR_END) + 2 * _TAR_BLOCK


@dataclass(frozen=True, slots=True)
class Blob:
    """A config or a layer: its descriptor and, as often as asked, its bytes."""

    descriptor: Descriptor
    open: Callable[[], Iterator[bytes]]
    diff_id: str = ""
    """Of a layer: the digest of its tar before compression."""

    @classmethod
    def of(cls, content: bytes, media_type: str, diff_id: str = "") -> Blob:
        descriptor = Descriptor(media_type, digest_of(content), len(content))
        return cls(descriptor, lambda: iter((content,)), diff_id)

    def annotated(self, **annotations: str) -> Blob:
        """The same bytes under a descriptor with other annotations."""
        return replace(self, descriptor=replace(self.descriptor, annotations=tuple(annotations.items())))


@dataclass(frozen=True, slots=True)
class Image:
    """An image manifest or an artifact (``platform`` is then None), with everything below it."""

    manifest: Manifest
    config: Blob
    layers: tuple[Blob, ...]
    platform: Platform | None = None

    @property
    def blobs(self) -> tuple[Blob, ...]:
        return (self.config, *self.layers)

    @property
    def digest(self) -> str:
        return self.manifest.digest


@dataclass(frozen=True, slots=True)
class Index:
    """An index with everything below it."""

    manifest: Manifest
    children: tuple[Image | Index, ...]

    @property
    def digest(self) -> str:
        return self.manifest.digest


def build_image(
    files: Mapping[str, bytes],
    *,
    platform: Platform = LINUX_AMD64,
    docker: bool = False,
    base: Image | None = None,
    layers: Iterable[Blob] = (),
    labels: Mapping[str, str] | None = None,
    entrypoint: Iterable[str] = (),
    created: str = _CREATED,
) -> Image:
    """The layers of ``base``, then ``files`` (by path, none: no layer), then ``layers``.

    ``docker``: Docker schema 2 media types instead of OCI's; ``base`` and ``layers`` are then relabelled.
    ``created``: when it was made, as its config says (RFC 3339).
    """
    own = (build_layer(files),) if files else ()
    inherited = base.layers if base else ()
    stack = tuple(_as_kind(layer, docker=docker) for layer in (*inherited, *own, *layers))
    config = {
        "created": created,
        "architecture": platform.architecture,
        **({"variant": platform.variant} if platform.variant else {}),
        "os": platform.os,
        "config": {
            "Env": [_SEARCH_PATH],
            **({"Entrypoint": list(entrypoint)} if entrypoint else {}),
            "Labels": dict(labels or {}),
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in stack]},
        "history": [{"created": _CREATED, "created_by": "sealift"} for _ in stack],
    }
    blob = Blob.of(_json(config), DOCKER_CONFIG if docker else OCI_CONFIG)
    manifest = _manifest(DOCKER_MANIFEST if docker else OCI_MANIFEST, blob, stack)
    return Image(manifest, blob, stack, platform)


def build_index(
    children: Iterable[Image | Index], *, docker: bool = False, annotations: Mapping[str, str] | None = None
) -> Index:
    """One name for several images; an Index among ``children`` makes it a nested one."""
    children = tuple(children)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": DOCKER_INDEX if docker else OCI_INDEX,
        "manifests": [_child(child).document() for child in children],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return Index(Manifest.parse(_json(document)), children)


def build_artifact(
    files: Mapping[str, bytes],
    *,
    artifact_type: str,
    subject: Image | Index | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """An OCI 1.1 artifact, one layer a file: an SBOM, an attestation, a chart; about ``subject`` if given."""
    config = Blob.of(b"{}", OCI_EMPTY)
    layers = tuple(
        Blob.of(content, "application/octet-stream").annotated(**{TITLE: name})
        for name, content in files.items()
    ) or (config,)
    extra: dict[str, Any] = {"artifactType": artifact_type}
    if subject:
        extra["subject"] = _bare(subject.manifest).document()
    if annotations:
        extra["annotations"] = dict(annotations)
    return Image(_manifest(OCI_MANIFEST, config, layers, extra), config, layers)


def signature_tag(digest: str, suffix: str = "sig") -> str:
    """The tag under which cosign keeps what it says about ``digest``: ``sha256-<hex>.sig``, .att, .sbom."""
    return f"{digest.replace(':', '-')}.{suffix}"


def build_signature(signed: Image | Index) -> Image:
    """An image shaped as cosign's, to be pushed at :func:`signature_tag`; its signature verifies nothing."""
    payload = _json(
        {
            "critical": {
                "identity": {"docker-reference": ""},
                "image": {"docker-manifest-digest": signed.digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    signature = base64.b64encode(hashlib.sha512(payload).digest()).decode()
    layer = replace(Blob.of(payload, COSIGN_PAYLOAD), diff_id=digest_of(payload))
    layer = layer.annotated(**{"dev.cosignproject.cosign/signature": signature})
    config = Blob.of(
        _json(
            {
                "architecture": "",
                "created": _CREATED,
                "os": "",
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
                "config": {},
            }
        ),
        OCI_CONFIG,
    )
    return Image(_manifest(OCI_MANIFEST, config, (layer,)), config, (layer,))


def build_layer(files: Mapping[str, bytes]) -> Blob:
    """A gzip layer of ``files`` and their folders, owned by root, with programs executable."""
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted({*folders, *files}):
            entry = tarfile.TarInfo(path)
            if path in folders:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            else:
                entry.size = len(files[path])
                entry.mode = 0o755 if files[path].startswith((_ELF, b"#!")) else 0o644
                archive.addfile(entry, io.BytesIO(files[path]))
    tar = packed.getvalue()
    return Blob.of(gzip.compress(tar, mtime=0), OCI_LAYER_GZIP, digest_of(tar))


def random_layer(size: int, seed: int = 0) -> Blob:
    """A layer of ``size`` bytes, rounded up to 512: a tar of one file that does not compress.

    Never held in memory: its bytes are made as they are read, once here for the digest.
    """
    blocks = max(-(-size // _TAR_BLOCK), _SMALLEST_TAR // _TAR_BLOCK)
    entry = tarfile.TarInfo(f"data/{seed}.bin")
    entry.size = blocks * _TAR_BLOCK - _TAR_BLOCK - len(_TAR_END)
    head = entry.tobuf(tarfile.GNU_FORMAT)

    def chunks() -> Iterator[bytes]:
        yield head
        yield from _noise(entry.size, seed)
        yield _TAR_END

    hashed = hashlib.sha256()
    for chunk in chunks():
        hashed.update(chunk)
    digest = f"sha256:{hashed.hexdigest()}"
    return Blob(Descriptor(OCI_LAYER, digest, blocks * _TAR_BLOCK), chunks, digest)


def push(repository: Repository, content: Image | Index, tag: str | None = None) -> Descriptor:
    """Store ``content`` as every client must: blobs, then children, then the manifest, under ``tag`` last."""
    if isinstance(content, Index):
        for child in content.children:
            push(repository, child)
    else:
        for blob in content.blobs:
            _push_blob(repository, blob)
    manifest = content.manifest
    indexed = repository.put_manifest(tag or manifest.digest, manifest)
    if manifest.subject and not indexed:
        repository.add_referrer(manifest.subject.digest, manifest.descriptor)
    return manifest.descriptor


def _push_blob(repository: Repository, blob: Blob) -> None:
    try:
        repository.blob_size(blob.descriptor.digest)
    except NotFound:
        upload = repository.start_upload(blob.descriptor)
        if upload is not None:
            repository.finish_upload(upload, blob.descriptor, blob.open())


def _noise(size: int, seed: int) -> Iterator[bytes]:
    """``size`` bytes: one random block, numbered, so that no two are equal and making them costs little."""
    block = Random(seed).randbytes(BLOCK)  # noqa: S311  (content, not a secret)
    for number in range(-(-size // BLOCK)):
        numbered = number.to_bytes(8, "big") + block[8:]
        yield numbered[: size - number * BLOCK]


def _as_kind(layer: Blob, *, docker: bool) -> Blob:
    to_docker = {OCI_LAYER_GZIP: DOCKER_LAYER, OCI_LAYER: DOCKER_LAYER_TAR}
    names = to_docker if docker else {theirs: ours for ours, theirs in to_docker.items()}
    kind = layer.descriptor.media_type
    return replace(layer, descriptor=replace(layer.descriptor, media_type=names.get(kind, kind)))


def _manifest(
    media_type: str, config: Blob, layers: Iterable[Blob], extra: Mapping[str, Any] | None = None
) -> Manifest:
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.descriptor.document(),
        "layers": [layer.descriptor.document() for layer in layers],
        **(extra or {}),
    }
    return Manifest.parse(_json(document))


def _child(child: Image | Index) -> Descriptor:
    """The descriptor an index has of ``child``; artifacts are of no platform, as BuildKit writes it."""
    if isinstance(child, Index):
        return _bare(child.manifest)
    return replace(_bare(child.manifest), platform=child.platform or Platform("unknown", "unknown"))


def _bare(manifest: Manifest) -> Descriptor:
    return Descriptor(manifest.media_type, manifest.digest, manifest.size)


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
