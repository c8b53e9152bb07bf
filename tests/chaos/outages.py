"""When registries were away, for how long, and whether every region's probes found that out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from mirror.ledger import Ledger
from mirror.ledger.probes import Place

SEEN_WITHIN_S = 60.0
"""A registry that is away for so long is seen to be from everywhere, whatever else happens meanwhile."""
SEEN_EVERY = 10
"""Of so many outages one lasts until it is seen, the first of all among them."""


@dataclass(slots=True)
class Outage:
    """Unix times; ``ended`` is 0 while it lasts."""

    host: str
    begun: float
    ended: float = 0.0


class Outages:
    """All of one storm."""

    def __init__(self, ledger: Ledger, regions: Sequence[str], hosts: Sequence[str]) -> None:
        self._ledger = ledger
        self.places: list[Place] = [(region, host) for region in regions for host in hosts]
        self.all: list[Outage] = []

    def begin(self, host: str) -> Outage:
        self.all.append(Outage(host, time.time()))
        return self.all[-1]

    @property
    def is_to_be_seen(self) -> bool:
        """Whether the next one is to last until it is seen."""
        return len(self.all) % SEEN_EVERY == 0

    def are_known(self) -> bool:
        """Whether every registry was seen to be up from every region: no other is ever called down."""
        return all(one.was_up for one in self._ledger.probes.latest(self.places))

    def is_seen(self, outage: Outage) -> bool:
        """Whether it is down as seen from every region."""
        places = [place for place in self.places if place[1] == outage.host]
        return all(one.down_since is not None for one in self._ledger.probes.latest(places))

    def are_over(self) -> bool:
        """Whether every registry is up as seen from every region."""
        return all(one.standing == "up" for one in self._ledger.probes.latest(self.places))
