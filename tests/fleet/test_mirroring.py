"""What arrives, by whom it is judged (skopeo), and what it costs (the registries' own access logs)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mirror.report import RunReport
from registry.descriptor import OCI_LAYER, digest_of
from registry.images import (
    LINUX_ARM64,
    Blob,
    Image,
    Index,
    build_artifact,
    build_image,
    build_index,
    build_layer,
    build_signature,
    random_layer,
    signature_tag,
)
from registry.memory import MemoryRegistry
from tests.fleet.conftest import World
from tests.support import skopeo
from tests.support.fleet import Fleet, made
from tests.support.pushing import ask, blob_exists, push, put_referrers
from tests.support.registries import DockerRegistry, Request
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]


def two_platforms(text: bytes, *, docker: bool = False) -> Index:
    amd64 = build_image({"etc/motd": text}, docker=docker)
    arm64 = build_image({"etc/motd": text[::-1]}, docker=docker, platform=LINUX_ARM64)
    return build_index([amd64, arm64], docker=docker)


KINDS: dict[str, Image | Index] = {
    "single": build_image({"etc/motd": b"one platform", "bin/tool": b"#!/bin/sh\n"}),
    "index": two_platforms(b"two platforms"),
    "nested": build_index([two_platforms(b"below another index"), build_image({"a": b"beside it"})]),
    "docker": build_image({"etc/motd": b"schema 2"}, docker=True),
    "docker-list": two_platforms(b"schema 2 twice", docker=True),
    "artifact": build_artifact({"chart.tgz": b"chart"}, artifact_type="application/vnd.example.chart"),
    "no-layers": build_image({}),
    "empty-layer": build_image({}, layers=[build_layer({})]),
    "zero-bytes": build_image({"a": b"b"}, layers=[Blob.of(b"", OCI_LAYER, digest_of(b""))]),
    "same-layer-twice": build_image({"a": b"c"}, layers=[build_layer({"d": b"e"})] * 2),
    "large": build_image({}, layers=[random_layer(9 * 2**20, seed=1), random_layer(2**20, seed=2)]),
}


@pytest.fixture(scope="module")
def everything(world: World) -> RunReport:
    """One run over a repository that holds one tag of every kind."""
    for tag, content in KINDS.items():
        push(f"{world.source.host}/library/everything", content, tag)
    return world.run("library/everything", include=("*",))


def test_a_run_over_every_kind_of_content_succeeds(world: World, everything: RunReport) -> None:
    assert everything.state == "done", world.fleet.tags(everything.run)
    assert everything.states == {"updated": len(KINDS)}


@pytest.mark.parametrize("region", ["us", "eu"])
@pytest.mark.parametrize("tag", KINDS)
def test_every_kind_of_content_arrives_whole_and_with_its_digest(
    world: World, everything: RunReport, tag: str, region: str, tmp_path: Path
) -> None:
    name = f"{world.targets[region].host}/library/everything:{tag}"

    assert skopeo.raw_manifest(name) == KINDS[tag].manifest.content
    skopeo.pull(name, tmp_path / "image")


def test_an_image_can_be_read_by_its_platform(world: World, everything: RunReport) -> None:
    name = f"{world.eu.host}/library/everything:index"

    assert skopeo.inspect(name, "--override-arch=arm64")["Architecture"] == "arm64"
    assert skopeo.inspect(name, "--override-arch=amd64")["Architecture"] == "amd64"


# -- what a run costs --------------------------------------------------------------------------------


def on_manifests(registry: DockerRegistry) -> list[Request]:
    return [request for request in registry.requests() if "/manifests/" in request.path]


def test_an_unchanged_run_costs_one_head_for_each_tag_and_registry(world: World) -> None:
    tags = [f"1.{number}" for number in range(5)]
    for tag in tags:
        push(f"{world.source.host}/team/quiet", build_image({"version": tag.encode()}), tag)
    assert world.run("team/quiet").states == {"updated": 5}
    world.forget_requests()

    assert world.run("team/quiet").states == {"current": 5}

    expected = {("HEAD", f"/v2/team/quiet/manifests/{tag}", 200) for tag in tags}
    for registry in (world.source, world.us, world.eu):
        asked = [(one.method, one.path, one.status) for one in registry.requests() if one.path != "/v2/"]
        lists = [one for one in asked if one[1].startswith("/v2/team/quiet/tags/list")]
        heads = [one for one in asked if one not in lists]
        assert len(lists) == (1 if registry is world.source else 0), asked
        assert set(heads) == expected, asked
        assert len(heads) == len(tags), asked


def test_where_the_ledger_is_trusted_an_unchanged_run_asks_the_source_alone(world: World) -> None:
    tags = [f"1.{number}" for number in range(5)]
    for tag in tags:
        push(f"{world.source.host}/team/trusted", build_image({"version": tag.encode()}), tag)
    assert world.run("team/trusted", trust_s=3600).states == {"updated": 5}
    push(f"{world.source.host}/team/trusted", build_image({"version": b"moved"}), tags[0])
    world.forget_requests()

    assert world.run("team/trusted", trust_s=3600).states == {"current": 4, "updated": 1}

    heads = [one.path for one in on_manifests(world.source) if one.method == "HEAD"]
    assert sorted(heads) == [f"/v2/team/trusted/manifests/{tag}" for tag in tags]
    for registry in (world.us, world.eu):
        asked = {one.path.rsplit("/", 1)[1] for one in on_manifests(registry)}
        assert tags[0] in asked, "a tag that moves is looked at as always"
        assert not asked & set(tags[1:])


def test_a_blob_shared_by_many_repositories_is_sent_once_and_mounted_elsewhere(world: World) -> None:
    base = build_image({}, layers=[random_layer(300_000, seed=3)])
    shared = base.layers[0].descriptor.digest
    repositories = [f"team/app-{number}" for number in range(5)]
    for name in repositories:
        push(f"{world.source.host}/{name}", build_image({"name": name.encode()}, base=base), "1")
    world.forget_requests()

    for name in repositories:
        assert world.run(name, include=("1",)).state == "done"

    for registry in (world.us, world.eu):
        asked = registry.requests()
        sent = [one for one in asked if one.method == "PUT" and shared in unquoted(one.path)]
        mounted = [one for one in asked if f"mount={shared}" in unquoted(one.path) and one.status == 201]
        assert len(sent) == 1, asked
        assert len(mounted) == len(repositories) - 1, asked
        assert all(blob_exists(f"{registry.host}/{name}", shared) for name in repositories)


def test_the_source_sends_each_manifest_and_layer_once_for_each_region(world: World) -> None:
    image = two_platforms(b"read once")
    push(f"{world.source.host}/team/frugal", image, "1")
    world.forget_requests()

    assert world.run("team/frugal", include=("1",)).state == "done"

    read = [one.path for one in world.source.requests() if one.method == "GET" and one.path != "/v2/"]
    manifests = [path for path in read if "/manifests/sha256:" in path]
    blobs = [path for path in read if "/blobs/" in path]
    assert len(blobs) == len(set(blobs)) * len(world.targets)
    assert len(manifests) <= 3 * len(world.targets)


def test_a_tag_is_the_last_thing_that_is_written(world: World) -> None:
    push(f"{world.source.host}/team/order", two_platforms(b"children before parents"), "1")
    world.forget_requests()
    assert world.run("team/order", include=("1",)).state == "done"

    for registry in (world.us, world.eu):
        written = [one.path for one in registry.requests() if one.method == "PUT"]
        manifests = [path for path in written if "/manifests/" in path]
        assert written[-1] == manifests[-1] == "/v2/team/order/manifests/1"
        assert not any("/blobs/" in path for path in written[written.index(manifests[0]) :])


# -- selection and platforms -------------------------------------------------------------------------


def test_a_missing_tag_fails_by_name_while_the_others_land(world: World) -> None:
    for tag in ("1", "2"):
        push(f"{world.source.host}/team/gaps", build_image({"version": tag.encode()}), tag)

    report = world.run("team/gaps", refs=(("1", "1"), ("gone", "gone"), ("2", "2")))

    assert report.state == "failed"
    assert report.states == {"updated": 2, "failed": 1}
    failed = world.fleet.tags(report.run)["gone"]
    assert failed.state == "failed"
    assert world.source.host in failed.reason
    assert "gone" in failed.reason
    for registry in (world.us, world.eu):
        assert sorted(skopeo.tags(f"{registry.host}/team/gaps")) == ["1", "2"]


def test_only_selected_tags_travel(world: World) -> None:
    for tag in ("1.0.0", "1.2.0", "2.0.0", "2.1.0-dev", "latest"):
        push(f"{world.source.host}/team/choosy", build_image({"version": tag.encode()}), tag)

    report = world.run("team/choosy", include=("semver:>=1.1", "latest"), exclude=("*-dev",))

    assert report.state == "done"
    assert sorted(skopeo.tags(f"{world.us.host}/team/choosy")) == ["1.2.0", "2.0.0", "latest"]


def test_an_exact_reference_may_take_another_name(world: World) -> None:
    image = build_image({"etc/motd": b"renamed"})
    digest = push(f"{world.source.host}/team/named", image, "nightly")

    assert world.run("team/named", refs=(("stable", digest),)).state == "done"

    assert skopeo.tags(f"{world.eu.host}/team/named") == ["stable"]
    assert skopeo.digest(f"{world.eu.host}/team/named:stable") == digest


def test_a_moved_tag_is_moved_after_it(world: World) -> None:
    first, second = build_image({"version": b"1"}), build_image({"version": b"2"})
    push(f"{world.source.host}/team/moving", first, "latest")
    world.run("team/moving")
    push(f"{world.source.host}/team/moving", second, "latest")

    report = world.run("team/moving")

    for target in world.fleet.tags(report.run)["latest"].targets:
        assert (target.state, target.previous) == ("updated", first.digest)
        assert skopeo.digest(f"{target.repository}:latest") == second.digest


def test_a_tag_that_a_registry_refuses_fails_by_name_and_moves_nowhere(world: World) -> None:
    """This registry takes no index without all of its children, so it takes no subset of platforms."""
    push(f"{world.source.host}/team/subset", two_platforms(b"only one of them"), "1")

    report = world.run("team/subset", include=("1",), platforms=("linux/amd64",))

    assert report.states == {"failed": 1}
    (tag,) = world.fleet.tags(report.run).values()
    assert "MANIFEST_BLOB_UNKNOWN" in tag.reason
    assert world.us.host in tag.reason or world.eu.host in tag.reason
    assert not skopeo.exists(f"{world.us.host}/team/subset:1")
    assert not skopeo.exists(f"{world.eu.host}/team/subset:1")


def test_a_subset_of_platforms_keeps_the_bytes_of_the_index(world: World) -> None:
    image = two_platforms(b"half of it")
    amd64, arm64 = (child.digest for child in image.children)
    push(f"{world.source.host}/team/half", image, "1")

    with MemoryRegistry(sparse_index=True) as target:
        name = f"{target.host}/team/half"
        assert world.run_to(name, "team/half", include=("1",), platforms=("linux/arm64",)).state == "done"

        assert skopeo.raw_manifest(f"{name}:1") == image.manifest.content
        assert skopeo.inspect(f"{name}:1", "--override-arch=arm64")["Architecture"] == "arm64"
        assert skopeo.exists(f"{name}@{arm64}")
        assert not skopeo.exists(f"{name}@{amd64}")


# -- what belongs to an image ------------------------------------------------------------------------


def test_what_says_something_about_an_image_travels_with_it(world: World) -> None:
    name = "team/signed"
    image = build_image({"etc/motd": b"signed"})
    digest = push(f"{world.source.host}/{name}", image, "1")
    sbom = build_artifact({"sbom.json": b"{}"}, artifact_type="application/spdx+json", subject=image)
    push(f"{world.source.host}/{name}", sbom)
    fallback = put_referrers(f"{world.source.host}/{name}", digest, [sbom])
    signature = build_signature(image)
    push(f"{world.source.host}/{name}", signature, signature_tag(digest))

    report = world.run(name, include=("1",))

    assert report.state == "done"
    for registry in (world.us, world.eu):
        target = f"{registry.host}/{name}"
        assert skopeo.digest(f"{target}:{signature_tag(digest)}") == signature.digest
        assert skopeo.raw_manifest(f"{target}@{sbom.digest}") == sbom.manifest.content
        listed = json.loads(skopeo.raw_manifest(f"{target}:{fallback}"))["manifests"]
        assert [(one["digest"], one["artifactType"]) for one in listed] == [
            (sbom.digest, "application/spdx+json")
        ]


def test_an_unchanged_run_of_a_signed_and_described_image_puts_nothing(world: World) -> None:
    name = "team/quiet-signed"
    image = build_image({"etc/motd": b"signed and quiet"})
    digest = push(f"{world.source.host}/{name}", image, "1")
    push(f"{world.source.host}/{name}", build_signature(image), signature_tag(digest))
    sbom = build_artifact({"sbom.json": b"{ }"}, artifact_type="application/spdx+json", subject=image)
    push(f"{world.source.host}/{name}", sbom)
    fallback = put_referrers(f"{world.source.host}/{name}", digest, [sbom])
    assert world.run(name).states == {"updated": 1}

    for _ in range(2):
        world.forget_requests()
        assert world.run(name).states == {"current": 1}
        for registry in (world.us, world.eu):
            asked = Counter((one.method, one.path.rsplit("/", 1)[1]) for one in on_manifests(registry))
            assert asked == {
                ("HEAD", "1"): 1,
                ("HEAD", signature_tag(digest)): 1,
                ("HEAD", sbom.digest): 1,
                ("GET", fallback): 1,
            }
            others = [one for one in registry.requests() if one.method not in {"GET", "HEAD"}]
            assert others == []
        asked = Counter((one.method, one.path.rsplit("/", 1)[1]) for one in on_manifests(world.source))
        regions = 2  # each asks the source what there is to bring
        assert asked == {
            ("HEAD", "1"): 1,
            ("HEAD", signature_tag(digest)): regions,
            ("GET", fallback): regions,
        }


def test_a_registry_with_a_referrers_list_gets_no_fallback_tag(world: World) -> None:
    name = "team/listed"
    image = build_image({"etc/motd": b"described"})
    digest = push(f"{world.source.host}/{name}", image, "1")
    sbom = build_artifact({"sbom.json": b"[]"}, artifact_type="application/spdx+json", subject=image)
    push(f"{world.source.host}/{name}", sbom)
    put_referrers(f"{world.source.host}/{name}", digest, [sbom])

    with MemoryRegistry(referrers=True) as target:
        assert world.run_to(f"{target.host}/{name}", name, include=("1",)).state == "done"

        listed = json.loads(ask(target.host, "GET", f"/v2/{name}/referrers/{digest}").body)["manifests"]
        assert [one["digest"] for one in listed] == [sbom.digest]
        assert skopeo.tags(f"{target.host}/{name}") == ["1"]


def test_without_referrers_only_the_image_travels(world: World) -> None:
    name = "team/bare"
    image = build_image({"etc/motd": b"unsigned"})
    digest = push(f"{world.source.host}/{name}", image, "1")
    push(f"{world.source.host}/{name}", build_signature(image), signature_tag(digest))

    assert world.run(name, include=("1",), referrers=False).state == "done"

    assert skopeo.tags(f"{world.us.host}/{name}") == ["1"]


def test_large_layers_travel_as_tasks_of_their_own_and_leave_nothing_in_redis_for_good(
    tmp_path: Path, world: World
) -> None:
    image = build_image({"a": b"hauled"}, layers=[random_layer(3 * 2**20, seed=n) for n in (31, 32, 33)])
    push(f"{world.source.host}/team/hauled", image, "1.0")
    with Fleet(made(tmp_path / "fleet"), ["us", "eu"], {"SEALIFT_HAUL_MIB": "1"}) as fleet:
        report = fleet.run(world.spec("team/hauled"))

        assert report.states == {"updated": 1}, fleet.logs()
        assert fleet.logs().count("sealift.haul") >= 2
        with fleet.valkey.client() as client:
            lasting = [key for key in client.scan_iter("*taskset*") if client.ttl(key) < 0]
        assert lasting == []
    assert skopeo.digest(f"{world.eu.host}/team/hauled:1.0") == image.digest


def test_nothing_but_reads_reaches_the_source(world: World) -> None:
    push(f"{world.source.host}/team/readonly", build_image({"a": b"b"}), "1")
    world.forget_requests()

    assert world.run("team/readonly").state == "done"

    assert set(world.source.counts()) <= {"GET", "HEAD"}
    assert ask(world.source.host, "GET", "/v2/team/readonly/tags/list").status == 200


def unquoted(path: str) -> str:
    return path.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/")


# -- a region that is away ---------------------------------------------------------------------------


def test_no_tag_moves_anywhere_while_a_region_is_away_and_all_move_when_it_is_back(world: World) -> None:
    push(f"{world.source.host}/team/patient", build_image({"a": b"patience"}), "1")
    world.fleet.kill("eu")
    run = world.fleet.start_run(world.spec("team/patient", include=("1",)))

    until(lambda: landed(world, run) == {"us": 1, "eu": 0}, 30, world.fleet.logs)
    assert not skopeo.exists(f"{world.us.host}/team/patient:1")
    world.fleet.start("eu")

    assert world.fleet.wait(run).state == "done"
    assert skopeo.exists(f"{world.us.host}/team/patient:1")
    assert skopeo.exists(f"{world.eu.host}/team/patient:1")


def test_where_targets_move_on_their_own_a_region_that_is_away_holds_nobody_back(world: World) -> None:
    tags = [f"1.{number}" for number in range(40)]
    for tag in tags:
        push(f"{world.source.host}/team/hasty", build_image({"version": tag.encode()}), tag)
    world.fleet.kill("eu")
    run = world.fleet.start_run(world.spec("team/hasty", finalize="each"))

    def flipped() -> dict[str, int]:
        regions = world.fleet.ledger.run_report(run).regions
        return {region.region: region.tags_flipped for region in regions}

    until(lambda: flipped() == {"us": len(tags), "eu": 0}, 60, world.fleet.logs)
    assert skopeo.exists(f"{world.us.host}/team/hasty:1.39")
    world.fleet.start("eu")

    assert world.fleet.wait(run).states == {"updated": len(tags)}
    assert flipped() == {"us": len(tags), "eu": len(tags)}


def landed(world: World, run: str) -> dict[str, int]:
    report = world.fleet.ledger.run_report(run)
    return {region.region: region.tags_landed for region in report.regions}
