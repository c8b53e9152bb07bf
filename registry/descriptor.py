"""Digests, media types and descriptors (OCI image-spec 1.1, descriptor.md)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
IMAGE_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
MANIFEST_TYPES = INDEX_TYPES | IMAGE_TYPES
SCHEMA1_TYPES = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")


def abridged(digest: str, end: str = "…") -> str:
    """Enough of a digest for people to compare by eye: the algorithm and 12 digits, then ``end``."""
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm}:{digits[:12]}{end}"


def is_digest(text: str) -> bool:
    """Whether ``text`` is a digest of an algorithm registered by the image-spec, in full."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """The digest of ``content``; ``algorithm`` is ``sha256`` or ``sha512``."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on: ``os/architecture[/variant]``."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Raise ValueError unless ``text`` reads ``os/architecture`` or ``os/architecture/variant``."""
        parts = text.split("/")
        if len(parts) not in {2, 3} or not all(parts):
            raise ValueError(f"not a platform (os/architecture[/variant]): {text!r}")
        return cls(*parts)

    def covers(self, other: Platform) -> bool:
        """Whether a wish for this platform is met by ``other``: a wish without variant takes any."""
        return (self.os, self.architecture) == (other.os, other.architecture) and self.variant in {
            "",
            other.variant,
        }


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One piece of content: its kind, its hash, its length in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = field(default=None, compare=False)
    artifact_type: str | None = field(default=None, compare=False)
    annotations: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    urls: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not is_digest(self.digest):
            raise ValueError(f"not a digest: {self.digest!r}")
        if self.size < 0:
            raise ValueError(f"not a size in bytes: {self.size!r}")
        if not _MEDIA_TYPE.fullmatch(self.media_type):
            raise ValueError(f"not a media type: {self.media_type!r}")

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Descriptor:
        """From the JSON object of the image-spec; ValueError names what is missing or malformed."""
        try:
            platform = document.get("platform")
            return cls(
                media_type=str(document["mediaType"]),
                digest=str(document["digest"]),
                size=int(document["size"]),
                platform=_platform(platform) if isinstance(platform, dict) else None,
                artifact_type=document.get("artifactType"),
                annotations=tuple((str(k), str(v)) for k, v in (document.get("annotations") or {}).items()),
                urls=tuple(str(url) for url in document.get("urls") or ()),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"malformed descriptor: {error!r}") from error

    def document(self) -> dict[str, Any]:
        """The JSON object of the image-spec, without empty members."""
        members: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            members["artifactType"] = self.artifact_type
        if self.annotations:
            members["annotations"] = dict(self.annotations)
        if self.urls:
            members["urls"] = list(self.urls)
        if self.platform:
            wanted = ("os", "architecture", "variant")
            members["platform"] = {k: v for k in wanted if (v := getattr(self.platform, k))}
        return members

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def is_manifest(self) -> bool:
        """Whether this is stored as a manifest (an index or an image manifest), not as a blob."""
        return self.media_type in MANIFEST_TYPES


def _platform(document: Mapping[str, Any]) -> Platform:
    return Platform(
        os=str(document.get("os", "")),
        architecture=str(document.get("architecture", "")),
        variant=str(document.get("variant", "")),
    )
