"""Values that the fleet file only points at: ``env:NAME`` and ``file:PATH``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import SecretStr

from config.checks import is_indirect
from config.fleet import Fleet
from config.lines import Path as Where
from config.problems import FleetError, Problem
from config.redis_url import parse_redis_url
from config.webhooks import secret_fault


def check_environment(fleet: Fleet, environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Every variable and file that the fleet file names and this process lacks, in the file's order.

    And those that hold no secret of a webhook.
    """
    found = [
        fleet.problem(where, fault)
        for where, value in _indirect(fleet)
        if (fault := _fault(value, fleet, environ))
    ]
    for place in range(len(fleet.webhooks)):
        try:
            secret_of(fleet, place, environ)
        except FleetError as error:
            found += error.problems
    return sorted(found, key=lambda problem: problem.line)


def redis_url_of(fleet: Fleet, environ: Mapping[str, str] = os.environ) -> SecretStr | None:
    """The fleet file's ``redis_url``, looked up where it is kept. FleetError if that is missing or wrong."""
    if fleet.redis_url is None:
        return None
    url = looked_up(fleet, ("redis_url",), fleet.redis_url.get_secret_value(), environ)
    try:
        parse_redis_url(url)
    except ValueError as error:
        raise FleetError((fleet.problem(("redis_url",), str(error)),)) from error
    return SecretStr(url)


def secret_of(fleet: Fleet, place: int, environ: Mapping[str, str] = os.environ) -> str:
    """What the sender of that webhook has to know, as it is now: files are read again. Raises FleetError."""
    where, webhook = ("webhooks", place, "secret"), fleet.webhooks[place]
    secret = looked_up(fleet, where, webhook.secret, environ)
    if fault := secret_fault(webhook.kind, secret):
        raise FleetError((fleet.problem(where, fault),))
    return secret


def looked_up(fleet: Fleet, where: Where, value: str, environ: Mapping[str, str] = os.environ) -> str:
    """What ``value``, which stands at ``where``, points at; itself if it is the value. Raises FleetError."""
    if not is_indirect(value):
        return value
    if fault := _fault(value, fleet, environ):
        raise FleetError((fleet.problem(where, fault),))
    kind, _, rest = value.partition(":")
    if kind == "env":
        return environ[rest]
    path = Path(fleet.resolve(rest))
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise FleetError((fleet.problem(where, f"the file {path} cannot be read: {why}"),)) from None


def _indirect(fleet: Fleet) -> Iterator[tuple[Where, str]]:
    if fleet.redis_url is not None:
        yield ("redis_url",), fleet.redis_url.get_secret_value()
    for host, registry in fleet.registries.items():
        for key in ("username", "password", "proxy", "listing_token"):
            if value := getattr(registry, key):
                yield ("registries", host, key), value
        for place, account in enumerate(registry.accounts):
            yield ("registries", host, "accounts", place, "username"), account.username
            yield ("registries", host, "accounts", place, "password"), account.password
    for place, receiver in enumerate(fleet.notify):
        yield ("notify", place, "to"), receiver.to


def _fault(value: str, fleet: Fleet, environ: Mapping[str, str]) -> str:
    """What keeps ``value`` from being looked up; empty if nothing does."""
    kind, _, rest = value.partition(":")
    if not is_indirect(value):
        return ""
    if kind == "env":
        state = "is empty" if rest in environ else "is not set"
        return "" if environ.get(rest) else f"the environment variable {rest} {state}; export it"
    path = fleet.resolve(rest)
    return "" if os.access(path, os.R_OK) else f"the file {path} cannot be read; create it or name another"
