"""Tags that a target lets nobody move: for a while after it said so no run goes back for them."""

from __future__ import annotations

from collections import defaultdict

from mirror.ledger.batches import Outcome, Outcomes
from mirror.stage import Stage
from registry.errors import TagImmutable


def immovable(stage: Stage, looked: Outcomes) -> Outcomes:
    """Those that would move, and that the target refused to move a while ago, as failed for that."""
    held = defaultdict[str, dict[str, str]](dict)
    for (tag, name), one in looked.items():
        if one.state == "missing" and one.previous:
            held[name][tag] = one.previous
    return {
        (tag, name): Outcome("failed", reason, TagImmutable.__name__, digests[tag])
        for name, digests in held.items()
        for tag, reason in stage.engine.ledger.fixed.known(name, digests, stage.view.now).items()
    }
