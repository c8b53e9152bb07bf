"""Sealift as a contender: joining a fleet that is up, or starting one for the command."""

from __future__ import annotations

from collections.abc import Sequence

from bench.jobs import Command, Contender, Job, environment, program
from tests.support.process import Process
from tests.support.waiting import until

UP_TIMEOUT_S = 60.0
FAR_THREADS, FAR_PROCESSES = 16, 8
"""What waits for registries far away waits side by side, as regsync is told to."""
WARM_UP = "bench/warm-up"
"""A repository of the source that holds a small image for workers to begin with."""


class Sealift(Contender):
    """``is_up``: workers run before the clock does. ``regions``: one worker process and target each.

    ``processes``: that many worker processes, where tags only have to be looked at.
    """

    def __init__(
        self, name: str, *, is_up: bool, regions: bool = False, processes: int | None = None
    ) -> None:
        self.name, self.is_up, self.regions = name, is_up, regions
        self._processes = 1 if regions else processes
        self.takes_mirrored = processes is not None
        self._fleet: Process | None = None

    def takes(self, job: Job) -> bool:
        fits = self.takes_mirrored == job.images.is_mirrored
        return fits and (not self.regions or len(job.targets) > 1)

    def prepare(self, job: Job) -> Command:
        job.write("sealift.yaml", fleet_file(job, self._regions(job)))
        if self.is_up:
            self._fleet = self._up(job)
        return self._command(job, "sync", *map(_mirror_name, job.images.repositories))

    def resident(self) -> int | None:
        return self._fleet.pid if self._fleet else None

    def close(self) -> None:
        if self._fleet is not None:
            self._fleet.stop(grace_s=20.0)
            self._fleet = None

    def _regions(self, job: Job) -> list[str]:
        return [f"region-{number}" if self.regions else "local" for number in range(len(job.targets))]

    def _up(self, job: Job) -> Process:
        up = self._command(job, "up", "--flower-port", "0")
        processes = self._processes or (FAR_PROCESSES if job.is_far else None)
        share = {"SEALIFT_WORKER_PROCESSES": str(processes)} if processes else {}
        fleet = Process(up.argv, job.folder / "up.log", {**up.env, **share}, job.folder)
        until(lambda: "The fleet is up" in fleet.text(), UP_TIMEOUT_S, fleet.tail)
        for region in dict.fromkeys(self._regions(job)):
            self._warm_up(job, region)
        return fleet

    def _warm_up(self, job: Job, region: str) -> None:
        """Workers that run already have worked already: their first task imports and connects."""
        source = f"{job.source}/{WARM_UP}"
        told = self._command(job, "mirror", f"{source}:v1", "--to", f"{region}={source}-of-{region}")
        process = Process(told.argv, job.folder / "warm-up.log", told.env, job.folder)
        until(lambda: not process.running, UP_TIMEOUT_S, process.tail)
        if process.exit_code:
            raise RuntimeError(f"the fleet does not work: {process.tail()}")

    def _command(self, job: Job, *words: str) -> Command:
        state, file = str(job.folder / "state"), str(job.folder / "sealift.yaml")
        argv = (program("sealift"), "--state-dir", state, "--fleet-file", file, *words)
        far = {"SEALIFT_COPY_THREADS": str(FAR_THREADS)} if job.is_far else {}
        return Command(argv, environment(job) | far)


def fleet_file(job: Job, regions: Sequence[str]) -> dict[str, object]:
    """The job as a fleet file, with a warm-up besides."""
    hosts = (job.source, *job.targets)
    terms = {"plain_http": False, "ca_file": str(job.authority)} if job.authority else {"plain_http": True}
    return {"registries": dict.fromkeys(hosts, terms), "mirrors": _mirrors(job, regions)}


def _mirrors(job: Job, regions: Sequence[str]) -> list[dict[str, object]]:
    return [
        {
            "name": _mirror_name(name),
            "source": f"{job.source}/{name}",
            "targets": [
                {"region": region, "repository": f"{host}/{name}"}
                for host, region in zip(job.targets, regions, strict=True)
            ],
        }
        for name in job.images.repositories
    ]


def _mirror_name(repository: str) -> str:
    return repository.replace("/", "-")
