"""Finalize and conclude: what a batch does next, decided from the ledger alone (design, section 3)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Literal

from mirror.engine import Engine
from mirror.ledger.batches import Batches, Outcome, Outcomes
from mirror.spec import MirrorSpec

Step = Literal["flip", "return", "concluded", "wait", "nothing"]
"""``wait``: not everything has come in; whoever comes last asks again. ``nothing``: it is decided."""


def finalize(engine: Engine, batch: str) -> Step:
    """Once every region has landed what it could: which tags may move, and whether any has to.

    With ``finalize: all`` a tag moves only where every target holds all of it (G2).
    """
    ledger = engine.ledger.batches
    spec = engine.ledger.spec(ledger.run_of(batch))
    if ledger.state(batch) != "landing":
        return "nothing"
    if not _all_in(ledger, batch, spec, "finalize", "landed"):
        return "wait"
    outcomes = _completed(ledger, batch, spec)
    changed = _hold_back(outcomes, spec)
    if engine.ledger.is_cancelled(ledger.run_of(batch)):
        changed |= _cancelled({**outcomes, **changed})
    ledger.record(batch, changed)
    outcomes |= changed
    flips = any(outcome.state == "landed" for outcome in outcomes.values())
    if flips or _companions_to_flip(ledger, batch, outcomes):
        return "flip" if ledger.advance(batch, "landing", "flipping") else "nothing"
    return "concluded" if ledger.conclude(batch, "landing", spec) else "nothing"


def conclude(engine: Engine, batch: str) -> Step:
    """Once every region has flipped what it could: close the batch, or take back what moved half way."""
    ledger = engine.ledger.batches
    spec = engine.ledger.spec(ledger.run_of(batch))
    state = ledger.state(batch)
    if state == "flipping":
        if not _all_in(ledger, batch, spec, "conclude", "flipped"):
            return "wait"
        if spec.finalize == "all" and half_moved(ledger.outcomes(batch)):
            return "return" if ledger.advance(batch, "flipping", "returning") else "nothing"
        return "concluded" if ledger.conclude(batch, "flipping", spec) else "nothing"
    if state == "returning":
        if not _all_in(ledger, batch, spec, "conclude", "returned"):
            return "wait"
        return "concluded" if ledger.conclude(batch, "returning", spec) else "nothing"
    return "nothing"


def give_up(engine: Engine, batch: str, reason: str) -> Step:
    """Close a batch that stopped moving too often: what has not ended fails with the reason."""
    ledger = engine.ledger.batches
    spec = engine.ledger.spec(ledger.run_of(batch))
    open_ = {pair: one for pair, one in _completed(ledger, batch, spec).items() if one.state == "landed"}
    ledger.record(
        batch,
        {pair: replace(one, state="failed", reason=reason, kind="Stuck") for pair, one in open_.items()},
    )
    return "concluded" if ledger.conclude(batch, ledger.state(batch), spec) else "nothing"


def half_moved(outcomes: Outcomes) -> dict[str, Outcome]:
    """Tags that moved in one target and failed for good in another, with the failure."""
    moved = {tag for (tag, _), outcome in outcomes.items() if outcome.state == "updated"}
    return {
        tag: replace(
            outcome, reason=f"{target}: {outcome.reason}" if target not in outcome.reason else outcome.reason
        )
        for (tag, target), outcome in outcomes.items()
        if outcome.state == "failed" and tag in moved
    }


def _all_in(
    ledger: Batches,
    batch: str,
    spec: MirrorSpec,
    task: Literal["finalize", "conclude"],
    step: Literal["landed", "flipped", "returned"],
) -> bool:
    if ledger.regions_done(batch, step) >= set(spec.regions):
        return True
    ledger.ask_for(batch, task)
    # The last region may have come in between the two lines above, and found nobody asking.
    return ledger.regions_done(batch, step) >= set(spec.regions)


def _completed(ledger: Batches, batch: str, spec: MirrorSpec) -> Outcomes:
    """Every resolved tag in every target: what no region spoke of has failed, by name."""
    outcomes = ledger.outcomes(batch)
    for one in ledger.resolved(batch):
        for target in spec.targets if one.descriptor else ():
            outcome = outcomes.get((one.tag, target.repository))
            if outcome is None or outcome.state == "missing":
                previous = outcome.previous if outcome else None
                lost = Outcome("failed", f"region {target.region} did not land it", "Incomplete", previous)
                ledger.record(batch, {(one.tag, target.repository): lost})
                outcomes[one.tag, target.repository] = lost
    return outcomes


def _hold_back(outcomes: Outcomes, spec: MirrorSpec) -> Outcomes:
    """With ``finalize: all``: landed tags that must not move because another target does not hold them."""
    if spec.finalize != "all":
        return {}
    broken: dict[str, list[tuple[str, Outcome]]] = defaultdict(list)
    for (tag, target), outcome in outcomes.items():
        if outcome.state in {"failed", "cancelled"}:
            broken[tag].append((target, outcome))
    return {
        (tag, target): replace(
            outcome,
            state="failed",
            reason=f"not moved, because {broken[tag][0][0]} could not be: {broken[tag][0][1].reason}",
            kind=broken[tag][0][1].kind,
        )
        for (tag, target), outcome in outcomes.items()
        if outcome.state == "landed" and tag in broken
    }


def _cancelled(outcomes: Outcomes) -> Outcomes:
    return {
        pair: replace(outcome, state="cancelled", reason="the run was cancelled")
        for pair, outcome in outcomes.items()
        if outcome.state == "landed"
    }


def _companions_to_flip(ledger: Batches, batch: str, outcomes: Outcomes) -> bool:
    """Digest tags to move although their image is current: a signature that came later."""
    whole = {tag for (tag, _), outcome in outcomes.items() if outcome.state == "current"}
    found = ledger.associates(batch)
    return any(one.tag for tag in whole for one in found.get(tag, ()))
