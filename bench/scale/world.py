"""A source by arithmetic: which repositories, tags, images and layers there are is reckoned, not stored.

Tags of a repository follow each other in lexical order; some of them in a row are at the same image. An image
has a configuration of its own and a few layers: the first is in many repositories, the next in several images
of its repository, the last in few. Digests are those of the bytes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from registry.descriptor import OCI_MANIFEST

PREFIX = "library"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
REMEMBERED = 100_000
"""Digests whose content is known without a search: those that were told of last."""


class Blob(NamedTuple):
    """``name`` says what it is: the seed of its content."""

    digest: str
    name: str
    content: bytes


class Image(NamedTuple):
    digest: str
    manifest: bytes
    blobs: tuple[Blob, ...]
    """The configuration first."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many of what; ``tags`` are spread evenly over ``repositories``."""

    tags: int = 10_000
    repositories: int = 20
    tags_per_image: int = 2
    images_per_top_layer: int = 4
    images_per_middle_layer: int = 16
    bases: int = 40
    layer_bytes: int = 160
    one_new_in: int = 1
    """Targets hold all repositories but one in so many from the start."""
    seed: int = 0
    """Worlds with different seeds have no content in common."""


class World:
    """Everything that a source of this size holds."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self._moved = 0
        self._known: OrderedDict[str, str] = OrderedDict()
        """What has a digest, as the seed of its content: ``config 12 7``."""
        self._layer = lru_cache(maxsize=4096)(self._made_layer)
        self.image = lru_cache(maxsize=4096)(self._made_image)

    def move(self, repositories: int) -> None:
        """All tags of the first so many repositories are at new images, which share the first layer only."""
        self._moved = repositories
        self._known.clear()
        self._layer.cache_clear()
        self.image.cache_clear()

    # -- names -------------------------------------------------------------------------------------

    def repository(self, number: int) -> str:
        return f"{PREFIX}/app-{number:05d}"

    def repository_number(self, name: str) -> int | None:
        digits = name.removeprefix(f"{PREFIX}/app-")
        number = int(digits) if len(digits) == 5 and digits.isascii() and digits.isdigit() else -1
        return number if 0 <= number < self.size.repositories and name != digits else None

    def tag(self, number: int) -> str:
        """In lexical order, which is that of their numbers."""
        return f"v{number // 10_000:03d}.{number // 100 % 100:02d}.{number % 100:02d}"

    def tag_number(self, repository: int, tag: str) -> int | None:
        digits = tag[1:4] + tag[5:7] + tag[8:10]
        if len(tag) != 10 or not (digits.isascii() and digits.isdigit()):
            return None
        number = int(digits)
        return number if number < self.tags_in(repository) and self.tag(number) == tag else None

    def tags_in(self, repository: int) -> int:
        tags, repositories = self.size.tags, self.size.repositories
        return tags // repositories + (repository < tags % repositories)

    def tags_after(self, repository: int, last: str, count: int) -> tuple[list[str], bool]:
        """At most ``count`` tags behind ``last``, and whether there are more."""
        total = self.tags_in(repository)
        first = _first_true(total, lambda number: self.tag(number) > last)
        names = [self.tag(number) for number in range(first, min(first + count, total))]
        return names, first + count < total

    def repositories_after(self, last: str, count: int) -> tuple[list[str], bool]:
        total = self.size.repositories
        first = _first_true(total, lambda number: self.repository(number) > last)
        names = [self.repository(number) for number in range(first, min(first + count, total))]
        return names, first + count < total

    def is_new(self, repository: int) -> bool:
        """Whether no target holds it from the start."""
        return repository % self.size.one_new_in == 0

    # -- content -----------------------------------------------------------------------------------

    def image_number(self, tag: int) -> int:
        return tag // self.size.tags_per_image

    def images_in(self, repository: int) -> int:
        return -(-self.tags_in(repository) // self.size.tags_per_image)

    def _made_image(self, repository: int, number: int) -> Image:
        blobs = (self._config(repository, number), *map(self._layer, self._layers(repository, number)))
        types = (CONFIG_TYPE, *(LAYER_TYPE for _ in blobs[1:]))
        config, *layers = (
            f'{{"mediaType":"{kind}","digest":"{blob.digest}","size":{len(blob.content)}}}'
            for kind, blob in zip(types, blobs, strict=True)
        )
        manifest = (
            f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",'
            f'"config":{config},"layers":[{",".join(layers)}]}}'
        ).encode()
        digest = _digest(manifest)
        self._remember(digest, f"image {repository} {number}")
        for blob in blobs:
            self._remember(blob.digest, blob.name)
        return Image(digest, manifest, blobs)

    def image_number_of(self, repository: int, digest: str) -> int | None:
        """By its digest: remembered, or searched for in the repository."""
        kind, *numbers = self._known.get(digest, "").split(" ")
        if kind == "image" and int(numbers[0]) == repository:
            return int(numbers[1])
        found = (n for n in range(self.images_in(repository)) if self.image(repository, n).digest == digest)
        return next(found, None)

    def blob_of(self, repository: int, digest: str) -> Blob | None:
        """By its digest, if an image of the repository has it."""
        kind, *numbers = self._known.get(digest, "").split(" ")
        if kind in {"config", "base", "middle", "top"}:
            holder = repository % self.size.bases if kind == "base" else repository
            if int(numbers[0]) == holder:
                return self._blob(self._known[digest])
        for number in range(self.images_in(repository)):
            for blob in self.image(repository, number).blobs:
                if blob.digest == digest:
                    return blob
        return None

    def _layers(self, repository: int, number: int) -> Iterator[str]:
        size = self.size
        yield f"base {repository % size.bases}"
        yield f"middle {repository} {number // size.images_per_middle_layer}"
        yield f"top {repository} {number // size.images_per_top_layer}"

    def _blob(self, name: str) -> Blob:
        kind, *numbers = name.split(" ")
        if kind == "config":
            repository, number = map(int, numbers)
            return self._config(repository, number)
        return self._layer(name)

    def _config(self, repository: int, number: int) -> Blob:
        name = f"config {repository} {number}"
        content = (
            '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},'
            f'"config":{{"Labels":{{"image":"{self._seed(name)} {repository} {number}"}}}}}}'
        ).encode()
        return Blob(_digest(content), name, content)

    def _made_layer(self, name: str) -> Blob:
        content = f"{self._seed(name)} {name}\n".encode().ljust(self.size.layer_bytes, b".")
        return Blob(_digest(content), name, content)

    def _seed(self, name: str) -> str:
        kind, number, *_ = name.split(" ")
        return f"{self.size.seed}{'+' if kind != 'base' and int(number) < self._moved else ''}"

    def _remember(self, digest: str, name: str) -> None:
        self._known[digest] = name
        self._known.move_to_end(digest)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _first_true(total: int, holds: Callable[[int], bool]) -> int:
    """The first number below ``total`` that ``holds``, given that all after it do too; else ``total``."""
    low, high = 0, total
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
