"""Two-way mirrors: what each tag is at every side, what all agreed on before, and what follows from both.

Every side is a target. What a run decides is good for what it has seen: just before a tag moves, what is
there must still be that, or somebody has pushed meanwhile and the tag is left alone (:func:`meanwhile`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mirror.created import created_in
from mirror.engine import Engine
from mirror.ledger.batches import Outcome, Outcomes, Resolved
from mirror.ledger.conflicts import Known
from mirror.ledger.pins import Pin
from mirror.ledger.values import DELETED, GONE, HELD, Merged
from mirror.manifests import Manifests
from mirror.merge import Side, Verdict, chosen, merge, newest, preferred, short, told
from mirror.pinned import follows_pins, nowhere, pinned_at
from mirror.select import Selection
from mirror.spec import MirrorSpec
from mirror.stage import Stage
from registry.deletion import is_tombstone
from registry.descriptor import Descriptor
from registry.errors import NotFound, RegistryError, Transient
from registry.repository import Repository

Look = Descriptor | None | RegistryError
"""A tag at one side: what it is, that it is not there, or that the side could not be asked."""


def look(
    engine: Engine, run: str, spec: MirrorSpec, asked: Sequence[Resolved], pins: Mapping[str, Pin]
) -> list[Resolved | RegistryError]:
    """What each tag is to be, by its pin where the run follows pins.

    An error where a side cannot be asked: nothing is decided without it.

    The base is read first: sides that another run has made equal since are equal with any base.
    """
    known = engine.ledger.conflicts.known(spec, [one.tag for one in asked])
    looks = _ask(engine, [engine.open_repository(target.repository) for target in spec.targets], asked)
    judge = _Judge(engine, run, spec, pins if follows_pins(spec) else {})
    with engine.crew() as crew:
        return list(crew.map(lambda one: judge.answer(one, looks[one.tag], known[one.tag]), asked))


def remembering(engine: Engine, spec: MirrorSpec, asked: Sequence[Resolved]) -> list[Resolved]:
    """The tags of a rollback, each with what the sides agree on: what it moves is that afterwards."""
    known = engine.ledger.conflicts.known(spec, [one.tag for one in asked])
    bases = {tag: Merged((), one.base, read=one.read) for tag, one in known.items()}
    return [replace(one, merged=bases[one.tag]) for one in asked]


def meanwhile(stage: Stage, tag: str, name: str, held: str | None) -> Outcome | None:
    """What becomes of a tag in a target where it is not what was seen there; None: it may move.

    It stays as somebody has made it, and as it was in the others; the next run looks at it anew.
    """
    if not stage.spec.is_two_way:
        return None
    one = stage.resolved(tag)
    position = next(n for n, target in enumerate(stage.spec.targets) if target.repository == name)
    seen = one.seen_at(position)
    if held == seen or (one.descriptor and held == one.descriptor.digest):
        return None
    if one.merged is None:  # nothing was about to move
        return Outcome("superseded", f"{name}: somebody has moved this tag since", previous=held)
    if held is None:
        what = f"deleted the tag, which was {short(seen)}"
    else:
        what = f"moved the tag from {short(seen)} to {short(held)}"
    return Outcome("held", f"{name}: somebody {what} while this run was about to", HELD, previous=held)


def outdated(stage: Stage, going: Outcomes) -> Outcomes:
    """Tags of a two-way mirror on which another run has had the sides agree since this one looked."""
    if not stage.spec.is_two_way:
        return {}
    tags = [one for one in stage.tags if one.merged and any(tag == one.tag for tag, _ in going)]
    known = stage.engine.ledger.conflicts.known(stage.spec, [one.tag for one in tags])
    old = {one.tag for one in tags if one.merged and known[one.tag].base != one.merged.base}
    reason = "another run has seen to this tag since"
    return {
        pair: replace(one, state="superseded", reason=reason, at=0.0)
        for pair, one in going.items()
        if pair[0] in old
    }


def _ask(engine: Engine, sides: Sequence[Repository], asked: Sequence[Resolved]) -> dict[str, list[Look]]:
    def ask(pair: tuple[Resolved, Repository]) -> Look:
        one, side = pair
        try:
            at = engine.patience.attempt(lambda: side.resolve(one.ref))
            return None if is_tombstone(side.name, one.ref, at.digest) else at
        except NotFound:
            return None
        except RegistryError as error:
            return error

    with engine.crew() as crew:
        answers = iter(crew.map(ask, [(one, side) for one in asked for side in sides]))
        return {one.tag: [next(answers) for _ in sides] for one in asked}


class _Judge:
    """On what terms a run decides."""

    def __init__(self, engine: Engine, run: str, spec: MirrorSpec, pins: Mapping[str, Pin]) -> None:
        self._engine, self._run, self._spec, self._pins = engine, run, spec, pins
        self._immutable = Selection(spec.immutable) if spec.immutable else None
        is_of_all = spec.kind == "two_way" and not spec.refs
        self._follows = spec.carries_deletions and (not is_of_all or engine.ledger.gone.is_wanted(run, spec))
        source = engine.open_source(run, spec)
        self._created = created_in(source, Manifests(engine, source).named)

    def answer(self, one: Resolved, looks: Sequence[Look], known: Known) -> Resolved | RegistryError:
        errors = [error for error in looks if isinstance(error, RegistryError)]
        if errors:
            return next((error for error in errors if not isinstance(error, Transient)), errors[0])
        found = [at for at in looks if isinstance(at, Descriptor)]
        by_name = dict(zip((t.repository for t in self._spec.targets), looks, strict=True))
        sides = [
            Side(name, at.digest if isinstance(at, Descriptor) else None, name in known.met)
            for name, at in by_name.items()
        ]
        if pin := self._pins.get(one.tag):
            return self._at_pin(one, pin, sides, found, known)
        is_immutable = self._immutable is not None and bool(self._immutable.choose([one.tag]).kept)
        try:
            verdict = self._verdict(sides, known, is_immutable=is_immutable)
        except RegistryError as error:
            return error
        if self._spec.take and (why := _since_listed(self._spec.take, sides, known)):
            return _left_alone(one, verdict, sides, known, why)
        if verdict.kind == "deleted" and self._follows and not is_immutable:
            merged = _merged(verdict, sides, known)
            return replace(
                one,
                reason=f"{told(verdict, sides, known.base)} until it is deleted there, too",
                kind=DELETED,
                merged=merged,
            )
        return _resolved(one, verdict, sides, found, known)

    def _at_pin(
        self, one: Resolved, pin: Pin, sides: Sequence[Side], found: Sequence[Descriptor], known: Known
    ) -> Resolved | RegistryError:
        at: Descriptor | RegistryError | None = next((at for at in found if at.digest == pin.digest), None)
        if at is None:
            at = pinned_at(self._engine, self._run, self._spec, pin)
        if isinstance(at, NotFound):
            return nowhere(one, pin, at)
        if isinstance(at, RegistryError):
            return at
        return replace(one, descriptor=at, merged=_merged(Verdict("take"), sides, known, "pinned"))

    def _verdict(self, sides: Sequence[Side], known: Known, *, is_immutable: bool) -> Verdict:
        verdict = merge(sides, known.base, is_immutable=is_immutable)
        if self._spec.carries_deletions and _is_back(sides, known):
            verdict = _brought_back(sides, known)
        if self._spec.take:
            return chosen(verdict, sides, self._spec.take) if known.conflict else verdict
        if verdict.kind == "conflict" and not is_immutable:
            if self._spec.rule == "prefer":
                return preferred(verdict, sides, self._spec.prefer)
            if self._spec.rule == "newest":
                return newest(verdict, {digest: self._created(digest) for digest in verdict.choices})
        return verdict


def _is_back(sides: Sequence[Side], known: Known) -> bool:
    """Whether a side that was seen to lack the tag has what all had: that is a push, too."""
    lacking = known.missed.lacking if known.missed else ()
    return any(side.name in lacking and side.digest == known.base for side in sides if side.digest)


def _brought_back(sides: Sequence[Side], known: Known) -> Verdict:
    """What becomes of a tag that is back: all get it, unless somebody has moved or deleted it elsewhere."""
    ours = known.missed.ours if known.missed else ()
    have = tuple(dict.fromkeys(side.digest for side in sides if side.digest))
    has_deleted = any(side.digest is None and side.has_met and side.name not in ours for side in sides)
    if len(have) > 1 or has_deleted:
        return Verdict("conflict", choices=have)
    return Verdict("take", known.base)


def _since_listed(take: str, sides: Sequence[Side], known: Known) -> str:
    """Why a person's decision does not count: the side is not at what it has on record, or has nothing."""
    if known.conflict is None:
        return ""
    listed = known.conflict.sides.get(take)
    now = next((side.digest for side in sides if side.name == take), None)
    if listed == now:
        return "" if now else f"{take} has no such tag: take another side"
    return f"{take} was listed with {short(listed)} and has {short(now)} now: look again, then decide"


def _merged(verdict: Verdict, sides: Sequence[Side], known: Known, kind: str = "") -> Merged:
    since = known.conflict.since_s if known.conflict else 0.0
    seen = tuple(side.digest for side in sides)
    return Merged(seen, known.base, kind or verdict.kind, verdict.rule, since, known.read)


def _left_alone(
    one: Resolved, verdict: Verdict, sides: Sequence[Side], known: Known, reason: str
) -> Resolved:
    merged = _merged(verdict, sides, known)
    listed = [known.conflict.sides.get(side.name) for side in sides] if known.conflict else []
    is_same = tuple(listed) == merged.seen
    kind = "conflict" if verdict.kind in {"take", "gone"} else verdict.kind
    merged = replace(merged, kind=kind, since=merged.since if is_same else 0.0)
    return replace(one, reason=reason, kind=HELD, merged=merged)


def _resolved(
    one: Resolved, verdict: Verdict, sides: Sequence[Side], found: Sequence[Descriptor], known: Known
) -> Resolved:
    merged = _merged(verdict, sides, known)
    seen = merged.seen
    if verdict.kind == "take":
        at = next(at for at in found if at.digest == verdict.wanted)
        is_agreed = known.base == verdict.wanted and all(side.has_met for side in sides)
        is_settled = known.conflict is None and known.missed is None
        is_quiet = is_agreed and set(seen) == {verdict.wanted} and is_settled
        return replace(one, descriptor=at, merged=None if is_quiet else merged)
    if verdict.kind == "gone" and known.base is None and known.conflict is None:
        return replace(one, reason="no side has such a tag", kind=NotFound.__name__)
    if verdict.kind == "gone":
        return replace(one, reason="all sides have deleted it", kind=GONE, merged=merged)
    return _left_alone(one, verdict, sides, known, told(verdict, sides, known.base))
