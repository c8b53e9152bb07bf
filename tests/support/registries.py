"""Real registries: CNCF distribution (``docker-registry``), one process each, on a free loopback port."""

from __future__ import annotations

import http.client
import re
import shutil
import ssl
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from tests.support.ports import LOOPBACK
from tests.support.process import Process
from tests.support.waiting import until

START_TIMEOUT_S = 20.0
_LISTENING = re.compile(r'msg="listening on [^"]*:(\d+)')
_ACCESS = re.compile(r'^\S+ - .*?\] "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[0-9.]+" (?P<status>\d+) ')
_PROBE = "/v2/?sealift-probe="


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the access log; ``path`` with its query."""

    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """A token server that the registry trusts; ``root_bundle`` is a file of PEM certificates."""

    realm: str
    service: str
    issuer: str
    root_bundle: Path


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    users: tuple[tuple[str, str], ...] = ()
    """Names and passwords for basic authentication; empty: anybody may do anything."""
    token: TokenAuth | None = None
    delete: bool = True
    tls: tuple[Path, Path] | None = None
    """Files of a certificate and its key, in PEM."""
    address: str = LOOPBACK
    """What it listens at."""
    tells: tuple[str, str] | None = None
    """An address that it sends its notifications to, and what it says in Authorization."""
    place: tuple[str, ...] = ()
    """Words before its command, such as those that take it into a network of its own."""


class DockerRegistry:
    """One registry, started at once; ``restart`` keeps its port and its content."""

    def __init__(self, folder: Path, options: RegistryOptions | None = None) -> None:
        self.options = options or RegistryOptions()
        self.folder = folder
        self.port = 0
        self._probes = 0
        self._forgotten = 0
        self._process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """As references name it, ``127.0.0.1:PORT``."""
        return f"{self.options.address}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "registry.log"

    @property
    def storage(self) -> Path:
        """Where it keeps blobs and manifests, for tests that break them behind its back."""
        return self.folder / "storage"

    @property
    def process(self) -> Process:
        return self._process

    def stop(self) -> None:
        """An outage: nothing listens any more; the content stays."""
        self._process.stop()

    def restart(self) -> None:
        self.stop()
        self._process = self._start()

    def requests(self) -> list[Request]:
        """What was asked since the start or the last :meth:`forget_requests`, in the order of the answers.

        A line is written after its answer was sent, so this asks something itself and waits for its line.
        """
        self._probes += 1
        mark = f"{_PROBE}{self._probes} "
        self._ask(mark.strip())
        until(lambda: mark in self._process.text(), 5.0, lambda: f"the access log: {self._process.tail()}")
        return self._parsed()[self._forgotten :]

    def forget_requests(self) -> None:
        """Count from here."""
        self._forgotten += len(self.requests())

    def counts(self) -> Counter[str]:
        """How often each method was asked."""
        return Counter(request.method for request in self.requests())

    def _parsed(self) -> list[Request]:
        matches = (_ACCESS.match(line) for line in self._process.text().splitlines())
        found = (Request(m["method"], m["path"], int(m["status"])) for m in matches if m)
        return [request for request in found if not request.path.startswith(_PROBE)]

    def _start(self) -> Process:
        binary = shutil.which("docker-registry")
        if binary is None:
            pytest.skip("docker-registry is not installed (make test-deps)")
        seen = len(_LISTENING.findall(self.log.read_text())) if self.log.exists() else 0
        process = Process([*self.options.place, binary, "serve", str(self._write_config())], self.log)

        def listening() -> list[str]:
            assert process.running, process.tail()
            return _LISTENING.findall(process.text())[seen:]

        self.port = int(until(listening, START_TIMEOUT_S, process.tail)[0])
        until(self._answers, START_TIMEOUT_S, process.tail)
        return process

    def _answers(self) -> bool:
        try:
            return self._ask(f"{_PROBE}start") in {200, 401}
        except OSError:
            return False

    def _ask(self, path: str) -> int:
        if self.options.tls:
            context = ssl._create_unverified_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self.options.address, self.port, timeout=5, context=context
            )
        else:
            connection = http.client.HTTPConnection(self.options.address, self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def _write_config(self) -> Path:
        config = self.folder / "config.yml"
        config.write_text(yaml.safe_dump(self._config()))
        return config

    def _config(self) -> dict[str, Any]:
        http_part: dict[str, Any] = {
            "addr": self.host,
            "secret": "the same after a restart, so that upload sessions survive it",
        }
        if self.options.tls:
            certificate, key = self.options.tls
            http_part["tls"] = {"certificate": str(certificate), "key": str(key)}
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": self.options.delete},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": http_part,
        }
        if auth := self._auth():
            config["auth"] = auth
        if self.options.tells:
            config["notifications"] = {"endpoints": [_endpoint(*self.options.tells)]}
        return config

    def _auth(self) -> dict[str, Any]:
        if token := self.options.token:
            return {
                "token": {
                    "realm": token.realm,
                    "service": token.service,
                    "issuer": token.issuer,
                    "rootcertbundle": str(token.root_bundle),
                }
            }
        if self.options.users:
            return {"htpasswd": {"realm": "registry", "path": str(self._write_passwords())}}
        return {}

    def _write_passwords(self) -> Path:
        htpasswd = shutil.which("htpasswd")
        if htpasswd is None:
            pytest.skip("htpasswd is not installed (make test-deps)")
        lines = [
            # Lowest cost: the registry checks the password again at every request.
            subprocess.run(
                [htpasswd, "-niB", "-C", "4", name],
                input=password,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            for name, password in self.options.users
        ]
        path = self.folder / "htpasswd"
        path.write_text("\n".join(lines) + "\n")
        return path


def _endpoint(address: str, authorization: str) -> dict[str, Any]:
    """As docs/webhooks.md has it, but that it tries again sooner."""
    return {
        "name": "sealift",
        "url": address,
        "headers": {"Authorization": [authorization]},
        "timeout": "5s",
        "threshold": 3,
        "backoff": "200ms",
    }
