"""Two-way mirrors: what people push at every side, often at two at once, and what they decide then."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random

from mirror.spec import TARGETS, MirrorSpec, Target
from registry.images import Image, Index
from tests.chaos.proxy import Put
from tests.support.pushing import push, put_manifest

BOTH = "both/"
"""How repositories begin that are pushed at on every side."""
SIDES: Mapping[str, tuple[str, ...]] = {
    f"{BOTH}app-0": ("north", "south", "island"),
    f"{BOTH}app-1": ("north", "island"),
}
PREFERRED: Mapping[str, str] = {f"{BOTH}app-1": "north"}
"""Whose tags win where sides moved apart; elsewhere people decide."""
LEAST_TAGS = 5
APART = 0.25
"""The share of pushes after which somebody pushes something else at another side."""
AGAIN = 0.2
"""... something else at the same side, at once."""


@dataclass(frozen=True, slots=True)
class Side:
    """One repository's place in a registry: by its own address people push, by the other the fleet reads."""

    own: str
    seen_as: str
    region: str


class Sides:
    """Tags of two-way mirrors, and everything that was ever pushed at them."""

    def __init__(
        self, registries: Mapping[str, Side], tags: int, seed: int, image: Callable[[str], Image | Index]
    ) -> None:
        self._registries, self._image, self._random = registries, image, Random(seed)
        self.tags = [f"2.{number}" for number in range(max(LEAST_TAGS, tags // 25))]
        self.pushes: list[Put] = []
        """Each of content of its own, in order."""
        # In turns: where all is pushed at before the next run, all is apart, and nothing ever moves.
        places = [(repository, tag) for tag in self.tags for repository in SIDES]
        self._turn = itertools.cycle(places)

    def specs(self) -> list[MirrorSpec]:
        return [
            MirrorSpec(
                repository.replace("/", "-"),
                TARGETS,
                tuple(
                    Target(self.seen_as(name, repository), self._registries[name].region) for name in names
                ),
                referrers=False,
                kind="two_way",
                two_way=True,
                rule="prefer" if repository in PREFERRED else "hold",
                prefer=self.seen_as(PREFERRED[repository], repository) if repository in PREFERRED else "",
            )
            for repository, names in SIDES.items()
        ]

    def seen_as(self, name: str, repository: str) -> str:
        """As the fleet calls it."""
        return f"{self._registries[name].seen_as}/{repository}"

    def places(self, repository: str) -> dict[str, str]:
        """By the registry's name, where people find the repository."""
        return {name: f"{self._registries[name].own}/{repository}" for name in SIDES[repository]}

    def push_any(self) -> None:
        """Somebody pushes; now and then somebody else does at the same time."""
        repository, tag = next(self._turn)
        names = list(SIDES[repository])
        self._random.shuffle(names)
        self._push(names[0], repository, tag)
        if self._random.random() < APART:
            self._push(names[1], repository, tag)
        if self._random.random() < AGAIN:
            self._push(names[0], repository, tag)

    def decision(self, spec: MirrorSpec, apart: Iterable[str]) -> MirrorSpec:
        """What somebody decides about tags that are apart: one of the sides is right."""
        target = self._random.choice(spec.targets)
        return replace(spec, take=target.repository, refs=tuple((tag, tag) for tag in sorted(apart)))

    def _push(self, name: str, repository: str, tag: str) -> None:
        image = self._image(f"{name} {repository}:{tag} {len(self.pushes)}")
        own = f"{self._registries[name].own}/{repository}"
        digest, manifest = push(own, image), image.manifest
        begun = time.time()
        put_manifest(own, tag, manifest.content, manifest.media_type)
        self.pushes.append(Put(name, repository, tag, digest, begun, time.time(), 201))
