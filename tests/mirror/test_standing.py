"""How mirrors stand, in the ledger: which runs are read, what is behind since when, at what cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from mirror.engine import Engine
from mirror.ledger.digests import short
from mirror.ledger.lagging import MOST, Lag, row_of
from mirror.ledger.standing import MOST_BATCHES, Standing
from mirror.report import Deletion
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

    @property
    def behind(self) -> dict[str, dict[str, Lag]]:
        return self.standing.behind.tags

    def lag(self, label: str) -> Lag:
        (lag,) = self.behind[label].values()
        return lag

    @property
    def key(self) -> str:
        return self.engine.ledger.keys.lagging("app")

    def rows(self) -> dict[str, str]:
        (found,) = self.engine.ledger.together().hgetall(self.key).execute()
        return {name.decode(): row.decode() for name, row in found.items()}

    def put(self, label: str, row: str) -> None:
        (target,) = self.spec.targets
        self.engine.ledger.together().hset(self.key, row_of(label, target.repository), row).execute()


@pytest.fixture
def rig(valkey: ValkeyServer) -> Iterator[Rig]:
    with MemoryRegistry() as source, MemoryRegistry() as target, engine_on(valkey) as engine:
        spec = MirrorSpec("app", f"{source.host}/app", (Target(f"{target.host}/app"),))
        yield Rig(engine, source, target, spec)


def hold(registry: MemoryRegistry, image: Image, *tags: str) -> None:
    for tag in tags:
        registry.hold("app", image, tag)


def refuse(*tags: str) -> Callable[[str, str], None]:
    """Of a target: those tags are not to be put."""

    def on_request(method: str, path: str) -> None:
        if method == "PUT" and path.endswith(tuple(f"/manifests/{tag}" for tag in tags)):
            raise ErrorReply(403, "DENIED", "not now")

    return on_request


def deny_list(repository: str) -> Callable[[str, str], None]:
    def on_request(method: str, path: str) -> None:
        if f"/{repository}/tags/list" in path:
            raise ErrorReply(403, "DENIED", f"{method} not now")

    return on_request


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


def test_a_tag_is_behind_since_it_was_first_seen_so_until_it_is_everywhere(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.run()
    assert rig.behind == {}
    hold(rig.source, TWO, "v1")
    rig.target.on_request = refuse("v1")
    rig.run()
    assert rig.lag("v1").digest == TWO.digest
    rig.put("v1", f"1000 1000.5 {short(TWO.digest)}")
    rig.run()
    again = rig.lag("v1")
    assert again.since_s == 1000, "the second run has seen nothing new"
    assert again.seen_s > 1000.5
    rig.target.on_request = None
    rig.run()
    assert rig.behind == {}
    assert rig.rows() == {}


def test_a_tag_stays_behind_whatever_tags_later_runs_are_about(rig: Rig) -> None:
    hold(rig.source, ONE, "a", "b", "c", "d")
    rig.run()
    hold(rig.source, TWO, "a", "b", "c", "d")
    rig.target.on_request = refuse("a")
    for tag in "abcd":
        rig.run(refs=((tag, tag),))
    assert list(rig.behind) == ["a"]
    rig.target.on_request = None
    rig.run(refs=(("a", "a"),))
    assert rig.behind == {}


def test_a_tag_that_somebody_else_has_brought_there_is_behind_no_more(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.target.on_request = refuse("v1")
    rig.run()
    rig.target.on_request = None
    hold(rig.target, ONE, "v1")
    run = rig.run()
    assert rig.engine.ledger.run_report(run).states == {"current": 1}
    assert rig.rows() == {}


def test_a_verification_that_finds_it_there_is_enough_and_one_that_does_not_blames_no_run(rig: Rig) -> None:
    hold(rig.source, ONE, "v1", "v2")
    rig.target.on_request = refuse("v1")
    rig.run()
    rig.target.on_request = None
    hold(rig.target, ONE, "v1")
    rig.target.untag("app", "v2")
    rig.run(kind="verify", verification=Verification())
    assert rig.behind == {}


@pytest.mark.parametrize("terms", [{}, {"kind": "verify", "verification": Verification()}], ids=str)
def test_a_tag_that_the_source_has_no_more_is_behind_no_more(rig: Rig, terms: dict[str, object]) -> None:
    hold(rig.source, ONE, "v1", "v2", "v3")
    rig.target.on_request = refuse("v1", "v2")
    rig.run()
    rig.put("v1", f"1000 1000.5 {short(ONE.digest)}")
    rig.source.untag("app", "v1")
    rig.run(refs=(("v3", "v3"),))
    assert set(rig.behind) == {"v1", "v2"}, "a run about some tags says nothing of others"
    rig.run(**terms)
    assert set(rig.behind) == {"v2"}


def test_a_tag_that_a_run_could_not_judge_or_did_not_look_at_stays_behind(rig: Rig) -> None:
    hold(rig.source, ONE, "v1", "v2")
    rig.target.on_request = refuse("v1", "v2")
    rig.run()
    for tag in ("v1", "v2"):
        rig.put(tag, f"1000 1000.5 {short(ONE.digest)}")

    def mute(method: str, path: str) -> None:
        if path.endswith("/manifests/v1"):
            raise ErrorReply(403, "DENIED", f"{method} not now")

    rig.source.on_request = mute
    rig.run()
    assert set(rig.behind) == {"v1", "v2"}
    rig.source.on_request = rig.target.on_request = None
    for tag in ("v1", "v2", "v3"):
        rig.put(tag, f"1000 1000.5 {short(ONE.digest)}")
    hold(rig.target, ONE, "v1", "v2")
    rig.run(kind="verify", verification=Verification(sample=1))
    assert len(rig.behind) == 2, "of a sample nothing follows for others"


def test_a_tag_that_is_deleted_there_as_it_was_at_the_source_is_behind_no_more(rig: Rig) -> None:
    rig.put("v1", f"1000 1000.5 {short(ONE.digest)}")
    rig.put("v2", f"1000 1000.5 {short(ONE.digest)}")
    run = rig.engine.ledger.create_run(rig.spec, "release")
    (target,) = rig.spec.targets
    gone = Deletion("v1", target.repository, target.region, ONE.digest, "waiting")
    rig.engine.ledger.gone.record(run, gone, rig.spec)
    assert set(rig.behind) == {"v1", "v2"}
    rig.engine.ledger.gone.record(run, replace(gone, state="deleted"), rig.spec)
    assert set(rig.behind) == {"v2"}


def test_repositories_of_a_wildcard_that_cannot_be_listed_stay_as_they_are(rig: Rig) -> None:
    for name in ("one", "two"):
        rig.source.hold(f"all/{name}", ONE, "v1")
    target = f"{rig.target.host}/mirrored/*"
    rig.spec = MirrorSpec("app", f"{rig.source.host}/all/*", (Target(target),))
    rig.target.on_request = refuse("v1")
    rig.run()
    assert {label: set(own) for label, own in rig.behind.items()} == {
        "one:v1": {target},
        "two:v1": {target},
    }
    for label in ("one:v1", "two:v1", "three:v1"):
        rig.put(label, f"1000 1000.5 {short(ONE.digest)}")
    rig.target.on_request = None
    rig.source.on_request = deny_list("all/two")
    rig.run()
    assert set(rig.behind) == {"two:v1", "three:v1"}
    rig.source.on_request = None
    rig.run()
    assert rig.behind == {}


def test_a_run_about_one_repository_of_a_wildcard_says_nothing_of_the_others(rig: Rig) -> None:
    for name in ("one", "two"):
        rig.source.hold(f"all/{name}", ONE, "v1")
    rig.spec = MirrorSpec("app", f"{rig.source.host}/all/*", (Target(f"{rig.target.host}/mirrored/*"),))
    rig.target.on_request = refuse("v1")
    whole = rig.run()
    rig.target.on_request = None
    only = rig.spec.of(f"{rig.source.host}/all/one")
    some = Drive(rig.engine, only).all().run
    assert set(rig.behind) == {"two:v1"}
    assert [one.run for one in rig.standing.runs] == [whole, some]
    Drive(rig.engine, only)
    (under_way,) = rig.engine.ledger.standings.open_runs()["app"]
    assert under_way.mirror == "app/one"


def test_of_very_many_the_first_are_named_and_the_others_counted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target,) = rig.spec.targets
    rows = {
        row_of(f"old{number}", target.repository): f"1000 1000.5 {short(ONE.digest)}"
        for number in range(MOST - 1)
    }
    rig.engine.ledger.together().hset(rig.key, mapping=rows).execute()
    hold(rig.source, ONE, *(f"v{number}" for number in range(5)))
    rig.target.on_request = refuse(*(f"v{number}" for number in range(5)))
    some = tuple((f"v{number}", f"v{number}") for number in range(4))
    rig.run(refs=some)
    assert len(rig.behind) == MOST
    assert rig.standing.behind.more == {target.repository: 3}
    rig.run()
    assert set(rig.behind) == {"v0"}, "the others are not at the source"
    assert rig.standing.behind.more == {target.repository: 4}, "a run about all has counted them anew"
    rig.target.on_request = None
    rig.run()
    assert rig.rows() == {}


def test_what_an_older_version_has_written_is_behind_somewhere_until_a_run_says_more(rig: Rig) -> None:
    hold(rig.source, ONE, "v1", "v2", "v3")
    rig.run()
    hold(rig.source, TWO, "v1", "v2")
    later = f"{rig.engine.ledger.now() + 1:.0f}"
    rows = {tag: f"{later} {short(TWO.digest)}" for tag in ("v1", "v2")}
    rig.engine.ledger.together().hset(rig.key, mapping=rows | {"v3": f"1000 {short(TWO.digest)}"}).execute()
    known = rig.behind
    assert set(known) == {"v1", "v2"}, "a run about all tags has ended well since v3 was behind"
    assert set(known["v1"]) == {""}
    assert known["v1"][""].digest == TWO.digest
    rig.target.on_request = refuse("v2")
    rig.run(refs=(("v1", "v1"), ("v2", "v2")))
    assert rig.lag("v2").since_s == float(later)
    assert set(rig.behind) == {"v2"}
    assert "v2" not in rig.rows()


def test_of_a_run_that_no_fleet_file_has_nothing_is_kept(rig: Rig) -> None:
    hold(rig.source, ONE, "v1", "v2")
    rig.target.on_request = refuse("v1")
    rig.run(ad_hoc=True)
    assert rig.standing == Standing()
    assert rig.engine.ledger.probes.samples.of(["app"]) == {}
    assert rig.rows() == {}
    rig.run()
    (last,) = rig.standing.runs
    rig.target.on_request = None
    rig.run(ad_hoc=True)
    assert rig.standing.runs == [last], "a mirror of the same name stands as it stood"
    assert set(rig.behind) == {"v1"}
    rig.engine.ledger.create_run(replace(rig.spec, ad_hoc=True), "release")
    assert rig.engine.ledger.standings.open_runs() == {}


def test_what_no_fleet_file_has_is_forgotten(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.run()
    hold(rig.source, TWO, "v1")
    rig.target.on_request = refuse("v1")
    rig.run()
    rig.engine.ledger.standings.keep_only({"app"})
    assert rig.standing.runs
    assert rig.behind
    rig.engine.ledger.standings.keep_only({"other"})
    assert rig.standing == Standing()
    assert rig.rows() == {}


def test_a_reading_costs_three_exchanges_for_however_many_mirrors(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(rig.source, ONE, "v1")
    specs = [replace(rig.spec, name=f"app{number}") for number in range(30)]
    for spec in specs[:5]:
        Drive(rig.engine, spec).all()
    rig.engine.ledger.ping()
    with asked_of_redis(monkeypatch) as asked:
        rig.engine.ledger.standings.of(specs)
    assert 1 < asked.number <= 3
