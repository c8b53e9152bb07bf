"""Heals are measured for those who may not be kept waiting."""

from __future__ import annotations

import json
from pathlib import Path

from mirror.ledger import Ledger
from mirror.spec import Lane, MirrorSpec, Target
from tests.chaos.progress import Progress
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

SPEC = MirrorSpec("app", "127.0.0.1:1/app", (Target("127.0.0.1:2/app", "west"),))
LANES: tuple[Lane, Lane] = ("release", "backfill")


def test_only_release_runs_count_as_healing_and_all_are_traced(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path) as valkey, valkey.client() as client:
        ledger = Ledger(client)
        progress = Progress(ledger.keys, client, tmp_path / "trace")
        release, backfill = (ledger.create_run(SPEC, lane) for lane in LANES)
        assert progress.look(0.0)
        progress.struck(1.0, "worker killed")
        for run in (release, backfill):
            assert ledger.add_batches(run, "", "1", [[("1", "1")]], listed=False)
        until(lambda: progress.look(3.0), 5, "it to be time for another look")

    trace = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    assert [(heal.run, heal.seconds, heal.faults) for heal in progress.heals] == [
        (release, 2.0, ("worker killed",))
    ]
    assert {one["run"] for one in trace if one["at"] == 3.0} == {release, backfill}
