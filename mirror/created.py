"""When an image was made, for ``newest_by: created``: from its manifest or its config."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from registry.descriptor import DOCKER_CONFIG, OCI_CONFIG, Descriptor, Platform, digest_of
from registry.errors import DigestMismatch, NotFound
from registry.manifest import Manifest
from registry.repository import Source

CONFIGS = frozenset({DOCKER_CONFIG, OCI_CONFIG})
"""Media types of the blobs that say when an image was made."""
MAX_CONFIG_BYTES = 4 * 2**20
UNDATED = 0.0
"""Images without a date are older than all others."""

_ANNOTATION = "org.opencontainers.image.created"
_UNKNOWN = Platform("unknown", "unknown")


def created_in(
    repository: Source, manifest: Callable[[str], Manifest] | None = None
) -> Callable[[str], float]:
    """A function that says when a tag's image was made, in seconds of Unix time.

    ``manifest`` reads one by tag or digest, where the repository itself is not to be asked each time. Two
    or three reads a tag: the manifest (one pull), a child of an index, the config. Content without a date
    and tags that are gone count as UNDATED; other errors of the registry pass through.
    """
    read = manifest or repository.manifest

    def created(tag: str) -> float:
        try:
            return _created(repository, read, read(tag))
        except NotFound:
            return UNDATED

    return created


def _created(repository: Source, read: Callable[[str], Manifest], manifest: Manifest) -> float:
    named = _seconds(dict(manifest.annotations).get(_ANNOTATION))
    if named is not None:
        return named
    if manifest.is_index:
        child = next((c for c in manifest.children if c.is_manifest and c.platform != _UNKNOWN), None)
        if child is None or child.is_index:
            return UNDATED
        return _created(repository, read, read(child.digest))
    config = manifest.blobs[0]
    if config.media_type not in CONFIGS or config.size > MAX_CONFIG_BYTES:
        return UNDATED
    return _seconds(_config(repository, config).get("created")) or UNDATED


def _config(repository: Source, config: Descriptor) -> dict[str, Any]:
    content = bytearray()
    with repository.open_blob(config) as blocks:
        for block in blocks:
            content += block
            if len(content) > config.size:
                break
    if digest_of(bytes(content), config.digest.partition(":")[0]) != config.digest:
        raise DigestMismatch(repository.name, config.digest, "the config is not what its digest says")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _seconds(text: object) -> float | None:
    """RFC 3339 as Unix time; None for anything else."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return max(UNDATED, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
