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

from config.checks import bytes_of, seconds_of
from config.environment import looked_up
from config.fleet import Fleet, Mirror
from config.problems import FleetError, Problem
from config.registries import RegistryConfig
from config.settings import Settings
from config.verification import VerifyRules
from mirror.budget import Allowance
from mirror.select import Selection
from mirror.spec import MirrorSpec, Target, Verification
from registry.credentials import CredentialEntry
from registry.endpoint import Endpoint, ListingTerms, Timeouts
from registry.reference import LAYOUT, MalformedReference, Reference, Wildcard, is_wildcard
from tasks.clashes import clashes
from tasks.rings import rings
from tasks.sides import side_problems, two_way

Where = tuple[str | int, ...]
_REPOSITORY_GLOB = re.compile(r"[a-z0-9._/*?\[\]!-]+")
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


def verifying(spec: MirrorSpec, how: Verification) -> MirrorSpec:
    """A run that verifies what a run of ``spec`` brings."""
    return replace(spec, kind="verify", verification=how)


def verification_of(rules: VerifyRules) -> Verification:
    """How the fleet file has a mirror verified."""
    return Verification(
        sample=rules.sample or 0,
        deep=rules.deep,
        most_bytes=bytes_of(rules.bytes) if rules.bytes else 0,
        bytes_per_s=bytes_of(rules.rate) if rules.rate else 0,
        repairs=rules.repair,
    )


def check_fleet(fleet: Fleet) -> None:
    """Raise FleetError with everything that structure and types let through."""
    problems: list[Problem] = list(_registry_problems(fleet))
    specs = [_spec(mirror, fleet, problems) for mirror in fleet.mirrors]
    problems += (*clashes(fleet, specs), *rings(fleet, specs), *_webhook_problems(fleet))
    if problems:
        raise FleetError(_ordered(problems))


def endpoint_of(fleet: Fleet, settings: Settings, host: str, whole_s: float | None = None) -> Endpoint:
    """How ``host``, spelled as in references, is reached; a proxy whose variable is not set is its fault."""
    key, config = _registry(fleet, host)
    pair = (config.client_cert, config.client_key)
    proxy, fault = None, ""
    try:
        proxy = looked_up(fleet, ("registries", key, "proxy"), config.proxy) if config.proxy else None
    except FleetError as error:  # where the registry is not asked, nobody needs its proxy
        fault = str(error)
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
        timeouts=Timeouts(
            settings.connect_timeout_s, settings.read_timeout_s, settings.commit_timeout_s, whole_s
        ),
        fault=fault,
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


def entry_of(fleet: Fleet, host: str) -> RegistryConfig:
    """What the file says about ``host``, spelled as in references; an empty entry where it says nothing."""
    return _registry(fleet, host)[1]


def probes_may_pull(fleet: Fleet, host: str) -> bool:
    """Whether a probe of ``host`` may cost a pull."""
    return _registry(fleet, host)[1].probe_pulls


def listing_of(fleet: Fleet, host: str) -> ListingTerms:
    """How the repositories of ``host`` are listed, and where."""
    _, config = _registry(fleet, host)
    usual = ListingTerms.usual(host)
    return ListingTerms(config.listing or usual.kind, config.listing_host or usual.host)


def listing_tokens(fleet: Fleet) -> dict[str, CredentialEntry]:
    """What listing APIs want to be shown, by the registry's host, still as ``env:`` and ``file:``."""
    return {
        canonical: CredentialEntry("", _placed(config.listing_token, fleet))
        for host, config in fleet.registries.items()
        if config.listing_token and (canonical := host_of(host))
    }


def _known_as(username: str) -> str:
    """The name as the file spells it, the same for the whole fleet; an e-mail address as its hash."""
    if _PLAIN_NAME.fullmatch(username):
        return username
    return f"account-{sha256(username.encode()).hexdigest()[:12]}"


def _spec(mirror: Mirror, fleet: Fleet, problems: list[Problem]) -> MirrorSpec | None:
    """None, and the reasons added to ``problems``, if the mirror cannot be used."""
    before = len(problems)
    at: Where = ("mirrors", _position(mirror, fleet))
    source = _repository(fleet, (*at, "source"), mirror.source, problems) if mirror.source else ""
    targets = _targets(mirror, fleet, at, source if len(problems) == before else "", problems)
    spec = MirrorSpec(
        name=mirror.name,
        source=source,
        targets=targets,
        include=mirror.tags.include,
        exclude=mirror.tags.exclude,
        newest=mirror.tags.newest,
        newest_by=mirror.tags.newest_by,
        platforms=mirror.platforms,
        referrers=mirror.referrers,
        finalize=mirror.finalize,
        repositories=mirror.repositories.include,
        not_repositories=mirror.repositories.exclude,
        read_from=mirror.read_from,
        keep=mirror.keep,
        trust_s=seconds_of(mirror.trust_ledger_for) if mirror.trust_ledger_for else 0,
        delete=mirror.delete,
        delete_share=mirror.delete_share,
        delete_after_s=seconds_of(mirror.delete_after),
    )
    if mirror.mode == "two_way":
        spec = two_way(spec, mirror)
        problems += side_problems(spec, mirror, fleet, at)
    problems += (*_repository_problems(spec, fleet, at), *_pattern_problems(spec, fleet, at))
    if len(problems) == before and spec.delete != "never" and Selection.of(spec).literals() is not None:
        key, why = "delete", "the source is never listed"
        if spec.two_way:
            key, why = "deletes", "the sides are never listed"
        fault = f"is of no use where tags are named one by one: {why}; leave it out"
        problems.append(fleet.problem((*at, key), fault))
    return spec if len(problems) == before else None


def _targets(
    mirror: Mirror, fleet: Fleet, at: Where, source: str, problems: list[Problem]
) -> tuple[Target, ...]:
    """As the engine has them; ``source``: what they have to fit, empty where that is not known."""
    names: dict[str, int] = {}
    targets: list[Target] = []
    for place, target in enumerate(mirror.targets):
        where = (*at, "targets", place, "repository")
        known = len(problems)
        name = _repository(fleet, where, target.repository, problems)
        fault = misfit(source, name) if source and len(problems) == known else ""
        if fault:
            problems.append(fleet.problem(where, fault))
        elif name in names:
            first = fleet.line_of(*at, "targets", names[name])
            problems.append(fleet.problem(where, f"{name} is a target already ({first}); keep one of them"))
        names.setdefault(name, place)
        targets.append(Target(name, target.region))
    return tuple(targets)


def misfit(source: str, target: str) -> str:
    """What keeps a target from being one of the source, both by their full names; empty if nothing does."""
    if target == source:
        return f"{target} is the source itself; name another repository"
    if is_wildcard(source) and not is_wildcard(target):
        return f"{source} is many repositories; end the target with a wildcard too, as in {target}/*"
    if is_wildcard(target) and not is_wildcard(source):
        return f"{source} is one repository; name one to write, without '*'"
    mine, theirs = source.removesuffix("*"), target.removesuffix("*")
    if is_wildcard(source) and (mine.startswith(theirs) or theirs.startswith(mine)):
        return f"{target} and the source {source} are within each other; use another prefix"
    return ""


def _repository_problems(spec: MirrorSpec, fleet: Fleet, at: Where) -> Iterator[Problem]:
    """What is wrong with a wildcard, and with the choice of its repositories."""
    if is_wildcard(spec.source) and spec.source.startswith(LAYOUT):
        yield fleet.problem((*at, "source"), "folders are not searched for layouts; name them one by one")
    globs = (*spec.repositories, *spec.not_repositories)
    if not is_wildcard(spec.source) and globs != ("*",):
        what = "targets that end" if spec.two_way else "a source that ends"
        yield fleet.problem((*at, "repositories"), f"belongs to {what} with '/*'; leave it out")
    for key, texts in (("include", spec.repositories), ("exclude", spec.not_repositories)):
        for place, text in enumerate(texts):
            if not _REPOSITORY_GLOB.fullmatch(text):
                fault = f"{text!r} is no glob about names of repositories, which are lower case"
                yield fleet.problem((*at, "repositories", key, place), fault)
    if not spec.repositories:
        yield fleet.problem((*at, "repositories"), "include is empty and would select nothing; leave it out")


def _repository(fleet: Fleet, where: Where, text: str, problems: list[Problem]) -> str:
    """The repository's full name; the text itself, and a problem, if it is none."""
    try:
        if is_wildcard(text):
            return str(_placed_wildcard(text, fleet))
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


def _placed_wildcard(text: str, fleet: Fleet) -> Wildcard:
    """The wildcard, a layout's folder from the root. Raises MalformedReference."""
    wildcard = Wildcard.parse(text)
    if wildcard.host != LAYOUT:
        return wildcard
    return Wildcard.parse(f"{LAYOUT}{fleet.resolve(wildcard.prefix.rstrip('/'))}/*")


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
            yield from _listing_problems(fleet, host, canonical)


def _webhook_problems(fleet: Fleet) -> Iterator[Problem]:
    for place, webhook in enumerate(fleet.webhooks):
        if webhook.registry is not None and host_of(webhook.registry) != webhook.registry:
            fault = f"{webhook.registry!r} is not a registry host; write it as in references (name[:port])"
            yield fleet.problem(("webhooks", place, "registry"), fault)


def _listing_problems(fleet: Fleet, key: str, host: str) -> Iterator[Problem]:
    config, where = fleet.registries[key], ("registries", key)
    if config.listing_host and host_of(config.listing_host) != config.listing_host:
        fault = f"{config.listing_host!r} is not a host; write name[:port] in small letters"
        yield fleet.problem((*where, "listing_host"), fault)
    if config.listing_token and listing_of(fleet, host).kind == "catalog":
        fault = "is of no use to a catalog, which takes the registry's account; say which API under listing"
        yield fleet.problem((*where, "listing_token"), fault)


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
