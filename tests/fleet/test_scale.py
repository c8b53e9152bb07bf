"""A small version of what `make scale` measures, with everything that is asked of the large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.scale import report
from bench.scale.rig import Shape
from bench.scale.trial import Plan, measure
from bench.scale.world import Size

FEW = 30
SHAPE = Shape(Size(10_000, repositories=20, tags_per_image=10), targets=1, settings={"SEALIFT_STALL_S": "5"})
"""One target keeps it short; `make scale` has three."""
PLAN = Plan(SHAPE, first_pulls=FEW)
"""The first 500 tags are at 50 images, of which 27 may be read in ten seconds: the rest is for releases."""


@pytest.mark.fleet
@pytest.mark.timeout(400)
def test_ten_thousand_tags_are_copied_killed_resumed_and_looked_at_again_within_all_bounds(
    scratch: Path,
) -> None:
    outcome = measure(scratch, PLAN, print)

    assert not outcome.problems
    assert [bar for bar in report.bars(outcome) if bar[0] != "pass"] == []
    assert [phase.name for phase in outcome.phases] == ["copied", "resumed", "again"]
    assert outcome.first_pulls == 0.9 * FEW
