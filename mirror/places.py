"""Who content is read from, by digest, when it matters what reading costs or who may have lost it."""

from __future__ import annotations

from mirror.anywhere import Anywhere, hosts_of, places_of
from mirror.backed import Backed
from mirror.budget import COUNTING_HOSTS
from mirror.engine import Engine
from mirror.near import near_first, order
from mirror.spec import MirrorSpec
from registry.repository import Source


def counts(engine: Engine, host: str) -> bool:
    """Whether reading a manifest there is known to be a pull that counts, or not known to be none."""
    return host in COUNTING_HOSTS or engine.counts_pulls(host) is not False


def any_counts(engine: Engine, source: Source) -> bool:
    """The same of any of those that are asked where ``source`` is several."""
    return any(counts(engine, host) for host in hosts_of(source))


def uncounted(engine: Engine, spec: MirrorSpec, region: str, source: Source) -> Anywhere | None:
    """The source and the targets, as far as reading there is no pull that counts; None: none of them.

    What tags are, and what refers to what, is the source's to say all the same.
    """
    free = [one for one in _all(engine, spec, region, source) if not counts(engine, one.host)]
    return Anywhere(free, named=source) if free else None


def everywhere(engine: Engine, spec: MirrorSpec, region: str, source: Source) -> Anywhere:
    """The source, then the targets: what it has lost is in one of them. Whoever counts comes last."""
    places = _all(engine, spec, region, source)
    return Anywhere(sorted(places, key=lambda one: counts(engine, one.host)), named=source)


def _all(engine: Engine, spec: MirrorSpec, region: str, source: Source) -> list[Source]:
    """The source's places first, on the terms on which they were opened."""
    own = places_of(source)
    names = {one.name for one in own}
    return [*own, *(one for one in _targets(engine, spec, region) if one.name not in names)]


def backed(engine: Engine, spec: MirrorSpec, region: str, source: Source) -> Source:
    """The source, and the mirror's other registries for what is asked by digest while it is away.

    A source that gives only so much is not asked for a manifest that is known to be in one of them. Itself
    where nobody else may be asked (``read_from``), or there is none.
    """
    if spec.reads_targets:
        return source
    is_limited = engine.is_limited(source.host)
    found = order(engine.near, spec, region, source.host, is_limited=is_limited)
    hosts = [host for host in (*found.before, *found.after) if host != source.host]
    if not hosts:
        return source
    names = near_first(engine.near, spec, region)
    others = [name for host in hosts for name in names if name.partition("/")[0] == host]

    def holders(digest: str) -> list[str]:
        seen = engine.ledger.content.seen
        free = (
            [name for name in others if not engine.is_limited(name.partition("/")[0])] if is_limited else []
        )
        return [name for name in free if seen(*_split(name), [digest])]

    (at_source,) = engine.near.reaches(region, [source.host])
    is_down = at_source.standing == "down"
    return Backed(source, others, engine.open_repository, is_down=is_down, holders=holders)


def _split(name: str) -> tuple[str, str]:
    host, _, path = name.partition("/")
    return host, path


def _targets(engine: Engine, spec: MirrorSpec, region: str) -> list[Source]:
    """The nearest first."""
    return [engine.open_repository(name) for name in near_first(engine.near, spec, region)]
