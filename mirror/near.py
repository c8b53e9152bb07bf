"""Which of a mirror's registries a region reads from first, as its probes say."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mirror.ledger import LedgerError
from mirror.ledger.probes import Probes, Reach, best_first
from mirror.spec import MirrorSpec, ReadFrom
from registry.reference import LAYOUT

BELIEVED_S = 5.0
"""How often the ledger is asked: a registry that goes down is known to be within that."""
MOST_KNOWN = 1000


@dataclass(frozen=True, slots=True)
class Near:
    """How regions reach registries, as far as this process has heard. Thread-safe."""

    probes: Probes
    clock: Callable[[], float] = time.monotonic
    _known: dict[tuple[str, str], tuple[float, Reach]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reaches(self, region: str, hosts: Sequence[str]) -> list[Reach]:
        """In the order of the hosts; without Redis what is known, or nothing."""
        now = self.clock()
        with self._lock:
            old = [host for host in hosts if self._known.get((region, host), (0.0,))[0] <= now]
        if old:
            found: list[Reach] = []
            with contextlib.suppress(LedgerError):  # whoever needs the ledger next will say so
                found = self.probes.latest([(region, host) for host in old])
            with self._lock:
                if len(self._known) > MOST_KNOWN:
                    self._known.clear()
                self._known.update({(one.region, one.host): (now + BELIEVED_S, one) for one in found})
        with self._lock:
            known = [self._known.get((region, host)) for host in hosts]
        return [one[1] if one else Reach(region, host) for host, one in zip(hosts, known, strict=True)]


@dataclass(frozen=True, slots=True)
class Order:
    """Hosts around the source: who is asked for a blob before it, and who if it fails."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    once: bool = False
    """Whether the whole fleet reads a blob at the source once, and waits for it meanwhile."""


def order(near: Near, spec: MirrorSpec, region: str, source: str, *, is_limited: bool) -> Order:
    """Who serves what the mirror's registries hold, for workers of the region.

    The nearest first; a source that ``is_limited`` behind all that may have it, one that is down too.
    Where nothing was measured: the region's own, then the others. ``read_from`` says who may be asked.
    """
    hosts = _hosts(spec, region)
    wanted: ReadFrom | None = spec.read_from or ("targets" if is_limited else None)
    if len(hosts) < 2 or wanted == "source":
        return Order()
    at_source, *reaches = near.reaches(region, [source, *hosts])
    sorted_out = best_first(reaches)
    able = [one.host for one in sorted_out if one.standing != "down"]
    if wanted == "targets" or at_source.standing == "down":
        before = able
    elif at_source.standing == "up":
        nearer = best_first([at_source, *(one for one in sorted_out if one.standing == "up")])
        before = [one.host for one in nearer[: nearer.index(at_source)]]
    else:
        before = []
    after = [one.host for one in sorted_out if one.host not in before]
    return Order(tuple(before), tuple(after), once=wanted == "targets")


def near_first(near: Near, spec: MirrorSpec, region: str) -> list[str]:
    """The targets as the region reads them, the nearest first; those that are down last."""
    own = sorted(spec.targets, key=lambda target: target.region != region)
    places = [target.repository for target in own]
    remote = [place.partition("/")[0] for place in places if not place.startswith(LAYOUT)]
    if not region:  # whoever asks is nowhere in particular
        return places
    rank = {one.host: at for at, one in enumerate(best_first(near.reaches(region, remote)))}
    return sorted(places, key=lambda place: rank.get(place.partition("/")[0], -1))


def _hosts(spec: MirrorSpec, region: str) -> list[str]:
    """Registries of targets, those of the region first."""
    own = sorted(spec.targets, key=lambda target: target.region != region)
    names = [target.repository for target in own if not target.repository.startswith(LAYOUT)]
    return list(dict.fromkeys(name.partition("/")[0] for name in names))
