"""Grammars of single values of the fleet file; each check returns its value or raises ValueError.

Texts say what is wrong and what to do, and never repeat a value that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from pydantic import SecretStr

from config.redis_url import parse_redis_url

REGION_NAME = r"[a-z0-9][a-z0-9-]{0,62}"
MIRROR_NAME = r"[a-z0-9][a-z0-9._-]{0,99}"
PLATFORM = r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9.]+)?"
SPAN = r"[1-9][0-9]{0,6}[smhd]"
SIZE = r"[1-9][0-9]{0,5}(?:kB|MB|GB|TB|KiB|MiB|GiB|TiB)"
RESERVED = frozenset({"control", "unacked"})
"""The queue of tasks of no region, and the hash of messages taken by workers that name no region."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES: dict[str, int] = {
    **{unit: 1000**power for power, unit in enumerate(("kB", "MB", "GB", "TB"), 1)},
    **{unit: 1024**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), 1)},
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_RECEIVER = re.compile(
    r"(?:json|form|xml)s?://(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::\d+)?/?"
)
"""A web server's address and nothing else, with s by TLS: paths of hooks are secrets as a rule."""


def matching(grammar: str, expected: str) -> Callable[[str], str]:
    """A check that the whole value is of ``grammar``."""
    pattern = re.compile(grammar)

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"{value!r} is not allowed; use {expected}")
        return value

    return check


def seconds_of(span: str) -> int:
    """``90s``, ``15m``, ``1h`` or ``2d``, checked by SPAN, in seconds."""
    return int(span[:-1]) * _SECONDS[span[-1]]


def bytes_of(size: str) -> int:
    """``500MB``, ``20GB`` or ``64MiB``, checked by SIZE, in bytes."""
    number = size.rstrip("kKMGTiB")
    return int(number) * _BYTES[size.removeprefix(number)]


def not_reserved(region: str) -> str:
    if region in RESERVED:
        raise ValueError(f"{region!r} is a name of Sealift's own queues; choose another region name")
    return region


def check_username(value: str) -> str:
    return _checked_source(value) if is_indirect(value) else value


def check_secret(value: str) -> str:
    """Only where a secret is kept may stand in the file, never the secret."""
    if not is_indirect(value):
        raise ValueError("a secret must not stand in this file; write env:NAME or file:PATH")
    return _checked_source(value)


def check_redis_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if is_indirect(text):
        _checked_source(text)
    else:
        parse_redis_url(text)
    return value


def check_proxy(value: str) -> str:
    if is_indirect(value):
        return _checked_source(value)
    try:
        parts = urlsplit(value)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if "@" in value:
        raise ValueError("a proxy with an account must not stand in this file; write env:NAME")
    if not known:
        raise ValueError("not a proxy; write http://HOST:PORT, https://HOST:PORT or env:NAME")
    return value


def check_receiver(value: str) -> str:
    """Addresses of notifications are secrets as a rule: only what cannot hold one may stand in the file."""
    if is_indirect(value):
        return _checked_source(value)
    if not _PLAIN_RECEIVER.fullmatch(value):
        raise ValueError(
            "an address that may hold a secret must not stand in this file; write env:NAME or file:PATH "
            "(json://HOST:PORT, form:// and xml:// without account, path and query may stand here)"
        )
    if not _has_port(value):
        raise ValueError("a port is a number from 1 to 65535; without one it is the scheme's own")
    return value


def is_indirect(value: str) -> bool:
    """Whether ``value`` names where the value is kept: ``env:NAME`` or ``file:PATH``."""
    return value.startswith(("env:", "file:"))


def _has_port(url: str) -> bool:
    """Whether the port, where one is given, is one."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _checked_source(value: str) -> str:
    kind, _, rest = value.partition(":")
    if kind == "env" and not _VARIABLE.fullmatch(rest):
        raise ValueError("env: must be followed by the name of an environment variable")
    if not rest:
        raise ValueError("file: must be followed by the path of a file")
    return value
