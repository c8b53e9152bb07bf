"""Which registries each region probes, and when: what beat sends, and what follows from the fleet file.

Light to import: what measures is in :mod:`tasks.probing`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection

from kombu.exceptions import OperationalError

from config.checks import seconds_of
from config.fleet import Fleet
from mirror.ledger.probes import FRESH_S, Place
from mirror.spec import MirrorSpec
from registry.reference import LAYOUT
from tasks import canvas
from tasks.runtime import Runtime, regions_of
from tasks.watched import specs_of

FRESH_SLOTS, LOST_SLOTS = 3, 3
LEAST_LOST_S = 60.0
"""A pass that nobody has begun is sent again after this long, or LOST_SLOTS slots: its message may be lost.
Where the region is only busy, the first that is begun probes for all that were sent."""

logger = logging.getLogger(__name__)


def probed(fleet: Fleet, region: str, mirrors: Collection[str] = ()) -> list[MirrorSpec]:
    """The mirrors whose registries the region probes: those with a target in it, or some of them."""
    return [
        spec for spec in specs_of(fleet) if region in spec.regions and (not mirrors or spec.name in mirrors)
    ]


def hosts_of(fleet: Fleet, region: str, mirrors: Collection[str] = ()) -> list[str]:
    """The registries that the region probes, each once."""
    places = [place for spec in probed(fleet, region, mirrors) for place in spec.places]
    return list(dict.fromkeys(one.partition("/")[0] for one in places if not one.startswith(LAYOUT)))


def places_of(fleet: Fleet) -> list[Place]:
    """Everything that is probed, region by region."""
    return [(region, host) for region in regions_of(fleet) for host in hosts_of(fleet, region)]


def fresh_s(fleet: Fleet) -> float:
    """For how long a probe is gone by."""
    return max(FRESH_S, FRESH_SLOTS * seconds_of(fleet.probe.every)) if fleet.probe.every else FRESH_S


class Probing:
    """Sends passes as their slots come. To be asked by the one beat that sends."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._fleet: Fleet | None = None

    def run_due(self, fleet: Fleet, now_s: float) -> float:
        """Send what is due; the seconds until there is more to do. LedgerError where Redis is away."""
        if fleet is not self._fleet:
            self._rt.ledger.probes.keep_only(places_of(fleet))
            names = {mirror.name for mirror in fleet.mirrors}
            self._rt.ledger.probes.samples.keep_only(names)
            self._rt.ledger.standings.keep_only(names)
            self._fleet = fleet
        if not fleet.probe.every:
            return math.inf
        every_s = seconds_of(fleet.probe.every)
        slot = int(now_s // every_s * every_s)
        alive = self._rt.ledger.workers.live_regions()
        for region in regions_of(fleet):
            if region in alive:
                self._send(region, slot, now_s, max(LEAST_LOST_S, LOST_SLOTS * every_s))
        return slot + every_s - now_s

    def _send(self, region: str, slot: int, now_s: float, lost_after_s: float) -> None:
        if self._rt.ledger.probes.send_slot(region, slot, now_s, lost_after_s):
            try:
                canvas.send_probe(region, str(slot))
            except OperationalError:
                logger.warning("Redis takes no message now; the next slot has its own")
