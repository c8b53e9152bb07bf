"""Leases: the right to be the one who does something just now; losing one is only wasteful.

A lease outlives its worker by at most LEASE_S. While its process lives it is renewed in the background,
however long the registry takes to answer, but no longer than the longest step may take: a thread that hangs
for good must not keep others from the work for good.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import redis

from mirror.ledger import lease_scripts as scripts
from mirror.ledger.keys import Client, Keys

LEASE_S = 15.0
LONGEST_S = 3600.0
"""How long a lease is renewed at most, unless said: as long as Redis leaves a message with its worker."""
RENEW_S = LEASE_S / 3
TURN_WAIT_S = 0.05
_HOST = socket.gethostname()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lease:
    """Held by whoever knows the token, which names machine and process too."""

    place: str
    what: str
    token: str
    until: float
    """When it is renewed no more, by this process's clock."""


class Leases:
    """One process's leases; a thread of its own renews them while there are any."""

    def __init__(self, client: Client, keys: Keys, longest_s: float = LONGEST_S) -> None:
        self._redis, self._keys, self._longest_s = client, keys, longest_s
        script = client.register_script
        self._release, self._renew = script(scripts.RELEASE), script(scripts.RENEW)
        self._take = script(scripts.TAKE)
        self._held: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._keeper: threading.Thread | None = None

    def take(self, place: str, what: str) -> Lease | None:
        """The lease of ``what`` at ``place``; None while another has it."""
        taken = self.take_all([place], what, ())
        return None if isinstance(taken, str) else taken[0][0]

    def take_all(
        self, places: Sequence[str], what: str, names: Sequence[str]
    ) -> tuple[list[Lease], list[bytes | None]] | str:
        """The leases of ``what`` at all ``places``, and the values of the keys ``names`` once they are taken.

        One exchange, all or none: a place where another has it, while that is so.
        """
        leases = [self._new(place, what) for place in places]
        keys = [*(self.key(place, what) for place in places), *names]
        words = [_ms(LEASE_S), *(lease.token for lease in leases)]
        while isinstance(values := self._take(keys, words), int):
            taken = places[values - 1]
            if not self._bury(taken, what):
                return taken
        self._hold(leases)
        return leases, values

    def take_with(
        self, place: str, what: str, script: Callable[[str, str], T | None]
    ) -> tuple[Lease, T] | None:
        """As :meth:`take`, by a script that does more in the same exchange once the lease is taken.

        It is given the lease's key and token, and answers None where another has it.
        """
        lease, key = self._new(place, what), self.key(place, what)
        values = script(key, lease.token)
        if values is None and self._bury(place, what):
            values = script(key, lease.token)
        if values is None:
            return None
        self._hold([lease])
        return lease, values

    def _new(self, place: str, what: str) -> Lease:
        return Lease(place, what, new_token(), time.monotonic() + self._longest_s)

    def _hold(self, leases: Sequence[Lease]) -> None:
        with self._lock:
            self._held.update((lease.token, lease) for lease in leases)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="leases", daemon=True)
                self._keeper.start()

    def key(self, place: str, what: str) -> str:
        return self._keys.lease(place, what)

    def _bury(self, place: str, what: str) -> bool:
        """Take the lease from a process of this machine that is dead: nobody need wait for it to lapse."""
        key = self._keys.lease(place, what)
        token = (self._redis.get(key) or b"").decode()
        return is_orphaned(token) and bool(self._release([key], [token]))

    def release(self, lease: Lease) -> None:
        """Give it up; one that was lost meanwhile stays with whoever has it.

        Raises nothing where Redis is away: a lease that is renewed no more lapses by itself, and whoever
        gives up several must get to the last of them.
        """
        self.lay_down(lease)
        with contextlib.suppress(redis.RedisError):
            self._release([self._keys.lease(lease.place, lease.what)], [lease.token])

    def lay_down(self, lease: Lease) -> None:
        """Renew it no more; who calls this releases it in an exchange of its own."""
        with self._lock:
            self._held.pop(lease.token, None)

    def release_all(self) -> None:
        """Give up everything this process holds: it leaves, and nobody should have to wait for it."""
        with self._lock:
            held = list(self._held.values())
        for lease in held:
            self.release(lease)

    def is_held(self, place: str, what: str) -> bool:
        """Whether anybody has it: a living worker, but for the last LEASE_S of one that died."""
        return bool(self._redis.exists(self._keys.lease(place, what)))

    @contextlib.contextmanager
    def turn(self, place: str, what: str) -> Iterator[None]:
        """Wait for one's turn at something that only one worker may do at a time."""
        while (lease := self.take(place, what)) is None:
            time.sleep(TURN_WAIT_S)
        try:
            yield
        finally:
            self.release(lease)

    def _keep(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(RENEW_S)
            with self._lock:
                now = time.monotonic()
                self._held = {token: lease for token, lease in self._held.items() if lease.until > now}
                held = list(self._held.values())
                if not held:
                    self._keeper = None
                    return
            for lease in held:
                # Redis away: the lease may lapse, which costs a second copy at worst.
                with contextlib.suppress(Exception):
                    self._renew([self._keys.lease(lease.place, lease.what)], [lease.token, _ms(LEASE_S)])


def new_token() -> str:
    """A secret that names this machine and process."""
    return f"{_HOST} {os.getpid()} {secrets.token_hex(8)}"


def is_orphaned(token: str) -> bool:
    """Whether the token is of a process of this machine that is dead."""
    host, _, pid = token.rpartition(" ")[0].rpartition(" ")
    return host == _HOST and pid.isdigit() and not _is_alive(int(pid))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
