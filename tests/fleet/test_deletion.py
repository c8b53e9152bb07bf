"""Deletions by real workers in two regions of real registries, with skopeo as judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from registry.images import build_image
from tests.support import skopeo
from tests.support.fleet import Fleet, made
from tests.support.pushing import push
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.scratch import scratch_folder

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]

SETTINGS = {"SEALIFT_STALL_S": "1", "SEALIFT_SWEEP_INTERVAL_S": "1"}


@dataclass(frozen=True, slots=True)
class Yard:
    """A source and a registry in each of two regions; those of ``us`` delete nothing."""

    fleet: Fleet
    source: DockerRegistry
    us: DockerRegistry
    eu: DockerRegistry

    def sealift(self, *words: str, code: int = 0) -> dict[str, Any]:
        done = self.fleet.sealift(*words, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        return document

    def sync(self, code: int = 0) -> dict[str, list[dict[str, Any]]]:
        """What a run says of the tags that are gone, by the region."""
        (run,) = self.sealift("sync", "app", code=code)["runs"]
        found: dict[str, list[dict[str, Any]]] = {}
        for one in run["deletion_reports"]:
            found.setdefault(one["region"], []).append(one)
        return found


@pytest.fixture(scope="module")
def yard() -> Iterator[Yard]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source, us, eu = (
            stack.enter_context(registry_at(folder / name, delete=name != "us"))
            for name in ("source", "us", "eu")
        )
        made(folder / "fleet")
        (folder / "fleet" / "sealift.yaml").write_text(
            dedent(f"""\
                mirrors:
                  - name: app
                    source: {source.host}/app
                    targets:
                      - {{region: us, repository: {us.host}/app}}
                      - {{region: eu, repository: {eu.host}/app}}
                    delete: mirror
                    delete_share: 50
                    delete_after: 1s
            """)
        )
        fleet = stack.enter_context(Fleet(folder / "fleet", ["us", "eu"], SETTINGS))
        yield Yard(fleet, source, us, eu)


def registry_at(folder: Path, *, delete: bool) -> DockerRegistry:
    return DockerRegistry(made(folder), RegistryOptions(delete=delete))


def test_a_tag_follows_its_source_where_it_can_and_is_named_where_it_cannot(yard: Yard) -> None:
    same = build_image({"version": b"same"})
    for tag in ("1.0", "gone", "latest"):
        push(f"{yard.source.host}/app", same, tag)
    push(f"{yard.source.host}/app", build_image({"version": b"2"}), "2.0")
    assert yard.sync() == {}
    # At the source, too, one tag of several at the same image goes: as its users would see it.
    yard.source.stop()
    link = yard.source.storage / "docker/registry/v2/repositories/app/_manifests/tags/gone"
    link.rename(yard.source.folder / "gone")
    yard.source.restart()

    (plan,) = yard.sealift("plan", "app")["mirrors"]
    assert {(one["region"], one["tag"], one["state"]) for one in plan["deletions"]} == {
        ("us", "gone", "waiting"),
        ("eu", "gone", "waiting"),
    }
    assert {one["state"] for found in yard.sync().values() for one in found} == {"waiting"}

    yard.fleet.kill("eu")  # its deletions are swept to the worker that comes
    yard.fleet.start("eu")
    ended = yard.sync(code=1)

    assert [one["state"] for one in ended["eu"]] == ["deleted"]
    assert [(one["state"], one["kind"]) for one in ended["us"]] == [("failed", "CannotDelete")]
    assert sorted(skopeo.tags(f"{yard.eu.host}/app")) == ["1.0", "2.0", "latest"]
    assert sorted(skopeo.tags(f"{yard.us.host}/app")) == ["1.0", "2.0", "gone", "latest"]
    for tag in ("1.0", "latest"):
        assert skopeo.raw_manifest(f"{yard.eu.host}/app:{tag}") == same.manifest.content
    said = yard.fleet.sealift("sync", "app")
    assert f"not deleted: 1 tag of {yard.us.host}/app (gone)" in said.stdout
