"""Two-way mirrors under whatever people and networks do, in any order: nothing pushed is lost in silence.

Three sides, random pushes, deletions, faults, runs that are cut short and go on later. Held true:
a digest that somebody put on one side and that not every side has had is replaced by no run, unless a person
decided so and it is on record; a quiet system comes to rest in one run and then writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from mirror.engine import Engine
from mirror.spec import TARGETS, MirrorSpec, Target
from registry.images import build_image
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.engine import Drive, engine_on, only
from tests.support.valkey import ValkeyServer

EXAMPLES = int(os.environ.get("TWO_WAY_EXAMPLES", "12"))
"""More of them search longer: a thousand take half an hour."""
IMAGES = [build_image({"app": text}) for text in (b"one", b"two", b"three", b"four")]
TAGS = ("v1", "v2")
SIDES = (0, 1, 2)
STEPS = ("resolve", "land", "finalize", "flip", "conclude")
Held = dict[tuple[int, str], str | None]
"""By (side, tag): the digest that is there."""

sides, tags, images = st.sampled_from(SIDES), st.sampled_from(TAGS), st.integers(0, 3)


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
        self.begun: list[tuple[Drive, int]] = []
        """Runs that were cut short, and how many steps they have taken."""

    # -- what people do ----------------------------------------------------------------------------

    @rule(side=sides, tag=tags, image=images)
    def push(self, side: int, tag: str, image: int) -> None:
        self._push(side, tag, image)

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
        Drive(self.engine, replace(only(self.spec, tag), take=self.spec.targets[side].repository)).all()
        lost = {key for key, digest in self.held.items() if digest != before[key]}
        settled = [one for one in self.engine.ledger.conflicts.settled(self.spec.name) if one.tag == tag]
        for place in lost:
            assert settled[0].sides[self.spec.targets[place[0]].repository] == before[place]
            self.pushed.pop(place, None)
        self._settle()

    # -- what runs do --------------------------------------------------------------------------------

    @rule()
    def run(self) -> None:
        self._take(Drive(self.engine, self.spec), 0, len(STEPS))

    @rule(steps=st.integers(1, len(STEPS) - 1))
    @precondition(lambda self: len(self.begun) < 2)
    def run_that_is_cut_short(self, steps: int) -> None:
        self._take(Drive(self.engine, self.spec), 0, steps)

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
        self._take(drive, 0, at, keep=False)
        self._push(side, tag, image)
        self._take(drive, at, len(STEPS))

    @rule()
    def rest(self) -> None:
        """Nobody does anything: one run, and then nothing is left to do."""
        self.begun.clear()
        self.run()
        for tag in TAGS:
            digests = {self.held[side, tag] for side in SIDES}
            assert len(digests) == 1 or tag in self.conflicts, (tag, digests)
        for registry in self.registries:
            registry.forget_requests()
        self.run()
        written = [one for r in self.registries for one in r.requests if one.method not in {"GET", "HEAD"}]
        assert written == []

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

    def _push(self, side: int, tag: str, image: int) -> None:
        before = self.held[side, tag]
        self.registries[side].hold(self.repository, IMAGES[image], tag)
        if self.held[side, tag] != before:
            self._note(side, tag)

    def _note(self, side: int, tag: str) -> None:
        """Somebody changed a tag. Back at what all agreed on it is as if nobody ever had."""
        if self.held[side, tag] == self.engine.ledger.conflicts.known(self.spec, [tag])[tag].base:
            self.pushed.pop((side, tag), None)
        else:
            self.pushed[side, tag], self.spread[side, tag] = self.held[side, tag], set()
        self._settle()

    def _take(self, drive: Drive, first: int, last: int, *, keep: bool = True) -> None:
        for step in STEPS[first:last]:
            getattr(drive, step)()
            self._check()
        if keep and last < len(STEPS):
            self.begun.append((drive, last))

    def _check(self) -> None:
        held = self.held
        for (side, tag), digest in self.pushed.items():
            assert held[side, tag] == digest, f"what was pushed to side {side} as {tag} is lost"
        self._settle()

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
            stateful_step_count=14,
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
