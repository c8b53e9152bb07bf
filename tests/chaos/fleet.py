"""The fleet under fire: kept running as anything that runs containers would, and told apart when killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Self

import yaml
from redis import Redis, RedisError

from mirror.ledger import Ledger
from mirror.spec import Lane, MirrorSpec
from tests.chaos.killpoints import FOLDER, Armoury
from tests.chaos.nursery import Forked, Nursery
from tests.chaos.proxy import Fabric, Link
from tests.support.fleet import made
from tests.support.ports import free_fixed_port
from tests.support.process import surroundings
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until
from tests.support.wanlink import WanLink
from workers import processes
from workers.supervisor import DEAF_S

ROOT = Path(__file__).parents[2]
PREFIX = "sealift:"
CONCURRENCY = 2
SETTLE_S = 1.0
"""For so long events are gathered before receivers are told."""
SETTINGS = {
    "SEALIFT_SWEEP_INTERVAL_S": "1",
    "SEALIFT_STALL_S": "4",
    "SEALIFT_SOFT_SHUTDOWN_S": "1",
    "SEALIFT_PRESENT_TTL_S": "5",
    "SEALIFT_VISIBILITY_TIMEOUT_S": "20",
    "SEALIFT_ATTEMPTS": "4",
    "SEALIFT_RETRY_BUDGET_S": "6",
    "SEALIFT_CONNECT_TIMEOUT_S": "2",
    "SEALIFT_READ_TIMEOUT_S": "2",
    "SEALIFT_COMMIT_TIMEOUT_S": "2",
    "SEALIFT_OUTAGE_S": "60",
    "SEALIFT_BATCH_TAGS": "5",
    "SEALIFT_WINDOW_BATCHES": "3",
    "SEALIFT_COPY_THREADS": "3",
    "SEALIFT_HAUL_MIB": "4",
    "SEALIFT_TEE_KIB": "256",
    "SEALIFT_NOTIFY_SETTLE_S": str(SETTLE_S),
}
"""Impatient, so that minutes hold what days hold elsewhere; small, so that every path is walked."""


class Valkey(ValkeyServer):
    """Can lose what a power failure would take: whatever was written after the last fsync."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, port=free_fixed_port())
        self._safe: tuple[Path, int] | None = None
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._note_fsyncs, name="fsyncs", daemon=True)
        self._watch.start()

    def stop(self) -> None:
        self._ended.set()
        super().stop()

    def come_back(self) -> None:
        self._process = self._start()

    def lose_tail(self) -> int:
        """With the server killed: cut the file to what the last fsync held; returns the bytes lost."""
        if self._safe is None or self._safe[0] != self._file():
            return 0
        path, size = self._safe
        lost = path.stat().st_size - size
        if lost > 0:
            os.truncate(path, size)
        return max(0, lost)

    def _file(self) -> Path | None:
        return max(self.folder.glob("appendonlydir/*.incr.aof"), default=None)

    def _note_fsyncs(self) -> None:
        """WAITAOF answers when an fsync is through; what the file holds then is safe, and so is less."""
        while not self._ended.is_set():
            with contextlib.suppress(RedisError, OSError), Redis.from_url(f"{self.url[:-2]}/15") as client:
                while not self._ended.is_set():
                    client.set("fsync", time.time())
                    client.execute_command("WAITAOF", 1, 0, 5000)
                    if path := self._file():
                        self._safe = (path, path.stat().st_size)
            self._ended.wait(0.02)


class Kept:
    """A process that is started again whenever it ends, or is deaf by its own heartbeat file."""

    def __init__(self, start: Callable[[], Forked], heartbeat: Path | None = None) -> None:
        self._start, self._heartbeat = start, heartbeat
        self.process = start()
        self._born = time.time()

    def look_after(self) -> str | None:
        """Start it again where needed; says why."""
        why = "deaf" if self._is_deaf() else None if self.process.running else "ended"
        if why:
            self.process.kill()  # and its children with it
            self.process, self._born = self._start(), time.time()
        return why

    def kill(self) -> None:
        """The program and its children."""
        self.process.kill()

    def _is_deaf(self) -> bool:
        if self._heartbeat is None:
            return False
        try:
            renewed = self._heartbeat.stat().st_mtime
        except FileNotFoundError:  # a worker that leaves takes it away
            renewed = self._born
        return time.time() - max(renewed, self._born) > DEAF_S


class ChaosFleet:
    """Valkey, a worker for each region behind a link of its own, beat, and a producer of runs.

    A region of ``wans`` is in a network of its own, and all of its packets go over that link.
    """

    def __init__(
        self,
        folder: Path,
        regions: list[str],
        fabric: Fabric,
        document: dict[str, object],
        wans: dict[str, WanLink] | None = None,
    ) -> None:
        """``document`` is the fleet file."""
        self.folder, self.regions, self.wans = made(folder), regions, wans or {}
        self.valkey = Valkey(made(folder / "valkey"))
        self._links = {region: fabric.link(self.valkey.port) for region in regions}
        self.cuts: dict[str, Link | WanLink] = {**self._links, **self.wans}
        """What each region is cut off at."""
        self.armoury = Armoury(made(folder / "chaos"))
        self.client = self.valkey.client()
        self.ledger = Ledger(self.client, PREFIX)
        file = self.folder / "sealift.yaml"
        file.write_text(yaml.safe_dump(document))
        self._env = {
            "SEALIFT_FLEET_FILE": str(file),
            "DOCKER_CONFIG": str(made(folder / "docker")),
            "SEALIFT_STATE_DIR": str(folder / "state"),
            "SEALIFT_REDIS_PREFIX": PREFIX,
            "SEALIFT_REDIS_URL": self.valkey.url,
            FOLDER: str(folder / "chaos"),
            "PYTHONPATH": str(ROOT),
            **SETTINGS,
        }
        self.kept: dict[str, Kept] = {}
        self.producer = Producer(self._env, self.folder)
        self.deaths: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self.nursery = Nursery(self.folder, {**self._env, "REMAP_SIGTERM": "SIGQUIT"})
        self.kept["beat"] = Kept(lambda: self._process("beat", processes.beat()))
        for region in self.regions:
            self.kept[region] = Kept(partial(self._worker, region), self._heartbeat(region))
        for region in self.regions:
            worker = self.kept[region].process
            until(partial(_is_ready, worker), 60, worker.tail)
        return self

    def __exit__(self, *_: object) -> None:
        for kept in self.kept.values():
            kept.kill()
        self.nursery.stop()
        self.producer.kill()
        self.client.close()
        self.valkey.stop()

    def look_after(self) -> None:
        """Start again whatever has ended."""
        for name, kept in self.kept.items():
            if why := kept.look_after():
                self.deaths[f"{name} {why}"] += 1
        if not self.producer.running:
            self.producer.kill()  # its pipes
            self.producer = Producer(self._env, self.folder)

    def children(self, region: str) -> list[int]:
        """The worker's pool."""
        pid = self.kept[region].process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def kill_child(self, region: str) -> bool:
        for child in self.children(region)[-1:]:
            os.kill(child, signal.SIGKILL)
            return True
        return False

    def logs(self) -> str:
        return "\n\n".join(kept.process.tail() for kept in self.kept.values())

    def _heartbeat(self, region: str) -> Path:
        return self.folder / f"heartbeat-{region}"

    def _worker(self, region: str) -> Forked:
        env = {
            **processes.worker_environment(region, self._heartbeat(region)),
            "SEALIFT_REDIS_URL": f"redis://{self._links[region].host}/0",
        }
        namespace = self.wans[region].namespace if region in self.wans else ""
        return self._process(f"worker-{region}", processes.worker(region, CONCURRENCY), env, namespace)

    def _process(
        self, name: str, command: list[str], env: dict[str, str] | None = None, namespace: str = ""
    ) -> Forked:
        """The product's own command line, run by way of :mod:`tests.chaos.launch`."""
        arguments = command[command.index("workers.launch") + 1 :]
        log = self.folder / f"{name}.log"
        return self.nursery.start(arguments, log, {**self._env, **(env or {})}, namespace)


def _is_ready(worker: Forked) -> bool:
    assert worker.running, worker.tail()
    return " ready." in worker.text()


class Producer:
    """A process that starts runs; it never makes its caller wait."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        with (folder / "producer.log").open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.chaos.launch", "produce"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**surroundings(), **env},
                cwd=folder,
            )
        assert self._popen.stdout
        self.runs: list[str] = []
        self.asked = 0
        threading.Thread(target=self._read, args=(self._popen.stdout,), name="producer", daemon=True).start()

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def waiting(self) -> int:
        """Runs asked for that have no id yet."""
        return self.asked - len(self.runs)

    def ask(self, spec: MirrorSpec, lane: Lane) -> None:
        assert self._popen.stdin
        with contextlib.suppress(OSError):
            self._popen.stdin.write(json.dumps([spec.document(), lane]) + "\n")
            self._popen.stdin.flush()
            self.asked += 1

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        assert self._popen.stdin
        with contextlib.suppress(OSError):
            self._popen.stdin.close()

    def _read(self, answers: IO[str]) -> None:
        with answers:
            for line in answers:
                self.runs.append(line.strip())
