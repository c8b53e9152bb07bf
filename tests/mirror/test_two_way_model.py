"""Two-way mirrors under whatever people and networks do, in any order: nothing pushed is lost in silence.

Three sides, random pushes, deletions, signatures, lost content, faults, runs that are cut short and go on
later, rollbacks and repairs, with and without a side that wins conflicts. Held true: a digest that somebody
put on one side and that not every side has had is replaced by no run, unless a person or a rule decided so
and it is on record; a signature is never replaced; a quiet system comes to rest in one run and then writes
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mirror.engine import Engine
from mirror.ledger.conflicts import Conflict
from mirror.rollback import rollback_of
from mirror.spec import TARGETS, MirrorSpec, Target, Verification
from registry.images import build_image, build_signature, signature_tag
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.engine import Drive, engine_on, only
from tests.support.valkey import ValkeyServer

EXAMPLES = int(os.environ.get("TWO_WAY_EXAMPLES", "12"))
"""More of them search longer: a thousand take half an hour."""
IMAGES = [build_image({"app": text}) for text in (b"one", b"two", b"three", b"four")]
SIGNATURES = [build_signature(image) for image in IMAGES[:2]]
"""Either may be pushed as the signature of any image: nobody verifies them here."""
TAGS = ("v1", "v2")
SIDES = (0, 1, 2)
STEPS = ("resolve", "land", "finalize", "flip", "conclude")
MOVED = STEPS.index("flip") + 1
"""A run that has taken so many steps may have moved tags, and says so in the ledger with the last."""
Held = dict[tuple[int, str], str | None]
"""By (side, tag): the digest that is there."""

sides, tags, images = st.sampled_from(SIDES), st.sampled_from(TAGS), st.integers(0, 3)
signatures = st.integers(0, 1)


class TwoWay(RuleBasedStateMachine):
    """``engine`` and ``registries`` are shared by all examples; each has a repository of its own."""

    engine: Engine
    registries: list[MemoryRegistry]
    examples = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.repository = f"app{self.examples}"
        targets = [
            Target(f"{registry.host}/{self.repository}", region)
            for registry, region in zip(self.registries, ("us", "eu", "eu"), strict=True)
        ]
        self.spec = MirrorSpec(self.repository, TARGETS, tuple(targets), kind="two_way", two_way=True)
        self.pushed: Held = {}
        """What somebody has made of a tag on one side, and what not every side has had since."""
        self.spread: dict[tuple[int, str], set[int]] = {}
        """Of those: the sides that have had it since."""
        self.lost: dict[tuple[int, str], tuple[Drive, str | None]] = {}
        """Of those: what a run has replaced that has not ended yet, and has to account for it."""
        self.signed: dict[tuple[int, str], str] = {}
        """By (side, tag of a signature): the one that was there first."""
        self.damaged: dict[int, int] = {}
        """By image: the side that has lost a part of it."""
        self.begun: list[tuple[Drive, int]] = []
        """Runs that were cut short, and how many steps they have taken."""

    @initialize(prefer=st.sampled_from((None, 0, 2)), has_met=st.booleans())
    def as_in_the_fleet_file(self, *, prefer: int | None, has_met: bool) -> None:
        """``has_met``: the sides have agreed on every tag before, on one image and then on another."""
        if prefer is not None:
            self.spec = replace(self.spec, rule="prefer", prefer=self._name(prefer))
        for image in range(2 if has_met else 0):
            for tag in TAGS:
                self._push(image, tag, image)
            self.run()

    # -- what people do ----------------------------------------------------------------------------

    @rule(side=sides, tag=tags, image=images)
    def push(self, side: int, tag: str, image: int) -> None:
        self._push(side, tag, image)

    @rule(tag=tags, one=images, other=images, at=sides)
    def push_apart(self, tag: str, one: int, other: int, at: int) -> None:
        self._push(at, tag, one)
        self._push((at + 1) % len(SIDES), tag, other)

    @rule(side=sides, tag=tags)
    def delete(self, side: int, tag: str) -> None:
        if self.held[side, tag] is not None:
            self.registries[side].untag(self.repository, tag)
            self._note(side, tag)

    @rule(tag=tags, side=sides)
    def decide(self, tag: str, side: int) -> None:
        """Somebody says which side is right: what the others have may go, and is on record."""
        if tag not in self.conflicts:
            return
        before = self.held
        Drive(self.engine, replace(only(self.spec, tag), take=self._name(side))).all()
        for place in self._changed_since(before):
            assert self.settled(tag)[0].sides[self._name(place[0])] == before[place]
            self.pushed.pop(place, None)
        self._settle()

    @rule(tag=tags, image=images, pin=st.booleans())
    def roll_back(self, tag: str, image: int, *, pin: bool) -> None:
        """To an image that a side has or had: what all had stays in the tag's history."""
        known = [one.digest for one in IMAGES if self._is_anywhere(one.digest)]
        before, digest = self.held, known[image % len(known)] if known else IMAGES[image].digest
        spec = rollback_of(self.spec, {tag: digest}, pin=pin)
        run = Drive(self.engine, spec)
        self.engine.ledger.pins.put(self.spec.name, run.run, {tag: digest}, new=pin)
        run.all()
        self._replaced_by(run, before)

    @rule(tag=tags)
    def unpin(self, tag: str) -> None:
        self.engine.ledger.pins.drop(self.spec.name, [tag])

    @rule(side=sides, image=images, signature=signatures)
    def sign(self, side: int, image: int, signature: int) -> None:
        tag = signature_tag(IMAGES[image].digest)
        self.registries[side].hold(self.repository, SIGNATURES[signature], tag)
        self.signed[side, tag] = SIGNATURES[signature].digest

    @rule(tag=tags, side=sides, is_repaired=st.booleans())
    def lose_content(self, tag: str, side: int, *, is_repaired: bool) -> None:
        """A side loses a layer of an image that the others have whole; it may be repaired right away."""
        digests = {self.held[one, tag] for one in SIDES}
        image = next((n for n, one in enumerate(IMAGES) if digests == {one.digest}), None)
        if image is not None and image not in self.damaged:
            self.registries[side]._store.remove_blob(self.repository, self._layer(image))
            self.damaged[image] = side
            if is_repaired:
                self.repair()

    @rule()
    def repair(self) -> None:
        """As a run of the mirror, and what sides have lost of what all agree on is there again."""
        before = self.held
        run = Drive(self.engine, replace(self.spec, kind="repair", verification=Verification()))
        pinned = {tag for tag in TAGS if self._pin(tag)}
        self._take(run, 0, len(STEPS), pinned)
        self._replaced_by(run, before, pinned)
        for image, side in list(self.damaged.items()):
            if any({self.held[one, tag] for one in SIDES} == {IMAGES[image].digest} for tag in TAGS):
                assert self.registries[side].holds_blob(self.repository, self._layer(image))
                del self.damaged[image]

    # -- what runs do --------------------------------------------------------------------------------

    @rule()
    def run(self) -> None:
        self._take(Drive(self.engine, self.spec), 0, len(STEPS))

    @rule(steps=st.integers(1, len(STEPS) - 1))
    @precondition(lambda self: len(self.begun) < 2)
    def run_that_is_cut_short(self, steps: int) -> None:
        drive = Drive(self.engine, self.spec)
        self._take(drive, 0, steps)
        self.begun.append((drive, steps))

    @rule()
    @precondition(lambda self: bool(self.begun))
    def a_run_that_was_cut_short_goes_on(self) -> None:
        drive, done = self.begun.pop(0)
        self._take(drive, done, len(STEPS))

    @rule(side=sides, fault=st.sampled_from(("PUT", "HEAD")), status=st.sampled_from((403, 503)))
    def run_with_a_side_in_trouble(self, side: int, fault: str, status: int) -> None:
        def trouble(method: str, path: str) -> None:
            if method == fault and path.rpartition("/")[2] in TAGS:
                raise ErrorReply(status, "DENIED", "not now")

        self.registries[side].on_request = trouble
        try:
            self._take(Drive(self.engine, self.spec), 0, len(STEPS))
        finally:
            self.registries[side].on_request = None

    @rule(side=sides, tag=tags, image=images, at=st.integers(1, len(STEPS) - 1))
    def run_with_a_push_meanwhile(self, side: int, tag: str, image: int, at: int) -> None:
        drive = Drive(self.engine, self.spec)
        self._take(drive, 0, at)
        self._push(side, tag, image)
        self._take(drive, at, len(STEPS))

    @rule()
    def rest(self) -> None:
        """Nobody does anything: one run, and then nothing is left to do."""
        for drive, done in self.begun:
            if done >= MOVED:  # the sweeper has it go on; the others may be lost
                self._take(drive, done, len(STEPS))
        self.begun.clear()
        self.run()
        for tag in TAGS:
            digests = {self.held[side, tag] for side in SIDES}
            assert len(digests) == 1 or tag in self.conflicts or self._pin(tag), (tag, digests)
            if len(digests) == 1 and (digest := digests.pop()):
                own = {self.registries[side].tag(self.repository, signature_tag(digest)) for side in SIDES}
                assert len(own - {None}) != 1 or None not in own, "a signature has not travelled"
        for registry in self.registries:
            registry.forget_requests()
        self.run()
        assert self._written() == []

    def teardown(self) -> None:
        self.rest()

    # -- what is held true -------------------------------------------------------------------------

    @property
    def held(self) -> Held:
        return {
            (side, tag): self.registries[side].tag(self.repository, tag) for side in SIDES for tag in TAGS
        }

    @property
    def conflicts(self) -> set[str]:
        return {one.tag for one in self.engine.ledger.conflicts.open(self.spec.name)}

    def settled(self, tag: str) -> list[Conflict]:
        return [one for one in self.engine.ledger.conflicts.settled(self.spec.name) if one.tag == tag]

    def _name(self, side: int) -> str:
        return self.spec.targets[side].repository

    def _layer(self, image: int) -> str:
        return IMAGES[image].manifest.blobs[-1].digest

    def _is_anywhere(self, digest: str) -> bool:
        return any(digest in registry.manifests(self.repository) for registry in self.registries)

    def _pin(self, tag: str) -> bool:
        return bool(self.engine.ledger.pins.of(self.spec.name, [tag]))

    def _changed_since(self, before: Held) -> list[tuple[int, str]]:
        return [place for place, digest in self.held.items() if digest != before[place]]

    def _replaced_by(self, run: Drive, before: Held, tags: Collection[str] = TAGS) -> None:
        """A person had the tags replaced: what they were is in their history."""
        history = self.engine.ledger.history.of(self.spec.name, list(TAGS))
        for side, tag in self._changed_since(before):
            if tag in tags:
                flip = next(one for one in history[tag] if one.run == run.run)
                assert flip.previous[self._name(side)] == before[side, tag]
                self.pushed.pop((side, tag), None)
        self._check(run)

    def _written(self) -> list[str]:
        """But for the manifests of signatures: they are put by digest whenever their image is looked at."""
        theirs = tuple(f"/manifests/{one.digest}" for one in SIGNATURES)
        requests = (one for registry in self.registries for one in registry.requests)
        return [
            f"{one.method} {one.path}"
            for one in requests
            if one.method not in {"GET", "HEAD"} and not one.path.endswith(theirs)
        ]

    def _push(self, side: int, tag: str, image: int) -> None:
        before = self.held[side, tag]
        self.registries[side].hold(self.repository, IMAGES[image], tag)
        if self.damaged.get(image) == side:
            del self.damaged[image]
        if self.held[side, tag] != before:
            self._note(side, tag)

    def _note(self, side: int, tag: str) -> None:
        """Somebody changed a tag. Back at what all agreed on it is as if nobody ever had."""
        if self.held[side, tag] == self.engine.ledger.conflicts.known(self.spec, [tag])[tag].base:
            self.pushed.pop((side, tag), None)
        else:
            self.pushed[side, tag], self.spread[side, tag] = self.held[side, tag], set()
        self._settle()

    def _take(self, drive: Drive, first: int, last: int, free: Collection[str] = ()) -> None:
        """``free``: tags in which a person lets the run replace what was pushed."""
        for step in STEPS[first:last]:
            getattr(drive, step)()
            self._check(drive, free)
            if step == STEPS[-1]:
                self._account_for(drive)

    def _check(self, drive: Drive, free: Collection[str] = ()) -> None:
        held = self.held
        for (side, tag), digest in list(self.pushed.items()):
            if held[side, tag] == digest or tag in free:
                continue
            is_elsewhere = digest is not None and digest in (held[one, tag] for one in SIDES)
            assert self.spec.prefer or is_elsewhere, f"what was pushed to side {side} as {tag} is lost"
            self.lost[side, tag] = (drive, self.pushed.pop((side, tag)))
        for (side, tag), digest in self.signed.items():
            assert self.registries[side].tag(self.repository, tag) == digest
        self._settle()

    def _account_for(self, drive: Drive) -> None:
        """What the run has replaced is there again, lost against the preferred side, or is left on another.

        The last where a run took it for its own and went back: it was about to move the tag to just that.
        """
        for (side, tag), (by, digest) in list(self.lost.items()):
            if by is not drive:
                continue
            del self.lost[side, tag]
            if self.held[side, tag] == digest:
                self.pushed[side, tag] = digest
                continue
            name, found = self._name(side), self.settled(tag)
            has_lost = any(
                one.rule == "prefer" and one.sides[name] == digest and one.took != one.base for one in found
            )
            is_left = digest is not None and digest in (self.held[one, tag] for one in SIDES)
            assert has_lost or (is_left and tag in self.conflicts), (
                f"what was pushed to side {side} as {tag} is lost, and that is not on record"
            )

    def _settle(self) -> None:
        """What every side has had is nobody's own any more: who moves it then has moved it on."""
        held = self.held
        for (side, tag), digest in list(self.pushed.items()):
            self.spread[side, tag] |= {other for other in SIDES if held[other, tag] == digest}
            if self.spread[side, tag] == set(SIDES):
                del self.pushed[side, tag]


@pytest.fixture
def place(valkey: ValkeyServer) -> Iterator[type[TwoWay]]:
    with ExitStack() as stack:
        TwoWay.registries = [stack.enter_context(MemoryRegistry()) for _ in SIDES]
        TwoWay.engine = stack.enter_context(engine_on(valkey))
        yield TwoWay


@pytest.mark.timeout(1800)
def test_nothing_that_was_pushed_is_lost_and_a_quiet_system_comes_to_rest(place: type[TwoWay]) -> None:
    run_state_machine_as_test(
        place,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=20,
            deadline=None,
            derandomize=EXAMPLES <= 12,
            database=None,
            phases=(Phase.generate,),  # making a history shorter takes minutes: add Phase.shrink by hand
            suppress_health_check=(
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.filter_too_much,
            ),
        ),
    )
