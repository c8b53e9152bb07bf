"""What a storm blows over: a source, three targets in two regions, and tags that keep moving."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

from mirror.spec import MirrorSpec, Target
from registry.images import LINUX_ARM64, Blob, Image, Index, build_image, build_index, random_layer
from registry.repository import BLOCK
from tests.chaos.proxy import Fabric, Proxy, Put
from tests.chaos.sides import SIDES, Side, Sides
from tests.support.fleet import made
from tests.support.pushing import push
from tests.support.registries import DockerRegistry

REGIONS = {"north": "east", "south": "west", "island": "west"}
"""The region of each target: one has a target to itself, one has two."""
KEEP = 2
"""Of every second repository, from the first on: how many former images of a tag each target keeps."""
FAR = "west"
"""The region that is in a network of its own, where the machine allows one."""
PROBE = {"every": "4s", "bytes": "64KiB", "failures": 1}
"""How each region looks how it reaches the registries; outside of storms every ten seconds at most."""
TAGS_IN_A_REPOSITORY = 15
OFTEN = 0.85
OWN_LARGE = 0.2
"""The share of images with a layer of their own that is sent in several blocks, and not hauled."""
KIB, MIB = 2**10, 2**20


@dataclass(frozen=True, slots=True)
class TagAt:
    repository: str
    tag: str


class World:
    """Registries are real and know nothing of their proxies; the fleet knows the proxies only."""

    def __init__(self, folder: Path, fabric: Fabric, tags: int, seed: int) -> None:
        self._random = Random(seed)
        self._stack = ExitStack()
        self.fabric = fabric
        self.source = self._registry(folder / "source")
        self.targets = {name: self._registry(folder / name) for name in REGIONS}
        self.source_proxy = fabric.proxy("source", self.source.port, stale=False)
        self.proxies = {name: fabric.proxy(name, one.port) for name, one in self.targets.items()}
        self.layers = _shared_layers()
        self.tags = [
            TagAt(f"team/app-{number // TAGS_IN_A_REPOSITORY}", f"1.{number % TAGS_IN_A_REPOSITORY}")
            for number in range(tags)
        ]
        self.truth: dict[TagAt, list[str]] = defaultdict(list)
        """Every digest that a tag had at the source, in order."""
        places = {
            name: Side(one.host, self.proxies[name].host, REGIONS[name]) for name, one in self.targets.items()
        }
        self.sides = Sides(places, tags, seed, self._image)

    def __enter__(self) -> Self:
        for tag in self.tags:
            self.move(tag)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def repositories(self) -> list[str]:
        return list(dict.fromkeys(tag.repository for tag in self.tags))

    @property
    def moves(self) -> int:
        return sum(len(digests) - 1 for digests in self.truth.values())

    def specs(self) -> list[MirrorSpec]:
        return [
            MirrorSpec(
                repository.replace("/", "-"),
                f"{self.source_proxy.host}/{repository}",
                tuple(Target(f"{self.proxies[name].host}/{repository}", REGIONS[name]) for name in REGIONS),
                referrers=False,
                keep=0 if number % 2 else KEEP,
            )
            for number, repository in enumerate(self.repositories)
        ]

    def proxies_of(self, region: str) -> list[Proxy]:
        return [self.proxies[name] for name, where in REGIONS.items() if where == region]

    def move(self, tag: TagAt) -> None:
        """Push a new image to the source under the tag."""
        image = self._image(f"{tag.repository}:{tag.tag} {len(self.truth[tag])}")
        push(f"{self.source.host}/{tag.repository}", image, tag.tag)
        self.truth[tag].append(image.digest)

    def move_any(self) -> None:
        """Move one of the tags that moved least; now and then any, so that some move at short intervals."""
        fewest = min(len(self.truth[tag]) for tag in self.tags)
        behind = [tag for tag in self.tags if len(self.truth[tag]) == fewest]
        self.move(self._random.choice(behind if self._random.random() < OFTEN else self.tags))

    def written(self) -> Counter[str]:
        """Everything that the fleet has put into a target or deleted there so far."""
        blobs = {name: [blob for blob, _ in proxy.uploads] for name, proxy in self.proxies.items()}
        return written(self.fabric.puts(), blobs)

    def observed(self, out: Path, rate: float) -> dict[str, object]:
        """The observer's configuration: registries and repositories, nothing of the fleet."""
        groups = [
            {
                "name": repository,
                "places": {name: f"{one.host}/{repository}" for name, one in self.targets.items()},
            }
            for repository in self.repositories
        ]
        pushed_at = [{"name": name, "places": self.sides.places(name), "together": False} for name in SIDES]
        return {"groups": groups + pushed_at, "out": str(out), "rate": rate}

    def fleet_file(self, receivers: list[dict[str, object]]) -> dict[str, object]:
        """What stands in it: every mirror, how often its registries are probed, and who is told."""
        mirrors = [_entry(spec) for spec in (*self.specs(), *self.sides.specs())]
        return {"mirrors": mirrors, "probe": PROBE, "notify": receivers}

    def _registry(self, folder: Path) -> DockerRegistry:
        return self._stack.enter_context(DockerRegistry(made(folder)))

    def _image(self, text: str) -> Image | Index:
        layers = self._random.sample(self.layers, self._random.randint(0, 3))
        if self._random.random() < OWN_LARGE:
            size = self._random.randint(2 * BLOCK, 3 * BLOCK)
            layers.append(random_layer(size, seed=self._random.getrandbits(32)))
        image = build_image({"etc/motd": text.encode()}, layers=layers)
        if self._random.random() < 0.15:
            other = build_image({"etc/motd": text[::-1].encode()}, platform=LINUX_ARM64, layers=layers[:1])
            return build_index([image, other])
        return image


def written(puts: Iterable[Put], blobs: Mapping[str, Iterable[str]]) -> Counter[str]:
    """Each as often as it was; ``blobs`` by registry."""
    manifests = (f"{one.registry} {one.repository}:{one.reference} {one.digest}" for one in puts)
    return Counter([*manifests, *(f"{name} {blob}" for name, given in blobs.items() for blob in given)])


def _entry(spec: MirrorSpec) -> dict[str, object]:
    """The mirror as the fleet file has it."""
    targets = [{"region": one.region, "repository": one.repository} for one in spec.targets]
    entry: dict[str, object] = {"name": spec.name, "targets": targets, "referrers": spec.referrers}
    if not spec.two_way:
        return {**entry, "source": spec.source, "keep": spec.keep}
    return {**entry, "mode": "two_way", **({"prefer": spec.prefer} if spec.prefer else {})}


def _shared_layers() -> list[Blob]:
    """A few KiB mostly, some large enough to be read once for several targets, two to be hauled."""
    small = [random_layer((number + 1) * 3 * KIB, seed=number) for number in range(8)]
    medium = [random_layer(400 * KIB + number, seed=100 + number) for number in range(2)]
    large = [random_layer(4 * MIB + 300 * KIB * (number + 1), seed=200 + number) for number in range(2)]
    return [*small, *medium, *large]
