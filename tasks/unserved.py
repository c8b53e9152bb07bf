"""Schedules that cannot run: their slot has come, and a region of theirs has no worker for too long.

A region that has no work needs no worker, and one that was just given some may be starting them: so it is
looked at again GRACE_S after a slot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from config.fleet import Fleet
from mirror.ledger import Ledger
from tasks.scheduled import scheduled

GRACE_S = 60.0


@dataclass(slots=True)
class Unserved:
    """What one beat remembers between a slot and that look. Another beat begins anew, with the next slot."""

    _waiting: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    """By mirror: when its regions are looked at."""

    def slot(self, mirror: str, regions: Iterable[str], now_s: float) -> None:
        """A slot of the mirror has come, whether it was run or missed."""
        self._waiting.setdefault(mirror, (now_s + GRACE_S, tuple(dict.fromkeys(regions))))

    def look(self, ledger: Ledger, fleet: Fleet, now_s: float) -> None:
        """Have it told, once, of regions that have no worker; a region that has one is well again.

        A region is told with all mirrors that wait for it, or will: what comes later is no news.

        To be asked every few seconds.
        """
        if not any(at <= now_s for at, _ in self._waiting.values()):
            return
        due = [mirror for mirror, (at, _) in self._waiting.items() if at <= now_s]
        regions = {region for mirror in due for region in self._waiting.pop(mirror)[1]}
        alive = ledger.workers.live_regions()
        for region in sorted(regions):
            if region in alive:
                ledger.events.has_workers(region)
            elif mirrors := _mirrors_of(fleet, region):  # else the fleet file needs it no more
                ledger.events.no_workers(region, mirrors)


def _mirrors_of(fleet: Fleet, region: str) -> list[str]:
    found = (one.mirror for one in scheduled(fleet))
    served = {one.name for one in found if any(target.region == region for target in one.targets)}
    return sorted(served)
