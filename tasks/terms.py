"""The fleet file's entries as the engine's values, checked by the grammars of references and patterns.

The second pass over a fleet file: ``config.fleet`` has seen to structure, types and names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Literal

from config.checks import seconds_of
from config.environment import looked_up
from config.fleet import Fleet, Mirror, RegistryConfig
from config.problems import FleetError, Problem
from config.settings import Settings
from mirror.budget import Allowance
from mirror.select import Selection
from mirror.spec import MirrorSpec, Target
from registry.credentials import CredentialEntry
from registry.endpoint import Endpoint, Timeouts
from registry.reference import MalformedReference, Reference

Where = tuple[str | int, ...]
_PLAIN_NAME = re.compile(r"(?:env:)?[A-Za-z0-9_-]{1,64}")


def spec_of(mirror: Mirror, fleet: Fleet) -> MirrorSpec:
    """``mirror`` for the engine, its references in full (``docker.io/library/…``, absolute folders).

    Raises FleetError naming the line.
    """
    problems: list[Problem] = []
    spec = _spec(mirror, fleet, problems)
    if spec is None:
        raise FleetError(_ordered(problems))
    return spec


def check_fleet(fleet: Fleet) -> None:
    """Raise FleetError with everything that structure and types let through."""
    problems: list[Problem] = list(_registry_problems(fleet))
    specs = [_spec(mirror, fleet, problems) for mirror in fleet.mirrors]
    problems += _clashes(fleet, specs)
    if problems:
        raise FleetError(_ordered(problems))


def endpoint_of(fleet: Fleet, settings: Settings, host: str) -> Endpoint:
    """How ``host``, spelled as in references, is reached. FleetError if its proxy's variable is missing."""
    key, config = _registry(fleet, host)
    pair = (config.client_cert, config.client_key)
    proxy = looked_up(fleet, ("registries", key, "proxy"), config.proxy) if config.proxy else None
    return Endpoint(
        host=host,
        plain_http=config.plain_http,
        ca_file=fleet.resolve(config.ca_file) if config.ca_file else None,
        client_cert=(fleet.resolve(pair[0]), fleet.resolve(pair[1])) if pair[0] and pair[1] else None,
        proxy=proxy,
        token_hosts=config.token_hosts,
        upload_hosts=config.upload_hosts,
        max_connections=config.max_concurrency,
        transport="httpx" if proxy else settings.transport,  # the direct transport speaks to no proxy
        timeouts=Timeouts(settings.connect_timeout_s, settings.read_timeout_s, settings.commit_timeout_s),
    )


def credential_entries(fleet: Fleet) -> dict[str, CredentialEntry]:
    """The accounts of the file by host, still as ``env:`` and ``file:``; hosts without one are left out."""
    return {
        canonical: CredentialEntry(_placed(config.username, fleet), _placed(config.password, fleet))
        for host, config in fleet.registries.items()
        if config.username and config.password and (canonical := host_of(host))
    }


def account_entries(fleet: Fleet) -> dict[str, dict[str, CredentialEntry]]:
    """The accounts of hosts that have several, by the name under which the ledger keeps their budgets."""
    return {
        canonical: {
            _known_as(one.username): CredentialEntry(
                _placed(one.username, fleet), _placed(one.password, fleet)
            )
            for one in config.accounts
        }
        for host, config in fleet.registries.items()
        if config.accounts and (canonical := host_of(host))
    }


def allowance_of(fleet: Fleet, host: str) -> Allowance:
    """What the file says about how much ``host`` may be asked."""
    _, config = _registry(fleet, host)
    return Allowance(config.requests_per_minute, config.reserve_percent / 100)


def _known_as(username: str) -> str:
    """The name as the file spells it, the same for the whole fleet; an e-mail address as its hash."""
    if _PLAIN_NAME.fullmatch(username):
        return username
    return f"account-{sha256(username.encode()).hexdigest()[:12]}"


def _spec(mirror: Mirror, fleet: Fleet, problems: list[Problem]) -> MirrorSpec | None:
    """None, and the reasons added to ``problems``, if the mirror cannot be used."""
    before = len(problems)
    at: Where = ("mirrors", _position(mirror, fleet))
    source = _repository(fleet, (*at, "source"), mirror.source, problems)
    names: dict[str, int] = {}
    targets: list[Target] = []
    for place, target in enumerate(mirror.targets):
        where = (*at, "targets", place, "repository")
        name = _repository(fleet, where, target.repository, problems)
        if name == source:
            problems.append(fleet.problem(where, f"{name} is the source itself; name another repository"))
        elif name in names:
            first = fleet.line_of(*at, "targets", names[name])
            problems.append(fleet.problem(where, f"{name} is a target already ({first}); keep one of them"))
        names.setdefault(name, place)
        targets.append(Target(name, target.region))
    spec = MirrorSpec(
        name=mirror.name,
        source=source,
        targets=tuple(targets),
        include=mirror.tags.include,
        exclude=mirror.tags.exclude,
        newest=mirror.tags.newest,
        newest_by=mirror.tags.newest_by,
        platforms=mirror.platforms,
        referrers=mirror.referrers,
        finalize=mirror.finalize,
        read_from=mirror.read_from,
        trust_s=seconds_of(mirror.trust_ledger_for) if mirror.trust_ledger_for else 0,
    )
    problems += _pattern_problems(spec, fleet, at)
    return spec if len(problems) == before else None


def _repository(fleet: Fleet, where: Where, text: str, problems: list[Problem]) -> str:
    """The repository's full name; the text itself, and a problem, if it is none."""
    try:
        reference = _parsed(text, fleet)
    except MalformedReference as error:
        problems.append(fleet.problem(where, f"not a repository: {error}"))
        return text
    if reference.tag or reference.digest:
        hint = f"write {reference.name} and choose tags under 'tags'"
        problems.append(fleet.problem(where, f"{text!r} names one image, not a repository; {hint}"))
    return reference.name


def _parsed(text: str, fleet: Fleet) -> Reference:
    """The reference, a layout's folder from the root. Raises MalformedReference."""
    reference = Reference.parse(text)
    if not reference.is_layout:
        return reference
    placed = replace(reference, repository=fleet.resolve(reference.repository))
    if Reference.parse(placed.name) != placed.bare:
        raise MalformedReference(f"{placed.name}: a folder's path may not hold ':' or '@'")
    return placed


def _pattern_problems(spec: MirrorSpec, fleet: Fleet, at: Where) -> Iterator[Problem]:
    """Each malformed pattern at its own line, then what is wrong with the selection as a whole."""
    whole = True
    kinds: tuple[tuple[Literal["include", "exclude"], tuple[str, ...]], ...] = (
        ("include", spec.include),
        ("exclude", spec.exclude),
    )
    for key, texts in kinds:
        for place, text in enumerate(texts):
            fault = _fault(partial(Selection, (text,)))
            if fault:
                whole = False
                yield fleet.problem((*at, "tags", key, place), fault)
    fault = _fault(partial(Selection.of, spec)) if whole else ""
    if fault:
        yield fleet.problem((*at, "tags"), fault)


def _fault(action: Callable[[], object]) -> str:
    try:
        action()
    except ValueError as error:
        return str(error)
    return ""


def _clashes(fleet: Fleet, specs: list[MirrorSpec | None]) -> Iterator[Problem]:
    """Targets that two mirrors may write the same tag to: each would undo the other's work."""
    writers: dict[str, list[tuple[int, MirrorSpec]]] = {}
    sound = [(place, spec) for place, spec in enumerate(specs) if spec is not None]
    for place, spec in sound:
        for number, target in enumerate(spec.targets):
            for other_place, other in writers.get(target.repository, []):
                if shared := _overlap(spec, other):
                    where = ("mirrors", place, "targets", number, "repository")
                    at = fleet.line_of("mirrors", other_place)
                    yield fleet.problem(
                        where,
                        f"mirror {other.name!r} ({at}) writes {target.repository} too, and {shared}; "
                        "use another repository, or list different tags one by one in both",
                    )
            writers.setdefault(target.repository, []).append((place, spec))


def _overlap(one: MirrorSpec, other: MirrorSpec) -> str:
    """How two mirrors of one target may meet in a tag; empty if they cannot."""
    mine, theirs = Selection.of(one).literals(), Selection.of(other).literals()
    if mine is None or theirs is None:
        return "their tags may be the same"
    both = [tag for tag in mine if tag in set(theirs)]
    return f"both write the tag {both[0]}" if both else ""


def _registry_problems(fleet: Fleet) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for host in fleet.registries:
        where: Where = ("registries", host)
        canonical = host_of(host)
        if canonical is None:
            yield fleet.problem(
                where, f"{host!r} is not a registry host; write it as in references (name[:port])"
            )
        elif canonical in first:
            at = fleet.line_of("registries", first[canonical])
            yield fleet.problem(
                where, f"{host} is {first[canonical]} ({at}) by another name; keep one of them"
            )
        else:
            first[canonical] = host


def _registry(fleet: Fleet, host: str) -> tuple[str, RegistryConfig]:
    """The entry for ``host`` and its key in the file; an empty one if there is none."""
    for key, config in fleet.registries.items():
        if host_of(key) == host:
            return key, config
    return host, RegistryConfig()


def host_of(text: str) -> str | None:
    """``text`` as references spell a host, None if it is none."""
    try:
        reference = Reference.parse(f"{text}/a/b")
    except MalformedReference:
        return None
    return reference.host if reference.repository == "a/b" else None


def _placed(value: str, fleet: Fleet) -> str:
    """``file:`` with its path from the root: workers have a working directory of their own."""
    kind, _, path = value.partition(":")
    return f"file:{fleet.resolve(path)}" if kind == "file" else value


def _position(mirror: Mirror, fleet: Fleet) -> int:
    return next((place for place, one in enumerate(fleet.mirrors) if one is mirror), 0)


def _ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.line))
