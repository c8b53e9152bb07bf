"""Who content is read from, by digest, when it matters what reading costs or who may have lost it."""

from __future__ import annotations

from mirror.anywhere import Anywhere, hosts_of, places_of
from mirror.budget import COUNTING_HOSTS
from mirror.engine import Engine
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


def _targets(engine: Engine, spec: MirrorSpec, region: str) -> list[Source]:
    """Those of the region first."""
    near_first = sorted(spec.targets, key=lambda target: target.region != region)
    return [engine.open_repository(target.repository) for target in near_first]
