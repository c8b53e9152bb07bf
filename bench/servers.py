"""Registries to copy between, one ``docker-registry`` process each, and what was asked of them.

The tests have registries too; these differ in what is measured: they log nothing but the requests, and
each starts empty on a port of its own, so that no tool can remember anything about it. The parts below
(processes, ports, folders, waiting) are the tests' own.
"""

from __future__ import annotations

import http.client
import re
import shutil
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

from bench import machine
from tests.support.certificates import Certificates
from tests.support.ports import LOOPBACK, free_port, is_listening
from tests.support.process import Process
from tests.support.waiting import until

START_TIMEOUT_S = 20.0
STORAGE = "storage"
CONTENT = f"{STORAGE}/docker/registry/v2"
DELAY = Path(__file__).with_name("delay.py")
PROBE = "/v2/?sealift-bench="
_LINE = re.compile(
    r'^\S+ - \S+ \[[^\]]*\] "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d+) (?P<sent>\d+) '
)
_UPLOADED = re.compile(r"/blobs/uploads/.*[?&]digest=(sha256(?::|%3A)[0-9a-f]{64})")
_READ = re.compile(r"/(?:blobs|manifests)/([^/?]+)$")


class NoRegistry(Exception):
    """There is nothing to measure against on this machine."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    status: int
    sent: int
    """Bytes of the answer's body."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was asked of a registry between two moments."""

    requests: tuple[Request, ...]

    @property
    def methods(self) -> Counter[str]:
        return Counter(request.method for request in self.requests)

    @property
    def read_bytes(self) -> int:
        """Content that went out."""
        return sum(request.sent for request in self._reads())

    @property
    def manifest_reads(self) -> int:
        return sum("/manifests/" in request.path for request in self._reads())

    @property
    def repeated_reads(self) -> int:
        """Reads of content by digest that had been read before."""
        read = Counter(_digest(request) for request in self._reads())
        return sum(times - 1 for digest, times in read.items() if digest.startswith("sha256:"))

    @property
    def repeated_manifest_reads(self) -> int:
        """Manifests that were read under the same name before, be it a tag or a digest."""
        read = Counter(request.path for request in self._reads() if "/manifests/" in request.path)
        return read.total() - len(read)

    def written_bytes(self, sizes: Mapping[str, int]) -> int:
        """Content that came in and was kept: the log does not tell sizes, so they are looked up."""
        kept = (request for request in self.requests if request.method == "PUT" and request.status == 201)
        found = (_UPLOADED.search(request.path) for request in kept)
        return sum(sizes.get(match[1].replace("%3A", ":"), 0) for match in found if match)

    def _reads(self) -> Iterable[Request]:
        return (r for r in self.requests if r.method == "GET" and r.status < 300 and _READ.search(r.path))

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic((*self.requests, *other.requests))


def parse_log(text: str) -> tuple[Request, ...]:
    """The requests of an access log, without our own."""
    matches = (_LINE.match(line) for line in text.splitlines())
    return tuple(
        Request(m["method"], m["path"], int(m["status"]), int(m["sent"]))
        for m in matches
        if m and not m["path"].startswith(PROBE)
    )


class Server:
    """One registry, started at once, that keeps its content in ``folder``.

    With ``round_trip_ms`` it is also to be had from far away, at ``far_host``; the harness stays close.
    """

    def __init__(
        self, folder: Path, certificates: Certificates | None = None, round_trip_ms: float = 0.0
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.certificates = certificates
        self.port = free_port()
        self._read = 0
        self._probes = 0
        self._process = self._start()
        self.far_host = self.host
        self._forwarder: Process | None = None
        if round_trip_ms:
            self.far_host, self._forwarder = self._forwarded(round_trip_ms)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def host(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def cpu_s(self) -> float:
        return machine.tree_cpu_s(self._process.pid)

    def fill_from(self, other: Server, repositories: Iterable[str]) -> None:
        """Hold these as another registry does, without being asked for any of it."""
        for name in ("blobs", *(f"repositories/{repository}" for repository in repositories)):
            place = (self.folder / CONTENT / name).parent
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-R", str(other.folder / CONTENT / name), str(place)], check=True)

    def stop(self) -> None:
        """The process and everything it kept are gone."""
        if self._forwarder is not None:
            self._forwarder.kill()
        self._process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def traffic(self) -> Traffic:
        """What was asked since the last call. A line is written after its answer: wait for one of ours."""
        self._probes += 1
        mark = f"{PROBE}{self._probes} "
        self.ask("GET", mark.strip())

        def marked() -> str | None:
            text = self._text()
            return text if mark in text else None

        text = until(marked, 10.0, self._process.tail)
        assert text
        self._read += len(text)
        return Traffic(parse_log(text))

    def ask(self, method: str, path: str, accept: str = "*/*") -> http.client.HTTPResponse:
        """One request over a connection of its own; the body is already read."""
        connection = self.connection()
        try:
            connection.request(method, path, headers={"Accept": accept})
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        return response

    def connection(self) -> http.client.HTTPConnection:
        if self.certificates is None:
            return http.client.HTTPConnection(LOOPBACK, self.port, timeout=30)
        context = ssl.create_default_context(cafile=str(self.certificates.authority))
        return http.client.HTTPSConnection(LOOPBACK, self.port, timeout=30, context=context)

    def _text(self) -> str:
        with self._process.log.open("rb") as log:
            log.seek(self._read)
            return log.read().decode("ascii", "replace")

    def _start(self) -> Process:
        binary = shutil.which("docker-registry")
        if binary is None:
            raise NoRegistry("docker-registry is not on the PATH: `make test-deps` installs it")
        config = self.folder / "config.yml"
        config.write_text(yaml.safe_dump(self._config()))
        process = Process([binary, "serve", str(config)], self.folder / "access.log")
        until(self._answers, START_TIMEOUT_S, process.tail)
        return process

    def _forwarded(self, round_trip_ms: float) -> tuple[str, Process]:
        port = free_port()
        words = (str(port), str(self.port), str(round_trip_ms))
        process = Process([sys.executable, "-I", str(DELAY), *words], self.folder / "delay.log")
        until(lambda: is_listening(port), START_TIMEOUT_S, process.tail)
        return f"{LOOPBACK}:{port}", process

    def _answers(self) -> bool:
        try:
            return self.ask("GET", f"{PROBE}start").status == 200
        except OSError:
            return False

    def _config(self) -> dict[str, object]:
        secured = self.certificates and {
            "tls": {"certificate": str(self.certificates.certificate), "key": str(self.certificates.key)}
        }
        return {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.folder / STORAGE)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": self.host, "secret": "bench", **(secured or {})},
        }


def _digest(request: Request) -> str:
    found = _READ.search(request.path)
    return found[1].replace("%3A", ":") if found else ""
