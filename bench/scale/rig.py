"""A fleet between a simulated source and simulated targets, every part a process of its own."""

from __future__ import annotations

import http.client
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.scale.server import COUNTS, DIGEST, LIMIT, MOVE
from bench.scale.world import PREFIX, Size
from tests.support.fleet import Fleet, made
from tests.support.ports import LOOPBACK, free_port, is_listening
from tests.support.process import Process
from tests.support.waiting import until

FILL_TIMEOUT_S = 900.0
"""Until a target holds what it is to hold from the start."""
COMEBACK_TIMEOUT_S = 300.0
"""Reading a large append-only file."""
SETTINGS = {"SEALIFT_STALL_S": "10", "SEALIFT_SWEEP_INTERVAL_S": "2", "SEALIFT_PRESENT_TTL_S": "300"}
"""Quicker than by default to find what a crash has stopped; all else is as it comes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is copied, and by how large a fleet."""

    size: Size = field(default_factory=Size)
    targets: int = 3
    regions: int = 1
    processes: int = 4
    """Of each region's worker: while one waits for Redis to write its file, others work."""
    page_size: int = 1000
    settings: dict[str, str] = field(default_factory=dict)
    """SEALIFT_ variables."""


class Simulated:
    """One simulated registry, started at once; :meth:`wait` returns when it answers."""

    def __init__(self, folder: Path, name: str, role: str, *words: str) -> None:
        self.port = free_port()
        argv = [sys.executable, "-m", "bench.scale.server", role, "--port", str(self.port), *words]
        self.process = Process(argv, folder / f"{name}.log", cwd=Path(__file__).parent.parent.parent)

    def wait(self) -> None:
        until(lambda: is_listening(self.port), FILL_TIMEOUT_S, self.process.tail)

    @property
    def host(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def counts(self) -> dict[str, Any]:
        """Everything it has counted since it was started."""
        counted: dict[str, Any] = json.loads(self._ask(COUNTS))
        return counted

    def digest(self) -> str:
        """Of all that is tagged; it may take long."""
        return str(json.loads(self._ask(DIGEST))["digest"])

    def limit(self, pulls: int) -> None:
        """Allow a source so many pulls in each window from now on; one begins."""
        self._ask(f"{LIMIT}{pulls}")

    def move(self, repositories: int) -> None:
        """Have all tags of a source's first so many repositories move to new images."""
        self._ask(f"{MOVE}{repositories}")

    def cpu_s(self) -> float:
        return machine.tree_cpu_s(self.process.pid)

    def _ask(self, path: str) -> bytes:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=300)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


class Rig:
    """Source, targets, Redis, scheduler and workers, until ``stack`` is closed."""

    def __init__(self, folder: Path, shape: Shape, stack: ExitStack) -> None:
        self.shape = shape
        words = ("--size", json.dumps(asdict(shape.size)), "--page-size", str(shape.page_size))
        self.source = Simulated(folder, "source", "source", *words)
        stack.callback(self.source.process.kill)
        self.targets: list[Simulated] = []
        for number in range(shape.targets):
            self.targets.append(Simulated(folder, f"target-{number}", "target", *words[:2]))
            stack.callback(self.targets[-1].process.kill)
        for simulated in self.registries:
            simulated.wait()
        self.regions = [f"region-{number}" for number in range(shape.regions)]
        file = self._fleet_file(folder)
        settings = {**SETTINGS, "SEALIFT_FLEET_FILE": str(file), **shape.settings}
        self.fleet = Fleet(made(folder / "fleet"), self.regions, settings, shape.processes)
        stack.callback(self.fleet.stop)
        stack.enter_context(self.fleet)
        self.redis = stack.enter_context(self.fleet.valkey.client())

    @property
    def registries(self) -> list[Simulated]:
        return [self.source, *self.targets]

    def check(self) -> None:
        """Raise RuntimeError with its last words if a registry or a worker has ended."""
        needed = [*(one.process for one in self.registries), *self.fleet.workers.values()]
        if ended := next((process for process in needed if not process.running), None):
            raise RuntimeError(ended.tail())

    def backfill(self, *words: str) -> list[str]:
        """Enqueue a backfill of everything (or what ``words`` say), as somebody types it; the runs' ids."""
        done = self.fleet.sealift("backfill", "--no-wait", "--json", *words)
        if done.returncode:
            raise RuntimeError(f"sealift backfill: {done.stderr}{done.stdout}")
        return [one["run"] for one in json.loads(done.stdout)["runs"]]

    def _fleet_file(self, folder: Path) -> Path:
        """One mirror of everything; JSON, which is YAML too."""
        targets = [
            {"repository": f"{target.host}/{PREFIX}/*", "region": self.regions[at % len(self.regions)]}
            for at, target in enumerate(self.targets)
        ]
        mirror = {"name": PREFIX, "source": f"{self.source.host}/{PREFIX}/*", "targets": targets}
        path = folder / "sealift.yaml"
        path.write_text(json.dumps({"mirrors": [mirror]}))
        return path
