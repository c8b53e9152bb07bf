"""The image sets that are copied: the same bytes and digests at every run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from random import Random
from zlib import crc32

from registry.descriptor import Platform
from registry.images import Blob, Image, Index, build_artifact, build_image, build_index, push, random_layer
from registry.repository import Repository

KIB, MIB = 2**10, 2**20
PUSHES_AT_ONCE = 4
SBOM = "application/spdx+json"
PLATFORMS = (("amd64", ""), ("arm64", "v8"), ("arm", "v7"), ("s390x", ""))


@dataclass(frozen=True, slots=True)
class Tagged:
    """One tag of a repository, and what refers to its image."""

    repository: str
    tag: str
    content: Image | Index
    referrers: tuple[Image, ...] = ()

    @property
    def digest(self) -> str:
        return self.content.digest


@dataclass(frozen=True, slots=True)
class ImageSet:
    """``moved`` are tags of ``tagged`` with other content, as a release would move them.

    ``is_mirrored``: the targets have everything before anybody begins, and there is nothing to do.
    """

    key: str
    title: str
    tagged: tuple[Tagged, ...]
    moved: tuple[Tagged, ...] = ()
    is_mirrored: bool = False

    @property
    def repositories(self) -> dict[str, list[Tagged]]:
        found: dict[str, list[Tagged]] = {}
        for one in self.tagged:
            found.setdefault(one.repository, []).append(one)
        return found

    @property
    def after(self) -> tuple[Tagged, ...]:
        """Every tag as it is once ``moved`` has been put."""
        moved = {(one.repository, one.tag): one for one in self.moved}
        return tuple(moved.get((one.repository, one.tag), one) for one in self.tagged)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of everything that any tag reaches, referrers included, by digest."""
        found: dict[str, int] = {}
        for one in (*self.tagged, *self.moved):
            for image in (one.content, *one.referrers):
                found |= {part.digest: part.manifest.size for part in parts(image)}
                found |= {blob.descriptor.digest: blob.descriptor.size for blob in blobs(image)}
        return found

    @property
    def content_bytes(self) -> int:
        """Distinct bytes that a full copy has to read: blobs and manifests of every tag."""
        sizes = self.sizes
        return sum(
            sizes[digest]
            for digest in {
                digest
                for one in self.tagged
                for image in (one.content, *one.referrers)
                for digest in (
                    *(p.digest for p in parts(image)),
                    *(b.descriptor.digest for b in blobs(image)),
                )
            }
        )


def parts(content: Image | Index) -> Iterator[Image | Index]:
    """Everything with a manifest of its own: children before parents."""
    if isinstance(content, Index):
        for child in content.children:
            yield from parts(child)
    yield content


def blobs(content: Image | Index) -> Iterator[Blob]:
    for part in parts(content):
        if isinstance(part, Image):
            yield from part.blobs


def push_all(tagged: Iterable[Tagged], repositories: dict[str, Repository]) -> None:
    """What a repository has been given already is only named once more, several names at a time."""
    given: set[tuple[str, str]] = set()
    named: list[Tagged] = []
    for one in tagged:
        if (one.repository, one.digest) in given:
            named.append(one)
            continue
        given.add((one.repository, one.digest))
        push(repositories[one.repository], one.content, one.tag)
        for referrer in one.referrers:
            push(repositories[one.repository], referrer)
    with ThreadPoolExecutor(PUSHES_AT_ONCE) as pool:
        list(
            pool.map(
                lambda one: repositories[one.repository].put_manifest(one.tag, one.content.manifest), named
            )
        )


def small_many(
    repositories: int = 12, tags: int = 5, *, seed: int = 1, prefix: str = "bench/app"
) -> ImageSet:
    """Six layers: two of them in every repository; of the others, consecutive tags share two."""
    make = _Layers(seed)
    base = (make.layer(4 * MIB), make.layer(2 * MIB))
    tagged, moved = [], []
    for number in range(repositories):
        name, own = f"{prefix}-{number:02}", make.small(4)
        for tag in range(1, tags + 1):
            tagged.append(Tagged(name, f"v{tag}", _image((*base, *own), name, str(tag))))
            own = (*own[2:], *make.small(2))
        if number < round(repositories * tags * 0.05):
            moved.append(Tagged(name, f"v{tags}", _image((*base, *own), name, "moved")))
    return ImageSet("A", "many small images", tuple(tagged), tuple(moved))


def big(images: int = 4, layers: int = 3, layer_bytes: int = 150 * MIB) -> ImageSet:
    make = _Layers(seed=2)
    tagged = (
        Tagged(f"bench/big-{number}", "v1", _image(make.layers([layer_bytes] * layers), "big", str(number)))
        for number in range(images)
    )
    return ImageSet("B", "big layers", tuple(tagged))


def multi_arch(indexes: int = 8) -> ImageSet:
    make = _Layers(seed=3)
    return ImageSet("C", "multi-platform, with referrers", tuple(_indexed(make, n) for n in range(indexes)))


def one_small() -> ImageSet:
    make = _Layers(seed=4)
    layers = make.layers([3 * MIB, 400 * KIB, 20 * KIB])
    return ImageSet("U", "one small image", (Tagged("bench/one", "v1", _image(layers, "one", "1")),))


def many_tags(tags: int = 10_000, images: int = 50, name: str = "bench/many") -> ImageSet:
    """Tags in their thousands, of few images: what is asked about each, not what each weighs."""
    make = _Layers(seed=5)
    distinct = [_image((make.layer(2 * KIB),), name, str(number)) for number in range(images)]
    tagged = (Tagged(name, f"v{number}", distinct[number % images]) for number in range(tags))
    return ImageSet("N", "thousands of tags, all mirrored", tuple(tagged), is_mirrored=True)


def alike(name: str, tags: int, layers: int, layer_bytes: int = 16 * KIB) -> ImageSet:
    """Images of one repository that have nothing in common, with each other or with another name's."""
    make = _Layers(seed=crc32(name.encode()))
    images = (_image(make.layers([layer_bytes] * layers), name, str(number)) for number in range(tags))
    tagged = (Tagged(name, f"v{number}", image) for number, image in enumerate(images))
    return ImageSet("alike", "images of the same size", tuple(tagged))


def _indexed(make: _Layers, number: int) -> Tagged:
    name = f"bench/multi-{number % 2}"
    images = [
        build_image(
            {},
            platform=Platform("linux", architecture, variant=variant),
            layers=make.layers([make.random.randrange(80 * KIB, 1500 * KIB) for _ in range(5)]),
            labels={"name": name, "number": str(number)},
        )
        for architecture, variant in PLATFORMS
    ]
    index = build_index(images)
    sbom = build_artifact(
        {"sbom.spdx.json": make.random.randbytes(8 * KIB)}, artifact_type=SBOM, subject=index
    )
    return Tagged(name, f"v{number}", index, (sbom,))


def _image(layers: Iterable[Blob], name: str, number: str) -> Image:
    return build_image({}, layers=layers, labels={"name": name, "number": number})


class _Layers:
    """Layers that no other call has made."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self._seeds = count(seed * 100_000)

    def layer(self, size: int) -> Blob:
        return random_layer(size, next(self._seeds))

    def layers(self, sizes: Iterable[int]) -> tuple[Blob, ...]:
        return tuple(self.layer(size) for size in sizes)

    def small(self, number: int) -> tuple[Blob, ...]:
        """Mostly small, sometimes not, as layers are: from a few KiB to 2 MiB."""
        return self.layers(int(2 ** self.random.uniform(12, 21)) for _ in range(number))
