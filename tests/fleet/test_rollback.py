"""Typed on a real fleet: a tag goes back in two regions and stays there, with skopeo as judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from registry.images import Index, build_image, build_index, random_layer
from tests.support import skopeo
from tests.support.fleet import Fleet
from tests.support.pushing import push
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder

pytestmark = [pytest.mark.fleet, skopeo.needs_skopeo]


def image(text: str) -> Index:
    layers = [random_layer(200_000, seed=len(text))]
    return build_index([build_image({"app": text.encode()}, layers=layers)])


OLD, NEW, NEWEST = image("old"), image("newer"), image("the newest")


@dataclass
class Yard:
    fleet: Fleet
    source: DockerRegistry
    targets: tuple[DockerRegistry, ...]

    def typed(self, *words: str) -> dict[str, object]:
        done = self.fleet.sealift(*words, "--json")
        assert done.returncode == 0, done.stderr + self.fleet.logs()
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        return document

    def sync(self, content: Index) -> dict[str, int]:
        push(f"{self.source.host}/app", content, "v1")
        return self.states(self.typed("sync", "app"))

    def states(self, document: dict[str, object]) -> dict[str, int]:
        runs = document["runs"]
        assert isinstance(runs, list)
        states = runs[0]["states"]
        assert isinstance(states, dict)
        return states

    def digests(self) -> set[str]:
        return {skopeo.digest(f"{registry.host}/app:v1") for registry in self.targets}


@pytest.fixture
def yard(three_registries: tuple[DockerRegistry, ...]) -> Iterator[Yard]:
    source, *targets = three_registries
    with scratch_folder() as folder:
        (folder / "sealift.yaml").write_text(
            "mirrors:\n  - name: app\n"
            f"    source: {source.host}/app\n"
            "    targets:\n"
            f"      - {{region: us, repository: {targets[0].host}/app}}\n"
            f"      - {{region: eu, repository: {targets[1].host}/app}}\n"
        )
        with Fleet(folder, ["us", "eu"]) as fleet:
            yield Yard(fleet, source, tuple(targets))


def test_a_tag_goes_back_in_both_regions_and_stays_until_it_is_let_go(yard: Yard) -> None:
    yard.sync(OLD)
    yard.sync(NEW)
    yard.source.stop()

    assert yard.states(yard.typed("rollback", "app", "v1", "--pin")) == {"updated": 1}
    assert yard.digests() == {OLD.digest}
    yard.source.restart()
    assert yard.sync(NEWEST) == {"pinned": 1}
    assert yard.digests() == {OLD.digest}
    yard.typed("unpin", "app", "v1")
    assert yard.states(yard.typed("sync", "app")) == {"updated": 1}
    assert yard.digests() == {NEWEST.digest}
