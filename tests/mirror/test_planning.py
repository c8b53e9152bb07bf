"""A plan is what the run then does: planned, run, and compared with the registries' own logs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import pytest

from mirror import decide
from mirror.budget import Allowance
from mirror.forecast import Forecast
from mirror.ledger import Ledger
from mirror.ledger.beginnings import KEEP_PLAN_S
from mirror.ledger.keys import Client
from mirror.ledger.rehearsed import Scratch
from mirror.ledger.sources import Entry
from mirror.report import RunReport
from mirror.spec import MirrorSpec, Target
from registry.descriptor import OCI_LAYER, Descriptor, digest_of
from registry.images import (
    Image,
    build_artifact,
    build_image,
    build_index,
    build_signature,
    random_layer,
    signature_tag,
)
from registry.manifest import Manifest
from registry.memory import ErrorReply, MemoryRegistry, PullLimits
from tests.support.engine import Drive, engine_on
from tests.support.planning import asked_of, foretold, planning_on, read_from, written_to
from tests.support.valkey import ValkeyServer


@dataclass
class Scene:
    """A source and up to three registries to mirror it to."""

    valkey: ValkeyServer
    source: MemoryRegistry
    targets: list[MemoryRegistry]

    def spec(self, count: int = 3, repository: str = "app", **terms: object) -> MirrorSpec:
        targets = tuple(
            Target(f"{registry.host}/{repository}", f"r{number}")
            for number, registry in enumerate(self.targets[:count])
        )
        spec = MirrorSpec(repository, f"{self.source.host}/{repository}", targets)
        return replace(spec, **terms)  # type: ignore[arg-type]  # a test's own words

    @property
    def registries(self) -> list[MemoryRegistry]:
        return [self.source, *self.targets]

    def forget(self) -> None:
        for registry in self.registries:
            registry.forget_requests()

    def plan(self, spec: MirrorSpec, **terms: object) -> Forecast:
        with planning_on(self.valkey, **terms) as planning:  # type: ignore[arg-type]  # a test's own words
            return planning.forecast(spec, "release")

    def run(self, spec: MirrorSpec, allowance: Allowance | None = None) -> RunReport:
        """As a process that knows nothing yet."""
        self.forget()
        with engine_on(self.valkey, allowance=allowance) as engine:
            report = Drive(engine, spec).all().report
        assert report.ended, report
        return report

    def holds_what_was_planned(self, forecast: Forecast) -> None:
        """Requests by kind, bytes: what the logs say of the run is what the plan said before."""
        for registry in self.registries:
            assert foretold(forecast, registry) == asked_of(registry), registry.host
            said = {
                name: count
                for name, count in forecast.tally.written.items()
                if name.startswith(registry.host) and count
            }
            assert said == written_to(registry)
            assert forecast.tally.read[registry.host] == read_from(registry)


@pytest.fixture
def scene(valkey: ValkeyServer) -> Iterator[Scene]:
    with ExitStack() as stack:
        source, *targets = (stack.enter_context(MemoryRegistry()) for _ in range(4))
        yield Scene(valkey, source, targets)


def keys(client: Client) -> list[str]:
    return [name.decode() for name in client.keys("*")]


BASE = random_layer(200_000, seed=1)


def small(number: int) -> Image:
    """One of many images on the same two layers."""
    base = build_image({"base": b"shared"}, layers=[BASE])
    return build_image({"app.txt": f"version {number}".encode()}, base=base)


@pytest.mark.parametrize("count", [1, 3])
def test_many_small_images_that_share_layers(scene: Scene, count: int) -> None:
    for number in range(40):
        scene.source.hold("app", small(number), f"1.{number}")
    spec = scene.spec(count)

    forecast = scene.plan(spec)
    assert not any(registry.repositories for registry in scene.targets)
    report = scene.run(spec)

    assert report.states == {"updated": 40}
    assert forecast.counts == {"new": 40 * count}
    scene.holds_what_was_planned(forecast)
    assert sum(forecast.tally.written.values()) == sum(one.moved.copied_bytes for one in report.regions)
    assert forecast.tally.read[scene.source.host] < 40 * BASE.descriptor.size


def test_images_for_several_platforms_with_what_belongs_to_them(scene: Scene) -> None:
    for number in range(6):
        children = [small(2 * number), small(2 * number + 1)]
        index = build_index(children)
        scene.source.hold("app", index, f"1.{number}")
        sbom = build_artifact(
            {"sbom.json": b"{%d}" % number}, artifact_type="application/spdx+json", subject=index
        )
        scene.source.hold("app", sbom)
        scene.source.hold("app", build_signature(children[0]), signature_tag(children[0].digest))
    spec = scene.spec(2)

    forecast = scene.plan(spec)
    report = scene.run(spec)

    assert report.states == {"updated": 6}
    scene.holds_what_was_planned(forecast)
    assert forecast.dropped == {"a signature, attestation or referrers tag: travels with its image": 6}


def test_referrers_are_listed_by_tag_where_a_target_does_not_index_them(scene: Scene) -> None:
    index = build_index([small(1), small(2)])
    scene.source.hold("app", index, "1.0")
    for kind in ("spdx", "vnd.cyclonedx"):
        about = build_artifact(
            {"sbom.json": kind.encode()}, artifact_type=f"application/{kind}+json", subject=index
        )
        scene.source.hold("app", about)
    with MemoryRegistry(referrers=False) as plain:
        scene.targets[0] = plain
        spec = scene.spec(1)

        forecast = scene.plan(spec)
        scene.run(spec)

        scene.holds_what_was_planned(forecast)
        assert forecast.tally.requests[plain.host]["GET", "manifest"] == 2


def test_a_part_that_is_current_already_and_a_tag_that_has_moved(scene: Scene) -> None:
    for number in range(12):
        scene.source.hold("app", small(number), f"1.{number}")
    spec = scene.spec(2)
    scene.run(replace(spec, include=("1.[0-5]",)))
    scene.source.hold("app", small(100), "1.3")

    scene.forget()
    forecast = scene.plan(spec)
    for registry in scene.registries:
        assert set(Counter(registry.requests).values()) <= {1}, "the plan asks nothing twice"
    report = scene.run(spec)

    assert report.states == {"current": 5, "updated": 7}
    assert forecast.counts == {"current": 10, "move": 2, "new": 12}
    scene.holds_what_was_planned(forecast)
    moved = next(tag for tag in forecast.tags if tag.tag == "1.3")
    assert [target.previous for target in moved.targets] == [small(3).digest] * 2


def test_what_another_repository_of_the_registry_holds_is_mounted(scene: Scene) -> None:
    for number in range(5):
        scene.source.hold("one", small(number), f"1.{number}")
        scene.source.hold("two", small(number), f"1.{number}")
    scene.run(scene.spec(2, "one"))
    spec = scene.spec(2, "two")

    forecast = scene.plan(spec)
    report = scene.run(spec)

    scene.holds_what_was_planned(forecast)
    names = [target.repository for target in spec.targets]
    assert [forecast.tally.mounted[name] for name in names] == [
        one.moved.mounted_bytes for one in report.regions
    ]
    assert sum(forecast.tally.mounts.values()) == 2 * (2 + 5 + 5)
    assert not any(forecast.tally.written.values())


def test_blobs_of_a_limited_source_are_read_once_and_then_from_where_they_are(scene: Scene) -> None:
    with MemoryRegistry(pulls=PullLimits(100)) as hub:
        scene.source = hub
        held(hub, 6)
        spec = scene.spec(2)

        forecast = scene.plan(spec, allowance=Allowance())
        scene.run(spec, Allowance())

        scene.holds_what_was_planned(forecast)
        sizes = {blob.descriptor.digest: blob.descriptor.size for n in range(6) for blob in small(n).blobs}
        assert (
            forecast.tally.read[hub.host] == forecast.tally.read[scene.targets[0].host] == sum(sizes.values())
        )


def test_what_is_known_of_targets_is_not_asked_for_in_the_plan_either(scene: Scene) -> None:
    held(scene.source, 6)
    spec = scene.spec(2, trust_s=3600)
    scene.run(replace(spec, include=("1.[0-3]",)))

    forecast = scene.plan(spec)
    scene.run(spec)

    scene.holds_what_was_planned(forecast)
    assert forecast.tally.requests[scene.targets[0].host]["HEAD", "manifest"] == 2 * 3


def test_a_pinned_tag_is_said_to_be_held_and_what_moves_is_kept_first(scene: Scene) -> None:
    spec = scene.spec(2, keep=1)
    for number in range(2):
        for tag in ("pinned", "moves"):
            scene.source.hold("app", small(number), tag)
        if not number:
            scene.run(spec)
    with scene.valkey.client() as client:
        ledger = Ledger(client, "test:")
        ledger.pins.put("app", "abc", {"pinned": small(0).digest})
        before = keys(client)

        forecast = scene.plan(spec)

        assert {name for name in keys(client) if "kept" in name} == set()
        assert [pin.run for pin in ledger.pins.all()] == ["abc"]
        assert set(before) <= set(keys(client))
    assert forecast.counts == {"held": 2, "move": 2}
    (reason,) = {one.reason for tag in forecast.tags for one in tag.targets if one.state == "held"}
    assert reason.startswith(f"pinned at {small(0).digest}")
    assert scene.run(spec).states == {"pinned": 1, "updated": 1}
    scene.holds_what_was_planned(forecast)


def test_targets_that_move_on_their_own(scene: Scene) -> None:
    held(scene.source, 6)
    scene.source.hold("app", build_signature(small(1)), signature_tag(small(1).digest))
    spec = scene.spec(3, finalize="each")

    forecast = scene.plan(spec)
    scene.run(spec)

    scene.holds_what_was_planned(forecast)


def test_a_wildcard_is_planned_with_all_its_repositories(scene: Scene) -> None:
    for name in ("one", "two", "three"):
        for number in range(3):
            scene.source.hold(f"team/{name}", small(number), f"1.{number}")
    host = scene.targets[0].host
    spec = MirrorSpec("team", f"{scene.source.host}/team/*", (Target(f"{host}/copy/*"),))

    forecast = scene.plan(spec)
    scene.run(spec)

    assert forecast.counts == {"new": 9}
    assert forecast.tags[0].label == "one:1.0"
    scene.holds_what_was_planned(forecast)


def test_a_list_of_references_is_planned_and_kept(scene: Scene) -> None:
    for name in ("one", "two"):
        scene.source.hold(name, small(1), "1.0")
    host, source = scene.targets[0].host, scene.source.host
    spec = MirrorSpec("list", "*", (Target(f"{host}/copy/*"),))
    entries = [Entry(f"{source}/one"), Entry(f"{source}/two", (("1.0", "1.0"),)), Entry(f"{source}/gone")]

    with planning_on(scene.valkey, keeps=True) as planning:
        forecast = planning.forecast(spec, "backfill", entries)
    scene.forget()
    with engine_on(scene.valkey) as engine:
        engine.ledger.begin_planned(forecast.run)
        report = Drive.of(engine, spec, forecast.run).all().report

    assert forecast.counts == {"new": 2, "error": 1}
    assert report.states == {"updated": 2, "failed": 1}
    scene.holds_what_was_planned(forecast)


def test_two_targets_of_one_registry_share_what_is_sent(scene: Scene) -> None:
    for number in range(5):
        scene.source.hold("app", small(number), f"1.{number}")
    host = scene.targets[0].host
    spec = scene.spec(1, targets=(Target(f"{host}/a"), Target(f"{host}/b")))

    forecast = scene.plan(spec)
    scene.run(spec)

    scene.holds_what_was_planned(forecast)
    assert forecast.tally.mounts[f"{host}/b"] == 2 + 5 + 5


def test_a_large_blob_is_sent_in_pieces_and_nothing_of_it_is_read_for_the_plan(scene: Scene) -> None:
    app, mib = small(1), 2**20
    large = Descriptor(OCI_LAYER, digest_of(b"nobody has it"), 300 * mib)
    document = json.loads(app.manifest.content)
    document["layers"].append(large.document())
    scene.source.hold("app", app)
    scene.source.plant("app", "1.0", Manifest.parse(json.dumps(document).encode(), app.manifest.media_type))

    forecast = scene.plan(scene.spec(1))

    asked = forecast.tally.requests[scene.targets[0].host]
    assert asked["PATCH", "upload"] == 5
    assert asked["POST", "upload"] == asked["PUT", "upload"] == 4 + 1
    assert forecast.tally.read[scene.source.host] >= 300 * mib
    assert forecast.counts == {"new": 1}


def test_a_layout_folder_is_asked_nothing_and_written_to(scene: Scene, tmp_path: object) -> None:
    scene.source.hold("app", small(1), "1.0")
    spec = scene.spec(1, targets=(Target(f"oci:{tmp_path}/backup"),))

    forecast = scene.plan(spec)

    assert forecast.counts == {"new": 1}
    assert list(forecast.tally.written) == [f"oci:{tmp_path}/backup"]
    assert set(forecast.tally.requests) == {scene.source.host}
    assert scene.run(spec).states == {"updated": 1}


def test_a_plan_leaves_nothing_in_the_ledger_but_manifests(scene: Scene) -> None:
    scene.source.hold("app", small(1), "1.0")

    scene.plan(scene.spec(2))

    with scene.valkey.client() as client:
        names = {name.rsplit(":", 2)[0] for name in keys(client)}
    assert names <= {"test:ledger:manifest", "test:ledger"}, names


def held(hub: MemoryRegistry, count: int) -> None:
    for number in range(count):
        hub.hold("app", small(number), f"1.{number}")


def test_what_a_plan_reads_the_run_reads_no_more(scene: Scene) -> None:
    limits = PullLimits(100)
    with MemoryRegistry(pulls=limits) as hub:
        scene.source = hub
        held(hub, 8)
        spec = scene.spec(2)

        forecast = scene.plan(spec, allowance=Allowance())
        assert limits.used[limits.address] == 8
        scene.run(spec, Allowance())

        (pulls,) = forecast.pulls
        assert (pulls.needed, pulls.spent, pulls.left, pulls.windows) == (0, 8, 92, 0)
        assert limits.used[limits.address] == 8
        scene.holds_what_was_planned(forecast)


def test_a_plan_that_would_need_more_pulls_than_are_left_makes_none_and_says_so(scene: Scene) -> None:
    limits = PullLimits(6, window_s=3600)
    with MemoryRegistry(pulls=limits) as hub:
        scene.source = hub
        held(hub, 14)

        forecast = scene.plan(scene.spec(1), allowance=Allowance(reserve=0.0))

        assert not limits.used
        assert forecast.counts == {"new": 14}
        assert forecast.unread == 14
        (pulls,) = forecast.pulls
        assert (pulls.needed, pulls.spent, pulls.left, pulls.per_window, pulls.windows) == (14, 0, 6, 6, 2)
        assert pulls.ready_s is not None
        assert pulls.until_s is not None
        assert pulls.ready_s == pulls.until_s + 3600
        assert forecast.seconds is None


def test_the_reserve_of_the_release_lane_is_not_spent_on_a_plan(scene: Scene) -> None:
    limits = PullLimits(10)
    with MemoryRegistry(pulls=limits) as hub:
        scene.source = hub
        held(hub, 6)

        forecast = scene.plan(scene.spec(1), allowance=Allowance(reserve=0.5))

        assert not limits.used
        assert forecast.unread == 6


def test_children_beyond_the_budget_are_left_unread(scene: Scene) -> None:
    limits = PullLimits(4)
    with MemoryRegistry(pulls=limits) as hub:
        scene.source = hub
        for number in range(3):
            hub.hold("app", build_index([small(2 * number), small(2 * number + 1)]), f"1.{number}")

        forecast = scene.plan(scene.spec(1), allowance=Allowance(reserve=0.0))

        assert sum(limits.refused.values()) == 0
        (pulls,) = forecast.pulls
        assert pulls.spent == 4
        assert pulls.needed == forecast.unread > 0
        assert forecast.counts == {"new": 3}


def test_where_reading_is_counted_a_plan_can_be_made_from_heads_alone(scene: Scene) -> None:
    limits = PullLimits(100)
    with MemoryRegistry(pulls=limits) as hub:
        scene.source = hub
        held(hub, 4)

        forecast = scene.plan(scene.spec(1), allowance=Allowance(), reads=False)

        assert not limits.used
        assert forecast.unread == forecast.pulls[0].needed == 4


def test_a_plan_that_is_kept_is_begun_without_listing_again(scene: Scene) -> None:
    held(scene.source, 10)
    scene.source.hold("app", build_signature(small(1)), signature_tag(small(1).digest))
    spec = scene.spec(2)

    forecast = scene.plan(spec, keeps=True)
    scene.forget()
    with engine_on(scene.valkey) as engine:
        assert engine.ledger.run_report(forecast.run).state == "planned"
        assert engine.ledger.take_due(0.0) == []
        assert engine.ledger.begin_planned(forecast.run) == forecast.run
        drive = Drive.of(engine, spec, forecast.run)
        assert drive.all().report.states == {"updated": 10}

    assert not scene.source.count("tags")
    scene.holds_what_was_planned(forecast)
    assert scene.targets[0].tag("app", signature_tag(small(1).digest))


def test_a_kept_plan_expires_and_makes_room_for_the_next_one(scene: Scene) -> None:
    held(scene.source, 10)
    first = scene.plan(scene.spec(1), keeps=True).run
    second = scene.plan(scene.spec(1), keeps=True).run

    with scene.valkey.client() as client:
        names = keys(client)
        assert not [name for name in names if first in name and "digest-tags" not in name]
        assert len([name for name in names if f"batch:{second}" in name]) == 3
        assert all(client.ttl(name) > 0 for name in names if second in name)
        Ledger(client, "test:").begin_planned(second)
        begun = [name for name in keys(client) if second in name and "digest" not in name]
        assert all(client.ttl(name) == -1 for name in begun)


def test_a_plan_does_not_double_what_is_under_way_on_the_same_terms(scene: Scene) -> None:
    held(scene.source, 1)
    spec = scene.spec(1)
    planned = scene.plan(spec, keeps=True).run

    with engine_on(scene.valkey) as engine:
        open_one, _ = engine.ledger.create_or_join_run(spec, "release")
        assert engine.ledger.begin_planned(planned) == open_one
        assert engine.ledger.run_report(planned).state == "planned"


def test_a_source_that_cannot_be_listed_makes_no_plan(scene: Scene) -> None:
    forecast = scene.plan(scene.spec(1), keeps=True)

    assert "app" in forecast.error
    assert forecast.error_kind == "NotFound"
    with scene.valkey.client() as client:
        assert Ledger(client, "test:").runs() == []


def test_one_target_that_is_out_of_reach_hides_no_other_and_is_soon_asked_no_more(scene: Scene) -> None:
    held(scene.source, 30)
    away = scene.targets[1]
    away.stop()

    forecast = scene.plan(scene.spec(2, finalize="each"))

    assert forecast.counts == {"new": 30, "error": 30}
    reasons = {target.reason for tag in forecast.tags for target in tag.targets if target.state == "error"}
    assert all(away.host in reason for reason in reasons)


def test_a_tag_that_the_source_lacks_is_said_to_be_missing(scene: Scene) -> None:
    held(scene.source, 1)

    forecast = scene.plan(scene.spec(2, include=("1.0", "gone")))

    assert forecast.counts == {"new": 2, "missing": 2}
    assert forecast.tags[1].targets[0].reason == "the source has no such tag"


def test_what_is_left_out_is_counted_by_its_rule(scene: Scene) -> None:
    held(scene.source, 5)
    scene.source.hold("app", small(9), "edge")

    forecast = scene.plan(scene.spec(1, include=("semver:*",), newest=2))

    assert forecast.selected == 2
    assert forecast.dropped == {"older than the newest 2 versions": 3, "no include pattern matches": 1}


def test_tags_chosen_by_their_date_are_planned_as_they_are_run(scene: Scene) -> None:
    held(scene.source, 5)
    spec = scene.spec(1, newest=2, newest_by="created")

    forecast = scene.plan(spec)
    scene.run(spec)

    scene.holds_what_was_planned(forecast)


def test_how_long_it_takes_is_what_runs_of_the_mirror_took_or_unknown(scene: Scene) -> None:
    held(scene.source, 4)
    spec = scene.spec(1)
    assert scene.plan(spec).seconds is None

    report = scene.run(replace(spec, include=("1.0", "1.1")))
    forecast = scene.plan(spec)

    assert report.finished_s
    seconds = report.finished_s - report.started_s
    assert forecast.rate
    assert forecast.rate.tags_per_s == pytest.approx(2 / seconds)
    assert forecast.seconds
    assert forecast.seconds >= seconds * (1 - 1e-9)  # a float's worth: it comes from a rate
    scene.run(spec)
    assert scene.plan(spec).seconds == 0.0


def test_what_a_killed_plan_leaves_behind_has_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.source.hold("app", small(1), "1.1")
    monkeypatch.setattr(Scratch, "erase", lambda _: None)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    scene.plan(scene.spec(include=("1.1", "none")))
    with monkeypatch.context() as patch:
        patch.setattr(decide, "finalize", killed)
        with planning_on(scene.valkey) as planning, pytest.raises(KeyboardInterrupt):
            planning.forecast(scene.spec(), "release")

    with scene.valkey.client() as client:
        left = [name for name in keys(client) if ":plan:" in name]
        assert {"failures", "outcomes"} <= {name.rpartition(":")[2] for name in left}
        assert {name for name in left if client.ttl(name) < 0} == set()


def test_a_repository_that_failed_in_a_plan_is_remembered_as_long_as_the_plan_and_then_by_its_run(
    scene: Scene,
) -> None:
    for name in ("team/bad", "team/good"):
        scene.source.hold(name, small(1), "1.1")
    host = scene.targets[0].host
    spec = MirrorSpec("team", f"{scene.source.host}/team/*", (Target(f"{host}/copy/*"),))

    def denied(_: str, path: str) -> None:
        if path.startswith("/v2/team/bad/tags/list"):
            raise ErrorReply(403, "DENIED", "not yours")

    scene.source.on_request = denied
    run = scene.plan(spec, keeps=True).run

    with engine_on(scene.valkey) as engine:
        ttl = partial(engine.ledger._redis.ttl, engine.ledger.keys.failures(run))
        assert 0 < ttl() <= KEEP_PLAN_S
        engine.ledger.begin_planned(run)
        assert ttl() == -1
