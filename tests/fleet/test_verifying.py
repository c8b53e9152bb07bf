"""Damage done on purpose to a real registry's storage: found, named, healed, and judged by skopeo."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mirror.spec import Verification
from registry.descriptor import Descriptor
from registry.images import LINUX_ARM64, Image, Index, build_image, build_index, random_layer
from registry.memory import ErrorReply, MemoryRegistry
from tests.fleet.conftest import World
from tests.support import skopeo
from tests.support.pushing import ask, push
from tests.support.registries import DockerRegistry
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]

REPOSITORY = "team/app"
TAGS = ("whole", "blob-gone", "bytes-changed", "size-changed", "child-gone", "moved", "lost")


def image(seed: int) -> Index:
    amd64 = build_image({}, layers=[random_layer(20_000, seed)])
    return build_index([amd64, build_image({}, layers=[random_layer(9_000, -seed)], platform=LINUX_ARM64)])


IMAGES = {tag: image(seed) for seed, tag in enumerate(TAGS, 1)}


@dataclass(frozen=True, slots=True)
class Storage:
    """What an operator does in a registry's folder."""

    registry: DockerRegistry

    @property
    def root(self) -> Path:
        return self.registry.storage / "docker/registry/v2"

    def file(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.root / "blobs/sha256" / name[:2] / name / "data"

    def link(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.root / "repositories" / REPOSITORY / "_manifests/revisions/sha256" / name / "link"


def child(tag: str, platform: int) -> Image:
    found = IMAGES[tag].children[platform]
    assert isinstance(found, Image)
    return found


def layer(tag: str, platform: int) -> Descriptor:
    return child(tag, platform).manifest.blobs[-1]


def damage(registry: DockerRegistry) -> None:
    storage = Storage(registry)
    storage.file(layer("blob-gone", 1).digest).unlink()
    changed = layer("bytes-changed", 0)
    storage.file(changed.digest).write_bytes(b"?" * changed.size)
    storage.file(layer("size-changed", 0).digest).write_bytes(b"0123456789")
    storage.link(child("child-gone", 1).digest).unlink()
    name = f"{registry.host}/{REPOSITORY}"
    skopeo.copy(f"{name}:whole", f"{name}:moved")
    skopeo.copy(f"{name}:whole", f"{name}:theirs")
    assert ask(registry.host, "DELETE", f"/v2/{REPOSITORY}/manifests/{IMAGES['lost'].digest}").status == 202


def verify(world: World, *words: str) -> tuple[int, list[dict[str, Any]]]:
    done = world.fleet.sealift("verify", "app", "--json", *words)
    document = json.loads(done.stdout)
    assert document["exit_code"] == done.returncode, done.stderr
    return done.returncode, document["runs"]


def said(run: dict[str, Any], world: World) -> dict[str, str]:
    """By tag: why it is wrong in ``eu``, without the place that a reason begins with."""
    name = f"{world.eu.host}/{REPOSITORY}"
    return {
        tag["tag"]: target["reason"].removeprefix(f"{name}:{tag['tag']}: ")
        for tag in run["tag_reports"]
        for target in tag["targets"]
        if target["repository"] == name and target["state"] == "failed"
    }


@pytest.fixture(scope="module")
def mirrored(world: World) -> World:
    for tag, content in IMAGES.items():
        push(f"{world.source.host}/{REPOSITORY}", content, tag)
    targets = [
        {"region": region, "repository": f"{one.host}/{REPOSITORY}"} for region, one in world.targets.items()
    ]
    mirror = {"name": "app", "source": f"{world.source.host}/{REPOSITORY}", "targets": targets}
    (world.fleet.folder / "sealift.yaml").write_text(json.dumps({"mirrors": [mirror]}))
    done = world.fleet.sealift("sync", "app")
    assert done.returncode == 0, done.stdout + done.stderr
    return world


def test_damage_in_a_registrys_storage_is_found_named_and_healed(mirrored: World, tmp_path: Path) -> None:
    world, storage = mirrored, Storage(mirrored.eu)
    damage(world.eu)

    code, (run,) = verify(world, "--deep")
    assert code == 1
    found = {one["repository"]: one for one in run["found"]}
    eu, us = (found[f"{one.host}/{REPOSITORY}"] for one in (world.eu, world.us))
    assert (us["verified"], us["missing"] + us["different"] + us["damaged"]) == (7, 0)
    assert [eu[name] for name in ("verified", "missing", "different", "damaged")] == [1, 1, 1, 4]
    assert eu["extras"][0]["tags"] == ["theirs"]
    reasons, size = said(run, world), layer("size-changed", 0).size
    assert reasons.pop("bytes-changed").startswith(
        f"layer {layer('bytes-changed', 0).digest} of linux/amd64 has other bytes: its bytes hash to sha256:"
    )
    assert reasons == {
        "blob-gone": f"layer {layer('blob-gone', 1).digest} of linux/arm64 is gone",
        "size-changed": f"layer {layer('size-changed', 0).digest} of linux/amd64 "
        f"has 10 bytes instead of {size}",
        "child-gone": f"manifest {child('child-gone', 1).digest} of linux/arm64 is gone",
        "moved": f"is at {IMAGES['whole'].digest} instead of {IMAGES['moved'].digest}",
        "lost": "is missing",
    }

    code, runs = verify(world, "--deep", "--repair")
    assert code == 1
    assert set(said(runs[-1], world)) == {"bytes-changed", "size-changed"}
    assert "have that deleted from its storage" in said(runs[1], world)["size-changed"]

    for tag in ("bytes-changed", "size-changed"):  # which is what the operator was told
        storage.file(layer(tag, 0).digest).unlink()
    code, runs = verify(world, "--deep", "--repair")
    assert (code, said(runs[-1], world)) == (0, {})
    for tag in TAGS:
        name = f"{world.eu.host}/{REPOSITORY}:{tag}"
        assert skopeo.raw_manifest(name) == IMAGES[tag].manifest.content
        skopeo.pull(name, tmp_path / tag)


def test_what_is_found_is_said_in_lines(mirrored: World) -> None:
    world = mirrored
    Storage(world.us).link(child("child-gone", 1).digest).unlink()
    name = f"{world.eu.host}/{REPOSITORY}"
    skopeo.copy(f"{name}:whole", f"{name}:theirs")
    done = world.fleet.sealift("verify")

    assert done.returncode == 1
    assert "Not whole" in done.stdout
    assert "1 damaged; 7 tags in 2 targets were looked at." in done.stdout
    assert f"manifest {child('child-gone', 1).digest} of linux/arm64 is gone" in done.stdout
    assert "1 tag not of the mirror: theirs" in done.stdout
    assert "With --repair the same command mends it" in done.stderr


def test_a_repair_that_mends_all_it_can_still_fails_for_what_could_not_be_asked(mirrored: World) -> None:
    def refuse(_: str, path: str) -> None:
        if path.endswith("/manifests/whole"):
            raise ErrorReply(403, "DENIED", "not you")

    source, words = f"{mirrored.source.host}/{REPOSITORY}", ("--tags", "whole", "--tags", "lost")
    with MemoryRegistry() as target:
        to = ("--to", f"us={target.host}/app", *words)
        assert mirrored.fleet.sealift("mirror", source, *to).returncode == 0
        target.on_request = refuse
        del target.blobs[layer("lost", 0).digest]
        done = mirrored.fleet.sealift("verify", source, *to, "--repair", "--json")

        runs = json.loads(done.stdout)["runs"]
        assert [run["kind"] for run in runs] == ["verify", "repair", "verify"]
        assert [run["state"] for run in runs] == ["failed", "done", "done"]
        assert done.returncode == 1, "nobody knows what became of the other"


def test_a_run_that_nobody_waits_for_repairs_what_it_finds(mirrored: World) -> None:
    world, ledger = mirrored, mirrored.fleet.ledger
    for platform in (0, 1):
        Storage(world.us).link(child("moved", platform).digest).unlink(missing_ok=True)
    spec = replace(world.spec(REPOSITORY), kind="verify", verification=Verification(repairs=True))
    before = [one.run for one in ledger.runs()]
    assert world.fleet.run(spec, "backfill").state == "failed"

    def repairs() -> list[str]:
        return [one.run for one in ledger.runs() if one.kind == "repair" and one.run not in before]

    report = world.fleet.wait(until(repairs, 30.0, world.fleet.logs)[0])
    assert set(report.states) == {"updated"}
    assert world.fleet.run(replace(spec, verification=Verification())).state == "done"
