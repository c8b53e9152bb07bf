"""Everything that a batch leaves behind for good as it concludes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from mirror.ledger import lasting
from mirror.ledger.conflicts import agreements_of
from mirror.ledger.history import flips_of
from mirror.ledger.keys import Keys
from mirror.ledger.values import Outcomes, Resolved
from mirror.spec import MirrorSpec


def kept(
    keys: Keys, run: str, resolved: Sequence[Resolved], outcomes: Outcomes, spec: MirrorSpec, flips: int
) -> str:
    """As the script that concludes the batch reads it; ``flips``: how many moves of each tag stay."""
    moves = flips_of(keys, run, resolved, outcomes, spec, flips)
    return lasting.rows(chain(moves, agreements_of(keys, run, resolved, outcomes, spec)))
