"""What growth is measured in: points of curves, each a shape of the fleet and something to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Literal

from bench.rig import Cost, Shape
from bench.sets import ImageSet, alike, many_tags, small_many

Work = Literal["copy", "nothing to do"]
WORKS: tuple[Work, ...] = ("copy", "nothing to do")
LAYERS = 6
FAR_MS = 40.0
FAR_PROCESSES = 8
"""What waits for a Redis far away waits side by side: such a region wants more processes than cores."""
LONG = 1000
"""So many tags take long enough to be measured once, and so does waiting for a Redis far away."""
CURVES = {
    "tags": "Tags",
    "layers": "Layers per image",
    "targets": "Targets",
    "processes": "Worker processes",
    "distance": "Milliseconds to Redis and back",
    "far": "Far from Redis",
}
"""Titles, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Point:
    """One place on a curve; ``tags`` are in one repository, or in twelve as those of set A are."""

    curve: str
    work: Work
    x: float
    shape: Shape
    tags: int
    layers: int = LAYERS
    is_set_a: bool = False

    def name(self, number: int) -> str:
        return f"bench/{self.curve}-{self.work.replace(' ', '-')}-{self.x:g}-{number}"

    def images(self, number: int) -> ImageSet:
        """Of the round ``number``, sharing nothing with those of other rounds and points."""
        name = self.name(number)
        if self.is_set_a:
            return small_many(tags=self.tags // 12, seed=10 + number, prefix=name)
        if self.work == "copy":
            return alike(name, self.tags, self.layers)
        return many_tags(self.tags, min(50, self.tags), name)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a point cost: one round of it, or the medians of several."""

    curve: str
    work: Work
    x: float
    tags: int
    processes: int
    cost: Cost

    @property
    def rate(self) -> float:
        """Tags per second."""
        return self.tags / self.cost.wall_s


def points(*, quick: bool = False) -> list[Point]:
    """Every curve; quick: without the last place of each, and a tenth of the tags."""
    share, last = (10, -1) if quick else (1, None)
    few, some, many = 30 // share, 50 // share, 500 // share
    amounts: dict[str, tuple[tuple[Work, int], ...]] = {
        "targets": (("copy", some), ("nothing to do", many)),
        "processes": (("copy", some), ("nothing to do", many)),
        "distance": (("copy", few), ("nothing to do", 200 // share)),
    }
    shapes = {
        "targets": [(x, Shape(targets=x)) for x in (1, 3, 10)],
        "processes": [(x, Shape(processes=x)) for x in (1, 2, 4)],
        "distance": [(x, Shape(redis_ms=x)) for x in (0, 20, 100)],
    }
    return [
        *(Point("tags", "copy", x // share, Shape(), x // share, 1) for x in (100, 1000)[:last]),
        *(
            Point("tags", "nothing to do", x // share, Shape(), x // share)
            for x in (100, 1000, 10_000)[:last]
        ),
        *(Point("layers", "copy", x, Shape(), some, x) for x in (1, LAYERS, 20)[:last]),
        *(
            Point(curve, work, x, shape, tags)
            for curve, places in shapes.items()
            for work, tags in amounts[curve]
            for x, shape in places[:last]
        ),
        *(
            Point("far", "copy", x, Shape(processes=FAR_PROCESSES, redis_ms=x), 60, is_set_a=True)
            for x in (0, FAR_MS)
        ),
        Point("far", "nothing to do", FAR_MS, Shape(processes=1, redis_ms=FAR_MS), many),
    ]


def rounds_of(point: Point, rounds: int) -> int:
    return 1 if point.tags >= LONG or point.shape.redis_ms else rounds


def medians(measured: Sequence[Measured]) -> list[Measured]:
    """One for each place of each curve, in the order of the curves."""
    found: dict[tuple[str, Work, float], list[Measured]] = {}
    for one in measured:
        found.setdefault((one.curve, one.work, one.x), []).append(one)
    order = list(CURVES)
    keys = sorted(found, key=lambda key: (order.index(key[0]), WORKS.index(key[1]), key[2]))
    return [_median(found[key]) for key in keys]


def _median(rounds: Sequence[Measured]) -> Measured:
    first, *_ = rounds
    middle = {field.name: median(getattr(one.cost, field.name) for one in rounds) for field in fields(Cost)}
    return Measured(first.curve, first.work, first.x, first.tags, first.processes, Cost(**middle))
