"""What a contender is asked to do, and what it answers with: values only."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.sets import ImageSet, Tagged


@dataclass(frozen=True, slots=True)
class Job:
    """Copy every tag of ``images`` from ``source`` to each of ``targets`` (``host:port``)."""

    images: ImageSet
    source: str
    targets: tuple[str, ...]
    folder: Path
    """The contender's own, empty, gone afterwards."""
    authority: Path | None = None
    """A PEM file where the registries speak TLS."""
    is_far: bool = False
    """Whether the registries are far away, so that a tool should ask more at a time."""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(from, to) of every repository and target."""
        return [
            (f"{self.source}/{name}", f"{target}/{name}")
            for target in self.targets
            for name in self.images.repositories
        ]

    @property
    def tag_pairs(self) -> list[tuple[str, str]]:
        return [
            (f"{self.source}/{one.repository}:{one.tag}", f"{target}/{one.repository}:{one.tag}")
            for target in self.targets
            for one in self.images.tagged
        ]

    def write(self, name: str, content: object) -> Path:
        """A file for the contender; what is no text is written as JSON, which is YAML too."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
        return path


@dataclass(frozen=True, slots=True)
class Command:
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


class Contender(ABC):
    """A way to do a job. ``prepare`` is not measured; what it returns is, each time it is run."""

    name: str
    is_peer = False
    """Whether ours has to be faster than it."""
    copies_all = True
    """Whether it finds out by itself what is to be done, and does it all; a floor is told, once."""
    checked = True
    """Whether the targets are whole afterwards."""
    takes_mirrored = False
    """Whether it takes part where thousands of tags only have to be looked at."""

    def takes(self, job: Job) -> bool:
        return self.takes_mirrored or not job.images.is_mirrored

    @abstractmethod
    def prepare(self, job: Job) -> Command: ...

    def resident(self) -> int | None:
        """A process that was started by ``prepare``, whose tree counts too."""
        return None

    def close(self) -> None:  # noqa: B027 - most start nothing
        """End what ``prepare`` started."""


def environment(job: Job) -> dict[str, str]:
    """Nobody's own accounts, caches and fleets; every tool trusts the registries' authority."""
    home = job.folder / "home"
    home.mkdir(exist_ok=True)
    trust = {"SSL_CERT_FILE": str(job.authority)} if job.authority else {}
    return {"HOME": str(home), "DOCKER_CONFIG": str(home), "XDG_DATA_HOME": str(home), **trust}


def program(name: str) -> str:
    """One of our own, in the environment that this runs in."""
    return str(Path(sys.executable).with_name(name))


def tags_of(tagged: list[Tagged]) -> list[str]:
    return [one.tag for one in tagged]
