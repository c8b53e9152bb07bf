"""The few words that are said to an embedded server before any Redis client is imported."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from threading import Event
from time import monotonic

_SCHEME = "redis+socket://"
_SUFFIX = "?virtual_host=0"
_LONGEST_PATH = 100
"""Bytes of a socket's path: the system's limit is 104 (macOS) or 108 (Linux)."""


class ServerFailed(Exception):
    """The embedded server does not answer."""


def url_of(path: Path) -> str:
    """As Celery takes it; the runtime turns it into what redis-py takes."""
    return f"{_SCHEME}{path}{_SUFFIX}"


def socket_of(url: str) -> Path:
    return Path(url.removeprefix(_SCHEME).removesuffix(_SUFFIX))


def socket_path(folder: Path) -> Path:
    """Where the server of a state folder listens: inside it, or in a short private one where it is deep."""
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    import hashlib  # slow to import for a name that is seldom needed
    import tempfile

    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    places = (tempfile.gettempdir(), "/tmp")  # noqa: S108 - the folder in it is private, see make_room
    paths = [Path(place) / f"sealift-{os.getuid()}-{name}" / "valkey.sock" for place in places]
    return next((path for path in paths if len(os.fsencode(path)) <= _LONGEST_PATH), paths[-1])


def standby_path(folder: Path) -> Path:
    """Where the standby process of a state folder listens."""
    return socket_path(folder).with_name("standby.sock")


def user_of(connection: socket.socket) -> int:
    """Who is at the other end of a unix socket; where the system does not say, whoever may open it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.getuid()
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", packed)
    return int(user)


def make_room(path: Path) -> None:
    """A folder for the socket that nobody else can reach into; raises ServerFailed where one stands there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.parent.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or path.parent.is_symlink():
        raise ServerFailed(f"{path.parent} is not a private folder of yours; remove it, or set TMPDIR")


def await_server(path: Path, patience_s: float) -> None:
    """Return as soon as the server answers and has loaded its data; raises ServerFailed."""
    deadline = monotonic() + patience_s
    pause = Event()
    while (answer := _ask(path, b"PING\r\n")) != b"+PONG":
        if monotonic() > deadline:
            said = answer.decode(errors="replace") or "nothing"
            raise ServerFailed(f"the embedded server says {said} after {patience_s:.0f} s")
        pause.wait(0.005)


def shut_down(path: Path) -> None:
    """Ask the server to write its file and go; one that is not there is fine."""
    _ask(path, b"SHUTDOWN\r\n", patience_s=1.0)  # it answers by closing


def _ask(path: Path, command: bytes, patience_s: float = 5.0) -> bytes:
    """The first line of the answer; empty where there is none."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(patience_s)
        connection.connect(str(path))
        connection.sendall(command)
        return connection.recv(1024).partition(b"\r\n")[0]
    return b""
