"""Flip: move tags in a region's targets to what has landed; and take a half-done move back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from mirror import tags
from mirror.companions import is_there
from mirror.decide import HAD_MOVED, half_moved
from mirror.engine import Engine, Progress
from mirror.keepers import free_surplus, keep_previous
from mirror.ledger import LedgerError, NotConfirmed
from mirror.ledger.batches import Outcome, Outcomes, OutcomeState
from mirror.ledger.turns import Claim, Turn
from mirror.seal import BlobMissing, forgiving, put_graph
from mirror.stage import Stage
from mirror.threads import Crew
from mirror.two_way import meanwhile, outdated
from mirror.waits import failure, placing_failure, wait_for_promise
from registry.deletion import delete_tag, is_tombstone
from registry.errors import NotFound, RegistryError, TagImmutable, Unreachable
from registry.manifest import Manifest

MAY_HAVE_MOVED: tuple[OutcomeState, ...] = ("updated", "failed")
"""A move that is called failed may have been made: the registry took it and its answer was lost."""
_BACK, _REMOVED = "went back to", "was removed again"
Heard = Callable[[dict[str, int]], None]
Pair = tuple[str, str]
"""(tag, target repository)."""


def flip(engine: Engine, batch: str, region: str, heard: Heard | None = None) -> None:
    """PUT the landed manifests under their tags, in every target of the region.

    The digest that each tag had is journalled, and the journal confirmed, before the first PUT (G2). A tag
    that a newer run has claimed is left alone (G5). What fails is recorded by tag and target; what may
    still work stays ``ready``, with the time of its next attempt.
    """
    stage = Stage.open(engine, batch, region, Progress(engine.ledger, batch, region, heard))
    if not stage.view.is_through(region, "flipping"):  # else this message came late
        _flip(stage, stage.view.outcomes)


def flip_early(engine: Engine, batch: str, region: str, heard: Heard | None = None) -> None:
    """The same for what has landed here while other regions still land: where targets move on their own.

    What was proved too long ago (:attr:`mirror.engine.Engine.proof_s`) is left to the batch's finalizer.
    """
    stage = Stage.open(engine, batch, region, Progress(engine.ledger, batch, region, heard))
    view = stage.view
    if view.state != "landing" or region not in view.regions_done("landed") or view.is_cancelled:
        return
    own, oldest = _of_region(stage, view.outcomes), view.now - engine.proof_s
    landed = {pair: one for pair, one in own.items() if one.state == "landed" and one.at >= oldest}
    if landed:
        ready = {pair: replace(one, state="ready", at=0.0) for pair, one in landed.items()}
        engine.ledger.batches.record(batch, ready, ("landed",))
        _flip(stage, {**view.outcomes, **ready})


def _flip(stage: Stage, known: Outcomes) -> None:
    engine, now, own = stage.engine, stage.view.now, _of_region(stage, known)
    going = {pair: one for pair, one in own.items() if one.state == "ready" and one.at <= now}
    with engine.crew() as crew:
        stale = outdated(stage, going)
        current = {pair: one for pair, one in going.items() if pair not in stale}
        is_journalled = not stage.is_alone or stage.spec.keep
        journal = _journalled(stage, crew, current) | stale if is_journalled else going
        if journal and not stage.is_alone:
            try:
                _promise(stage, journal)
            except NotConfirmed as error:  # nothing has moved, and what is ready stays so
                wait_for_promise(engine, stage.batch, stage.view.state, error)
                return
        failed = _kept(stage, crew, journal)
        failed |= _flip_companions(stage, {**known, **journal})
        ready = {pair: one for pair, one in journal.items() if one.state == "ready" and pair not in failed}
        moved = _each(crew, ready, lambda pair, one: _move(stage, pair, one))
    flipped = sum(outcome.state == "updated" for outcome in moved.values())
    stage.outcomes.update({**journal, **failed, **moved})
    stage.end("flipped", ("ready", "current"), tags_flipped=flipped)
    free_surplus(stage, moved)


def _promise(stage: Stage, journal: Outcomes) -> None:
    """The journal, as one confirmed write; LedgerError where the ledger does not take or confirm all of it.

    Written even where nothing changed: the replica that has taken over may lack what was written before,
    down to the state that let this step begin. Should this step be cut short, a tag that was decided about
    may have moved.
    """
    ledger = stage.engine.ledger
    ready = {
        pair: replace(one, may_have_moved=stage.resolved(pair[0]).is_decided)
        for pair, one in journal.items()
        if one.state == "ready"
    }
    ended = {pair: one for pair, one in journal.items() if pair not in ready}
    on = ledger.together()
    ledger.batches.ask_state(stage.batch, on)
    ledger.batches.record(stage.batch, ready, ("ready",), on=on)
    ledger.batches.record(stage.batch, ended, ("ready",), on=on)
    state, *written = ledger.confirm(on)
    if state != stage.view.state.encode() or (ready and written[0] != len(ready)):
        raise LedgerError(
            f"the ledger does not know the {len(ready)} tags of batch {stage.batch} as ready to move: "
            "it has fallen back, or the batch has gone on"
        )


def unflip(engine: Engine, batch: str, region: str) -> None:
    """Put tags back that moved here and failed for good elsewhere, from the journal.

    A tag that was new is deleted (:func:`registry.deletion.delete_tag`); where the registry deletes nothing
    it stays and is reported as split. A tag that somebody else has moved since is theirs.
    """
    stage = Stage.open(engine, batch, region, Progress(engine.ledger, batch, region))
    if stage.view.is_through(region, "returning"):
        return
    failures, own = half_moved(stage.view.outcomes), _of_region(stage, stage.view.outcomes)
    moved = {p: one for p, one in own.items() if p[0] in failures and one.state in MAY_HAVE_MOVED}
    with engine.crew() as crew:
        returned = _each(crew, moved, lambda pair, one: _take_back(stage, pair, one, failures[pair[0]]))
    stage.outcomes.update(returned)
    stage.end("returned", MAY_HAVE_MOVED)


def _of_region(stage: Stage, outcomes: Outcomes) -> Outcomes:
    return {pair: outcome for pair, outcome in outcomes.items() if pair[1] in stage.targets}


def _each(crew: Crew, outcomes: Outcomes, step: Callable[[Pair, Outcome], Outcome]) -> Outcomes:
    answers = {pair: crew.submit(step, pair, outcome) for pair, outcome in outcomes.items()}
    return {pair: answer.result() for pair, answer in answers.items()}


def _journalled(stage: Stage, crew: Crew, going: Outcomes) -> Outcomes:
    """All tags are claimed in one exchange, then each is looked at.

    Not for a target that is alone and keeps nothing: nothing is ever taken back there, and what the tag was
    when it was landed will do.
    """
    wanted = [(name, stage.resolved(tag)) for tag, name in going]
    claims = dict(zip(going, stage.engine.ledger.turns.claim_all(wanted), strict=True))
    return _each(crew, going, lambda pair, outcome: _journal(stage, pair, outcome, claims[pair]))


def _journal(stage: Stage, pair: Pair, outcome: Outcome, claim: Claim) -> Outcome:
    """What the tag is just before it moves; an outcome of its own where a newer run has claimed it."""
    tag, name = pair
    try:
        if not _is_claimed(stage, pair, claim):
            return _superseded(outcome)
        held = tags.held(stage, tag, name)
    except RegistryError as error:
        return _undone(stage, outcome, error)
    if held == stage.wanted(tag):
        return outcome  # a repeated flip: the journal already says what was there before the first
    if held and is_tombstone(name, tag, held):
        held = None  # nothing to go back to
    if other := meanwhile(stage, tag, name, held):
        return replace(other, may_have_moved=outcome.may_have_moved)
    return replace(outcome, previous=held, may_have_moved=False)


def _kept(stage: Stage, crew: Crew, journal: Outcomes) -> Outcomes:
    """What the tags were is made safe before the first moves, where the mirror wants it; whose could not."""

    def keep(pair: Pair, outcome: Outcome) -> Outcome:
        try:
            keep_previous(stage, *pair, outcome, stage.wanted(pair[0]))
        except RegistryError as error:
            return _undone(stage, outcome, error)
        return outcome

    ready = {pair: one for pair, one in journal.items() if one.state == "ready"} if stage.spec.keep else {}
    return {pair: one for pair, one in _each(crew, ready, keep).items() if one is not ready[pair]}


def _move(stage: Stage, pair: Pair, outcome: Outcome) -> Outcome:
    """One tag in one target, alone: a newer run's move can come before or after it, never in between."""
    with stage.engine.ledger.turns.move(pair[1], stage.resolved(pair[0])) as turn:
        moved = _in_turn(stage, turn, pair, outcome)
        if turn.is_put and stage.resolved(pair[0]).is_decided and not _is_as_before(stage, pair, moved):
            moved = replace(moved, may_have_moved=True)
        return moved


def _in_turn(stage: Stage, turn: Turn, pair: Pair, outcome: Outcome) -> Outcome:
    tag, name = pair
    digest = stage.wanted(tag)
    try:
        if not _is_claimed(stage, pair, turn.claim):
            return _superseded(outcome)
        if stage.is_alone:
            # The answer to the PUT says what was stored; a registry that lacks content is given it again.
            put_graph(stage, stage.targets[name], stage.graph(digest), tag)
        elif other := _put_unless_pushed(stage, turn, stage.graph(digest).root):
            return replace(other, moved=outcome.moved, may_have_moved=outcome.may_have_moved)
        else:
            tags.read_back(stage, stage.targets[name], tag, digest)
        return _unless_newer(stage, turn, outcome)
    except RegistryError as error:
        if isinstance(error, TagImmutable) and outcome.previous == digest:
            return _unless_newer(stage, turn, outcome)  # no move: what was wrong is put by digest already
        if isinstance(error, TagImmutable) and outcome.previous:
            stage.engine.ledger.fixed.note(name, tag, outcome.previous, str(error))
        return _undone(stage, outcome, error)
    except BlobMissing as missing:
        ended = placing_failure(stage.engine, stage.batch, missing.placing, outcome.previous)
        return _again_or_failed(outcome, ended)


def _is_as_before(stage: Stage, pair: Pair, outcome: Outcome) -> bool:
    """Whether a tag whose move failed surely stayed: the registry says so, and no PUT is under way still."""
    if outcome.state not in {"ready", "failed"} or outcome.kind == Unreachable.__name__:
        return False
    with suppress(RegistryError):
        return tags.at(stage.targets[pair[1]], pair[0]) == outcome.previous
    return False


def _put_unless_pushed(stage: Stage, turn: Turn, root: Manifest) -> Outcome | None:
    """Put the tag; of a two-way mirror, what becomes of it where somebody has pushed since it was looked at.

    Asked one round trip before each attempt, which is as near as it gets: registries cannot compare and set.
    """
    tag, name = turn.one.tag, turn.repository
    target = stage.targets[name]

    def put() -> Outcome | None:
        other = meanwhile(stage, tag, name, tags.at(target, tag)) if stage.spec.is_two_way else None
        if other is None:
            turn.is_put = True
            target.put_manifest(tag, root)
        return other

    with stage.alone_with(target, root.digest):
        return stage.engine.patience.attempt(put)


def _unless_newer(stage: Stage, turn: Turn, outcome: Outcome) -> Outcome:
    """A worker that slept through its lease may have overwritten a newer run's tag: that one is put again."""
    newer = stage.engine.ledger.turns.end(turn, stage.spec.trust_s)
    if newer is None:
        why = outcome.reason if stage.spec.kind == "repair" else _before(outcome)  # what was wrong before
        return replace(outcome, state="updated", reason=why, kind="", at=0.0)
    target = stage.targets[turn.repository]
    manifest = stage.engine.patience.attempt(lambda: target.manifest(newer))
    tags.put(stage, target, turn.one.tag, manifest)
    return _superseded(outcome)


def _is_claimed(stage: Stage, pair: Pair, claim: Claim) -> bool:
    """Whether the tag is still ours to move; where two answers of the source overlap, it is asked again."""
    tag, name = pair
    if claim == "unsure":
        one = stage.resolved(tag)
        if stage.spec.is_two_way:
            return False  # two runs have met: the one that has seen the other's move is still to come
        try:
            held = stage.engine.patience.attempt(lambda: stage.source.resolve(one.ref)).digest
        except NotFound:
            return False
        is_newer = held == stage.wanted(tag)
        claim = stage.engine.ledger.turns.claim(name, one, sure=True) if is_newer else "newer"
    return claim == "ours"


def _superseded(outcome: Outcome) -> Outcome:
    return replace(outcome, state="superseded", reason="a newer run has moved this tag", kind="")


def _undone(stage: Stage, outcome: Outcome, error: RegistryError) -> Outcome:
    """``ready`` for another attempt, or failed for good; the journal and the account stay."""
    return _again_or_failed(outcome, failure(stage.engine, stage.batch, error, outcome.previous))


def _again_or_failed(outcome: Outcome, ended: Outcome) -> Outcome:
    if ended.state == "waiting":
        ended = replace(ended, state="ready")
    if before := _before(outcome):
        ended = replace(ended, reason=f"{ended.reason}; before that it {before}")
    return replace(ended, moved=outcome.moved, may_have_moved=outcome.may_have_moved).like(outcome)


def _flip_companions(stage: Stage, outcomes: Outcomes) -> Outcomes:
    """Digest tags go first, so that a signature is there before its image; returns whose could not.

    Asked for first where one may be there: with an image that was, or on a side that keeps its own.
    """
    found = stage.view.associates
    failed: Outcomes = {}
    for (tag, name), outcome in _of_region(stage, outcomes).items():
        if outcome.state not in {"ready", "current"}:
            continue
        may_be_there = stage.spec.two_way or (outcome.state == "current" and stage.spec.kind != "repair")
        for one in (one for one in found.get(tag, ()) if one.tag):
            try:
                with forgiving(stage, one, stage.targets[name]):
                    if may_be_there and is_there(stage, stage.targets[name], one):
                        continue
                    tags.put(stage, stage.targets[name], one.tag, stage.graph(one.descriptor.digest).root)
            except RegistryError as error:
                failed[tag, name] = _undone(stage, outcome, error)
    return failed


def _take_back(stage: Stage, pair: Pair, outcome: Outcome, failed: Outcome) -> Outcome:
    if outcome.state == "failed":
        return _take_back_failed(stage, pair, outcome)
    tag, name = pair
    because = f"because the move failed elsewhere: {failed.reason}"
    with stage.engine.ledger.turns.take_back(name, tag):
        try:
            if not _restore(stage, pair, outcome.previous):
                return replace(outcome, state="superseded", reason="somebody else has moved this tag since")
        except RegistryError as error:
            reason = f"split: it moved here and could not be taken back ({error}) {because}"
            return replace(outcome, state="split", reason=reason, kind=failed.kind)
    state: OutcomeState = "held" if failed.state == "held" else "returned"
    reason = f"{_went_back(outcome)} {because}"
    return replace(outcome, state=state, reason=reason, kind=failed.kind, may_have_moved=False)


def _take_back_failed(stage: Stage, pair: Pair, outcome: Outcome) -> Outcome:
    """Where the move failed: whether it was made all the same is the registry's to say."""
    tag, name = pair
    with stage.engine.ledger.turns.take_back(name, tag):
        try:
            if outcome.previous in {stage.wanted(tag), tags.held(stage, tag, name)}:
                return replace(outcome, may_have_moved=False)
            if not _restore(stage, pair, outcome.previous):
                return outcome
        except RegistryError as error:
            reason = f"split: {outcome.reason}; it may have moved ({error})"
            return replace(outcome, state="split", reason=reason)
    reason = f"{outcome.reason}; {HAD_MOVED}{_went_back(outcome)}"
    return replace(outcome, reason=reason, may_have_moved=False)


def _is_ours(stage: Stage, pair: Pair, held: str | None) -> bool:
    """Whether the tag is where we put it, and no newer run wants it there too.

    A newer run that wants it elsewhere has not put it yet, and puts it after our turn.
    """
    tag, name = pair
    generation, newest = stage.engine.ledger.turns.claimed(name, tag)
    is_wanted = generation > stage.resolved(tag).generation and newest == held
    is_half_deleted = held is not None and is_tombstone(name, tag, held)
    return (held == stage.wanted(tag) or is_half_deleted) and not is_wanted


def _restore(stage: Stage, pair: Pair, previous: str | None) -> bool:
    """Put the tag where it was. False where it is not ours to move, which is asked before each attempt."""
    tag, target, patience = pair[0], stage.targets[pair[1]], stage.engine.patience

    def is_settled(held: str | None) -> bool:
        return held == previous or not _is_ours(stage, pair, held)

    if is_settled(held := tags.held(stage, *pair)):
        return held == previous  # done before, and cut short before it was written down
    manifest = patience.attempt(lambda: target.manifest(previous)) if previous else None

    def put() -> bool:
        if is_settled(held := tags.at(target, tag)):
            return held == previous
        if manifest:
            target.put_manifest(tag, manifest)
        else:
            with suppress(NotFound):  # it is gone, and the answer was lost
                delete_tag(target, tag)
        return True

    with stage.alone_with(target, previous or tag):
        return patience.attempt(put)


def _went_back(outcome: Outcome) -> str:
    """What was done, for the report."""
    return f"{_BACK} {outcome.previous}" if outcome.previous else _REMOVED


def _before(outcome: Outcome) -> str:
    """That a tag which is moved after all had been taken back: users may have seen so."""
    said = (outcome.reason.rfind(_BACK), outcome.reason.rfind(_REMOVED))
    return outcome.reason[max(said) :] if max(said) >= 0 else ""
