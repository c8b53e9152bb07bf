"""Verify: whether a region's targets hold all that the mirror's tags promise, asked of them and nobody else.

What is asked: a HEAD for each tag and for each piece of content, once in a batch. Manifests come from the
fleet's cache, else from wherever reading is no pull that counts; no tag is read at a target. The ledger's
own beliefs are not used, and corrected where they are wrong. Nothing is written to a registry.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mirror.apart import behind
from mirror.associates import associates, digest_tags_of, is_signed, listed_for
from mirror.damage import (
    Companion,
    Flaw,
    Part,
    gone,
    other_bytes,
    other_digest,
    other_size,
    parts_of,
    said,
    unlisted,
)
from mirror.deep import Later, Left, read_part, read_parts
from mirror.engine import Engine
from mirror.extra import compare_tags
from mirror.fixed import immovable
from mirror.graph import Graph, GraphError
from mirror.ledger.batches import BEFORE_FLIP, Outcome, Placing, Resolved
from mirror.ledger.verified import BEHIND, DAMAGED, DIFFERENT, MISSING, UNASKED, UNREAD, WRONG
from mirror.places import any_counts, counts, uncounted
from mirror.stage import Stage
from mirror.threads import Crew
from mirror.transfer import path_of
from mirror.waits import failure
from registry.descriptor import Descriptor
from registry.errors import DigestMismatch, NotFound, Refused, RegistryError
from registry.referrers import fallback_tag
from registry.repository import Repository

Pair = tuple[str, str]
"""(tag, target repository)."""
Wanted = tuple[str, Part]
"""(target repository, what it has to hold)."""


@dataclass(frozen=True, slots=True)
class Unasked:
    """Only a pull that counts would tell."""

    part: Part


Asked = Flaw | RegistryError | Unasked | None
Answer = Asked | Later | Left
KEPT = (
    "the registry took it again and keeps the damaged file that it has: have that deleted from its storage, "
    "then repair once more"
)


@dataclass(frozen=True, slots=True)
class Promised:
    """What a tag promises, and what of its image people are told."""

    parts: tuple[Part, ...] = ()
    signed: bool | None = None
    left_out: tuple[str, ...] | None = None


Promise = Promised | RegistryError | GraphError | None
"""None: it cannot be known without a pull that counts."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one tag in one target."""

    outcome: Outcome
    flaws: tuple[Flaw, ...] = ()


def verify(stage: Stage) -> None:
    """Look at every tag of the batch in every target of the region, and record what is wrong."""
    if stage.view.resolved:
        stage.outcomes.update({pair: one.outcome for pair, one in inspect(stage).items()})
    else:
        compare_tags(stage)
    stage.end("landed", (*BEFORE_FLIP, "current"))


def mark_damage(stage: Stage) -> None:
    """For whoever repairs: what is wrong is missing, with the reason why; the rest is current."""
    found = inspect(stage)
    moves = {pair: one.outcome for pair, one in found.items() if one.outcome.kind in {DIFFERENT, BEHIND}}
    fixed = immovable(stage, {pair: replace(one, state="missing") for pair, one in moves.items()})
    for (tag, name), one in found.items():
        outcome = fixed.get((tag, name), one.outcome)
        if outcome.kind in WRONG:
            was = "was not whole" if outcome.kind == DAMAGED else "was wrong"
            outcome = Outcome("missing", f"{was}: {outcome.reason}", previous=outcome.previous)
            _forget_all(stage, tag, name)
        elif outcome.kind == BEHIND:
            outcome = Outcome("missing", f"was behind: {outcome.reason}", previous=outcome.previous)
        stage.outcomes[tag, name] = outcome
        stage.again |= {(flaw.part.digest, name): flaw.part for flaw in one.flaws if flaw.is_there}


def _forget_all(stage: Stage, tag: str, name: str) -> None:
    """Nothing of the tag is believed to be there: all of it is put again, or looked for."""
    wanted = next(one.descriptor for one in stage.tags if one.tag == tag)
    if wanted is not None:
        with contextlib.suppress(RegistryError, GraphError):
            graph = stage.graph(wanted.digest)
            manifests = [one.digest for one in graph.manifests]
            stage.forget(stage.targets[name], manifests + [one.digest for one in graph.blobs])


def still_wrong(stage: Stage, name: str, digest: str) -> Placing | None:
    """Of a blob that was sent again: a registry may have kept what it had."""
    part = stage.again[digest, name]
    read = stage.spec.verification is not None and stage.spec.verification.deep
    answer = _answer(stage, name, part) or (read_part(stage, name, part) if read else None)
    if isinstance(answer, RegistryError):
        return Placing.failed(answer)
    if not isinstance(answer, Flaw):
        return None
    return Placing("failed", f"{name}: {answer.text}; {KEPT}", DAMAGED)


def inspect(stage: Stage) -> dict[Pair, Finding]:
    """What there is of each tag that was not looked at yet, or is to be looked at again now."""
    with stage.engine.crew() as crew:
        found = _look_at_tags(stage, crew)
        whole = [pair for pair, one in found.items() if one.outcome.state == "current"]
        tags = [one for one in stage.tags if any(one.tag == tag for tag, _ in whole)]
        promises = _promises(stage, crew, tags)
        answers: dict[Wanted, Answer] = {**_ask(stage, crew, whole, promises)}
        if stage.spec.verification is not None and stage.spec.verification.deep:
            answers |= read_parts(stage, crew, [one for one, answer in answers.items() if answer is None])
        for tag, name in whole:
            found[tag, name] = _finding(stage, (tag, name), found[tag, name], promises[tag], answers)
    _disbelieve(stage, found)
    return found


def _look_at_tags(stage: Stage, crew: Crew) -> dict[Pair, Finding]:
    now = stage.view.now
    asked = {
        (one.tag, name): crew.submit(_look_at, stage, one.tag, wanted, target)
        for one, wanted, name, target in stage.pairs
        if _is_open(stage.outcomes.get((one.tag, name)), now)
    }
    looked = {pair: answer.result() for pair, answer in asked.items()}
    return {pair: Finding(one) for pair, one in {**looked, **behind(stage, looked)}.items()}


def _is_open(known: Outcome | None, now: float) -> bool:
    return known is None or known.state == "missing" or (known.state == "waiting" and known.at <= now)


def _look_at(stage: Stage, tag: str, wanted: Descriptor, target: Repository) -> Outcome:
    try:
        held = stage.engine.patience.attempt(lambda: target.resolve(tag)).digest
    except NotFound:
        return Outcome("failed", f"{target.name}:{tag}: is missing", MISSING)
    except RegistryError as error:
        return failure(stage.engine, stage.batch, error)
    if held != wanted.digest:
        reason = f"{target.name}:{tag}: is at {held} instead of {wanted.digest}"
        return Outcome("failed", reason, DIFFERENT, held)
    return Outcome("current", previous=held, at=stage.view.now)


# -- what a tag promises -------------------------------------------------------------------------------


def _promises(stage: Stage, crew: Crew, tags: list[Resolved]) -> Mapping[str, Promise]:
    if not tags:
        return {}
    source = stage.source
    places = uncounted(stage.engine, stage.spec, stage.region, source)
    if places is None:
        return dict.fromkeys((one.tag for one in tags), None)
    stage.source = places
    found = list(crew.map(lambda one: _promise(stage, one), tags))
    stage.source = source
    return {one.tag: promise for one, promise in zip(tags, found, strict=True)}


def _promise(stage: Stage, one: Resolved) -> Promise:
    if one.descriptor is None:
        return Promised()
    spec = stage.spec
    try:
        graph = stage.graph(one.descriptor.digest)
        companions = _companions(stage, graph) if spec.referrers else []
        return Promised(
            parts_of(graph, companions),
            is_signed(graph.root.digest, (found for found, _ in companions)) if spec.referrers else None,
            graph.platforms_left_out if spec.platforms else None,
        )
    except (RegistryError, GraphError) as error:
        return error


def _companions(stage: Stage, graph: Graph) -> list[Companion]:
    """Signatures and the like; of the images of an index only where the source is known to have any."""
    root = graph.root.digest
    digests = (root, *(one.digest for one in graph.manifests if one.digest != root))
    told = listed_for(stage.engine, stage.run, digests, stage.source)
    asked = digests if told.tags or told.has_referrers else (root,)
    listed = told.tags
    if any_counts(stage.engine, stage.source):  # reading the list of referrers under its tag would be a pull
        known = listed if listed is not None else frozenset(digest_tags_of(root))
        listed = known - {fallback_tag(digest) for digest in digests}
    found = associates(stage.engine, stage.run, stage.source, asked, listed)
    return [(one, stage.graph(one.descriptor.digest)) for one in found]


# -- whether it is there -------------------------------------------------------------------------------


def _ask(
    stage: Stage, crew: Crew, whole: Iterable[Pair], promises: Mapping[str, Promise]
) -> dict[Wanted, Asked]:
    """Each part once in each target, however many tags promise it."""
    wanted = list(
        dict.fromkeys(
            (name, part)
            for tag, name in whole
            if isinstance(promise := promises[tag], Promised)
            for part in promise.parts
        )
    )
    return dict(zip(wanted, crew.map(lambda one: _answer(stage, *one), wanted), strict=True))


def _answer(stage: Stage, name: str, part: Part) -> Asked:
    stage.progress.add()
    target = stage.targets[name]
    try:
        return stage.engine.patience.attempt(lambda: _flaw(stage.engine, target, part))
    except NotFound:
        return gone(part)
    except RegistryError as error:
        return error


def _flaw(engine: Engine, target: Repository, part: Part) -> Flaw | Unasked | None:
    """One or two exchanges; raises RegistryError, NotFound where the part is gone."""
    if part.kind == "listed":
        is_listed = _is_listed(engine, target, part)
        return Unasked(part) if is_listed is None else (None if is_listed else unlisted(part))
    if part.kind == "tag":
        held = target.resolve(part.at).digest
        return None if held == part.digest else other_digest(part, held)
    try:
        size = target.resolve(part.digest).size if part.kind == "manifest" else target.blob_size(part.digest)
    except DigestMismatch as error:
        return other_bytes(part, error.reason)
    except Refused as error:
        if error.status is None:  # it answers, and does not say how large it is
            return None
        raise
    return None if size == part.size else other_size(part, size)


def _is_listed(engine: Engine, target: Repository, part: Part) -> bool | None:
    """By the referrers API, else by what the tag schema's tag is at; the tag itself is not read.

    None where that is not in the fleet's cache and the registry counts who reads it.
    """
    if any(one.digest == part.digest for one in target.referrers(part.at, has_tag=False)):
        return True
    try:
        digest = target.resolve(fallback_tag(part.at)).digest
        index = engine.ledger.content.manifest(digest)
        if index is None and counts(engine, target.host):
            return None
        index = index or target.manifest(digest)
    except NotFound:
        return False
    return any(child.digest == part.digest for child in index.children)


# -- what follows from it ------------------------------------------------------------------------------


def _finding(
    stage: Stage, pair: Pair, finding: Finding, promise: Promise, answers: Mapping[Wanted, Answer]
) -> Finding:
    (tag, name), previous = pair, finding.outcome.previous
    if isinstance(promise, Promised):
        judged = _judged(stage, pair, finding, [answers[name, part] for part in promise.parts])
        if judged.flaws or judged.outcome.state == "current":
            known = replace(judged.outcome, signed=promise.signed, left_out=promise.left_out)
            judged = replace(judged, outcome=known)
        return judged
    if promise is None:
        reason = "only its digest was compared: what it is made of is to be had by pulls that count alone"
        return Finding(Outcome("held", f"{name}:{tag}: {reason}", UNASKED, previous))
    if isinstance(promise, NotFound | GraphError):
        return Finding(Outcome("failed", f"{name}:{tag}: cannot be followed: {promise}", DAMAGED, previous))
    return Finding(failure(stage.engine, stage.batch, promise, previous))


def _judged(stage: Stage, pair: Pair, finding: Finding, answers: Sequence[Answer]) -> Finding:
    """What is wrong for sure, else what could not be asked, else what is still to be read."""
    (tag, name), previous = pair, finding.outcome.previous
    flaws = tuple(one for one in answers if isinstance(one, Flaw))
    if flaws:
        return Finding(Outcome("failed", f"{name}:{tag}: {said(flaws)}", DAMAGED, previous), flaws)
    error = next((one for one in answers if isinstance(one, RegistryError)), None)
    if error is not None:
        return Finding(failure(stage.engine, stage.batch, error, previous))
    if any(isinstance(one, Later) for one in answers):
        return Finding(Outcome("waiting", "its bytes are being read", "", previous, at=stage.now))
    unasked = next((one for one in answers if isinstance(one, Unasked)), None)
    if unasked is not None:
        reason = f"whether {unasked.part.name} is listed can only be known by a pull that counts"
        return Finding(Outcome("held", f"{name}:{tag}: {reason}", UNASKED, previous))
    if any(isinstance(one, Left) for one in answers):
        return Finding(replace(finding.outcome, kind=UNREAD))
    return finding


def _disbelieve(stage: Stage, found: Mapping[Pair, Finding]) -> None:
    """Nobody shall rely on what the ledger says of what was found to be wrong."""
    for name, target in stage.targets.items():
        own = {tag: one for (tag, place), one in found.items() if place == name}
        gone = {flaw.part.digest for one in own.values() for flaw in one.flaws if not flaw.is_there}
        place = target.host, path_of(target)
        stage.engine.ledger.verified.passes.forget([(*place, digest) for digest in sorted(gone)])
        stage.forget(target, sorted({flaw.part.digest for one in own.values() for flaw in one.flaws}))
        wrong = [tag for tag, one in own.items() if one.outcome.kind in WRONG]
        stage.engine.ledger.proofs.drop(name, wrong)
