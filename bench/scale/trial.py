"""One measurement: a backfill of everything, cut short half-way, resumed, and then another of the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.scale import keyspace
from bench.scale.keyspace import Held, Kind
from bench.scale.rig import COMEBACK_TIMEOUT_S, Rig, Shape
from bench.scale.server import NEVER_EMPTY
from bench.scale.watching import Sample, Watch, busy_s
from bench.scale.world import Size
from config.settings import Settings

Say = Callable[[str], None]
LONGEST_S = 6 * 3600.0
WINDOW = Settings().window_batches


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    shape: Shape
    crash: bool = True
    """Kill fleet and Redis half-way."""
    again: bool = True
    """Run it once more with nothing to do."""
    first_pulls: int = NEVER_EMPTY
    """So many are allowed in a window until a twentieth of the tags is concluded."""
    moved: int = 0
    """At the end run it once more, after all tags of so many repositories have moved,"""
    moved_pulls: int = NEVER_EMPTY
    """with so many pulls in each window."""


@dataclass(slots=True)
class Phase:
    """What a stretch of work cost."""

    name: str
    tags: int = 0
    wall_s: float = 0.0
    """Without pauses that somebody asked for."""
    fleet_cpu_s: float = 0.0
    """Workers, scheduler and Redis."""
    redis_cpu_s: float = 0.0
    registries_cpu_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)
    """Of the source and then of each target, since they were started."""


@dataclass(slots=True)
class Outcome:
    """Everything that was measured."""

    plan: Plan
    empty_bytes: int
    """What Redis holds with a fleet that has done nothing."""
    full_bytes: int = 0
    """And once everything has been copied."""
    phases: list[Phase] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    """Keys in Redis once everything has ended."""
    kinds_half: list[Kind] = field(default_factory=list)
    """And while the fleet was down."""
    under_way: dict[str, Held] = field(default_factory=dict)
    """Batches that waited and that were in flight then."""
    first_pulls: int = 0
    """Most in one of the first windows."""
    redis_comeback_s: float = 0.0
    """From the start of Redis until it had read its file."""
    problems: list[str] = field(default_factory=list)

    @property
    def shape(self) -> Shape:
        return self.plan.shape

    @property
    def tags(self) -> int:
        return self.shape.size.tags

    @property
    def window(self) -> int:
        """Batches in flight at most, by default."""
        return WINDOW

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Outcome:
        """The inverse of dataclasses.asdict."""
        plan = document["plan"]
        shape = Shape(**{**plan["shape"], "size": Size(**plan["shape"]["size"])})
        return cls(
            **{
                **document,
                "plan": Plan(**{**plan, "shape": shape}),
                "phases": [
                    Phase(**{**phase, "samples": [Sample(**one) for one in phase["samples"]]})
                    for phase in document["phases"]
                ],
                "kinds": [Kind(**kind) for kind in document["kinds"]],
                "kinds_half": [Kind(**kind) for kind in document["kinds_half"]],
                "under_way": {state: Held(**held) for state, held in document["under_way"].items()},
            }
        )


def measure(folder: Path, plan: Plan, say: Say) -> Outcome:
    """Do it all in ``folder``."""
    with ExitStack() as stack:
        rig = Rig(folder, plan.shape, stack)
        outcome = Outcome(plan, rig.redis.info("memory")["used_memory"])
        _copy(rig, outcome, say, plan)
        if plan.again:
            _run(rig, outcome, say, "again")
        if plan.moved:
            rig.source.move(plan.moved)
            rig.source.limit(plan.moved_pulls)
            _run(rig, outcome, say, "moved")
        _judge(rig, outcome)
    return outcome


def _copy(rig: Rig, outcome: Outcome, say: Say, plan: Plan) -> None:
    """For the first time."""
    tags, crash = rig.shape.size.tags, plan.crash
    rig.source.limit(plan.first_pulls)
    meter, runs = _Meter(rig, outcome, say), rig.backfill()
    watch = Watch(rig, runs)
    watch.until(lambda sample: sample.ended or sample.concluded >= tags // 20, LONGEST_S)
    outcome.first_pulls = rig.source.counts()["most_pulls"]
    rig.source.limit(NEVER_EMPTY)
    if crash:
        watch.until(lambda sample: sample.ended or sample.concluded >= tags // 2, LONGEST_S)
        meter.end("copied", watch.samples, rig.fleet.crash)
        _resume(rig, outcome, runs)
        meter, watch = _Meter(rig, outcome, say), Watch(rig, runs)
    watch.until(lambda sample: sample.ended, LONGEST_S)
    meter.end("resumed" if crash else "copied", watch.samples)
    outcome.kinds = keyspace.kinds(rig.redis)
    outcome.full_bytes = rig.redis.info("memory")["used_memory"]
    _note_failures(rig, outcome, runs)


def _run(rig: Rig, outcome: Outcome, say: Say, name: str) -> None:
    """The same backfill once more."""
    meter, runs = _Meter(rig, outcome, say), rig.backfill()
    watch = Watch(rig, runs)
    watch.until(lambda sample: sample.ended, LONGEST_S)
    meter.end(name, watch.samples)
    _note_failures(rig, outcome, runs)


def _resume(rig: Rig, outcome: Outcome, runs: Sequence[str]) -> None:
    """After a crash."""
    began = time.monotonic()
    rig.fleet.valkey.restart(COMEBACK_TIMEOUT_S)
    outcome.redis_comeback_s = time.monotonic() - began
    outcome.kinds_half = keyspace.kinds(rig.redis)
    outcome.under_way = keyspace.under_way(rig.redis, rig.fleet.ledger.keys, runs, rig.regions)
    rig.fleet.start_all()
    for run in runs:
        if not rig.fleet.ledger.run_report(run).ended:
            rig.backfill("--resume", run)


class _Meter:
    """Reads everybody's CPU when it is made, and what it has become at the end."""

    def __init__(self, rig: Rig, outcome: Outcome, say: Say) -> None:
        self._rig, self._outcome, self._say = rig, outcome, say
        self._before = _cpu(rig)

    def end(self, name: str, samples: Sequence[Sample], then: Callable[[], None] | None = None) -> None:
        """``then`` is done first of all once CPU is read: a crash."""
        fleet, redis, registries = (
            after - before for after, before in zip(_cpu(self._rig), self._before, strict=True)
        )
        if then:
            then()
        counts = [registry.counts() for registry in self._rig.registries]
        tags, wall = samples[-1].concluded - samples[0].concluded, busy_s(samples)
        self._outcome.phases.append(Phase(name, tags, wall, fleet, redis, registries, list(samples), counts))
        self._say(
            f"{name}: {tags} tags in {wall:.1f} s, {tags / max(wall, 0.001):.0f}/s; CPU s: fleet "
            f"{fleet:.1f} (Redis {redis:.1f}), registries {registries:.1f}"
        )


def _cpu(rig: Rig) -> tuple[float, float, float]:
    """Seconds of the fleet with its Redis, of Redis alone, of all registries."""
    redis = machine.tree_cpu_s(rig.fleet.valkey.process.pid)
    fleet = sum(machine.tree_cpu_s(process.pid) for process in rig.fleet.processes)
    return fleet, redis, sum(registry.cpu_s() for registry in rig.registries)


def _note_failures(rig: Rig, outcome: Outcome, runs: Sequence[str]) -> None:
    for run in runs:
        report = rig.fleet.ledger.run_report(run)
        if report.state != "done" or set(report.states) - {"updated", "current"}:
            outcome.problems.append(f"run {run} is {report.state}: {report.states} {report.error}")


def _judge(rig: Rig, outcome: Outcome) -> None:
    """What must hold of the end, whatever it cost."""
    source, *targets = outcome.phases[-1].counts
    wanted = rig.source.digest()
    for number, (target, counts) in enumerate(zip(rig.targets, targets, strict=True)):
        if target.digest() != wanted:
            outcome.problems.append(f"target {number} is not as the source: it has {counts['tags']} tags")
    if source["overdrawn"]:
        outcome.problems.append(f"the budget was overdrawn {source['overdrawn']} times")
