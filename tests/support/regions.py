"""Two regions far apart: ``eu`` beside Redis and the source, ``us`` at the other end of a slow link."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from registry.images import Image
from tests.support.fleet import PREFIX, Fleet, made
from tests.support.process import Process
from tests.support.pushing import push
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.valkey import ValkeyServer
from tests.support.wanlink import USUAL_MTU, WanLink

ROUND_TRIP_MS = 40.0
NEAR, FAR = "eu", "us"


class Regions:
    """Everything of ``us`` is in a network of its own: its registry, and as many workers as are asked for.

    Raises :class:`tests.support.wanlink.Unavailable` where the machine makes no such network.
    """

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        settings: Mapping[str, str] | None = None,
        concurrency: int = 1,
        far_workers: int = 1,
        round_trip_ms: float = ROUND_TRIP_MS,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """``more``: further keys of the fleet file."""
        self._more = dict(more or {})
        self.link = WanLink(round_trip_ms=round_trip_ms, mtu=USUAL_MTU)
        stack.callback(self.link.close)
        there = RegistryOptions(address=self.link.address, place=self.link.inside)
        self.source, self.eu, self.us = (
            stack.enter_context(DockerRegistry(made(folder / name), options))
            for name, options in (("source", None), (NEAR, None), (FAR, there))
        )
        self.folder = made(folder / "fleet")
        self.mirrors: list[dict[str, Any]] = []
        self.write_fleet_file()
        # It listens to this machine alone, but not all that is here calls itself so.
        server = ValkeyServer(made(self.folder / "valkey"), {"protected-mode": "no"})
        self.fleet = Fleet(self.folder, [NEAR], settings, concurrency, server, places={FAR: self.link.inside})
        stack.enter_context(self.fleet)
        self.far_workers = [self.start_far() for _ in range(far_workers)]

    @property
    def hosts(self) -> dict[str, str]:
        """The registry of each region."""
        return {NEAR: self.eu.host, FAR: self.us.host}

    def start_far(self) -> Process:
        """One more worker of ``us``, once it takes messages."""
        worker = self.fleet.start(FAR)
        self.fleet.await_ready([FAR])
        return worker

    def in_hand(self, region: str, task: str = "land") -> int:
        """How many messages of this kind the region's workers have taken and not finished."""
        with self.fleet.valkey.client() as client:
            messages = client.hvals(f"{PREFIX}unacked:{region}")
        return sum(f'"sealift.{task}"' in str(message) for message in messages)

    def mirror(
        self,
        name: str,
        targets: Iterable[tuple[str, str]] = (),
        finalize: str = "all",
        source: DockerRegistry | None = None,
    ) -> str:
        """Put a mirror of ``source/NAME`` into the fleet file; its name.

        ``targets``: (region, host/repository); none: the same name in both regions.
        """
        usual = [(region, f"{host}/{name}") for region, host in self.hosts.items()]
        places = [{"region": region, "repository": at} for region, at in targets or usual]
        source_name = f"{(source or self.source).host}/{name}"
        self.mirrors.append(
            {"name": name, "source": source_name, "targets": places, "referrers": False, "finalize": finalize}
        )
        self.write_fleet_file()
        return name

    def write_fleet_file(self) -> None:
        """As somebody edits it while the fleet runs."""
        registries = {self.us.host: {"plain_http": True}}
        document = {"registries": registries, "mirrors": self.mirrors, **self._more}
        (self.folder / "sealift.yaml").write_text(yaml.safe_dump(document))

    def fill(self, name: str, images: Mapping[str, Image]) -> None:
        """Have these tags at the source."""
        for tag, image in images.items():
            push(f"{self.source.host}/{name}", image, tag)

    def begin(self, *names: str) -> list[str]:
        """Start a run of each mirror, as a command does it; their ids."""
        done = self.fleet.sealift("sync", *names, "--no-wait", "--json")
        assert done.returncode == 0, done.stderr
        return [str(run["run"]) for run in json.loads(done.stdout)["runs"]]
