"""The status of a fleet as a value: what is read off a ledger that real runs and probes have written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from mirror import decide
from mirror.associates import PREDICATE, SIGNS
from mirror.engine import Engine
from mirror.ledger.digests import short
from mirror.ledger.lagging import Lag, Lagging, row_of
from mirror.ledger.probes import Measurement
from mirror.ledger.standing import Standing
from mirror.report import RunReport, RunState, TagReport, TargetReport
from mirror.spec import ALL_TARGETS, MirrorSpec, Target, Verification
from mirror.status.compose import NOT_SHOWN, Shown, compose
from mirror.status.tags import tags_of
from mirror.status.texts import place_name, plain
from mirror.status.values import MirrorStatus, Status
from registry.descriptor import Platform
from registry.images import Image, build_artifact, build_image, build_index, build_signature, signature_tag
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.asked import asked_of_redis
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer

ONE, TWO = (build_image({"app": text}) for text in (b"one", b"two"))


@dataclass
class Rig:
    engine: Engine
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry
    probes: int = 0
    shown: Shown = field(default_factory=Shown)

    @property
    def spec(self) -> MirrorSpec:
        targets = (Target(f"{self.us.host}/app", "us"), Target(f"{self.eu.host}/app", "eu"))
        return MirrorSpec("app", f"{self.source.host}/app", targets, finalize="each")

    @property
    def hosts(self) -> list[str]:
        return [self.source.host, self.us.host, self.eu.host]

    def run(self, **terms: object) -> str:
        return Drive(self.engine, replace(self.spec, **terms)).all().run  # type: ignore[arg-type]  # a spec's fields

    def probe(
        self, host: str, *, up: bool, region: str = "eu", ago_s: float = 0.0, reason: str = "no route"
    ) -> None:
        self.probes += 1
        at = self.engine.ledger.now() - ago_s
        error = "" if up else f"{host}: {reason}, token=hidden-from-all"
        one = Measurement(
            region, host, at, up, hello_s=0.02, bytes_per_second=5e7 if up else None, error=error
        )
        self.engine.ledger.probes.record(one, f"probe {self.probes}")

    @property
    def status(self) -> Status:
        probed = [(region, host) for region in ("eu", "us") for host in self.hosts]
        return compose(self.engine.ledger, [self.spec], self.shown, probed)

    @property
    def mirror(self) -> MirrorStatus:
        return self.status.mirrors[0]


@pytest.fixture
def rig(valkey: ValkeyServer) -> Iterator[Rig]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        yield Rig(engine, source, us, eu)


def hold(registry: MemoryRegistry, image: Image, *tags: str) -> None:
    for tag in tags:
        registry.hold("app", image, tag)


def signed(rig: Rig) -> dict[str, bool | None]:
    return {one.tag: one.signed for one in rig.mirror.tags}


def refuse(method: str, path: str) -> None:
    if method == "PUT" and "/manifests/" in path:
        raise ErrorReply(403, "DENIED", "password=swordfish")


def test_a_mirror_that_never_ran_is_unknown_and_says_how_to_pull(rig: Rig) -> None:
    mirror = rig.mirror
    assert (mirror.state, mirror.tags, mirror.last, mirror.verified) == ("unknown", (), None, None)
    assert [place.role for place in mirror.places] == ["source", "target", "target"]
    assert mirror.places[1].pull == f"docker pull {rig.us.host}/app:TAG"


def test_after_a_run_it_is_in_step_and_the_newest_tags_come_first(rig: Rig) -> None:
    hold(rig.source, ONE, "1.9", "1.10", "latest", "nightly", "1.10-rc1")
    rig.run()
    rig.shown = Shown(tags=4)

    mirror = rig.mirror

    assert mirror.state == "in step"
    assert [one.tag for one in mirror.tags] == ["latest", "1.10", "1.10-rc1", "1.9"]
    assert mirror.tags_left == 1
    assert all(one.is_same and one.digest == ONE.digest for one in mirror.tags)
    assert mirror.places[2].pull.endswith("/app:latest")


def test_a_target_that_refuses_is_behind_with_what_it_has_since_when_and_why(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.run()
    hold(rig.source, TWO, "v1")
    rig.eu.on_request = refuse
    rig.run()

    mirror = rig.mirror

    assert mirror.state == "behind"
    (tag,) = mirror.tags
    assert [one.state for one in tag.held] == ["same", "same", "different"]
    assert (tag.digest, tag.held[2].digest) == (TWO.digest, ONE.digest)
    assert tag.behind_since is not None
    assert tag.held[2].reason == "password=*** (403 DENIED)", "what of it is beside it"
    assert mirror.lag_s is not None
    assert mirror.lag_s < 60
    assert "swordfish" not in repr(rig.status)
    rig.eu.on_request = None
    rig.run()
    assert (rig.mirror.state, rig.mirror.lag_s) == ("in step", None)


def test_a_registry_that_waits_for_another_says_for_which(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.eu.on_request = refuse
    rig.run(finalize="all")
    (tag,) = rig.mirror.tags
    assert [one.reason for one in tag.held[1:]] == [
        f"not moved, because of {rig.eu.host}",
        "password=*** (403 DENIED)",
    ]


def test_a_tag_that_is_behind_is_told_whatever_tags_the_last_runs_were_about(rig: Rig) -> None:
    hold(rig.source, ONE, "a", "b", "c", "d")
    rig.run()
    hold(rig.source, TWO, "a", "b", "c", "d")
    rig.eu.on_request = refuse
    rig.run(refs=(("a", "a"),))
    rig.eu.on_request = None
    for tag in "bcd":
        rig.run(refs=((tag, tag),))

    mirror = rig.mirror

    assert (mirror.state, mirror.why) == ("behind", "1 tag moved at the source and not everywhere yet")
    known = {one.tag: one for one in mirror.tags}
    assert [(one.state, one.digest) for one in known["a"].held] == [
        ("same", TWO.digest),
        ("same", TWO.digest),
        ("different", ONE.digest),
    ]
    assert mirror.lag_s is not None
    assert all(known[tag].is_same and known[tag].behind_since is None for tag in "bcd")
    rig.shown = Shown(hidden=(rig.eu.host,))
    assert rig.mirror.state == "in step", "what is behind is not shown"


def test_a_tag_that_a_run_has_brought_since_is_the_same_whatever_tags_later_runs_were_about(rig: Rig) -> None:
    hold(rig.source, ONE, "a", "b", "c", "d")
    rig.eu.on_request = refuse
    rig.run()
    rig.eu.on_request = None
    for tag in "abcd":
        rig.run(refs=((tag, tag),))
    assert rig.mirror.state == "in step"


@pytest.mark.parametrize(
    ("state", "previous", "behind", "held"),
    [
        ("open", None, Lagging(), "unknown"),
        ("failed", None, Lagging(more={"eu.example/app": 1}), "unknown"),
        ("failed", None, Lagging(), "same"),
        ("failed", ONE.digest, Lagging({"v1": {"eu.example/app": Lag(1.0, 9.0, ONE.digest)}}), "same"),
        ("failed", None, Lagging({"v1": {"eu.example/app": Lag(1.0, 9.0, ONE.digest)}}), "unknown"),
    ],
)
def test_a_tag_that_a_run_could_not_bring_is_there_once_it_is_not_behind_or_its_image_was_seen_there(
    state: RunState, previous: str | None, behind: Lagging, held: str
) -> None:
    run = RunReport("r", "app", "release", state, "s", 5.0, None, listed=True, tags=1, states={}, regions=())
    target = TargetReport("eu.example/app", "eu", "failed", "not now", previous=previous)
    report = TagReport("v1", ONE.digest, "failed", "not now", (target,))
    standing = Standing([run], {"r": [report]}, behind)
    (tag,) = tags_of(standing, ["eu.example/app"], plain, has_source=False)
    assert [one.state for one in tag.held] == [held]


def test_a_tag_of_which_no_run_is_remembered_is_behind_with_what_it_is_to_be(rig: Rig) -> None:
    key, eu = rig.engine.ledger.keys.lagging("app"), rig.spec.targets[1].repository
    rows = {row_of("v1", eu): f"1000 1000.5 {short(TWO.digest)}", row_of("", eu): "1000 1000.5 7"}
    rig.engine.ledger.together().hset(key, mapping=rows).execute()
    mirror = rig.mirror
    assert (mirror.state, mirror.why) == ("behind", "8 tags moved at the source and not everywhere yet")
    (tag,) = mirror.tags
    assert (tag.digest, tag.behind_since) == (TWO.digest, 1000.0)
    assert [one.state for one in tag.held] == ["same", "unknown", "unknown"]


def test_a_move_that_a_run_under_way_has_made_is_behind_no_more_where_it_is_made(rig: Rig) -> None:
    hold(rig.source, ONE, "v1", "v2")
    rig.eu.on_request = refuse
    rig.run()
    rig.eu.on_request = None
    drive = Drive(rig.engine, rig.spec, batch_tags=1)
    for step in (drive.resolve, drive.land, drive.finalize, drive.flip):
        step()
    before = rig.mirror.state
    decide.conclude(rig.engine, drive.batches[0])
    assert (before, rig.mirror.state) == ("behind", "in step")


def test_what_an_older_version_has_written_is_behind_where_it_is_not_known_to_be_there(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.eu.on_request = refuse
    rig.run()
    key = rig.engine.ledger.keys.lagging("app")
    rig.engine.ledger.together().delete(key).execute()
    row = f"{rig.engine.ledger.now():.0f} {short(ONE.digest)}"
    rig.engine.ledger.together().hset(key, "v1", row).execute()
    (tag,) = rig.mirror.tags
    assert rig.mirror.state == "behind"
    assert [one.state for one in tag.held] == ["same", "same", "unknown"]


def test_what_verifying_finds_differs_until_it_is_mended(rig: Rig) -> None:
    hold(rig.source, ONE, "v1", "v2")
    rig.run()
    rig.eu.untag("app", "v2")
    hold(rig.us, TWO, "v1")
    rig.run(kind="verify", verification=Verification())

    mirror = rig.mirror

    assert mirror.state == "differs"
    assert mirror.verified is not None
    by_tag = {one.tag: [held.state for held in one.held] for one in mirror.tags}
    assert by_tag == {"v2": ["same", "same", "missing"], "v1": ["same", "different", "same"]}
    checked = {place.host: place.checked for place in mirror.places if place.checked}
    assert (checked[rig.eu.host].missing, checked[rig.us.host].different) == (1, 1)
    rig.run()
    assert rig.mirror.state == "in step"


def test_what_verifying_finds_differs_until_a_run_has_asked_for_all(rig: Rig) -> None:
    hold(rig.source, ONE, *(f"v{number}" for number in range(8)))
    Drive(rig.engine, rig.spec, batch_tags=1).all()
    rig.eu.untag("app", "v2")
    verifying = replace(rig.spec, kind="verify", verification=Verification())
    Drive(rig.engine, verifying, batch_tags=1).all()
    rig.run(refs=(("v1", "v1"),))
    assert (rig.mirror.state, rig.mirror.why) == (
        "differs",
        "verifying found 1 tag missing, different or damaged",
    ), "its batch is not read, and a run about another tag mends nothing"
    rig.shown = Shown(hidden=(rig.eu.host,))
    assert rig.mirror.state == "in step"
    rig.shown = Shown()
    rig.run()
    assert rig.mirror.state == "in step"


def test_what_is_damaged_is_so_until_it_is_repaired_whoever_finds_the_tag_at_its_digest(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.run()
    del rig.eu.blobs[ONE.manifest.blobs[-1].digest]
    rig.run(kind="verify", verification=Verification())
    rig.run()
    assert [one.state for one in rig.mirror.tags[0].held] == ["same", "same", "damaged"]
    states = [str(rig.mirror.state)]
    rig.run(kind="repair", verification=Verification(), refs=(("v1", "v1"),))
    assert [*states, rig.mirror.state] == ["differs", "in step"]


def test_what_is_behind_and_only_counted_is_behind(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.run()
    key, (us, eu) = rig.engine.ledger.keys.lagging("app"), rig.spec.targets
    later = rig.engine.ledger.now() + 1
    row = {row_of("", eu.repository): f"{later:.0f} {later:.3f} 7"}
    rig.engine.ledger.together().hset(key, mapping=row).execute()
    assert (rig.mirror.state, rig.mirror.why[:6]) == ("behind", "7 tags")
    rig.shown = Shown(hidden=(rig.eu.host,))
    assert rig.mirror.state == "in step", f"in {us.repository}"


def test_conflicts_of_a_wildcards_repositories_are_counted(rig: Rig) -> None:
    rig.us.hold("all/one", ONE, "v1")
    sides = Target(f"{rig.us.host}/all/*", "us"), Target(f"{rig.eu.host}/all/*", "eu")
    spec = MirrorSpec("many", ALL_TARGETS, sides, kind="two_way", two_way=True)
    Drive(rig.engine, spec).all()
    rig.us.hold("all/one", TWO, "v1")
    rig.eu.hold("all/one", build_image({"app": b"three"}), "v1")
    Drive(rig.engine, spec).all()
    (mirror,) = compose(rig.engine.ledger, [spec], Shown(), []).mirrors
    assert (mirror.conflicts, mirror.state, mirror.why) == (
        1,
        "differs",
        "1 tag moved on several sides: somebody has to decide",
    )


def test_a_tag_is_signed_or_unsigned_as_the_last_run_that_looked_has_found(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    hold(rig.source, TWO, "v2")
    assert signed(rig) == {}
    rig.run()
    assert signed(rig) == {"v1": False, "v2": False}
    hold(rig.source, build_signature(ONE), signature_tag(ONE.digest))
    rig.run()
    assert signed(rig) == {"v1": True, "v2": False}
    rig.run()
    assert signed(rig) == {"v1": True, "v2": False}, "nothing of it moved"
    rig.run(refs=(("v1", "v1"),))
    assert signed(rig) == {"v1": True, "v2": False}, "a run about one tag forgets nothing of the others"
    rig.run(kind="verify", verification=Verification())
    assert signed(rig) == {"v1": True, "v2": False}
    hold(rig.source, TWO, "v1")
    rig.run()
    assert signed(rig) == {"v1": False, "v2": False}
    assert rig.mirror.state == "in step"
    hold(rig.source, build_image({"app": b"three"}), "v2")
    rig.run(referrers=False, refs=(("v2", "v2"),))
    assert signed(rig) == {"v1": False, "v2": None}, "of what was v2 before"


def test_where_nobody_copies_signatures_nobody_says_whether_a_tag_is_signed(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.run(referrers=False)
    assert signed(rig) == {"v1": None}


@pytest.mark.parametrize(
    ("kind", "annotations", "is_one"),
    [
        ("application/vnd.cncf.notary.signature", {}, True),
        ("application/vnd.dev.cosign.artifact.sig.v1+json", {}, True),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", {PREDICATE: SIGNS}, True),
        (
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            {PREDICATE: "https://slsa.dev/provenance/v1"},
            False,
        ),
        ("application/spdx+json", {}, False),
    ],
)
def test_a_referrer_is_a_signature_by_its_kind(
    rig: Rig, kind: str, annotations: dict[str, str], *, is_one: bool
) -> None:
    hold(rig.source, ONE, "v1")
    referrer = build_artifact({"a": b"a"}, artifact_type=kind, subject=ONE, annotations=annotations)
    rig.source.hold("app", referrer)
    rig.run()
    assert signed(rig) == {"v1": is_one}


@pytest.mark.parametrize("part", ["/manifests/", "/manifests/sha256-"])
def test_a_registry_that_has_the_image_and_not_its_signature_is_unsigned_and_says_why(
    rig: Rig, part: str
) -> None:
    def refuse(method: str, path: str) -> None:
        if method == "PUT" and part in path:
            raise ErrorReply(403, "DENIED")

    hold(rig.source, ONE, "v1")
    rig.run()
    hold(rig.source, build_signature(ONE), signature_tag(ONE.digest))
    rig.eu.on_request = refuse
    rig.run()

    mirror = rig.mirror

    (tag,) = mirror.tags
    assert [one.state for one in tag.held] == ["same", "same", "unsigned"]
    assert (tag.held[2].digest, mirror.state) == (ONE.digest, "behind")
    assert "403" in tag.held[2].reason
    rig.eu.on_request = None
    rig.run()
    assert rig.mirror.state == "in step"


def test_of_a_tag_it_is_said_which_platforms_are_not_copied(rig: Rig) -> None:
    arm, riscv = (
        build_image({"app": b"1"}, platform=Platform("linux", name)) for name in ("arm64", "riscv64")
    )
    rig.source.hold("app", build_index([ONE, arm, riscv]), "all")
    rig.source.hold("app", build_index([ONE]), "one")
    some = {"platforms": ("linux/amd64", "linux/arm64")}
    rig.run(**some)
    spec = replace(rig.spec, **some)  # type: ignore[arg-type]  # a spec's fields

    def left_out() -> dict[str, tuple[str, ...] | None]:
        (mirror,) = compose(rig.engine.ledger, [spec], rig.shown, []).mirrors
        return {one.tag: one.left_out for one in mirror.tags}

    assert left_out() == {"all": ("linux/riscv64",), "one": ()}
    rig.run(**some)
    assert left_out() == {"all": None, "one": None}, "who finds a tag current does not read it"
    rig.run(kind="verify", verification=Verification(), **some)
    assert left_out() == {"all": ("linux/riscv64",), "one": ()}


def test_a_registry_that_is_down_everywhere_makes_the_mirror_down_and_is_an_incident(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.run()
    for region in ("eu", "us"):
        rig.probe(rig.eu.host, up=True, region=region, ago_s=300)
        rig.probe(rig.eu.host, up=False, region=region, ago_s=200)
    assert rig.mirror.state == "in step", "one failure may be an accident"
    rig.probe(rig.eu.host, up=False, region="eu", ago_s=100)
    rig.probe(rig.eu.host, up=True, region="us", ago_s=95)
    assert rig.mirror.state == "in step", "it is reached from us"
    assert next(one for one in rig.status.registries if one.host == rig.eu.host).standing == "partly up"
    for ago_s in (80, 70):
        rig.probe(rig.eu.host, up=False, region="us", ago_s=ago_s)

    status = rig.status

    assert status.mirrors[0].state == "down"
    registry = next(one for one in status.registries if one.host == rig.eu.host)
    assert registry.standing == "down"
    assert {view.reason for view in registry.views} == {"no route, token=***"}
    assert {view.region: view.day_share for view in registry.views} == pytest.approx(
        {"eu": 1 / 3, "us": 2 / 5}
    )
    assert all(len(view.days) == 30 for view in registry.views)
    assert [one.kind for one in status.incidents] == ["registry_down"] * 2
    assert {one.text for one in status.incidents} == {"no route, token=***"}
    assert "hidden-from-all" not in repr(status)
    before = {one.id for one in status.incidents}
    rig.probe(rig.eu.host, up=True, region="eu")
    after = rig.status
    assert before < {one.id for one in after.incidents}, "what was told keeps its id"
    assert after.mirrors[0].state == "in step"


def test_what_is_hidden_is_nowhere_on_the_page(rig: Rig) -> None:
    hold(rig.source, ONE, "v1")
    rig.eu.on_request = refuse
    rig.run()
    rig.probe(rig.eu.host, up=False)
    assert rig.eu.host in repr(rig.status)
    rig.shown = Shown(hidden=(rig.eu.host,))

    status = rig.status

    assert rig.eu.host not in repr(status)
    assert len(status.mirrors[0].places) == 2
    assert [len(one.held) for one in status.mirrors[0].tags] == [2]
    rig.shown = Shown(mirrors=("other-*",))
    status = rig.status
    assert (status.mirrors, status.registries, status.incidents) == ((), (), ())


def test_a_reason_that_names_what_is_hidden_is_not_told(rig: Rig) -> None:
    said = Shown(hidden=(rig.eu.host,)).said([rig.spec])
    assert said(f"GET https://{rig.eu.host}/v2/: 500") == NOT_SHOWN
    assert said(f"GET https://{rig.us.host}/v2/: 500").endswith("500")


def test_why_a_registry_is_down_is_not_told_where_that_names_what_is_hidden(rig: Rig) -> None:
    rig.shown = Shown(hidden=(rig.eu.host,))
    rig.probe(rig.us.host, up=False, reason=f"its tokens come from {rig.eu.host}")
    (view,) = next(one for one in rig.status.registries if one.host == rig.us.host).views
    assert view.reason == NOT_SHOWN


def test_an_open_run_shows_how_far_it_is(rig: Rig) -> None:
    hold(rig.source, ONE, "v1", "v2")
    drive = Drive(rig.engine, rig.spec, 1)
    drive.resolve()
    (run,) = rig.mirror.open
    assert (run.run, run.tags, run.done, run.listed) == (drive.run, 2, 0, True)


def test_of_a_wildcard_each_tag_says_of_which_repository_it_is(rig: Rig) -> None:
    for name in ("one", "two"):
        rig.source.hold(f"team/{name}", ONE, "v1")
    spec = MirrorSpec("many", f"{rig.source.host}/team/*", (Target(f"{rig.us.host}/copy/*"),))
    Drive(rig.engine, spec).all()

    (mirror,) = compose(rig.engine.ledger, [spec], Shown(), []).mirrors

    assert mirror.state == "in step"
    assert sorted(one.tag for one in mirror.tags) == ["one:v1", "two:v1"]
    assert mirror.places[1].pull in {f"docker pull {rig.us.host}/copy/{one}:v1" for one in ("one", "two")}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines", "two lines"),
        ("Authorization: Bearer abcdef", "Authorization: ***"),
        ("a\u202eb\u200fc\x1bd", "a\ufffdb\ufffdc\ufffdd"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_texts_are_shown_in_one_line_without_secrets_or_marks_that_are_not_seen(
    text: str, shown: str
) -> None:
    assert plain(text) == shown


def test_a_folder_is_shown_without_where_it_is() -> None:
    assert place_name("oci:/srv/secret/images/app") == "oci:app"
    spec = MirrorSpec("app", "r.example/app", (Target("oci:/srv/secret/app"),))
    assert Shown().said([spec])("oci:/srv/secret/app: /srv/secret/app is full") == "oci:app: oci:app is full"


def test_more_mirrors_cost_no_more_exchanges(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(rig.source, ONE, "v1")
    specs = [replace(rig.spec, name=f"app{number}") for number in range(100)]
    for spec in specs[:4]:
        Drive(rig.engine, spec).all()
    rig.probe(rig.eu.host, up=True)
    rig.engine.ledger.ping()
    probed = [("eu", host) for host in rig.hosts]
    with asked_of_redis(monkeypatch) as few:
        compose(rig.engine.ledger, specs[:4], Shown(), probed)
    with asked_of_redis(monkeypatch) as many:
        compose(rig.engine.ledger, specs, Shown(), probed)
    assert few.number == many.number <= 15
