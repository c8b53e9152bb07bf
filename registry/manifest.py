"""Manifests as they came over the wire: bytes kept verbatim, children read from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from registry.descriptor import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1_TYPES,
    Descriptor,
    digest_of,
)

MAX_MANIFEST_BYTES = 4 * 2**20  # distribution-spec 1.1, "Pushing Manifests": 4 MiB must be accepted
MAX_CHILDREN = 1000
SCHEMA_1 = "Docker schema 1: rebuild or re-push the image with a tool made after 2017"
ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_INDEX}, {DOCKER_MANIFEST}"


class ManifestError(ValueError):
    """The bytes are no manifest that can be copied; the text says why."""


class SchemaOneError(ManifestError):
    """A Docker schema 1 manifest: its digest cannot be kept, so it is never copied."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One index or image manifest; ``content`` is stored and sent exactly as it came (G3)."""

    media_type: str
    content: bytes
    digest: str
    children: tuple[Descriptor, ...]
    """An index's manifests, in order; empty for an image manifest."""
    blobs: tuple[Descriptor, ...]
    """An image manifest's config, then its layers, in order; empty for an index."""
    subject: Descriptor | None
    artifact_type: str | None
    annotations: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def descriptor(self) -> Descriptor:
        """As a referrers list wants it (distribution-spec 1.1): with artifact type and annotations."""
        return Descriptor(
            self.media_type,
            self.digest,
            self.size,
            artifact_type=self.artifact_type,
            annotations=self.annotations,
        )

    @classmethod
    def parse(cls, content: bytes, media_type: str = "", algorithm: str = "sha256") -> Manifest:
        """Read ``content``; ``media_type`` is the Content-Type it came with, parameters left out.

        Raises ManifestError for what design section 7, rule 8 refuses: no JSON object, a media type
        that differs from the Content-Type, a document that is both index and manifest, unknown kinds,
        more than MAX_CHILDREN children or 4 MiB; SchemaOneError for Docker schema 1.
        """
        document = _document(content)
        kind = _media_type(document, media_type)
        children = _descriptors(document.get("manifests") or (), "manifests") if kind in INDEX_TYPES else ()
        blobs: tuple[Descriptor, ...] = ()
        if kind not in INDEX_TYPES:
            config = document.get("config")
            if not isinstance(config, dict):
                raise ManifestError("an image manifest without config")
            blobs = _descriptors((config, *(document.get("layers") or ())), "layers")
        subject = document.get("subject")
        return cls(
            media_type=kind,
            content=content,
            digest=digest_of(content, algorithm),
            children=children,
            blobs=blobs,
            subject=_descriptors((subject,), "subject")[0] if isinstance(subject, dict) else None,
            artifact_type=document.get("artifactType") or (blobs[0].media_type if blobs else None),
            annotations=tuple((str(k), str(v)) for k, v in (document.get("annotations") or {}).items()),
        )


def _document(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"a manifest of {len(content)} bytes; the limit is {MAX_MANIFEST_BYTES}")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ManifestError("not JSON") from error
    if not isinstance(document, dict):
        raise ManifestError("not a JSON object")
    if document.get("schemaVersion") == 1 or "fsLayers" in document:
        raise SchemaOneError(SCHEMA_1)
    return document


def _media_type(document: dict[str, Any], content_type: str) -> str:
    """The one media type that Content-Type and body agree on."""
    if content_type in SCHEMA1_TYPES:
        raise SchemaOneError(SCHEMA_1)
    if "manifests" in document and ("layers" in document or "config" in document):
        raise ManifestError("both an index and an image manifest")
    claimed = document.get("mediaType")
    guessed = OCI_INDEX if "manifests" in document else OCI_MANIFEST
    kind = content_type if content_type in MANIFEST_TYPES else str(claimed or guessed)
    if claimed and claimed != kind:
        raise ManifestError(f"mediaType {claimed!r} differs from Content-Type {content_type!r}")
    if kind not in MANIFEST_TYPES:
        raise ManifestError(f"unknown kind of manifest: {kind!r}")
    if (kind in INDEX_TYPES) != ("manifests" in document):
        raise ManifestError(f"the body is not of its media type {kind!r}")
    return kind


def _descriptors(documents: Any, where: str) -> tuple[Descriptor, ...]:
    if not isinstance(documents, list | tuple) or len(documents) > MAX_CHILDREN:
        raise ManifestError(f"{where}: not a list of at most {MAX_CHILDREN} descriptors")
    try:
        return tuple(Descriptor.parse(document) for document in documents)
    except (ValueError, AttributeError) as error:
        raise ManifestError(f"{where}: {error}") from error
