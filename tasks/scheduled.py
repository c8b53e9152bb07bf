"""What the fleet file has schedules for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from config.fleet import Fleet, Mirror
from mirror.spec import Lane, MirrorSpec
from tasks.terms import spec_of, verification_of, verifying


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What a mirror has a schedule for: its runs, or its verification (``MIRROR/verify``)."""

    name: str
    mirror: Mirror
    cron: str
    lane: Lane

    def spec(self, fleet: Fleet) -> MirrorSpec:
        """What is run. Raises FleetError."""
        spec = spec_of(self.mirror, fleet)
        return spec if self.name == self.mirror.name else verifying(spec, verification_of(self.mirror.verify))


def scheduled(fleet: Fleet) -> Iterator[Scheduled]:
    """Everything that the fleet file has a schedule for."""
    for mirror in fleet.mirrors:
        if mirror.schedule:
            yield Scheduled(mirror.name, mirror, mirror.schedule, mirror.lane)
        if mirror.verify.schedule:
            yield Scheduled(f"{mirror.name}/verify", mirror, mirror.verify.schedule, "backfill")
