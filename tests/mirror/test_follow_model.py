"""The machine of other two-way mirrors, with deletions carried over: none of them takes a push with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import rule, run_state_machine_as_test

from mirror.follow import follow
from registry.memory import ErrorReply, MemoryRegistry
from tests.mirror.test_two_way_model import EXAMPLES, IMAGES, SIDES, STEPS, TwoWay, sides
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer


class Following(TwoWay):
    """A run that saw a deletion before carries it over as its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = replace(self.spec, delete="mirror", delete_after_s=0, delete_share=100)
        for registry in self.registries:  # a side without any tag has deleted nothing
            registry.hold(self.repository, IMAGES[0], "other")

    @rule(side=sides)
    def run_with_a_side_that_deletes_nothing(self, side: int) -> None:
        def refuse(method: str, _: str) -> None:
            if method == "DELETE":
                raise ErrorReply(403, "DENIED", "no")

        self.registries[side].on_request = refuse
        try:
            self.run()
        finally:
            self.registries[side].on_request = None

    @rule()
    def rest(self) -> None:
        """The first run sees what was deleted, the second carries it over."""
        for drive, done in self.begun:
            self._take(drive, done, len(STEPS))
        self.begun.clear()
        self.run()
        super().rest()

    def _take(self, drive: Drive, first: int, last: int, free: Collection[str] = ()) -> None:
        super()._take(drive, first, last, free)
        if last == len(STEPS):
            for region in self.engine.ledger.gone.regions_to_do(drive.run, drive.spec.regions):
                follow(self.engine, drive.run, region)
                self._check(drive, free)

    def _note(self, side: int, tag: str) -> None:
        """The digest that all had is a push, too, on a side that was seen without it."""
        super()._note(side, tag)
        known = self.engine.ledger.conflicts.known(self.spec, [tag])[tag]
        is_back = known.missed is not None and self.spec.targets[side].repository in known.missed.lacking
        if is_back and self.held[side, tag] == known.base:
            self.pushed[side, tag], self.spread[side, tag] = known.base, set()
            self._settle()


@pytest.fixture
def place(valkey: ValkeyServer) -> Iterator[type[Following]]:
    with ExitStack() as stack:
        Following.registries = [stack.enter_context(MemoryRegistry()) for _ in SIDES]
        Following.engine = stack.enter_context(engine_on(valkey))
        yield Following


@pytest.mark.timeout(1800)
def test_a_deletion_that_is_carried_over_takes_no_push_with_it(place: type[Following]) -> None:
    run_state_machine_as_test(
        place,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=14,
            deadline=None,
            derandomize=EXAMPLES <= 12,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=(
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.filter_too_much,
            ),
        ),
    )
