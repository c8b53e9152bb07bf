"""What a batch leaves for good when it is concluded, collected from all who remember something of tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.ledger.conflicts import agreements_of
from mirror.ledger.history import flips_of
from mirror.ledger.keys import Keys
from mirror.ledger.lagging import found_behind
from mirror.ledger.lasting import Lasting
from mirror.ledger.pins import Pins
from mirror.ledger.samples import sample_of
from mirror.ledger.standing import standing_of
from mirror.ledger.terms import Terms
from mirror.ledger.values import Outcomes, Resolved
from mirror.report import TagReport
from mirror.spec import MirrorSpec


@dataclass(frozen=True, slots=True)
class Remembered:
    """One fleet's; written by the script that concludes the batch, and so once (G6)."""

    keys: Keys
    pins: Pins
    terms: Terms
    flips_kept: int
    """How many moves of each tag stay in the history; 0: none."""

    def of(
        self, run: str, resolved: Sequence[Resolved], outcomes: Outcomes, spec: MirrorSpec
    ) -> list[Lasting]:
        return [
            *flips_of(self.keys, run, resolved, outcomes, spec, self.flips_kept),
            *self.pins.settled(run, resolved, outcomes, spec),
            *agreements_of(self.keys, run, resolved, outcomes, spec),
            *sample_of(self.keys, resolved, outcomes, spec),
            *standing_of(self.keys, run, self.terms.of(run)[0]),
        ]

    def lagging(self, reports: Sequence[TagReport], spec: MirrorSpec) -> list[str | int]:
        """What the batch says of tags that are not everywhere: the hash, and what is noted in it."""
        if spec.ad_hoc:
            return ["", "", 0]
        text, is_behind = found_behind(reports, spec)
        return [self.keys.lagging(spec.mirror), text, int(is_behind)]
