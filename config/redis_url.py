"""A Redis URL, read once: every client, whichever library makes it, is made from the value found here.

Texts say what is wrong and what to do, and never repeat a part of the URL that may be a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

CertReqs = Literal["required", "optional", "none"]
FORMS = (
    "redis://HOST:PORT/DB, rediss://… with TLS, redis+socket://PATH, or "
    "sentinel://HOST:26379;sentinel://HOST:26379/DB?master_name=NAME"
)
_ENCODE = "In a password write : / ? # ; @ as %3A %2F %3F %23 %3B %40"
REDIS_PORT, SENTINEL_PORT = 6379, 26379
_SCHEMES = ("redis", "rediss", "redis+socket", "unix", "sentinel")
_SSL = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "redis": (),
    "rediss": _SSL,
    "redis+socket": ("virtual_host",),
    "unix": ("db",),
    "sentinel": ("master_name", "sentinel_username", "sentinel_password", "ssl", *_SSL),
}


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the servers, and to the Sentinels before them; paths are of PEM files."""

    ca_certs: str | None = None
    """Authorities to trust; None: the system's."""
    certfile: str | None = None
    keyfile: str | None = None
    cert_reqs: CertReqs = "required"
    check_hostname: bool = True

    @property
    def options(self) -> dict[str, str | bool | None]:
        """As redis-py, and with it Celery and Flower, take them."""
        return {
            "ssl_ca_certs": self.ca_certs,
            "ssl_certfile": self.certfile,
            "ssl_keyfile": self.keyfile,
            "ssl_cert_reqs": self.cert_reqs,
            "ssl_check_hostname": self.check_hostname,
        }


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Where the fleet's Redis is: at one address, on a socket, or wherever the Sentinels say."""

    hosts: tuple[tuple[str, int], ...]
    """Of the server, or of the Sentinels; empty on a socket."""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    socket: str | None = None
    service: str | None = None
    """What the Sentinels call the primary and its replicas; None: they are not asked."""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    @property
    def celery_url(self) -> str:
        """As kombu takes it, without query: TLS and the service are options there.

        Each Sentinel's part has the account and the database: kombu goes from one to the next and keeps
        nothing of the first.
        """
        if self.socket is not None:
            return f"redis+socket://{self._account}{quote(self.socket)}?virtual_host={self.database}"
        scheme = "sentinel" if self.service else "rediss" if self.tls else "redis"
        parts = (
            f"{scheme}://{self._account}{_bracketed(host)}:{port}/{self.database}"
            for host, port in self.hosts
        )
        return ";".join(parts)

    @property
    def bare_url(self) -> str:
        """The same without the account: kombu hides the first password of a list, and no other."""
        return RedisServer(
            self.hosts, self.database, socket=self.socket, service=self.service, tls=self.tls
        ).celery_url

    def __str__(self) -> str:
        """For people: where it is, without the account."""
        return f"{self.bare_url} ({self.service})" if self.service else self.bare_url

    @property
    def _account(self) -> str:
        if self.username is None and self.password is None:
            return ""
        password = f":{quote(self.password, safe='')}" if self.password is not None else ""
        return f"{quote(self.username or '', safe='')}{password}@"


def parse_redis_url(url: str) -> RedisServer:
    """What a Redis URL says. Raises ValueError with a text that repeats no secret.

    ``sentinel://`` lists the Sentinels, divided by ``;``. Account, database and options may stand in any
    of its parts, each once.
    """
    parts = [_split(part) for part in url.strip().split(";") if part]
    if not parts:
        raise ValueError(f"not a Redis URL; write {FORMS}")
    scheme = parts[0].scheme
    if any(part.scheme != scheme for part in parts) or (len(parts) > 1 and scheme != "sentinel"):
        raise ValueError("only sentinel:// URLs can be a list, and all of a list must be sentinel://")
    options = _options(scheme, parts)
    username, password = _account_of(parts)
    if scheme in {"redis+socket", "unix"}:
        path = unquote(parts[0].path)
        if not path:
            raise ValueError("a Redis socket needs its path: redis+socket:///run/redis.sock")
        database = options.get("virtual_host", options.get("db", "0"))
        return RedisServer((), _database(database), username, password, socket=path)
    service = options.get("master_name")
    if scheme == "sentinel" and not service:
        raise ValueError("sentinel:// needs what the Sentinels call the primary: end it in ?master_name=NAME")
    return RedisServer(
        hosts=tuple(_host(part, SENTINEL_PORT if service else REDIS_PORT) for part in parts),
        database=_database(_one(parts, "database", lambda part: unquote(part.path.strip("/"))) or "0"),
        username=username,
        password=password,
        service=service,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
        tls=_tls(options) if scheme == "rediss" or _wants_tls(options) else None,
    )


def _split(part: str) -> SplitResult:
    unreadable = f"not a Redis URL: its host or port cannot be read. {_ENCODE}"
    try:
        split = urlsplit(part)
        has_port = split.port != 0
    except ValueError:
        raise ValueError(unreadable) from None
    if split.fragment or not has_port:
        raise ValueError(unreadable)
    if split.scheme not in _SCHEMES:
        raise ValueError(f"not a Redis URL; write {FORMS}")
    return split


def _one(parts: list[SplitResult], what: str, read: Callable[[SplitResult], str | None]) -> str | None:
    """What one part says, or several alike."""
    said = {value for part in parts if (value := read(part))}
    if len(said) > 1:
        raise ValueError(f"the parts of the sentinel:// URL give more than one {what}; give it once")
    return said.pop() if said else None


def _account_of(parts: list[SplitResult]) -> tuple[str | None, str | None]:
    username = _one(parts, "user", lambda part: part.username)
    password = _one(parts, "password", lambda part: part.password)
    return (unquote(username) if username else None, unquote(password) if password else None)


def _options(scheme: str, parts: list[SplitResult]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        for name, value in parse_qsl(part.query, keep_blank_values=True):
            if name not in _OPTIONS[scheme]:
                known = ", ".join(_OPTIONS[scheme]) or "none"  # the name may be the rest of a password
                raise ValueError(f"an unknown option; {scheme}:// takes: {known}. {_ENCODE}")
            if found.setdefault(name, value) != value:
                raise ValueError(f"the option {name} stands there twice; give it once")
    return found


def _host(part: SplitResult, port: int) -> tuple[str, int]:
    if not part.hostname:
        raise ValueError(f"not a Redis URL: it has no host; write {FORMS}")
    return part.hostname, part.port or port


def _database(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("the database of a Redis URL is a number: redis://HOST:PORT/0")
    return int(text)


def _wants_tls(options: dict[str, str]) -> bool:
    return _truth("ssl", options["ssl"]) if "ssl" in options else any(name in options for name in _SSL)


def _tls(options: dict[str, str]) -> Tls:
    reqs = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if reqs not in get_args(CertReqs):
        raise ValueError("ssl_cert_reqs is one of required, optional, none")
    named = next(one for one in get_args(CertReqs) if one == reqs)
    checks = _truth("ssl_check_hostname", options.get("ssl_check_hostname", "true")) and named != "none"
    authorities, certificate, key = (
        options.get(f"ssl_{name}") for name in ("ca_certs", "certfile", "keyfile")
    )
    return Tls(authorities, certificate, key, named, checks)


def _truth(name: str, text: str) -> bool:
    if text.lower() not in {"true", "yes", "1", "false", "no", "0"}:
        raise ValueError(f"{name} is true or false")
    return text.lower() in {"true", "yes", "1"}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
