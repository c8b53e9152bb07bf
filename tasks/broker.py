"""The fleet's Redis: how a process reaches it, and whether it is one that a fleet can rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
from redis.sentinel import Sentinel

from config.redis_url import RedisServer, parse_redis_url
from registry.redact import redacted

CONNECT_TIMEOUT_S, SOCKET_TIMEOUT_S, SENTINEL_TIMEOUT_S = 5.0, 30.0, 2.0
OLDEST = {"redis": (6, 2), "valkey": (7, 2)}
"""Before these there is no BLMOVE, or no such server."""


class BrokerUnreachable(Exception):
    """Redis does not answer; the text names the place (never the password) and what to do."""


class BrokerRefuses(BrokerUnreachable):
    """Redis answers, and refuses this account, or takes no writes just now: waiting may help, or may not."""


class WrongBroker(Exception):
    """Redis answers, and no fleet can run on it; the text says why and what to do."""


def connect(url: str, patience_s: float = SOCKET_TIMEOUT_S) -> redis.Redis:
    """A client of the ledger's Redis that was seen to answer.

    Where there are Sentinels, each new connection asks them for the primary, and one that finds its
    primary demoted asks again.

    Raises:
        BrokerUnreachable: it does not answer.
        BrokerRefuses: it refuses the account, or is a replica.
        WrongBroker: it is a cluster, a Sentinel or too old.
    """
    server = parse_redis_url(url)
    client = _client(server, patience_s)
    try:
        about = _hello(client)
    except redis.AuthenticationError as error:
        raise BrokerRefuses(
            f"Redis at {server} refuses the account ({redacted(str(error))}); "
            "check the user and the password in SEALIFT_REDIS_URL"
        ) from error
    except redis.RedisError as error:
        raise BrokerUnreachable(
            f"Redis at {server} does not answer ({redacted(str(error))}); "
            "check SEALIFT_REDIS_URL and that the server runs"
        ) from error
    if fault := _fault(about):
        raise WrongBroker(f"Redis at {server} {fault}")
    if about.get("role") in {"replica", "slave"}:
        raise BrokerRefuses(
            f"Redis at {server} is a replica, which takes no writes; name the primary in SEALIFT_REDIS_URL, "
            "or the Sentinels: sentinel://HOST:26379/0?master_name=NAME"
        )
    return client


def sentinel_options(server: RedisServer) -> dict[str, Any]:
    """What a connection to one of the Sentinels is made with.

    Each is asked once: to wait for one that is dead would keep everybody from the next.
    """
    account = {"username": server.sentinel_username, "password": server.sentinel_password}
    return {
        **{name: value for name, value in account.items() if value is not None},
        **({"ssl": True, **server.tls.options} if server.tls else {}),
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "socket_timeout": SENTINEL_TIMEOUT_S,
        "retry": None,
    }


def check(url: str, patience_s: float, replicas: int = 0) -> list[str]:
    """Look at a Redis before relying on it; its :func:`weaknesses`. WrongBroker.

    One that is away may come back: nothing is said of it. One that refuses says why, a line like the others.
    """
    try:
        with connect(url, patience_s) as client:
            return weaknesses(client, replicas)
    except BrokerRefuses as error:
        return [str(error)]
    except BrokerUnreachable:
        return []


def weaknesses(client: redis.Redis, replicas: int = 0) -> list[str]:
    """What may lose the ledger on a server that works, or hold tags up, a line each, with what to do.

    ``replicas`` must confirm what is promised. Nothing where the account may not look (INFO).
    """
    try:
        info: Any = client.info("everything")
    except redis.ResponseError:
        return []
    found = []
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        found.append(
            f"Redis may evict what it holds (maxmemory-policy {policy}), and with it what runs are; "
            "set maxmemory-policy noeviction"
        )
    if not info.get("aof_enabled"):
        found.append("Redis keeps no append-only file: a restart may lose runs; set appendonly yes")
    if (connected := int(info.get("connected_slaves", 0))) < replicas:
        found.append(
            f"Redis has {connected} of the {replicas} replicas that must have written what tags were before "
            "they move: until then none moves in several targets; start them, each with an append-only file, "
            "or lower SEALIFT_CONFIRM_REPLICAS"
        )
    return found


def _client(server: RedisServer, patience_s: float) -> redis.Redis:
    terms: dict[str, Any] = {
        "db": server.database,
        "username": server.username,
        "password": server.password,
        "socket_connect_timeout": min(CONNECT_TIMEOUT_S, patience_s),
        "socket_timeout": patience_s,
        "health_check_interval": 25,
        **(server.tls.options if server.tls else {}),
    }
    if server.service is not None:
        sentinels: Any = _untyped(Sentinel)(server.hosts, sentinel_kwargs=sentinel_options(server))
        made: redis.Redis = sentinels.master_for(server.service, ssl=server.tls is not None, **terms)
        return made
    if server.socket is not None:
        kind: Any = redis.UnixDomainSocketConnection
        place: dict[str, Any] = {"path": server.socket}
    else:
        kind = redis.SSLConnection if server.tls else redis.Connection
        ((host, port),) = server.hosts
        place = {"host": host, "port": port}
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=kind, **place, **terms))


def _hello(client: redis.Redis) -> dict[str, str]:
    """What the server says it is: that takes no rights, unlike INFO."""
    try:
        answer = _untyped(client).execute_command("HELLO")
    except redis.ResponseError as error:
        if "unknown command" in str(error):  # before Redis 6
            return {"server": "redis", "version": "5", "mode": "standalone"}
        raise
    if isinstance(answer, list):  # RESP2
        answer = dict(zip(answer[::2], answer[1::2], strict=True))
    return {_text(name): _text(value) for name, value in answer.items()}


def _untyped(client: Any) -> Any:
    """redis-py has no types for commands by name, nor for Sentinels."""
    return client


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _fault(about: Mapping[str, str]) -> str:
    if about.get("mode") == "cluster":
        return (
            "is a cluster, and Celery's transport (kombu) cannot work on one; "
            "use one server, or a primary with replicas and Sentinels"
        )
    if about.get("mode") == "sentinel":
        return "is a Sentinel; write sentinel:// instead of redis://, and ?master_name=NAME at its end"
    oldest = OLDEST.get(about.get("server", ""))
    version = tuple(int(part) for part in about.get("version", "").split(".")[:2] if part.isdecimal())
    if oldest and version and version < oldest:
        wanted = ".".join(map(str, oldest))
        return f"is {about['server']} {about['version']}, which is too old; use {wanted} or later"
    return ""
