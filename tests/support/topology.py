"""The fleet of deploy/compose.yaml as plain processes, for machines without a container engine.

Each process finds what its container would have: its command and environment, its own /tmp, its own host
name where the system lets one be given. Names of containers and paths inside them become addresses and paths
of this machine; nothing else is changed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Self

import yaml

from tests.support import composition
from tests.support.composition import Service
from tests.support.ports import LOOPBACK, free_fixed_port, is_listening
from tests.support.process import Process, surroundings
from tests.support.waiting import until
from workers import processes

WELL_TIMEOUT_S = 120.0
STEADY_S = 10.0
"""As the container engine: who lived that long is started again at once when it ends."""
LONGEST_PAUSE_S = 60.0
COMMAND_TIMEOUT_S = 90.0
EVERYWHERE = "0.0.0.0"
"""Inside a container; here it becomes the loopback address."""
SERVER = "valkey/valkey"
REGISTRY = "registry"
INNER_PORTS = {SERVER: 6379, REGISTRY: 5000}
_NAMED = ["sh", "-c", 'hostname "$0" && exec "$@"']


@dataclass(slots=True)
class Instance:
    """One container of a service, as a process."""

    name: str
    """As Compose counts them: ``worker-eu-2``."""
    service: Service
    command: list[str]
    environment: dict[str, str]
    folder: Path
    process: Process = field(init=False)
    begun: float = 0.0
    deaths: int = 0
    is_wanted: bool = True
    """Whether to start it again when it ends."""

    def start(self) -> None:
        self.begun = monotonic()
        self.process = Process(
            self.command, self.folder / "log", self.environment, made(self.folder / "work")
        )


class Topology:
    """Started by ``with``; returns once everything is well."""

    def __init__(
        self,
        folder: Path,
        *,
        scale: Mapping[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
        instead: Mapping[str, Sequence[str]] | None = None,
        as_published: bool = False,
    ) -> None:
        """``scale``: how many of a service, as ``docker compose up --scale`` takes it. ``settings``: for all
        processes of ours, above the file's. ``instead``: another command for a service of ours.
        ``as_published``: on the ports that the file publishes, where it does; else on free ones.
        """
        self.folder, self._settings, self._instead = folder, dict(settings or {}), dict(instead or {})
        scale = scale or {}
        self.services = {
            name: replace(service, replicas=scale.get(name, service.replicas))
            for name, service in composition.read().items()
        }
        self.ports = {
            (name, inner): service.ports[inner]
            if as_published and inner in service.ports
            else free_fixed_port()
            for name, service in self.services.items()
            for inner in {*service.ports, *_inner_port(service)}
        }
        """Of this machine, by service and port of the container."""
        self.instances = {one.name: one for one in self._instances()}

    def __enter__(self) -> Self:
        try:
            for layer in self._layers():
                for instance in layer:
                    instance.start()
                for instance in layer:
                    self.await_well(instance.name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def of(self, *services: str) -> list[Instance]:
        return [one for one in self.instances.values() if one.service.name in services]

    def address(self, service: str, port: int | None = None) -> str:
        """``host:port`` on this machine; the port of the container is needed where it has several."""
        inner = port or next(inner for name, inner in self.ports if name == service)
        return f"{LOOPBACK}:{self.ports[service, inner]}"

    def here(self, text: str) -> str:
        """A text with names of containers in it as this machine knows them."""
        for (name, inner), port in self.ports.items():
            text = text.replace(f"{name}:{inner}", f"{LOOPBACK}:{port}")
        return text

    @property
    def published(self) -> set[int]:
        """Ports of this machine that the file names."""
        return {port for service in self.services.values() for port in service.ports.values()}

    @property
    def missing(self) -> str:
        """What this machine lacks for it; empty where nothing is."""
        return "" if shutil.which("docker-registry") else "docker-registry is not installed (make test-deps)"

    # -- while it runs -----------------------------------------------------------------------------

    def await_well(self, name: str) -> None:
        """Return once its own healthcheck says so; where it has none, once it listens."""
        instance = self.instances[name]

        def is_well() -> bool:
            assert instance.process.running, instance.process.tail()
            return self._is_well(instance)

        until(is_well, WELL_TIMEOUT_S, instance.process.tail, interval_s=0.1)

    def tend(self) -> list[str]:
        """Start again what has ended, as ``restart: unless-stopped`` does; says what was started."""
        return [said for one in self.instances.values() if (said := _tended(one))]

    def let_go(self, name: str) -> Process:
        """Its process, which from now on nobody starts again."""
        instance = self.instances[name]
        instance.is_wanted = False
        return instance.process

    def start(self, name: str) -> None:
        """Again, after :meth:`let_go`; returns once it is well."""
        instance = self.instances[name]
        instance.is_wanted = True
        instance.start()
        self.await_well(name)

    def run(self, service: str, *words: str) -> subprocess.CompletedProcess[str]:
        """As ``docker compose run --rm SERVICE WORDS`` does, in a process of its own."""
        instance = self._instance(self.services[service], service, words)
        return subprocess.run(
            instance.command,
            env={**surroundings(), **instance.environment},
            cwd=made(instance.folder / "work"),
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )

    def stop(self) -> None:
        """What takes longest first, the servers last; each has the time that the file gives it."""
        for layer in reversed(self._layers()):
            started = [one for one in layer if hasattr(one, "process")]
            for one in started:
                one.is_wanted = False
                one.process.signal(signal.SIGTERM)
            for one in started:
                one.process.stop(one.service.grace_s)

    def logs(self) -> str:
        """The last lines of each process, registries left out."""
        told = [one for one in self.instances.values() if hasattr(one, "process")]
        return "\n\n".join(one.process.tail() for one in told if one.service.needs)

    # -- from containers to processes --------------------------------------------------------------

    def _layers(self) -> tuple[list[Instance], list[Instance]]:
        """What needs nothing, and the rest."""
        first = [one for one in self.instances.values() if not one.service.needs]
        return first, [one for one in self.instances.values() if one.service.needs]

    def _instances(self) -> Iterator[Instance]:
        for service in self.services.values():
            if not service.is_asked_for:
                for number in range(1, service.replicas + 1):
                    yield self._instance(service, f"{service.name}-{number}", ())

    def _instance(self, service: Service, name: str, words: Sequence[str]) -> Instance:
        folder = made(self.folder / name)
        places = {"/tmp": made(folder / "tmp")}
        places |= {inner: made(self.folder / "volumes" / service.name) for inner in service.folders}
        places |= {inner: self._file(file, folder) for inner, file in service.files.items()}
        own = self._settings if service.is_ours else {}
        environment = {
            key: self._translated(value, places)
            for key, value in {**service.environment, **own}.items()
            if key != "PATH"
        }
        said = (*service.entrypoint, *(words or service.command))
        command = self._command(service, [self._translated(word, places) for word in said], folder, name)
        return Instance(name, service, command, environment, folder)

    def _command(self, service: Service, words: list[str], folder: Path, name: str) -> list[str]:
        image = service.image.partition(":")[0]
        if service.is_ours:
            return [*_hosted(name), *self._ours(service, words, name)]
        if image == SERVER:
            port = str(self.ports[service.name, INNER_PORTS[SERVER]])
            return [processes.server_binary(), *words[1:], "--bind", LOOPBACK, "--port", port]
        if image == REGISTRY:
            return processes.docker_registry(self._registry(service, folder))
        raise NotImplementedError(f"{service.name}: nobody knows how to run {service.image} as a process")

    def _ours(self, service: Service, words: list[str], name: str) -> list[str]:
        if service.name in self._instead:
            return list(self._instead[service.name])
        if "--port" in words:
            after = words.index("--port") + 1
            words[after] = str(self.ports[service.name, int(words[after])])
        if "--bind" in words:
            after = words.index("--bind") + 1
            inner = words[after].rpartition(":")[2]
            words[after] = f"{LOOPBACK}:{self.ports[service.name, int(inner)]}"
        words = [LOOPBACK if word == EVERYWHERE else word for word in words]
        if words[0] == "python":
            return [sys.executable, *words[1:]]
        assert words[0] == "sealift", words
        if words[1:2] == ["worker"] and not can_name_hosts():
            words += ["--name", name]
        return processes.python("workers.cli", *words[1:])

    def _registry(self, service: Service, folder: Path) -> Path:
        """What the image's own configuration says, with an address and a folder of this machine."""
        (inner,) = service.folders
        config = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.folder / "volumes" / service.name)},
                "delete": {"enabled": False},
            },
            "http": {"addr": self.address(service.name)},
        }
        assert inner == "/var/lib/registry", inner
        path = folder / "config.yml"
        path.write_text(yaml.safe_dump(config))
        return path

    def _file(self, file: Path, folder: Path) -> Path:
        """The file as it is mounted, with this machine's addresses in it."""
        copy = folder / file.name
        copy.write_text(self.here(file.read_text()))
        return copy

    def _translated(self, word: str, places: Mapping[str, Path]) -> str:
        for inner, outer in places.items():
            if word == inner or word.startswith(f"{inner}/"):
                return f"{outer}{word.removeprefix(inner)}"
        return self.here(word)

    def _is_well(self, instance: Instance) -> bool:
        service = instance.service
        if service.is_ours and service.probe:
            python, *words = service.probe
            assert python == "python", service.probe
            done = subprocess.run(
                [sys.executable, *words],
                env={**surroundings(), **instance.environment},
                capture_output=True,
                check=False,
            )
            return done.returncode == 0
        ports = [port for (name, _), port in self.ports.items() if name == service.name]
        asks = _has_loaded if service.image.startswith(SERVER) else is_listening
        return all(map(asks, ports))


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _inner_port(service: Service) -> set[int]:
    image = service.image.partition(":")[0]
    return {INNER_PORTS[image]} if image in INNER_PORTS else set()


def _has_loaded(port: int) -> bool:
    """Of a server: what its own client would ask."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0) as wire:
            wire.sendall(b"PING\r\n")
            return wire.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def _tended(instance: Instance) -> str:
    if not instance.is_wanted or instance.process.running or not instance.service.restarts:
        return ""
    lived = monotonic() - instance.begun
    instance.deaths = 0 if lived > STEADY_S + LONGEST_PAUSE_S else instance.deaths
    if instance.deaths and lived < min(2**instance.deaths / 10, LONGEST_PAUSE_S):
        return ""
    code = instance.process.exit_code
    instance.deaths += 1
    instance.start()
    return f"{instance.name} ended with {code}; started again (log: {instance.process.log})"


@cache
def can_name_hosts() -> bool:
    """Whether a process may have a host name of its own here, as a container has."""
    try:
        done = subprocess.run(
            [*_namespace(), *_NAMED, "probe", "true"], capture_output=True, check=False, timeout=10
        )
    except OSError:
        return False
    return done.returncode == 0


def _hosted(name: str) -> list[str]:
    return [*_namespace(), *_NAMED, name] if can_name_hosts() else []


def _namespace() -> list[str]:
    return ["unshare", "--uts"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--uts"]
