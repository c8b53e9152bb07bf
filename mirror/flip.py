"""Flip: move tags in a region's targets to what has landed; and take a half-done move back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mirror.decide import half_moved
from mirror.engine import Engine, Progress
from mirror.ledger.batches import Outcome, Outcomes
from mirror.stage import Stage
from registry.errors import NotFound, RegistryError
from registry.repository import Repository

Heard = Callable[[dict[str, int]], None]


def flip(engine: Engine, batch: str, region: str, heard: Heard | None = None) -> None:
    """PUT the landed manifests under their tags, in every target of the region.

    The digest that a tag had is journalled before (G2); a tag that a newer run has claimed is left alone
    (G5). What fails is recorded by tag and target.
    """
    stage = Stage.open(engine, batch, region, Progress(engine.ledger, batch, region, heard))
    ledger = engine.ledger.batches
    known = ledger.outcomes(batch)
    landed = {
        (one.tag, name): known[one.tag, name]
        for one, _, name, _ in stage.pairs
        if known[one.tag, name].state == "landed"
    }
    with ThreadPoolExecutor(engine.limits.copy_threads) as pool:
        journal = dict(
            zip(landed, pool.map(lambda pair: _journal(stage, pair, landed[pair]), landed), strict=True)
        )
        ledger.record(batch, journal)
        failed = _flip_companions(stage, {**known, **journal})
        going = [pair for pair, one in journal.items() if one.state == "landed" and pair not in failed]
        moved = dict(zip(going, pool.map(lambda pair: _move(stage, pair, journal[pair]), going), strict=True))
    ledger.record(batch, {**failed, **moved})
    ledger.region_done(batch, region, "flipped")
    flipped = sum(outcome.state == "updated" for outcome in moved.values())
    ledger.count(stage.run, region, {"tags_flipped": flipped})


def _journal(stage: Stage, pair: tuple[str, str], outcome: Outcome) -> Outcome:
    """What the tag is just before it moves."""
    tag, name = pair
    try:
        held = stage.engine.patience.attempt(lambda: stage.targets[name].resolve(tag))
    except NotFound:
        return replace(outcome, previous=None)
    except RegistryError as error:
        return Outcome.failed(error, outcome.previous)
    if held.digest == _wanted(stage, tag):
        return outcome  # a repeated flip: the journal already says what was there before the first
    return replace(outcome, previous=held.digest)


def _move(stage: Stage, pair: tuple[str, str], outcome: Outcome) -> Outcome:
    tag, name = pair
    generation = stage.engine.ledger.generation(stage.run)
    if not stage.engine.ledger.batches.claim(name, tag, generation):
        return replace(outcome, state="superseded", reason="a newer run has moved this tag")
    try:
        _put_tag(stage, stage.targets[name], tag, _wanted(stage, tag))
    except RegistryError as error:
        return replace(Outcome.failed(error, outcome.previous), moved=outcome.moved)
    return replace(outcome, state="updated", reason="")


def _put_tag(stage: Stage, target: Repository, tag: str, digest: str) -> None:
    manifest = stage.graph(digest).root
    with stage.alone_with(target, digest):
        stage.engine.patience.attempt(lambda: target.put_manifest(tag, manifest))


def _wanted(stage: Stage, tag: str) -> str:
    return next(one.descriptor.digest for one in stage.tags if one.tag == tag and one.descriptor)


def _flip_companions(stage: Stage, outcomes: Outcomes) -> Outcomes:
    """Digest tags go first, so that a signature is there before its image; returns whose could not."""
    found = stage.engine.ledger.batches.associates(stage.batch)
    failed: Outcomes = {}
    for (tag, name), outcome in outcomes.items():
        if name not in stage.targets or outcome.state not in {"landed", "current"}:
            continue
        for one in (one for one in found.get(tag, ()) if one.tag):
            try:
                _put_tag(stage, stage.targets[name], one.tag, one.descriptor.digest)
            except RegistryError as error:
                failed[tag, name] = Outcome.failed(error, outcome.previous)
    return failed


def unflip(engine: Engine, batch: str, region: str) -> None:
    """Put tags back that moved here and failed for good elsewhere, from the journal.

    A tag that was new is deleted where the registry can do that by tag; where it cannot, it stays and is
    reported as split: deleting by digest could take other tags along.
    """
    stage = Stage.open(engine, batch, region, Progress(engine.ledger, batch, region))
    known = engine.ledger.batches.outcomes(batch)
    failures = half_moved(known)
    returned = {
        (tag, name): _take_back(stage, tag, name, outcome, failures[tag])
        for (tag, name), outcome in known.items()
        if tag in failures and name in stage.targets and outcome.state == "updated"
    }
    engine.ledger.batches.record(batch, returned)
    engine.ledger.batches.region_done(batch, region, "returned")


def _take_back(stage: Stage, tag: str, name: str, outcome: Outcome, failure: Outcome) -> Outcome:
    target, previous = stage.targets[name], outcome.previous
    because = f"because the move failed elsewhere: {failure.reason}"
    try:
        if previous is None:
            stage.engine.patience.attempt(lambda: target.delete_manifest(tag))
            return replace(outcome, state="returned", reason=f"removed again {because}", kind=failure.kind)
        manifest = stage.engine.patience.attempt(lambda: target.manifest(previous))
        stage.engine.patience.attempt(lambda: target.put_manifest(tag, manifest))
    except RegistryError as error:
        return replace(
            outcome, state="split", reason=f"could not be taken back ({error}) {because}", kind=failure.kind
        )
    return replace(outcome, state="returned", reason=f"went back to {previous} {because}", kind=failure.kind)
