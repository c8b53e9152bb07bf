"""The observer sees what it is there to see: each violation planted, and found."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from registry.deletion import tombstone
from registry.images import Image, build_image, build_index, random_layer
from registry.memory import MemoryRegistry
from tests.chaos.fleet import ROOT
from tests.chaos.observer import Config, Group, observe
from tests.chaos.reading import Place
from tests.support.process import Process
from tests.support.pushing import ask, push
from tests.support.registries import DockerRegistry
from tests.support.waiting import until

NAME = "team/app"
OLD, NEW = build_image({"version": b"1"}), build_image({"version": b"2"})


class Observed:
    """An observer at work over some targets, and what it has written so far."""

    def __init__(self, out: Path, hosts: dict[str, str], *, together: bool) -> None:
        places = {target: Place(host, NAME) for target, host in hosts.items()}
        self._config = Config((Group(NAME, places, together),), out, rate=500.0)
        self._stop = threading.Event()
        self._verdict: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._observe, daemon=True)
        self._thread.start()
        until(out.exists, 5, "the observer to begin")

    def _observe(self) -> None:
        self._verdict = observe(self._config, self._stop)

    def lines(self, kind: str) -> list[dict[str, Any]]:
        text = self._config.out.read_text()
        found = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [one for one in found if one["kind"] == kind]

    def sees(self, target: str, digest: str) -> None:
        """Return once the observer has seen the tag there."""
        until(
            lambda: [one for one in self.lines("moved") if (one["target"], one["now"]) == (target, digest)],
            10,
            lambda: f"{digest} in {target}: {self._config.out.read_text()}",
        )

    def verdict(self) -> dict[str, Any]:
        self._stop.set()
        self._thread.join()
        return self._verdict

    def rules(self) -> set[str]:
        return {one["rule"] for one in self.verdict()["violations"]}


Watching = Callable[..., Observed]


@pytest.fixture
def targets() -> Iterator[dict[str, MemoryRegistry]]:
    with MemoryRegistry() as north, MemoryRegistry() as south:
        yield {"north": north, "south": south}


@pytest.fixture
def watching(tmp_path: Path, targets: dict[str, MemoryRegistry]) -> Iterator[Watching]:
    started: list[Observed] = []

    def watch(*, together: bool = True) -> Observed:
        hosts = {target: registry.host for target, registry in targets.items()}
        started.append(Observed(tmp_path / "observed.jsonl", hosts, together=together))
        return started[-1]

    yield watch
    for observed in started:
        observed.verdict()


def everywhere(targets: dict[str, MemoryRegistry], image: Image, tag: str | None) -> None:
    for registry in targets.values():
        push(f"{registry.host}/{NAME}", image, tag)


def test_tags_that_move_after_all_content_is_everywhere_are_right(
    watching: Watching, targets: dict[str, MemoryRegistry]
) -> None:
    everywhere(targets, OLD, "1")
    observed = watching()
    for target in targets:
        observed.sees(target, OLD.digest)
    everywhere(targets, NEW, None)
    everywhere(targets, NEW, "1")
    for target in targets:
        observed.sees(target, NEW.digest)
    verdict = observed.verdict()

    assert verdict["violations"] == []
    assert verdict["tags"] == 1
    assert verdict["apart"] == 0
    assert verdict["counts"]["checked G2"] >= len(targets)
    assert verdict["blobs hashed"] >= len(targets) * len({*OLD.blobs, *NEW.blobs})


def test_a_tag_that_moves_while_another_target_misses_a_layer_is_seen(
    watching: Watching, targets: dict[str, MemoryRegistry]
) -> None:
    everywhere(targets, OLD, "1")
    observed = watching()
    for target in targets:
        observed.sees(target, OLD.digest)
    push(f"{targets['north'].host}/{NAME}", NEW, "1")
    observed.sees("north", NEW.digest)

    assert observed.rules() == {"G2"}


def test_a_tag_may_move_alone_where_targets_move_on_their_own(
    watching: Watching, targets: dict[str, MemoryRegistry]
) -> None:
    everywhere(targets, OLD, "1")
    observed = watching(together=False)
    push(f"{targets['north'].host}/{NAME}", NEW, "1")
    observed.sees("north", NEW.digest)

    assert observed.rules() == set()


def test_a_missing_child_of_an_index_is_seen(watching: Watching, targets: dict[str, MemoryRegistry]) -> None:
    index = build_index([OLD, NEW])
    for registry in targets.values():
        registry.plant(NAME, "1", index.manifest)
    observed = watching()
    observed.sees("north", index.digest)

    assert "G1" in observed.rules()


def test_a_missing_layer_is_seen(tmp_path: Path, registry_factory: Callable[[], DockerRegistry]) -> None:
    registry = registry_factory()
    push(f"{registry.host}/{NAME}", OLD, "1")
    layer = OLD.layers[0].descriptor.digest.partition(":")[2]
    (registry.storage / "docker/registry/v2/blobs/sha256" / layer[:2] / layer / "data").unlink()
    observed = Observed(tmp_path / "out", {"north": registry.host}, together=True)
    observed.sees("north", OLD.digest)

    assert "G1" in observed.rules()


def test_one_wrong_byte_in_a_layer_is_seen(
    tmp_path: Path, registry_factory: Callable[[], DockerRegistry]
) -> None:
    registry = registry_factory()
    image = build_image({}, layers=[random_layer(100_000, seed=1)])
    push(f"{registry.host}/{NAME}", image, "1")
    layer = image.layers[0].descriptor.digest.partition(":")[2]
    data = registry.storage / "docker/registry/v2/blobs/sha256" / layer[:2] / layer / "data"
    content = bytearray(data.read_bytes())
    content[50_000] ^= 1
    data.write_bytes(content)
    observed = Observed(tmp_path / "out", {"north": registry.host}, together=True)
    observed.sees("north", image.digest)

    assert observed.rules() == {"G3"}


def test_a_tag_that_is_gone_is_seen(watching: Watching, targets: dict[str, MemoryRegistry]) -> None:
    everywhere(targets, OLD, "1")
    observed = watching()
    observed.sees("south", OLD.digest)
    assert ask(targets["south"].host, "DELETE", f"/v2/{NAME}/manifests/1").status == 202
    until(lambda: observed.lines("violation"), 10, "the tag to be missed")

    assert "vanished" in observed.rules()


def test_what_one_target_keeps_of_former_images_is_its_own_and_must_be_whole(
    watching: Watching, targets: dict[str, MemoryRegistry]
) -> None:
    north, broken = targets["north"], build_index([OLD, NEW])
    push(f"{north.host}/{NAME}", NEW, "sealift-keep.0.1")
    observed = watching()
    until(lambda: observed.lines("kept"), 10, "the keeper to be seen")
    assert ask(north.host, "DELETE", f"/v2/{NAME}/manifests/sealift-keep.0.1").status == 202
    targets["south"].plant(NAME, "sealift-keep.0.1", broken.manifest)
    until(lambda: len(observed.lines("kept")) == 2, 10, "the other one to be seen")

    assert observed.lines("moved") == []
    assert observed.rules() == {"G1"}


def test_a_tag_that_is_moved_to_be_deleted_is_gone_and_nothing_worse(
    watching: Watching, targets: dict[str, MemoryRegistry]
) -> None:
    everywhere(targets, OLD, "1")
    observed = watching()
    observed.sees("south", OLD.digest)
    targets["south"].plant(NAME, "1", tombstone(f"{targets['south'].host}/{NAME}", "1"))
    until(lambda: observed.lines("violation"), 10, "the tag to be missed")

    assert observed.rules() == {"vanished"}


def test_the_time_for_which_targets_differ_about_a_tag_is_measured(
    watching: Watching, targets: dict[str, MemoryRegistry]
) -> None:
    everywhere(targets, OLD, "1")
    observed = watching()
    for target in targets:
        observed.sees(target, OLD.digest)
    everywhere(targets, NEW, None)
    push(f"{targets['north'].host}/{NAME}", NEW, "1")
    observed.sees("north", NEW.digest)
    push(f"{targets['south'].host}/{NAME}", NEW, "1")
    observed.sees("south", NEW.digest)

    (north,), (south,) = (
        [one for one in observed.lines("moved") if (one["target"], one["now"]) == (target, NEW.digest)]
        for target in ("north", "south")
    )
    window = observed.lines("window")[-1]["seconds"]
    assert window == pytest.approx(south["at"] - north["at"], abs=0.2)


def test_the_program_ends_with_1_after_a_violation(
    tmp_path: Path, targets: dict[str, MemoryRegistry]
) -> None:
    push(f"{targets['north'].host}/{NAME}", OLD, "1")
    with program(tmp_path, targets) as observer:
        until(lambda: "G2" in (tmp_path / "out").read_text(), 10, observer.tail)
        assert observer.stop() == 1


def test_the_program_ends_with_0_where_all_is_well(
    tmp_path: Path, targets: dict[str, MemoryRegistry]
) -> None:
    everywhere(targets, OLD, "1")
    with program(tmp_path, targets) as observer:
        until(lambda: (tmp_path / "out").read_text().count("moved") == 2, 10, observer.tail)
        assert observer.stop() == 0


@contextmanager
def program(folder: Path, targets: dict[str, MemoryRegistry]) -> Iterator[Process]:
    places = {target: f"{registry.host}/{NAME}" for target, registry in targets.items()}
    config = folder / "config.json"
    config.write_text(json.dumps({"groups": [{"name": NAME, "places": places}], "out": str(folder / "out")}))
    command = [sys.executable, "-P", "-m", "tests.chaos.observer", str(config)]
    with Process(command, folder / "log", {"PYTHONPATH": str(ROOT)}) as process:
        until((folder / "out").exists, 20, process.tail)
        yield process


def test_the_observer_shares_no_line_with_what_it_observes() -> None:
    """Neither its modules nor anything that they load belong to the product."""
    said = subprocess.run(
        [sys.executable, "-c", "import sys, tests.chaos.observer; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.split()

    ours = {"config", "registry", "mirror", "tasks", "workers", "httpx", "redis", "celery"}
    assert not ours & {name.partition(".")[0] for name in said}
