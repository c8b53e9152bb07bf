"""``index.json`` of an image layout as a value (OCI image-spec 1.1, image-layout.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from registry.descriptor import OCI_INDEX, Descriptor
from registry.reference import MalformedReference, Reference, check_tag

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
_NAMES = (REF_NAME, CONTAINERD_NAME)


@dataclass(frozen=True, slots=True)
class LayoutIndex:
    """The entries of ``index.json``; what is not understood is carried along untouched."""

    document: dict[str, Any]
    entries: tuple[Descriptor, ...]
    """One for each of the document's manifests, in order."""
    names: tuple[str | None, ...]
    """The tag of each entry; None for entries that are reached by digest alone."""

    @classmethod
    def parse(cls, content: bytes) -> LayoutIndex:
        """Raise ValueError, saying what is wrong, unless ``content`` is an image index."""
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ValueError("it is not JSON") from error
        manifests = document.get("manifests") if isinstance(document, dict) else None
        if not isinstance(manifests, list) or not all(isinstance(entry, dict) for entry in manifests):
            raise ValueError("it has no list of manifests")
        return cls.of(document, manifests)

    @classmethod
    def of(cls, document: dict[str, Any], manifests: list[dict[str, Any]]) -> LayoutIndex:
        entries = tuple(Descriptor.parse(entry) for entry in manifests)
        names = tuple(_tag_of(entry) for entry in entries)
        return cls({**document, "manifests": manifests}, entries, names)

    @classmethod
    def empty(cls) -> LayoutIndex:
        return cls.of({"schemaVersion": 2, "mediaType": OCI_INDEX}, [])

    @property
    def content(self) -> bytes:
        return json.dumps(self.document, separators=(",", ":")).encode()

    @property
    def tags(self) -> dict[str, Descriptor]:
        """By tag; of several entries with one name the last counts: tools append."""
        return {name: entry for name, entry in zip(self.names, self.entries, strict=True) if name}

    def media_type(self, digest: str) -> str:
        """What an entry says ``digest`` is; empty if none names it."""
        return next((entry.media_type for entry in self.entries if entry.digest == digest), "")

    def with_tag(self, tag: str, descriptor: Descriptor) -> LayoutIndex:
        """``tag`` at ``descriptor``: in the place, and under the full name, that it had."""
        manifests = self._manifests()
        places = [at for at, name in enumerate(self.names) if name == tag]
        names = {REF_NAME: tag}
        if places:
            last = dict(self.entries[places[-1]].annotations)
            names = {key: last[key] for key in _NAMES if key in last}
        entry = {**descriptor.document(), "annotations": names}
        if not places:
            return self.of(self.document, [*manifests, entry])
        manifests[places[0]] = entry
        return self.of(self.document, [one for at, one in enumerate(manifests) if at not in places[1:]])

    def with_untagged(self, descriptor: Descriptor) -> LayoutIndex:
        """``descriptor`` among the entries, so that a referrer is found whatever becomes of its tags."""
        listed = zip(self.entries, self.names, strict=True)
        if any(name is None and entry.digest == descriptor.digest for entry, name in listed):
            return self
        return self.of(self.document, [*self._manifests(), descriptor.document()])

    def without(self, tag_or_digest: str) -> LayoutIndex:
        """Every entry but those of a tag or of a digest."""
        entries = zip(self._manifests(), self.entries, self.names, strict=True)
        kept = [raw for raw, entry, name in entries if tag_or_digest not in {name, entry.digest}]
        return self.of(self.document, kept)

    def _manifests(self) -> list[dict[str, Any]]:
        return list(self.document["manifests"])


def _tag_of(entry: Descriptor) -> str | None:
    """The tag of an entry: some tools write it alone, others (podman, ctr) a whole reference."""
    annotations = dict(entry.annotations)
    for key in _NAMES:
        name = annotations.get(key, "")
        try:
            return check_tag(name)
        except MalformedReference:
            pass
        try:
            tag = Reference.parse(name).tag
        except MalformedReference:
            continue
        if tag:
            return tag
    return None
