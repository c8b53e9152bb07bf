"""Free ports on this machine."""

from __future__ import annotations

import socket
from contextlib import suppress
from random import SystemRandom

LOOPBACK = "127.0.0.1"
PORTS = range(20000, 30000)
"""Below those that the system gives to outgoing connections: what was refused for a while is still free."""


def free_port() -> int:
    """A TCP port that nothing listened on a moment ago.

    Another process may take it before its user does, so a program that can bind port 0 and say which port
    it got is better off with that.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def free_fixed_port() -> int:
    """A port that is free and that no outgoing connection will be given."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            port = SystemRandom().choice(PORTS)
            probe.bind((LOOPBACK, port))
            return port


def is_listening(port: int) -> bool:
    """Whether something accepts connections on the loopback ``port``."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0
