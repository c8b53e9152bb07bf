"""A storm small enough to run by itself: each class of faults at least once, and nothing violated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.fleet import ROOT
from tests.chaos.killpoints import FOLDER, KILL_POINTS, Armoury
from tests.chaos.plan import SMALL
from tests.chaos.run import run
from tests.chaos.sides import LEAST_TAGS, SIDES
from tests.chaos.storm import REGION_NAMES

_PASS = """
import os, pathlib
from tests.chaos.killpoints import KILL_POINTS, Armoury
Armoury(pathlib.Path(os.environ["CHAOS_FOLDER"])).here(KILL_POINTS[2])
print("alive")
"""


PUSHED_AT = LEAST_TAGS * len(SIDES)
"""Tags of two-way mirrors."""


@pytest.mark.fleet
@pytest.mark.timeout(420)
def test_nothing_is_violated_lost_or_stuck_in_a_storm(scratch: Path) -> None:
    result = run(SMALL, scratch)

    assert result.is_good, result.text()
    assert result.rollbacks, result.text()
    assert result.observed["kept"], result.text()
    assert result.flips >= 2 * result.tags, result.text()
    assert result.observed["checked G2"] >= result.flips, result.text()
    assert result.sides.pushes >= 2 * PUSHED_AT, result.text()
    assert result.events.told_down >= len(REGION_NAMES), result.text()
    assert result.events.messages, result.text()


def test_an_armed_point_kills_once(tmp_path: Path) -> None:
    armoury = Armoury(tmp_path)
    armoury.arm(KILL_POINTS[2])

    first, second = (
        subprocess.run(
            [sys.executable, "-c", _PASS],
            env={FOLDER: str(tmp_path), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        for _ in range(2)
    )

    assert first.returncode == -9
    assert second.stdout == "alive\n", second.stderr
    assert armoury.kills()[KILL_POINTS[2]] == 1
    assert armoury.armed() == set()
