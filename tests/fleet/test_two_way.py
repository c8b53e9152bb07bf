"""Two registries that people push at, kept equal by a fleet with a worker beside each; skopeo judges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from config.fleet import load_fleet
from mirror.spec import MirrorSpec
from registry.images import Image, build_image, build_index
from tasks.terms import spec_of
from tests.support import skopeo
from tests.support.fleet import Fleet, made
from tests.support.pushing import push
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]

ONE, TWO, THREE, FOUR, FIVE = (
    build_index([build_image({"motd": text})]) for text in (b"one", b"two", b"three", b"four", b"five")
)
MIRROR = """\
mirrors:
  - name: app
    mode: two_way
    targets: [{{region: us, repository: {us}/app}}, {{region: eu, repository: {eu}/app}}]
  - name: org
    mode: two_way
    targets: [{{region: us, repository: "{us}/org/*"}}, {{region: eu, repository: "{eu}/team/*"}}]
    tags: {{newest: 1, newest_by: created}}
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """``us`` and ``eu`` are at once the regions and what stands in them."""

    fleet: Fleet
    us: DockerRegistry
    eu: DockerRegistry
    ours: MirrorSpec

    @property
    def theirs(self) -> MirrorSpec:
        """The same pair as the other side's owner would write it."""
        return replace(self.ours, name="ppa", targets=self.ours.targets[::-1])

    def sealift(self, *words: str) -> tuple[int, str]:
        done = self.fleet.sealift(*words)
        return done.returncode, done.stdout + done.stderr

    def at(self, tag: str) -> list[str]:
        return [skopeo.digest(f"{side.host}/app:{tag}") for side in (self.us, self.eu)]

    def writes(self) -> list[str]:
        """Since the last question."""
        found = [
            f"{one.method} {one.path}"
            for side in (self.us, self.eu)
            for one in side.requests()
            if one.method not in {"GET", "HEAD"}
        ]
        for side in (self.us, self.eu):
            side.forget_requests()
        return found


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        us, eu = (stack.enter_context(DockerRegistry(made(folder / name))) for name in ("us", "eu"))
        file: Path = made(folder / "fleet") / "sealift.yaml"
        file.write_text(MIRROR.format(us=us.host, eu=eu.host))
        written = load_fleet(file)
        fleet = stack.enter_context(Fleet(folder / "fleet", ("us", "eu")))
        yield Pair(fleet, us, eu, spec_of(written.mirrors[0], written))


def test_pushes_on_both_sides_cross_and_both_owners_mirrors_come_to_rest(pair: Pair) -> None:
    """No loop: what one mirror has brought to a side is no push for the other."""
    push(f"{pair.us.host}/app", ONE, "from-us")
    push(f"{pair.eu.host}/app", TWO, "from-eu")
    for run in [pair.fleet.start_run(spec) for spec in (pair.ours, pair.theirs)]:
        assert pair.fleet.wait(run).state == "done"
    assert pair.at("from-us") == [ONE.digest] * 2
    assert pair.at("from-eu") == [TWO.digest] * 2

    for spec in (pair.ours, pair.theirs):
        pair.fleet.run(spec)  # what overlapped before is agreed on now
    pair.writes()
    for spec in (pair.ours, pair.theirs):
        assert pair.fleet.run(spec).states == {"current": 2}
    assert pair.writes() == []


def test_a_conflict_is_held_listed_decided_and_over(pair: Pair) -> None:
    push(f"{pair.us.host}/app", ONE, "v1")
    assert pair.fleet.run(pair.ours).state == "done"
    push(f"{pair.us.host}/app", TWO, "v1")
    push(f"{pair.eu.host}/app", THREE, "v1")

    code, text = pair.sealift("sync", "app")
    assert code == 1, text
    assert f"conflict: {pair.us.host}/app has {TWO.digest[:19]}" in text
    assert "`sealift conflicts app` shows" in text
    assert pair.at("v1") == [TWO.digest, THREE.digest]

    code, text = pair.sealift("conflicts")
    assert code == 0
    assert "app v1: moved apart, seen first" in text
    assert f"{pair.eu.host}/app  {THREE.digest}" in text

    code, text = pair.sealift("resolve", "app", "v1", "--take", pair.eu.host)
    assert code == 0, text
    assert pair.at("v1") == [THREE.digest] * 2
    past = json.loads(pair.sealift("conflicts", "--settled", "--json")[1])["conflicts"]
    assert [(one["rule"], one["took"], one["sides"][f"{pair.us.host}/app"]) for one in past] == [
        ("resolve", THREE.digest, TWO.digest)
    ]
    assert list(pair.fleet.ledger.conflicts.open("app")) == []


def test_what_would_be_copied_to_which_side_is_planned_and_nothing_is_changed(pair: Pair) -> None:
    us, eu = f"{pair.us.host}/app", f"{pair.eu.host}/app"
    push(us, FOUR, "plan-us")
    push(eu, FIVE, "plan-eu")
    push(us, TWO, "plan-apart")
    push(eu, THREE, "plan-apart")
    pair.writes()
    code, text = pair.sealift("plan", "app", "--json")
    assert code == 0, text
    assert pair.writes() == []
    (plan,) = json.loads(text)["mirrors"]
    found = {tag["tag"]: tag for tag in plan["tags"] if tag["tag"].startswith("plan-")}
    assert [found[tag]["taken_from"] for tag in ("plan-us", "plan-eu", "plan-apart")] == [[us], [eu], []]
    assert [target["state"] for target in found["plan-us"]["targets"]] == ["current", "new"]
    assert {target["state"] for target in found["plan-apart"]["targets"]} == {"conflict"}
    assert list(pair.fleet.ledger.conflicts.open("app")) == []

    written = {name: size for name, size in plan["bytes_written"].items() if size}
    assert set(written) == {us, eu}
    assert pair.sealift("sync", "app")[0] == 1
    assert pair.at("plan-us") == [FOUR.digest] * 2
    assert pair.at("plan-eu") == [FIVE.digest] * 2


def dated(year: int) -> Image:
    return build_image({"year": str(year).encode()}, created=f"{year}-01-01T00:00:00Z")


def test_repositories_below_wildcards_are_kept_equal_by_their_newest_images(pair: Pair) -> None:
    us, eu = f"{pair.us.host}/org", f"{pair.eu.host}/team"
    push(f"{us}/a", dated(2020), "old")
    push(f"{us}/a", dated(2024), "new")
    push(f"{eu}/deep/b", dated(2022), "v1")
    code, text = pair.sealift("plan", "org")
    assert code == 0, text
    assert "org: 2 new, 2 current (2 tags selected; 1 left out (1: made before the newest 1 images))." in text
    code, text = pair.sealift("sync", "org")
    assert code == 0, text
    assert (skopeo.tags(f"{eu}/a"), skopeo.tags(f"{us}/deep/b")) == (["new"], ["v1"])
    assert skopeo.digest(f"{us}/deep/b:v1") == dated(2022).digest

    pair.writes()
    assert pair.sealift("sync", "org")[0] == 0
    assert pair.writes() == []

    push(f"{us}/deep/b", dated(2025), "v1")
    push(f"{eu}/deep/b", dated(2026), "v1")
    code, text = pair.sealift("sync", "org")
    assert code == 1, text
    assert "org/deep/b v1: moved apart" in pair.sealift("conflicts", "org")[1]
    code, text = pair.sealift("resolve", "org", "v1", "--take", pair.us.host)
    assert (code, text) == (2, "sealift: org is many repositories: name one of them, as in org/REPOSITORY\n")
    code, text = pair.sealift("resolve", "org/deep/b", "v1", "--take", pair.us.host)
    assert code == 0, text
    assert skopeo.digest(f"{eu}/deep/b:v1") == dated(2025).digest
