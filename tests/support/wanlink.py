"""A network namespace whose every packet is carried by us, until we do not: how a region is cut off.

In the namespace ``127.0.0.1`` is this machine's, so that everything here is called the same by everybody.
What listens in the namespace does so at the link's ``address``, and is reached by it from both sides.
Both ends are TUN devices; they and the namespace go with their descriptors.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import SystemRandom
from typing import Literal

from tests.support import carrier

TUN = "/dev/net/tun"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
SETTINGS = Path("/proc/sys/net/ipv4")
QUEUE_PACKETS = 10_000
"""What a device holds while its carrier waits for a core: a wire does not lose packets for that."""
USUAL_MTU = 1500


class Unavailable(Exception):
    """This machine, or whoever we are on it, makes no namespaces; the text says why."""


def enter(namespace: str) -> None:
    """Take the calling thread into the network namespace at that path; OSError."""
    at = os.open(namespace, os.O_RDONLY)
    try:
        _call("setns", at, CLONE_NEWNET)
    finally:
        os.close(at)


class WanLink:
    """From ``namespace`` this machine's loopback addresses are reached, as ``address``, and nothing else."""

    def __init__(
        self,
        hang_up: Callable[[str], None] = lambda _: None,
        round_trip_ms: float = 0.0,
        mtu: int = carrier.MTU,
    ) -> None:
        """``hang_up`` ends every connection of an address; Unavailable.

        Large packets cost little; with those of ``USUAL_MTU`` TCP starts as slowly as over a real distance.
        """
        self._hang_up, self._mtu = hang_up, mtu
        self.mode: Literal["through", "cut"] = "through"
        # Of the range that is set aside for tests of networks (RFC 2544).
        numbers = SystemRandom().sample(range(1, 255), 2)
        self.address, self._near = ("198.{}.{}.{}".format(net, *numbers) for net in (18, 19))
        self._open = contextlib.ExitStack()
        try:
            self.device, near = self._end()
            _ip("address", "add", self._near, "dev", self.device)
            _ip("route", "add", self.address, "dev", self.device, "src", self._near)
            with ThreadPoolExecutor(1) as apart:
                self.namespace, far = apart.submit(self._found).result()
        except (OSError, subprocess.CalledProcessError) as error:
            self._open.close()
            raise Unavailable(f"no network namespace joined by {TUN}: {error}") from error
        self._carrier = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                str(Path(carrier.__file__)),
                str(near),
                str(far),
                str(round_trip_ms),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(near, far),
        )

    def switch(self, mode: Literal["through", "cut"], *, resets: bool = True) -> None:
        """Carry packets or lose them, both ways; ``resets``: what was connected ends as the link heals."""
        assert self._carrier.stdin
        assert self._carrier.stdout
        os.write(self._carrier.stdin.fileno(), mode[:1].encode())
        os.read(self._carrier.stdout.fileno(), 1)
        self.mode = mode
        if mode == "through" and resets:
            self._hang_up(self.address)

    @property
    def inside(self) -> tuple[str, ...]:
        """Words before a command that is to run in the namespace."""
        return ("nsenter", f"--net={self.namespace}")

    def close(self) -> None:
        self._carrier.communicate()  # the end of its input is its own
        self._open.close()

    def _found(self) -> tuple[str, int]:
        """In a thread that leaves for a new namespace: its path, and our end of its only device."""
        _call("unshare", CLONE_NEWNET)
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._open.callback(os.close, namespace)
        device, far = self._end()
        _ip("link", "set", "lo", "up")  # the way to the namespace's own address
        _ip("address", "delete", "127.0.0.1/8", "dev", "lo")
        _ip("address", "add", self.address, "dev", device)
        for here in ("127.0.0.0/8", self._near):
            _ip("route", "add", here, "dev", device, "src", self.address)
        return f"/proc/{os.getpid()}/fd/{namespace}", far

    def _end(self) -> tuple[str, int]:
        """A new device of this thread's namespace, up, and the descriptor that its packets come out of."""
        end = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        self._open.callback(os.close, end)
        given = fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", b"sealift%d", IFF_TUN | IFF_NO_PI))
        device = given[:16].rstrip(b"\0").decode()
        _ip("link", "set", device, "up", "mtu", str(self._mtu), "txqueuelen", str(QUEUE_PACKETS))
        (SETTINGS / "conf" / device / "route_localnet").write_text("1")
        return device, end


def _call(name: str, *arguments: int) -> None:
    """A system call that Python 3.11 has no name for; OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
