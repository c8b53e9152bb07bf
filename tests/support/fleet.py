"""A whole fleet for a test: a Valkey, a worker process for each region, beat, all real, all killable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, Self

from redis import Redis

from mirror.ledger import Ledger
from mirror.report import RunReport, TagReport
from mirror.spec import Lane, MirrorSpec
from tests.support.ports import LOOPBACK, is_listening
from tests.support.process import Process, surroundings
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until
from workers import processes

_CLI = (sys.executable, "-P", "-m", "workers.cli")
READY_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 90.0
PREFIX = "sealift:"

IMPATIENT = {
    "SEALIFT_SWEEP_INTERVAL_S": "1",
    "SEALIFT_STALL_S": "8",
    "SEALIFT_SOFT_SHUTDOWN_S": "1",
    "SEALIFT_PRESENT_TTL_S": "5",
}
"""Settings that make up for what a test does to a fleet without keeping anybody waiting."""


class Server(Protocol):
    """A Redis that a fleet can run on."""

    @property
    def url(self) -> str: ...

    @property
    def process(self) -> Process: ...

    def client(self) -> Redis: ...

    def stop(self) -> None: ...


class Fleet:
    """Started by ``with``; ``settings`` are SEALIFT_ variables on top of IMPATIENT."""

    def __init__(
        self,
        folder: Path,
        regions: Iterable[str],
        settings: Mapping[str, str] | None = None,
        concurrency: int = 1,
        server: Server | None = None,
        places: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """``server``: the Redis to run on, and to stop with the fleet, instead of a Valkey of its own.

        ``places``: words before the command of a region's workers, such as those that take it elsewhere.
        """
        self.folder = folder
        self.regions = tuple(regions)
        self.concurrency = concurrency
        self._places = dict(places or {})
        self._server: Server = server or ValkeyServer(made(folder / "valkey"))
        self.workers: dict[str, Process] = {}
        """The living worker of each region, or the last one that lived."""
        self._started: list[Process] = []
        self._producer: subprocess.Popen[str] | None = None
        self._env = {
            "DOCKER_CONFIG": str(made(folder / "docker")),  # not that of whoever runs the tests
            "SEALIFT_STATE_DIR": str(folder / "state"),
            "SEALIFT_REDIS_PREFIX": PREFIX,
            "SEALIFT_REDIS_URL": self._server.url,
            **IMPATIENT,
            **(settings or {}),
        }
        self._client = self._server.client()
        self.ledger = Ledger(self._client, PREFIX)

    def __enter__(self) -> Self:
        try:
            self.start_all()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def valkey(self) -> ValkeyServer:
        """The fleet's own Valkey, where it has one."""
        assert isinstance(self._server, ValkeyServer)
        return self._server

    # -- processes ---------------------------------------------------------------------------------

    def start_all(self) -> None:
        """Scheduler and workers; returns once these take messages."""
        self._process("beat", processes.beat())
        for region in self.regions:
            self.start(region)
        self.await_ready(self.regions)

    def start(self, region: str) -> Process:
        """Start the region's worker, or one more, without waiting for it."""
        command = [*self._places.get(region, ()), *processes.worker(region, self.concurrency)]
        self.workers[region] = self._process(region, command, processes.worker_environment(region))
        return self.workers[region]

    def serve(self, port: int) -> Process:
        """Webhooks at the port, once it listens there."""
        command = [*_CLI, "serve", "--bind", f"{LOOPBACK}:{port}"]
        process = self._process("serve", command)
        until(lambda: is_listening(port) or not process.running, READY_TIMEOUT_S, process.tail)
        assert process.running, process.tail()
        return process

    def await_ready(self, regions: Iterable[str]) -> None:
        """Return once the regions' workers take messages."""
        for region in regions:
            until(partial(self._is_ready, region), READY_TIMEOUT_S, self.workers[region].tail)

    def kill(self, region: str) -> None:
        """The region's worker and its children are gone, in the middle of whatever they do."""
        self.workers[region].kill()

    @property
    def processes(self) -> tuple[Process, ...]:
        """All that were started so far, Redis and those that have ended included."""
        return (self._server.process, *self._started)

    def crash(self) -> None:
        """Every process of the fleet is gone at once, Redis first; ``valkey.restart`` and ``start_all``."""
        self.valkey.kill()
        for process in self._started:
            process.kill()

    def stop(self) -> None:
        """Everything ends; a second time does nothing."""
        for process in self._started:
            process.kill()
        if self._producer is not None:
            with self._producer:
                self._producer.kill()
            self._producer = None
        self._client.close()
        self._server.stop()

    def logs(self) -> str:
        """The last lines of every process, for a failure's message."""
        return "\n\n".join(process.tail() for process in self._started)

    # -- runs --------------------------------------------------------------------------------------

    def start_run(self, spec: MirrorSpec, lane: Lane = "release") -> str:
        """As a command does it, in a process of its own; returns the run's id."""
        if self._producer is None:
            self._producer = self._start_producer()
        assert self._producer.stdin
        assert self._producer.stdout
        self._producer.stdin.write(json.dumps([spec.document(), lane]) + "\n")
        self._producer.stdin.flush()
        run = self._producer.stdout.readline().strip()
        assert run, (self.folder / "producer.log").read_text()
        return run

    def wait(self, run: str, timeout_s: float = RUN_TIMEOUT_S) -> RunReport:
        """The report once the run has ended, however it did."""

        def ended() -> RunReport | None:
            report = self.ledger.run_report(run)
            return report if report.ended else None

        report = until(ended, timeout_s, lambda: f"{self.ledger.run_report(run)}\n{self.logs()}")
        assert report is not None
        return report

    def run(self, spec: MirrorSpec, lane: Lane = "release", timeout_s: float = RUN_TIMEOUT_S) -> RunReport:
        return self.wait(self.start_run(spec, lane), timeout_s)

    def sealift(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command that somebody types for this fleet."""
        with self.typed(*words) as command:
            out, err = command.communicate(timeout=RUN_TIMEOUT_S)
        return subprocess.CompletedProcess(words, command.returncode, out, err)

    def typed(self, *words: str) -> subprocess.Popen[str]:
        """The same while it runs."""
        return subprocess.Popen(
            [*_CLI, *words],
            env={**surroundings(), **self._env},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tags(self, run: str) -> dict[str, TagReport]:
        """What became of each tag, by its name."""
        return {report.tag: report for report in self.ledger.tag_reports(run)}

    def _start_producer(self) -> subprocess.Popen[str]:
        with (self.folder / "producer.log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _PRODUCER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**surroundings(), **self._env},
                cwd=self.folder,
            )

    def _is_ready(self, region: str) -> bool:
        worker = self.workers[region]
        assert worker.running, worker.tail()
        return " ready." in worker.text()

    def _process(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> Process:
        log = self.folder / f"{name}-{len(self._started)}.log"
        process = Process(command, log, {**self._env, **(env or {})}, self.folder)
        self._started.append(process)
        return process


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_PRODUCER = """
import json, sys
import workers.app
from mirror.spec import MirrorSpec
from tasks import producer
from tasks.runtime import runtime
for line in sys.stdin:
    spec, lane = json.loads(line)
    print(producer.start(runtime(), MirrorSpec.parse(spec), lane), flush=True)
"""
