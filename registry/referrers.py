"""Referrers lists as documents: the API's pages and the tag-schema index (distribution-spec 1.1)."""

from __future__ import annotations

import json
from typing import Any

from registry.answers import json_object
from registry.descriptor import OCI_INDEX, Descriptor
from registry.manifest import Manifest

_MAX_ALGORITHM = 32
_MAX_ENCODED = 64


class MalformedReferrers(ValueError):
    """The document is no list of referrers."""


def fallback_tag(digest: str) -> str:
    """The tag under which registries without the API keep what refers to ``digest``."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:_MAX_ALGORITHM]}-{encoded[:_MAX_ENCODED]}"


def parse_page(content: bytes) -> list[Descriptor]:
    """The referrers in an index; MalformedReferrers where it is none."""
    document = json_object(content)
    entries = document.get("manifests") if document else None
    if not isinstance(entries, list):
        raise MalformedReferrers("not an index")
    try:
        return [Descriptor.parse(entry) for entry in entries]
    except (ValueError, AttributeError) as error:
        raise MalformedReferrers(str(error)) from error


def merged(existing: Manifest | None, referrer: Descriptor) -> Manifest | None:
    """The index with ``referrer`` in it; None where it is already there.

    Entries of others stay as they are, members that nobody knows included.
    """
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    if existing is not None:
        if not existing.is_index:
            raise MalformedReferrers("an image, not an index")
        if any(child.digest == referrer.digest for child in existing.children):
            return None
        document = json.loads(existing.content)
    document["manifests"] = [*document["manifests"], referrer.document()]
    content = json.dumps(document, separators=(",", ":")).encode()
    return Manifest.parse(content, str(document.get("mediaType") or OCI_INDEX))
