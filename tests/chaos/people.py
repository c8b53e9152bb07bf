"""What people do while it storms: push, start runs, roll back, decide about what has moved apart."""

from __future__ import annotations

import itertools
from random import Random

from mirror.rollback import rollback_of
from mirror.spec import Lane, MirrorSpec
from tests.chaos.fleet import ChaosFleet
from tests.chaos.plan import Plan
from tests.chaos.world import World

ROLLBACKS = 0.15
"""The share of the runs that are rollbacks."""
MOST_ROLLED_BACK = 3
TWICE = 0.3
"""How often a mirror may be run beside itself."""
DECISIONS = 0.6
"""The share of the runs of a two-way mirror with conflicts that are somebody's decision."""


class People:
    """Everything that is asked of a fleet, and what happens in registries beside it."""

    def __init__(self, plan: Plan, world: World, fleet: ChaosFleet, expected_s: float) -> None:
        self._plan, self._world, self._fleet, self._expected_s = plan, world, fleet, expected_s
        self._random = Random(plan.seed + 1)
        self.one_way, self.two_way = world.specs(), world.sides.specs()
        self._turn, self._side_turn = itertools.cycle(self.one_way), itertools.cycle(self.two_way)
        self._next_move = self._next_push = 0.0
        self.rollbacks = self.decisions = 0

    def push(self, now: float) -> None:
        """Move tags at the source, and push at sides, whichever are due."""
        if now >= self._next_move:
            self._world.move_any()
            self._next_move = now + self._move_every(now)
        if now >= self._next_push:
            self._world.sides.push_any()
            self._next_push = now + self._random.expovariate(1 / self._plan.push_s)

    def are_through(self) -> bool:
        """Whether every tag moved as often as planned, and some back."""
        moved = all(len(self._world.truth[tag]) > self._plan.moves_each for tag in self._world.tags)
        return moved and self.rollbacks > 0

    def start_runs(self, number: int) -> None:
        """Of mirrors in their turn."""
        for _ in range(number):
            self._fleet.producer.ask(next(self._turn), "release")

    def start_some_run(self) -> None:
        """Now and then of the same mirror twice at once: the newest must win."""
        spec = self._random.choice(self.one_way) if self._random.random() < TWICE else next(self._turn)
        lane: Lane = "backfill" if self._random.random() < 0.3 else "release"
        self._fleet.producer.ask(self._rollback(spec) or spec, lane)

    def equalise(self) -> None:
        """Run a two-way mirror, now and then twice at once: what has been pushed is to be everywhere soon."""
        spec = next(self._side_turn)
        self._fleet.producer.ask(self._decision(spec) or spec, "release")
        if self._random.random() < TWICE:
            self._fleet.producer.ask(spec, "backfill")

    def _decision(self, spec: MirrorSpec) -> MirrorSpec | None:
        """Somebody says which side is right; RedisError."""
        if self._random.random() >= DECISIONS:
            return None
        apart = [one.tag for one in self._fleet.ledger.conflicts.open(spec.name)]
        self.decisions += bool(apart)
        return self._world.sides.decision(spec, apart) if apart else None

    def _rollback(self, spec: MirrorSpec) -> MirrorSpec | None:
        """Now and then some of the mirror's tags go back together; its next run takes them on again.

        The first time as soon as there is something to go back to: in a short storm chance may have none.
        """
        if self.rollbacks and self._random.random() >= ROLLBACKS:
            return None
        before = {
            at.tag: digests[-2]
            for at, digests in self._world.truth.items()
            if len(digests) > 1 and spec.source.endswith(f"/{at.repository}")
        }
        tags = self._random.sample(sorted(before), min(len(before), MOST_ROLLED_BACK))
        self.rollbacks += bool(tags)
        return rollback_of(spec, {tag: before[tag] for tag in tags}, pin=False) if tags else None

    def _move_every(self, now: float) -> float:
        left = self._plan.moves_each * len(self._world.tags) - self._world.moves
        # All moves within three quarters of the expected time, so that faults meet moving tags to the end.
        time_left = max(5.0, 0.75 * self._expected_s - now)
        return min(3.0, max(0.1, time_left / max(1, left)))
