"""Registries that tell of pushes by themselves, and a fleet that listens: what is pushed is there at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.report import RunReport
from registry.images import build_image, build_index
from tests.support import skopeo
from tests.support.fleet import Fleet, made
from tests.support.ports import LOOPBACK, free_fixed_port
from tests.support.process import Process
from tests.support.pushing import push
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]

SECRET = "told-by-nobody-else"
ONE, TWO, THREE = (build_index([build_image({"motd": text})]) for text in (b"one", b"two", b"three"))
SOON_S = 60.0
FILE = """\
webhooks:
  - {{name: source, kind: distribution, registry: "{source}", secret: env:HOOK_SECRET}}
  - {{name: us, kind: distribution, registry: "{us}", secret: env:HOOK_SECRET}}
  - {{name: eu, kind: distribution, registry: "{eu}", secret: env:HOOK_SECRET}}
mirrors:
  - name: app
    source: {source}/app
    targets: [{{region: us, repository: {us}/app}}, {{region: eu, repository: {eu}/app}}]
    tags: ["v*"]
    keep: 2
  - name: pair
    mode: two_way
    targets: [{{region: us, repository: {us}/pair}}, {{region: eu, repository: {eu}/pair}}]
"""


@dataclass(frozen=True, slots=True)
class World:
    """``us`` and ``eu`` are at once the regions and what stands in them; all three tell what is pushed."""

    fleet: Fleet
    port: int
    served: list[Process]
    source: DockerRegistry
    us: DockerRegistry
    eu: DockerRegistry

    @property
    def registries(self) -> tuple[DockerRegistry, ...]:
        return self.source, self.us, self.eu

    def runs(self, mirror: str) -> list[RunReport]:
        return [report for report in self.fleet.ledger.runs() if report.mirror == mirror]

    def await_at(self, reference: str, digest: str) -> None:
        """Judged by skopeo; what the registry lacks as yet is waited for."""
        until(
            lambda: skopeo.exists(reference) and skopeo.digest(reference) == digest, SOON_S, self.fleet.logs
        )

    def await_rest(self) -> None:
        """Every registry was heard to the end, and every run has ended."""
        for registry in self.registries:
            marker = build_image({"mark": f"{registry.port} {len(self.served)} {self.ignored()}".encode()})
            before = self.ignored()
            push(f"{registry.host}/nobody/asks", marker, "mark")
            until(lambda before=before: self.ignored() > before, SOON_S, self.fleet.logs)  # type: ignore[misc]  # told in order
        until(lambda: all(one.ended for one in self.fleet.ledger.runs()), SOON_S, self.fleet.logs)

    def ignored(self) -> int:
        told = self.fleet.ledger.gauges.read().told.of("webhooks")
        return sum(one.value for one in told if one.labels["result"] == "unknown")

    def writes(self) -> list[str]:
        """PUTs to the pair since the last question."""
        found = [
            f"{one.method} {one.path}"
            for side in (self.us, self.eu)
            for one in side.requests()
            if one.method not in {"GET", "HEAD"} and "/pair/" in one.path
        ]
        for side in (self.us, self.eu):
            side.forget_requests()
        return found


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with ExitStack() as stack:
        folder, port = stack.enter_context(scratch_folder()), free_fixed_port()
        names = ("source", "us", "eu")
        registries = [
            stack.enter_context(
                DockerRegistry(
                    made(folder / name),
                    RegistryOptions(tells=(f"http://{LOOPBACK}:{port}/hooks/{name}", f"Bearer {SECRET}")),
                )
            )
            for name in names
        ]
        file: Path = made(folder / "fleet") / "sealift.yaml"
        hosts = dict(zip(names, (one.host for one in registries), strict=True))
        file.write_text(FILE.format(**hosts))
        fleet = stack.enter_context(Fleet(folder / "fleet", ("us", "eu"), {"HOOK_SECRET": SECRET}))
        yield World(fleet, port, [fleet.serve(port)], *registries)


def test_what_skopeo_copies_into_the_source_is_in_both_targets_by_a_run_of_that_tag_alone(
    world: World,
) -> None:
    push(f"{world.source.host}/other", ONE, "latest")
    skopeo.copy(f"{world.source.host}/other:latest", f"{world.source.host}/app:v1")
    for target in (world.us, world.eu):
        world.await_at(f"{target.host}/app:v1", ONE.digest)
    world.await_rest()
    runs = world.runs("app")
    assert [(run.state, run.lane, run.tags) for run in runs] == [("done", "release", 1)]

    push(f"{world.source.host}/app", TWO, "not-selected")
    push(f"{world.source.host}/app", TWO, "v1")
    for target in (world.us, world.eu):
        world.await_at(f"{target.host}/app:v1", TWO.digest)
    world.await_rest()
    assert len(world.runs("app")) == 2
    assert not skopeo.exists(f"{world.us.host}/app:not-selected")


def test_a_push_at_one_side_is_no_push_at_the_other_and_nothing_is_written_after(world: World) -> None:
    """No loop: the notification that our own flip causes at the other side comes to nothing."""
    push(f"{world.us.host}/pair", ONE, "v1")
    world.await_at(f"{world.eu.host}/pair:v1", ONE.digest)
    world.await_rest()
    world.writes()
    push(f"{world.eu.host}/pair", TWO, "v1")
    world.await_at(f"{world.us.host}/pair:v1", TWO.digest)
    world.await_rest()
    written = [line for line in world.writes() if line == "PUT /v2/pair/manifests/v1"]
    assert len(written) == 2  # the user's and ours

    before = len(world.runs("pair"))
    world.await_rest()
    assert world.writes() == []
    assert len(world.runs("pair")) == before <= 4
    assert list(world.fleet.ledger.conflicts.open("pair")) == []


def test_what_is_pushed_while_nobody_listens_is_told_again_and_not_lost(world: World) -> None:
    assert world.served[-1].stop() == 0, world.served[-1].tail()
    push(f"{world.source.host}/app", THREE, "v2")
    world.served.append(world.fleet.serve(world.port))
    for target in (world.us, world.eu):
        world.await_at(f"{target.host}/app:v2", THREE.digest)


def test_what_cannot_be_read_holds_up_nothing_that_is_told_after_it(world: World) -> None:
    """A registry takes longer names than references have room for."""
    push(f"{world.source.host}/{'a' * 60}/{'b' * 180}", ONE, "v1")
    push(f"{world.source.host}/app", THREE, "v3")
    for target in (world.us, world.eu):
        world.await_at(f"{target.host}/app:v3", THREE.digest)


def test_the_commands_show_who_has_asked(world: World) -> None:
    done = world.fleet.sealift("runs", "--json")
    assert done.returncode == 0, done.stderr
    assert {run["lane"] for run in json.loads(done.stdout)["runs"]} == {"release"}
