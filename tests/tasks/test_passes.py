"""Which registries a region probes, when beat sends a pass, and what the pass leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from config.fleet import Fleet, parse_fleet
from config.settings import Settings
from mirror.ledger.leases import LEASE_S
from mirror.ledger.probes import Measurement, Reach
from registry.memory import MemoryRegistry
from tasks import canvas
from tasks.passes import FRESH_SLOTS, Probing, fresh_s, hosts_of, places_of
from tasks.probing import AT_WORK, Pass, take
from tasks.runtime import Runtime, compose
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

FLEET = """\
probe: {{every: 1m}}
mirrors:
  - {{name: app, source: {source}/app, targets: [{{region: eu, repository: {target}/app}}, "oci:folder"]}}
  - {{name: all, source: {source}/team/*, targets: [{{region: us, repository: us.example/team/*}}]}}
"""


@dataclass
class Rig:
    rt: Runtime
    source: MemoryRegistry
    target: MemoryRegistry
    fleet: Fleet
    sent: list[tuple[str, str]] = field(default_factory=list)

    def reach(self, region: str, registry: MemoryRegistry) -> Reach:
        return self.rt.ledger.probes.latest([(region, registry.host)])[0]

    def go(self, name: str = "by-hand-1", region: str = "eu") -> None:
        Pass(self.rt, self.fleet, region, name).go()


@pytest.fixture
def rig(valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with ExitStack() as stack:
        source, target = (stack.enter_context(MemoryRegistry()) for _ in range(2))
        text = FLEET.format(source=source.host, target=target.host)
        (tmp_path / "sealift.yaml").write_text(text)
        monkeypatch.setenv("SEALIFT_FLEET_FILE", str(tmp_path / "sealift.yaml"))
        monkeypatch.setenv("SEALIFT_REDIS_URL", valkey.url)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        rt = compose(Settings())
        rig = Rig(rt, source, target, parse_fleet(text))
        monkeypatch.setattr(canvas, "send_probe", lambda region, name: rig.sent.append((region, name)))
        yield rig
        rt.close()
        rt.client.close()


def test_a_region_probes_the_registries_of_the_mirrors_that_it_serves(rig: Rig) -> None:
    assert hosts_of(rig.fleet, "eu") == [rig.source.host, rig.target.host]
    assert hosts_of(rig.fleet, "us") == [rig.source.host, "us.example"]
    assert hosts_of(rig.fleet, "us", ["app"]) == []
    assert ("local", rig.source.host) in places_of(rig.fleet), "a folder is in a region too"


def test_a_pass_measures_each_registry_once_however_often_it_is_told_to(rig: Rig) -> None:
    rig.go()
    rig.go()

    assert (rig.reach("eu", rig.source).standing, rig.reach("eu", rig.target).standing) == ("up", "up")
    assert rig.source.count("ping") == rig.target.count("ping") == 1
    assert rig.rt.ledger.probes.ended("by-hand-1") == {"eu": {}}
    rig.go("by-hand-2")
    assert rig.source.count("ping") == 2


def test_a_registry_that_another_worker_of_the_region_is_probing_is_left_to_it(rig: Rig) -> None:
    leases = rig.rt.ledger.content.leases
    lease = leases.take(AT_WORK.format("eu"), rig.source.host)
    assert lease

    rig.go()

    assert rig.rt.ledger.probes.ended("by-hand-1") == {"eu": {rig.source.host: "it is being probed just now"}}
    assert rig.source.requests == []
    leases.release(lease)
    assert LEASE_S <= 60, "who was killed keeps it no longer than to the next slot"


def test_a_registry_that_is_paused_is_left_out_and_is_no_outage(rig: Rig) -> None:
    rig.rt.ledger.budgets.pause(rig.source.host, "", 600)

    for number in range(3):
        rig.go(f"by-hand-{number}")

    assert rig.source.requests == []
    assert rig.reach("eu", rig.source).last is None
    assert "left alone" in rig.rt.ledger.probes.ended("by-hand-0")["eu"][rig.source.host]


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ("proxy: env:NO_SUCH_PROXY", "NO_SUCH_PROXY is not set"),
        ("ca_file: nowhere.pem, plain_http: false", "cannot use its certificate files"),
        ("ca_file: nowhere.pem, proxy: 'http://127.0.0.1:9'", "cannot use its certificate files"),
    ],
)
def test_a_registry_that_is_set_up_wrongly_is_left_out_by_name_and_the_others_are_measured(
    rig: Rig, terms: str, why: str
) -> None:
    text = FLEET.format(source=rig.source.host, target=rig.target.host)
    wrong = parse_fleet(f'registries: {{"{rig.source.host}": {{{terms}}}}}\n{text}')

    Pass(rig.rt, wrong, "eu", "by-hand-1").go()

    assert rig.reach("eu", rig.target).standing == "up"
    assert why in rig.rt.ledger.probes.ended("by-hand-1")["eu"][rig.source.host]
    assert rig.reach("eu", rig.source).last is None, "nothing was learnt about the registry"


def test_while_a_pass_is_under_way_the_regions_next_one_does_nothing(rig: Rig) -> None:
    probes, now = rig.rt.ledger.probes, int(rig.rt.ledger.now())

    def has(registry: MemoryRegistry, slot: int) -> bool:
        return probes.is_recorded("eu", registry.host, str(slot))

    with rig.source.pause(lambda _, path: path == "/v2/") as pause, ThreadPoolExecutor(1) as pool:
        first = pool.submit(sent, rig, now)
        try:
            assert pause.reached.wait(30)
            until(lambda: has(rig.target, now), 30, "the registry that answers")
            sent(rig, now + 10)
            assert not has(rig.target, now + 10)
        finally:
            pause.release()
        first.result(60)
    sent(rig, now + 20)
    assert has(rig.source, now + 20)


def sent(rig: Rig, slot: int) -> None:
    """A pass of that slot reaches a worker."""
    probes = rig.rt.ledger.probes
    assert probes.send_slot("eu", slot, float(slot), 600)
    take(rig.rt, rig.fleet, "eu", str(slot))


def test_beat_sends_each_living_region_one_pass_a_slot(rig: Rig) -> None:
    probing, now = Probing(rig.rt), rig.rt.ledger.now() // 60 * 60 + 20
    assert probing.run_due(rig.fleet, now) == 40
    assert rig.sent == [], "nobody is there to take it"

    rig.rt.ledger.workers.beat("eu", "worker")
    for beat in (probing, Probing(rig.rt)):
        beat.run_due(rig.fleet, now)
    slot = int(now - 20)
    assert rig.sent == [("eu", str(slot))]

    probing.run_due(rig.fleet, now + 60)
    assert rig.sent == [("eu", str(slot))], "the last one waits to be begun"
    assert rig.rt.ledger.probes.begin_slot("eu", slot)
    probing.run_due(rig.fleet, now + 60)
    assert rig.sent[1:] == [("eu", str(slot + 60))]


def test_a_pass_whose_message_is_lost_is_sent_again_after_three_slots(rig: Rig) -> None:
    rig.rt.ledger.workers.beat("eu", "worker")
    probing, slot = Probing(rig.rt), int(rig.rt.ledger.now() // 60 * 60)

    for later in range(0, 241, 60):
        probing.run_due(rig.fleet, float(slot + later))

    assert rig.sent == [("eu", str(slot)), ("eu", str(slot + 180))]


def test_without_every_nothing_is_sent_and_what_was_measured_stays(rig: Rig) -> None:
    rig.rt.ledger.workers.beat("eu", "worker")
    rig.go()

    quiet = rig.fleet.model_copy(update={"probe": rig.fleet.probe.model_copy(update={"every": None})})
    Probing(rig.rt).run_due(quiet, rig.rt.ledger.now())

    assert rig.sent == []
    assert rig.reach("eu", rig.source).standing == "up"


def test_registries_that_the_fleet_file_has_no_more_are_forgotten(rig: Rig) -> None:
    ledger = rig.rt.ledger
    ledger.probes.record(Measurement("eu", "old.example", ledger.now(), up=True), "one")
    rig.go()

    Probing(rig.rt).run_due(rig.fleet, ledger.now())

    assert {host for _, host in ledger.probes.places()} == {rig.source.host, rig.target.host}


def test_a_probe_is_gone_by_for_some_slots(rig: Rig) -> None:
    seldom = parse_fleet("probe: {every: 2h}")
    assert fresh_s(seldom) == FRESH_SLOTS * 7200
    assert fresh_s(rig.fleet) == 3600


def test_a_registry_that_goes_down_and_comes_back_is_a_line_of_the_log_each(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.go("by-hand-1")
    rig.target.stop()
    for number in (2, 3, 4):
        rig.go(f"by-hand-{number}")
    rig.target.start()
    for number in (5, 6):
        rig.go(f"by-hand-{number}")

    lines = [one.getMessage() for one in caplog.records if one.name == "tasks.probing"]
    down, back = lines
    assert down.startswith(f"{rig.target.host} is down, as seen from eu: ")
    assert back == f"{rig.target.host} is back, as seen from eu"
    (incident,) = rig.rt.ledger.probes.incidents()
    assert incident.up_s is not None
