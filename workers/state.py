"""The state folder: whose it is right now, and how another command finds the fleet that runs on it."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from time import monotonic

from workers.server import shut_down, socket_of

ORPHAN_PATIENCE_S = 10.0


class StateBusy(Exception):
    """Another command runs its fleet on this state folder; ``pid`` is that command's."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        super().__init__(folder, pid)
        self.folder, self.pid = folder, pid

    def __str__(self) -> str:
        holder = f"process {self.pid}" if self.pid else "another process"
        return (
            f"{holder} is using the state folder {self.folder}: wait until it has finished, "
            "or give this command a folder of its own with --state-dir"
        )


@dataclass(frozen=True, slots=True)
class Card:
    """What a running fleet says of itself; ``url`` opens its server, so only its owner may read it."""

    pid: int
    url: str
    shared: bool
    """Whether other commands may join."""
    regions: tuple[str, ...]


class StateFolder:
    """The folder of one embedded fleet: its data, its logs, its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()

    @property
    def data(self) -> Path:
        return self.path / "valkey"

    @property
    def logs(self) -> Path:
        return self.path / "log"

    @property
    def is_new(self) -> bool:
        """Whether no fleet has ever run here."""
        return not self.data.is_dir()

    def claim(self) -> int:
        """Take the folder for this process: a file descriptor that holds its lock.

        The fleet's server inherits it, so the folder stays taken until that server is gone too, however
        this process ends. Raises StateBusy while another live command holds it.
        """
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._wait_for(lock)
        except BaseException:
            os.close(lock)
            raise
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock

    def joinable(self) -> Card | None:
        """The shared fleet that runs on this folder now."""
        card = self._card()
        if card is None or not card.shared or card.pid != self._holder() or not _is_alive(card.pid):
            return None
        return card

    def publish(self, card: Card) -> None:
        """Say how to reach the fleet; readable by the owner alone."""
        draft = self._card_file.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(card), file)
        draft.replace(self._card_file)

    def withdraw(self) -> None:
        self._card_file.unlink(missing_ok=True)

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    @property
    def _card_file(self) -> Path:
        return self.path / "fleet.json"

    def _wait_for(self, lock: int) -> None:
        """Take the lock; a dead command's server may keep it for a moment, and is asked to leave."""
        deadline = monotonic() + ORPHAN_PATIENCE_S
        asked = False
        while not _try_lock(lock):
            holder = self._holder()
            if (holder and _is_alive(holder)) or monotonic() > deadline:
                raise StateBusy(self.path, holder)
            card = self._card()
            if card and card.pid == holder and not asked:
                asked = True
                shut_down(socket_of(card.url))
            Event().wait(0.02)

    def _holder(self) -> int | None:
        try:
            return int(self._lock.read_text())
        except (OSError, ValueError):
            return None

    def _card(self) -> Card | None:
        try:
            values = json.loads(self._card_file.read_text())
            return Card(values["pid"], values["url"], values["shared"], tuple(values["regions"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        return True
    return False
