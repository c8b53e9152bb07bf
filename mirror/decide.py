"""Finalize and conclude: what a batch does next, decided from the ledger alone (design, section 3).

Each decision has its turn: two that are asked for at once are taken one after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from mirror.engine import Engine
from mirror.ledger.batches import BEFORE_FLIP, Batches, BatchState, Outcome, Outcomes, OutcomeState, View
from mirror.report import FOLLOWS
from mirror.rollback import meant
from mirror.spec import MirrorSpec, Target
from mirror.telling import tell_failed, tell_left_alone, tell_wait
from registry.errors import NotFound, TagImmutable

Step = Literal["land", "flip", "return", "parked", "concluded", "wait", "nothing"]
"""``wait``: not everything has come in; whoever comes last asks again. ``nothing``: it is decided."""
HAD_MOVED = "it had moved and "
"""In the reason of a move that failed and was made all the same, before what was done about it."""
_NOT_MOVED: tuple[OutcomeState, ...] = ("split", "failed", "returned")
IMMUTABLE = TagImmutable.__name__
MAX_ROLLS = 2
ROLL_PAUSE_S = 5.0
"""A tag that is new and cannot be taken back is tried again where it failed, so often and after so long."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The step to take; ``regions`` have to take it, where not all have.

    Of a batch that was concluded, ``ended`` is what it ended as.
    """

    step: Step
    regions: tuple[str, ...] = ()
    ended: View | None = None


@dataclass(slots=True)
class _Batch:
    """What a decision looks at: the batch as it was when the decision had its turn."""

    engine: Engine
    id: str
    spec: MirrorSpec
    view: View
    is_as_read: bool = True
    """No outcome was written since."""

    @property
    def ledger(self) -> Batches:
        return self.engine.ledger.batches

    @property
    def outcomes(self) -> Outcomes:
        return self.view.outcomes

    def put(self, changed: Outcomes, over: tuple[OutcomeState, ...]) -> None:
        """Write what is in one of the states ``over``; the ledger may know better and refuse some."""
        if changed:
            self.is_as_read = False
            self.ledger.record(self.id, changed, over)
            self.outcomes.update(changed)

    def in_state(self, *states: OutcomeState) -> Outcomes:
        return {pair: one for pair, one in self.outcomes.items() if one.state in states}

    def regions_of(self, outcomes: Outcomes) -> tuple[str, ...]:
        names = {target for _, target in outcomes}
        return tuple(dict.fromkeys(t.region for t in self.spec.targets if t.repository in names))

    def park(self, state: Literal["landing", "flipping"], until: float) -> Decision:
        """Wait in the ledger, and say why: that other tags went well is no reason to be silent."""
        first = min(self.in_state("waiting", "ready").values(), key=lambda one: one.at, default=None)
        waits = first is not None and first.reason
        if waits:
            self.engine.ledger.note_wait(self.id, waits, until)
        if not self.engine.ledger.park(self.id, state, until):
            return Decision("nothing")
        if waits:
            tell_wait(self.id, waits, until)
        return Decision("parked")

    def conclude(self, state: Literal["landing", "flipping", "returning"]) -> Decision:
        return _concluded(self, state)


def finalize(engine: Engine, batch: str) -> Decision:
    """Once every region has landed what it could: which tags may move, and whether any has to.

    With ``finalize: all`` a tag moves only where every target holds all of it (G2), and only on a proof
    of that which is fresh enough (G1); a region whose proof is older lands again, which costs it HEADs.
    """
    return _in_turn(engine, batch, _finalize)


def conclude(engine: Engine, batch: str) -> Decision:
    """Once every region has flipped what it could: close the batch, or what else its tags need."""
    return _in_turn(engine, batch, _conclude)


def give_up(engine: Engine, batch: str, reason: str) -> Decision:
    """Close a batch that stopped moving too often: what has not ended fails with the reason."""

    def end(one: _Batch) -> Decision:
        _name_the_lost(one)
        stuck = one.in_state(*BEFORE_FLIP, "ready")
        one.put({pair: _failed(o, reason, "Stuck") for pair, o in stuck.items()}, (*BEFORE_FLIP, "ready"))
        return _concluded(one, one.view.state)

    return _in_turn(engine, batch, end)


def half_moved(outcomes: Outcomes) -> dict[str, Outcome]:
    """Tags that moved in one target and failed or are held for good in another, with why.

    A tag that has been taken back counts as moved: the other regions still have to look at theirs.
    """
    states = {"updated", "returned", "split"}
    moved = {tag for (tag, _), outcome in outcomes.items() if outcome.state in states}
    return {
        tag: replace(one, reason=one.reason if target in one.reason else f"{target}: {one.reason}")
        for (tag, target), one in outcomes.items()
        if one.state in {"failed", "held"} and tag in moved
    }


def _in_turn(engine: Engine, batch: str, decision: Callable[[_Batch], Decision]) -> Decision:
    with engine.ledger.deciding(batch) as view:
        return decision(_Batch(engine, batch, engine.spec_of(batch, view), view))


def _concluded(one: _Batch, state: BatchState) -> Decision:
    reports = one.ledger.conclude(one.id, state, one.spec, one.view if one.is_as_read else None)
    if reports is None:
        return Decision("nothing")
    tell_failed(one.id, one.spec.mirror, reports)
    tell_left_alone(one.id, one.spec.mirror, one.view.resolved)
    return Decision("concluded", ended=one.view)


def _finalize(one: _Batch) -> Decision:
    if one.view.state != "landing":
        return Decision("nothing")
    if not _all_in(one, "finalize", "landed"):
        return Decision("wait")
    _name_the_lost(one)
    if one.view.is_cancelled:
        one.put(_cancelled(one.in_state(*BEFORE_FLIP)), BEFORE_FLIP)
    one.put(_misspelt(one), BEFORE_FLIP)
    one.put(_held_back(one), BEFORE_FLIP)
    going = _whole(one)
    if stale := _stale(one, going):
        one.ledger.reopen(one.id, stale, "landed")
        return Decision("land", stale)
    if going or one.in_state("ready") or _companions_to_flip(one):
        ready = {pair: replace(outcome, state="ready", at=0.0) for pair, outcome in going.items()}
        flips = one.ledger.advance(one.id, "landing", "flipping", ready, ("landed",))
        return Decision("flip" if flips else "nothing")
    if waiting := one.in_state("waiting"):
        return _wait_landing(one, waiting, "landing")
    return one.conclude("landing")


def _conclude(one: _Batch) -> Decision:
    state = one.view.state
    if state == "flipping" and _all_in(one, "conclude", "flipped"):
        return _after_flip(one)
    if state == "returning" and _all_in(one, "conclude", "returned"):
        return _after_return(one)
    return Decision("wait" if state in {"flipping", "returning"} else "nothing")


def _after_flip(one: _Batch) -> Decision:
    if ready := one.in_state("ready"):
        one.ledger.reopen(one.id, one.regions_of(ready), "flipped")
        return one.park("flipping", min(outcome.at for outcome in ready.values()))
    if one.view.has_trouble:
        one.ledger.no_trouble(one.id)
    if one.spec.finalize == "all" and half_moved(one.outcomes):
        return Decision("return" if one.ledger.advance(one.id, "flipping", "returning") else "nothing")
    if waiting := one.in_state("waiting"):
        one.ledger.reopen(one.id, one.spec.regions, "flipped")
        if one.ledger.advance(one.id, "flipping", "landing"):
            return _wait_landing(one, waiting, "landing")
        return Decision("nothing")
    return one.conclude("flipping")


def _after_return(one: _Batch) -> Decision:
    """A tag that is new and could not be removed again is rolled forward a few times before it is left.

    Where it is called split, too: that may say no more than that its registry could not be asked. What a
    registry lets nobody move is left at once.
    """
    fixed = {tag for (tag, _), outcome in one.in_state("failed").items() if outcome.kind == IMMUTABLE}
    split = {tag for tag, _ in one.in_state("split")} - fixed
    if not split or one.ledger.roll(one.id) > MAX_ROLLS:
        return one.conclude("returning")
    until = one.view.now + ROLL_PAUSE_S
    again = {pair: o for pair, o in one.in_state(*_NOT_MOVED).items() if pair[0] in split}
    ready = {pair: replace(o, state="ready", reason=_went_back(o), at=until) for pair, o in again.items()}
    one.put(ready, _NOT_MOVED)
    one.ledger.reopen(one.id, one.spec.regions, "returned")
    one.ledger.reopen(one.id, one.regions_of(again), "flipped")
    if not one.ledger.advance(one.id, "returning", "flipping"):
        return Decision("nothing")
    return one.park("flipping", until)


def _went_back(outcome: Outcome) -> str:
    """What users may have seen of it, kept for the report: what only failed is told by what comes of it."""
    return outcome.reason if outcome.state == "returned" or HAD_MOVED in outcome.reason else ""


def _wait_landing(one: _Batch, waiting: Outcomes, state: Literal["landing"]) -> Decision:
    one.ledger.reopen(one.id, one.regions_of(waiting), "landed")
    return one.park(state, min(outcome.at for outcome in waiting.values()))


def _all_in(
    one: _Batch, task: Literal["finalize", "conclude"], step: Literal["landed", "flipped", "returned"]
) -> bool:
    regions = set(one.spec.regions)
    if one.view.regions_done(step) >= regions:
        return True
    one.ledger.ask_for(one.id, task)
    # The last region may have come in since the batch was read, and found nobody asking.
    one.view = one.ledger.view(one.id)
    return one.view.regions_done(step) >= regions


def _name_the_lost(one: _Batch) -> None:
    """Every resolved tag ends in every target: what no region spoke of has failed, by name."""
    lost: Outcomes = {}
    for resolved in one.view.resolved:
        for target in one.spec.targets if resolved.descriptor else ():
            pair = (resolved.tag, target.repository)
            if pair not in one.outcomes or one.outcomes[pair].state == "missing":
                lost[pair] = _lost(target, one.outcomes.get(pair))
    one.put(lost, ("missing",))


def _lost(target: Target, known: Outcome | None) -> Outcome:
    previous = known.previous if known else None
    return Outcome("failed", f"region {target.region} did not land it", "Incomplete", previous)


def _because(target: str, outcome: Outcome) -> str:
    """Why a whole tag stays where it is; most reasons name their place themselves."""
    place = "" if outcome.reason.startswith(target) else f"{target}: "
    return f"{FOLLOWS}{place}{outcome.reason}"


def _held_back(one: _Batch) -> Outcomes:
    """With ``finalize: all``: tags that must not move because another target will never hold them."""
    if one.spec.finalize != "all" or one.spec.verifies:
        return {}
    broken: dict[str, list[tuple[str, Outcome]]] = defaultdict(list)
    for (tag, target), outcome in one.in_state("failed", "held", "cancelled").items():
        broken[tag].append((target, outcome))
    return {
        (tag, target): replace(
            outcome,
            state="held" if broken[tag][0][1].state == "held" else "failed",
            reason=_because(*broken[tag][0]),
            kind=broken[tag][0][1].kind,
        )
        for (tag, target), outcome in one.in_state("landed", "waiting").items()
        if tag in broken
    }


def _misspelt(one: _Batch) -> Outcomes:
    """Of a rollback: tags that no target has or ever had by us. It would create them, instead of moving."""
    landed, tags = one.in_state("landed"), [tag.tag for tag in one.view.resolved]
    if one.spec.kind != "rollback":
        return {}
    new = [
        tag
        for tag in tags
        if all((o := landed.get((tag, t.repository))) and o.previous is None for t in one.spec.targets)
    ]
    history = one.engine.ledger.history
    known = history.of(one.spec.name, new)
    names = history.names(one.spec.name) if len(known) < len(new) else []
    reasons = {
        tag: f"no target has a tag {tag}, and no move of it is remembered{meant(tag, names)}"
        for tag in new
        if tag not in known
    }
    return {
        pair: _failed(outcome, reasons[pair[0]], NotFound.__name__)
        for pair, outcome in landed.items()
        if pair[0] in reasons
    }


def _whole(one: _Batch) -> Outcomes:
    """What may move now: with ``finalize: all`` nothing of a tag that another target still waits for."""
    waiting = {tag for tag, _ in one.in_state("waiting")} if one.spec.finalize == "all" else set()
    return {pair: outcome for pair, outcome in one.in_state("landed").items() if pair[0] not in waiting}


def _stale(one: _Batch, going: Outcomes) -> tuple[str, ...]:
    """Regions whose proof of something that is about to move is too old."""
    oldest = one.view.now - one.engine.proof_s
    return one.regions_of({pair: outcome for pair, outcome in going.items() if outcome.at < oldest})


def _cancelled(outcomes: Outcomes) -> Outcomes:
    return {
        pair: replace(outcome, state="cancelled", reason="the run was cancelled", kind="")
        for pair, outcome in outcomes.items()
    }


def _failed(outcome: Outcome, reason: str, kind: str) -> Outcome:
    return replace(outcome, state="failed", reason=reason, kind=kind)


def _companions_to_flip(one: _Batch) -> bool:
    """Digest tags to move although their image is current: a signature that came later."""
    current = {tag for tag, _ in one.in_state("current")}
    return any(associate.tag for tag in current for associate in one.view.associates.get(tag, ()))
