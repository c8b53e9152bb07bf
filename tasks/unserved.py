"""Schedules that cannot run: their slot has come, and a region of theirs has no worker for too long.

A region that has no work needs no worker, and one that was just given some may be starting them: so it is
looked at again GRACE_S after a slot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mirror.ledger import Ledger

GRACE_S = 60.0


@dataclass(slots=True)
class Unserved:
    """What one beat remembers between a slot and that look. Another beat begins anew, with the next slot."""

    _waiting: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    """By mirror: when its regions are looked at."""

    def slot(self, mirror: str, regions: Iterable[str], now_s: float) -> None:
        """A slot of the mirror has come, whether it was run or missed."""
        self._waiting.setdefault(mirror, (now_s + GRACE_S, tuple(dict.fromkeys(regions))))

    def look(self, ledger: Ledger, now_s: float) -> None:
        """Have it told, once, of regions that have no worker; a region that has one is well again.

        To be asked every few seconds.
        """
        if not any(at <= now_s for at, _ in self._waiting.values()):
            return
        alive = ledger.live_regions()
        for mirror, (at, regions) in list(self._waiting.items()):
            if at <= now_s:
                del self._waiting[mirror]
                for region in regions:
                    if region in alive:
                        ledger.events.end("no_workers", region, {})
                    else:
                        ledger.events.begin("no_workers", region, {"region": region}, mirror)
