"""One storm from empty registries to a verdict."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.figures import Result, keys_by_kind
from tests.chaos.fleet import ROOT, ChaosFleet
from tests.chaos.judge import judge
from tests.chaos.plan import Plan
from tests.chaos.proxy import Fabric
from tests.chaos.receiver import Receiver
from tests.chaos.sides import BOTH
from tests.chaos.storm import REGION_NAMES, Storm
from tests.chaos.weather import Weather
from tests.chaos.world import FAR, World
from tests.support.process import Process
from tests.support.topology import made
from tests.support.wanlink import Unavailable, WanLink

SETTLE_S = 240.0
LAST_LOOK_S = 120.0


def run(plan: Plan, folder: Path, say: Callable[[str], None] = lambda _: None) -> Result:
    """Build the world, let it storm, heal it, and judge what is left."""
    begun = time.monotonic()
    fabric = Fabric(Weather(plan.seed, honest=BOTH))
    try:
        with (
            World(folder, fabric, plan.tags, plan.seed) as world,
            Receiver(plan.seed) as receiver,
            ChaosFleet(
                folder / "fleet",
                REGION_NAMES,
                fabric,
                world.fleet_file(receiver.entries(made(folder / "receivers"))),
                _wans(fabric, say),
            ) as fleet,
        ):
            say(f"{plan.tags} tags in {len(world.repositories)} repositories, 3 targets: the storm begins")
            observer = _observe(world, folder, plan)
            before = keys_by_kind(fleet.client)
            storm = Storm(plan, world, fleet, fabric, receiver, say)
            storm.blow()
            blew_s = time.monotonic() - begun
            say("the storm is over: healing, then one last run of each mirror")
            settled = storm.settle(SETTLE_S)
            code = observer.stop(LAST_LOOK_S)
            result = judge(storm, before, folder / "observed.jsonl", settled=settled, observer_code=code)
            result.blew_s, result.took_s = blew_s, time.monotonic() - begun
            return result
    finally:
        fabric.close()


def _wans(fabric: Fabric, say: Callable[[str], None]) -> dict[str, WanLink]:
    """A network of its own for one region, where this machine makes one."""
    try:
        return {FAR: fabric.wan()}
    except Unavailable as reason:
        say(f"{reason}; {FAR} can be cut off from Redis only")
        return {}


def _observe(world: World, folder: Path, plan: Plan) -> Process:
    config = folder / "observer.json"
    config.write_text(json.dumps(world.observed(folder / "observed.jsonl", plan.rate)))
    command = [sys.executable, "-P", "-m", "tests.chaos.observer", str(config)]
    return Process(command, folder / "observer.log", {"PYTHONPATH": str(ROOT)}, folder)
