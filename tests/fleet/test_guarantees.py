"""What a fleet holds to while something goes wrong: real workers, real registries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mirror.spec import MirrorSpec, Target
from registry.connections import Connections
from registry.credentials import ChainedCredentials
from registry.errors import NotFound
from registry.images import build_image, random_layer
from registry.images import push as push_through
from registry.memory import MemoryRegistry
from tests.fleet.conftest import World
from tests.support import skopeo
from tests.support.pushing import push
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]

GIB = 2**30
MOST_MEMORY_MIB = 200


def tag_in(host: str, repository: str, tag: str) -> str | None:
    """The digest that the tag is at; None where there is no such tag."""
    connections = Connections({}, ChainedCredentials(()))
    try:
        return connections.open(f"{host}/{repository}").resolve(tag).digest
    except NotFound:
        return None
    finally:
        connections.close()


def test_a_tag_never_moves_in_one_region_while_another_still_misses_a_layer(world: World) -> None:
    name, repository = f"{world.source.host}/team/together", "team/together"
    image = build_image({"app": b"new"}, layers=[random_layer(2**20, seed=7)])
    push(name, image, "1.0")
    with MemoryRegistry() as eu:
        targets = (Target(f"{world.us.host}/{repository}", "us"), Target(f"{eu.host}/{repository}", "eu"))
        spec = MirrorSpec("together", name, targets)
        with eu.pause(lambda method, path: method == "PUT" and "/blobs/uploads/" in path) as stalled:
            run = world.fleet.start_run(spec)
            assert stalled.reached.wait(60)
            # us has everything by digest, and still its tag does not move
            until(
                lambda: tag_in(world.us.host, repository, image.digest),
                60,
                lambda: f"us to land\n{world.fleet.logs()}",
            )
            assert tag_in(world.us.host, repository, "1.0") is None
            assert eu.tag(repository, "1.0") is None
        report = world.fleet.wait(run)

        assert report.states == {"updated": 1}, world.fleet.tags(run)
        assert tag_in(world.us.host, repository, "1.0") == image.digest
        assert eu.tag(repository, "1.0") == image.digest


def test_a_worker_that_is_killed_in_the_middle_leaves_nothing_undone(world: World) -> None:
    name, repository = f"{world.source.host}/team/killed", "team/killed"
    images = {f"1.{n}": build_image({"app": bytes([n])}, layers=[random_layer(2**20, n)]) for n in range(3)}
    for tag, image in images.items():
        push(name, image, tag)
    with MemoryRegistry() as eu:
        targets = (Target(f"{world.us.host}/{repository}", "us"), Target(f"{eu.host}/{repository}", "eu"))
        with eu.pause(lambda method, path: method == "PUT" and "/blobs/uploads/" in path) as stalled:
            run = world.fleet.start_run(MirrorSpec("killed", name, targets))
            assert stalled.reached.wait(60)
            world.fleet.kill("eu")
        world.fleet.start("eu")
        report = world.fleet.wait(run, timeout_s=150)

        assert report.states == {"updated": 3}, world.fleet.tags(run)
        assert {tag: eu.tag(repository, tag) for tag in images} == {t: i.digest for t, i in images.items()}


def test_a_run_whose_message_was_lost_is_found_in_the_ledger_and_done(world: World) -> None:
    name, repository = f"{world.source.host}/team/lost", "team/lost"
    image = build_image({"app": b"lost"})
    push(name, image, "1.0")

    run = world.fleet.ledger.create_run(world.spec(repository), "release")  # and no message about it

    assert world.fleet.wait(run).states == {"updated": 1}
    assert skopeo.digest(f"{world.eu.host}/{repository}:1.0") == image.digest


def test_a_layer_of_a_gibibyte_passes_through_a_worker_that_stays_small(world: World) -> None:
    name, repository = f"{world.source.host}/team/huge", "team/huge"
    image = build_image({"app": b"huge"}, layers=[random_layer(GIB, seed=11)])
    connections = Connections({}, ChainedCredentials(()))
    push_through(connections.open(name), image, "1.0")
    connections.close()

    spec = world.spec(repository)
    report = world.fleet.run(replace(spec, targets=spec.targets[1:]), timeout_s=150)

    assert report.states == {"updated": 1}, world.fleet.tags(report.run)
    peaks = {pid: peak_memory_mib(pid) for pid in family(world.fleet.workers["eu"].pid)}
    assert max(peaks.values()) < MOST_MEMORY_MIB, peaks


def family(pid: int) -> list[int]:
    """The process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def peak_memory_mib(pid: int) -> float:
    """The most memory the process ever held, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
