"""How mirrors stand, in the ledger: which runs are read, what is behind since when, at what cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from mirror.engine import Engine
from mirror.ledger.digests import short
from mirror.ledger.standing import MOST_BATCHES, Standing
from mirror.spec import MirrorSpec, Target, Verification
from registry.images import Image, build_image
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.asked import asked_of_redis
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer

ONE, TWO = (build_image({"app": text}) for text in (b"one", b"two"))


@dataclass
class Rig:
    engine: Engine
    source: MemoryRegistry
    target: MemoryRegistry
    spec: MirrorSpec

    def run(self, **terms: object) -> str:
        return Drive(self.engine, replace(self.spec, **terms), 2).all().run  # type: ignore[arg-type]  # a spec's fields

    @property
    def standing(self) -> Standing:
        return self.engine.ledger.standings.of([self.spec])["app"]


@pytest.fixture
def rig(valkey: ValkeyServer) -> Iterator[Rig]:
    with MemoryRegistry() as source, MemoryRegistry() as target, engine_on(valkey) as engine:
        spec = MirrorSpec("app", f"{source.host}/app", (Target(f"{target.host}/app"),))
        yield Rig(engine, source, target, spec)


def hold(registry: MemoryRegistry, image: Image, *tags: str) -> None:
    for tag in tags:
        registry.hold("app", image, tag)


def test_nothing_is_known_of_a_mirror_that_never_ran(rig: Rig) -> None:
    assert rig.standing == Standing()


def test_the_last_run_about_all_is_read_and_what_came_after_it(rig: Rig) -> None:
    hold(rig.source, ONE, "v1", "v2")
    rig.run(refs=(("v1", "v1"),))
    rig.run()
    whole = rig.run()
    verified = rig.run(kind="verify", verification=Verification())
    hold(rig.source, TWO, "v1")
    some = rig.run(refs=(("v1", "v1"),))

    known = rig.standing

    assert {one.run for one in known.runs} == {whole, verified, some}
    assert known.verified is not None
    assert known.verified.run == verified
    assert [one.digest for one in known.tags[some]] == [TWO.digest]
    assert [one.label for one in known.tags[whole]] == ["v1", "v2"]


def test_of_a_long_run_the_first_and_last_batches_are_read(rig: Rig) -> None:
    tags = [f"v{number:02}" for number in range(20)]
    hold(rig.source, ONE, *tags)
    run = rig.run()

    assert [one.label for one in rig.standing.tags[run]] == [*tags[:2], *tags[20 - 2 * (MOST_BATCHES - 1) :]]


def test_a_tag_is_behind_since_it_was_first_seen_so_until_it_is_everywhere(
    rig: Rig,
) -> None:
    hold(rig.source, ONE, "v1")
    rig.run()
    assert rig.standing.behind == {}
    hold(rig.source, TWO, "v1")

    def refuse(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/v1"):
            raise ErrorReply(403, "DENIED", "not now")

    rig.target.on_request = refuse
    rig.run()
    first = rig.standing.behind["v1"]
    assert first[0] == TWO.digest
    key = rig.engine.ledger.keys.lagging("app")
    rig.engine.ledger.together().hset(key, "v1", f"1000 {short(TWO.digest)}").execute()
    rig.run()
    assert rig.standing.behind["v1"] == (TWO.digest, 1000.0), "the second run has seen nothing new"
    rig.target.on_request = None
    rig.run()
    assert rig.standing.behind == {}
    assert rig.engine.ledger.together().hlen(key).execute() == [0]


def test_what_no_fleet_file_has_is_forgotten(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.run()
    rig.engine.ledger.standings.keep_only({"app"})
    assert rig.standing.runs
    rig.engine.ledger.standings.keep_only({"other"})
    assert rig.standing == Standing()


def test_a_reading_costs_four_exchanges_for_however_many_mirrors(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(rig.source, ONE, "v1")
    specs = [replace(rig.spec, name=f"app{number}") for number in range(30)]
    for spec in specs[:5]:
        Drive(rig.engine, spec).all()
    rig.engine.ledger.ping()
    with asked_of_redis(monkeypatch) as asked:
        rig.engine.ledger.standings.of(specs)
    assert 1 < asked.number <= 4
