"""A whole fleet for the length of one command: a Valkey server of its own and a worker per region."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from workers import processes
from workers.server import await_server, make_room, shut_down, socket_path, url_of
from workers.state import Card, StateFolder
from workers.supervisor import Child, Death, Supervisor

SERVER = "server"
SERVER_PATIENCE_S = 30.0
SOFT_SHUTDOWN_S = 2.0
"""A stopping worker may finish this much; what it drops, the next command on the folder resumes."""
OUTAGE_VARIABLE = "SEALIFT_OUTAGE_S"
STOP_GRACE_S = SOFT_SHUTDOWN_S + 4.0


class EmbeddedFleet:
    """Owns its processes: when this process ends, however it ends, none of them is left (on Linux).

    Raises StateBusy and NoServer where it cannot begin, ServerFailed where its server stays silent.
    """

    def __init__(
        self,
        folder: StateFolder,
        on_death: Callable[[Death], None] = lambda _: None,
        outage_s: float | None = None,
    ) -> None:
        """``outage_s`` is how long outages are waited out unless the environment says; None: as usual."""
        self.folder = folder
        self._outage_s = outage_s
        self.supervisor = Supervisor(on_death)
        self.hurry = threading.Event()
        """Set it to make :meth:`close` kill what still works instead of waiting for it."""
        self._socket = socket_path(folder.path)
        self._lock: int | None = None
        self._regions: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return url_of(self._socket)

    def open(self) -> None:
        """Take the folder and start the server, without waiting for it."""
        binary = processes.server_binary()
        self._lock = self.folder.claim()
        if self._socket.parent != self.folder.path:
            make_room(self._socket)
        self._socket.unlink(missing_ok=True)
        self._clear()
        self.announce(shared=False)
        self.supervisor.start(self._server(binary))

    def announce(self, *, shared: bool) -> None:
        """Let other commands find this fleet, to join it where it is shared."""
        self.folder.publish(Card(os.getpid(), self.url, shared, self._regions))

    def serve(self, regions: Iterable[str], concurrency: int | None = None) -> None:
        """Start a worker for every region that has none yet; they come up while the caller goes on."""
        self._regions = tuple(dict.fromkeys((*self._regions, *regions)))
        share = concurrency or processes_per_worker(len(self._regions))
        self.supervisor.start(*(self._worker(region, share) for region in self._regions))

    def await_server(self) -> None:
        """Return when the server takes commands."""
        await_server(self._socket, SERVER_PATIENCE_S)

    def close(self) -> None:
        """Stop the workers, then the server; the folder is free afterwards."""
        others = [name for name in self.supervisor.names if name != SERVER]
        self.supervisor.stop(others, STOP_GRACE_S, self.hurry)
        if self._lock is not None:
            shut_down(self._socket)
            self.supervisor.stop([SERVER], STOP_GRACE_S)
        self.supervisor.close()
        if self._lock is not None:
            self._clear()
            if self._socket.parent != self.folder.path:
                with suppress(OSError):
                    self._socket.parent.rmdir()
            self.folder.withdraw()
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _server(self, binary: str) -> Child:
        assert self._lock is not None  # noqa: S101 -- open() has just taken it
        command = processes.server(binary, self.folder.data, self._socket)
        return Child(
            SERVER,
            tuple(command),
            self._log(SERVER),
            orphan_signal=signal.SIGTERM,  # it writes its file before it goes
            pass_fds=(self._lock,),
        )

    def _worker(self, region: str, concurrency: int) -> Child:
        environment = {
            "SEALIFT_REDIS_URL": self.url,
            "SEALIFT_SOFT_SHUTDOWN_S": str(SOFT_SHUTDOWN_S),
            "TMPDIR": str(self._temporary),
        }
        if self._outage_s is not None and OUTAGE_VARIABLE not in os.environ:
            environment[OUTAGE_VARIABLE] = str(self._outage_s)
        return worker_child(region, concurrency, self._log(f"worker-{region}"), environment)

    @property
    def _temporary(self) -> Path:
        return self.folder.path / "tmp"

    def _clear(self) -> None:
        """Begin and end without temporary files: a worker that is killed cannot remove its own."""
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(exist_ok=True)

    def _log(self, name: str) -> Path:
        return self.folder.logs / f"{name}.log"


def worker_child(
    region: str, concurrency: int, log: Path, environment: Mapping[str, str] | None = None
) -> Child:
    """A region's worker under a supervisor, which starts it again when it dies or grows deaf."""
    heartbeat = log.with_suffix(".heartbeat")
    return Child(
        f"worker-{region}",
        tuple(processes.worker(region, concurrency)),
        log,
        {**processes.worker_environment(region, heartbeat), **(environment or {})},
        heartbeat=heartbeat,
    )


def processes_per_worker(workers: int) -> int:
    """An equal share of this machine's cores, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, workers))
