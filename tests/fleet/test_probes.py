"""Probes on a schedule, and who takes them being killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from registry.memory import MemoryRegistry
from tests.support.fleet import Fleet, made
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]
PATIENCE_S = 90.0


@pytest.fixture
def held() -> Iterator[tuple[Fleet, MemoryRegistry]]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source = stack.enter_context(MemoryRegistry())
        mirror = {"name": "app", "source": f"{source.host}/app", "targets": ["127.0.0.1:9/app"]}
        document = {"mirrors": [mirror], "probe": {"every": "10s"}}
        made(folder / "fleet")
        Path(folder / "fleet" / "sealift.yaml").write_text(yaml.safe_dump(document))
        yield stack.enter_context(Fleet(folder / "fleet", ["local"])), source


def test_a_worker_that_is_killed_in_the_middle_of_a_probe_does_no_harm(
    held: tuple[Fleet, MemoryRegistry],
) -> None:
    fleet, source = held
    with source.pause(lambda _, path: path == "/v2/") as pause:
        assert pause.reached.wait(PATIENCE_S), fleet.logs()
        fleet.kill("local")
    assert fleet.ledger.probes.latest([("local", source.host)])[0].last is None

    fleet.start("local")

    def measured() -> bool:
        return fleet.ledger.probes.latest([("local", source.host)])[0].standing == "up"

    until(measured, PATIENCE_S, fleet.logs)
    assert fleet.ledger.probes.changes() == []
    (hour,) = fleet.ledger.probes.availability([("local", source.host)])
    assert hour.day_share == 1.0
